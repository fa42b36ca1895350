"""The referral program over HTTP: codes and links, the dashboard, and the rewards of referrals."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from actors.users.messages import FirstFollow, ProviderFacts
from config.clock import now, rfc3339
from config.settings import Settings
from db._postgres import connection
from db.referrals import walk_unnotified
from tests.support.accounts import Browser, World, accounts_world, token_of
from tests.support.progress import get, newcomer, qualified, tell, until

ADDRESS = "king@example.com"
MINE, CODE = "/api/referrals", "/api/referrals/custom-code"


def user_of(browser: Browser) -> UUID:
    return UUID(browser.claims["sub"])


async def refused(browser: Browser, body: Any) -> list[str]:
    problem = (await browser.send("POST", CODE, body)).problem(400, "VALIDATION_ERROR")
    return [each["field"] for each in problem["details"]]


async def stats(browser: Browser) -> dict[str, Any]:
    return dict((await get(browser, MINE))["stats"])


async def count_qualified(world: World, user: UUID) -> int:
    found = await world.value("SELECT count(*) FROM referrals WHERE referrer_id = $1 AND status = 'qualified'", user)
    return int(found)


async def test_referral_codes_are_seen_and_chosen_by_verified_users_only(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = world.browser()
        (await browser.send("GET", MINE)).problem(401, "UNAUTHORIZED")
        (await browser.send("POST", CODE, {"code": "KING"})).problem(401, "UNAUTHORIZED")
        browser.token = token_of(world.settings, "demo")
        (await browser.send("GET", MINE)).problem(403, "FORBIDDEN")
        (await browser.send("POST", CODE, {"code": "KING"})).problem(403, "FORBIDDEN")
        browser.token = token_of(world.settings, "unverified")
        (await browser.send("POST", CODE, {"code": "KING"})).problem(403, "FORBIDDEN")
        browser.token = token_of(world.settings, "verified")
        (await browser.send("GET", MINE)).problem(401, "UNAUTHORIZED")  # a token of an account that is not there


async def test_referrals_of_a_user_without_any(settings: Settings) -> None:
    async with accounts_world(settings, api_url="https://tradestream.io") as world:
        browser = await world.logged_in(ADDRESS, referral_code="KING42")
        assert await get(browser, MINE) == {
            "referral_code": "KING42",
            "referral_url": "https://tradestream.io/join/KING42",
            "tier": {"id": "bronze", "name": "Bronze", "referrer_reward": 25.00, "referee_reward": 25.00},
            "stats": {
                "total_referrals": 0,
                "qualified_referrals": 0,
                "pending_referrals": 0,
                "total_earned": 0.0,
                "pending_earnings": 0.0,
            },
            "next_tier": {"id": "silver", "name": "Silver", "referrals_needed": 5, "referrer_reward": 50.00},
            "referrals": [],
        }


async def test_the_documents_dashboard(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        king = user_of(browser)
        await qualified(world, king, 4)
        at = datetime.fromisoformat("2025-01-20T10:00:00Z")
        fifth = await newcomer(world, king, display_name="Trader Joe", created_at=at)
        await tell(world, fifth, FirstFollow(datetime.fromisoformat("2025-01-21T14:30:00Z")))
        await until(lambda: is_qualified(world, fifth))
        await newcomer(world, king, display_name="Al", created_at=at + timedelta(days=1))
        await newcomer(world, king, display_name="Öresund", created_at=at + timedelta(days=2))
        mine = await get(browser, MINE)
        assert mine["tier"] == {"id": "silver", "name": "Silver", "referrer_reward": 50.00, "referee_reward": 25.00}
        assert mine["stats"] == {
            "total_referrals": 7,
            "qualified_referrals": 5,
            "pending_referrals": 2,
            "total_earned": 150.00,  # 4 at bronze, and the one that led to silver
            "pending_earnings": 100.00,
        }
        assert mine["next_tier"] == {"id": "gold", "name": "Gold", "referrals_needed": 5, "referrer_reward": 75.00}
        listed = {each["referee_name"]: each for each in mine["referrals"]}
        assert {
            "referee_name": "Trader***",
            "status": "qualified",
            "reward_amount": 50.00,
            "created_at": "2025-01-20T10:00:00.000Z",
            "qualified_at": "2025-01-21T14:30:00.000Z",
        } in mine["referrals"]
        assert listed["Al***"] == {
            "referee_name": "Al***",
            "status": "pending",
            "reward_amount": None,
            "created_at": "2025-01-21T10:00:00.000Z",
            "qualified_at": None,
        }
        assert "Öresun***" in listed


async def is_qualified(world: World, referee: UUID) -> bool:
    return bool(await world.value("SELECT status = 'qualified' FROM referrals WHERE referee_id = $1", referee))


async def test_gold_has_no_next_tier(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        await qualified(world, user_of(browser), 10)
        mine = await get(browser, MINE)
        assert mine["next_tier"] is None
        assert mine["tier"] == {"id": "gold", "name": "Gold", "referrer_reward": 75.00, "referee_reward": 50.00}
        assert mine["stats"]["total_earned"] == 4 * 25 + 5 * 50 + 75
        have = [each["achievement_id"] for each in (await get(browser, "/api/achievements/me"))["unlocked"]]
        assert have == ["referral_1", "referral_5", "referral_10"]


async def test_the_list_is_paged_the_newest_first_and_the_figures_are_of_all(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        begin = now() - timedelta(days=9)
        for number in range(7):
            created = begin + timedelta(days=number)
            await newcomer(world, user_of(browser), display_name=f"No {number}", created_at=created)
        everything = (await get(browser, MINE))["referrals"]
        assert [each["referee_name"] for each in everything] == [f"No {n}***" for n in range(6, -1, -1)]
        assert everything[-1]["created_at"] == rfc3339(begin)
        pages = [await get(browser, f"{MINE}?limit=3&offset={offset}") for offset in (0, 3, 6, 9)]
        assert [each for page in pages for each in page["referrals"]] == everything
        assert {page["stats"]["total_referrals"] for page in pages} == {7}
        for query in ("limit=0", "limit=101", "offset=-1", "limit=x"):
            (await browser.send("GET", f"{MINE}?{query}")).problem(400, "VALIDATION_ERROR")


async def test_registering_with_a_code_makes_a_pending_referral(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS, referral_code="KING42")
        problem = (await world.register("a@example.com", referral_code="NOBODY")).problem(400, "VALIDATION_ERROR")
        assert problem["details"] == [{"field": "referral_code", "message": "is unknown"}]
        assert await world.value("SELECT count(*) FROM users") == 1
        for number, code in enumerate(("KING42", "king42", " King42 ")):
            answer = await world.register(f"b{number}@example.com", referral_code=code)
            assert answer.status == 201, answer.body
        assert (await world.register("c@example.com", referral_code=None)).status == 201
        assert (await stats(browser))["pending_referrals"] == 3
        assert (await stats(browser))["pending_earnings"] == 75.00


async def test_a_referral_qualifies_by_the_first_signal_as_well(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        king = user_of(browser)
        referee = await newcomer(world, king)
        await tell(world, referee, ProviderFacts(0, 0, 3, "none", True, now()))
        assert await count_qualified(world, king) == 0
        await tell(world, referee, ProviderFacts(1, 0, 3, "none", True, now()))
        await until(lambda: is_qualified(world, referee))
        await tell(world, referee, FirstFollow(now()))
        assert (await stats(browser))["total_earned"] == 25.00


async def test_a_link_leads_to_the_registration_with_its_code(settings: Settings) -> None:
    async with accounts_world(settings, frontend_url="https://tradestream.io/") as world:
        await world.verified(ADDRESS, referral_code="KING42")
        browser = world.browser()
        for code in ("KING42", "king42", "%20King42"):
            for method in ("GET", "HEAD"):
                answer = (await browser.send(method, f"/join/{code}")).expect(302)
                assert answer.headers["Location"] == "https://tradestream.io/register?referral_code=KING42"
        for code in ("NOBODY", "x" * 500, "%3Cscript%3E", "a%26b=c", "%C5%BFING"):
            answer = (await browser.send("GET", f"/join/{code}")).expect(302)
            assert answer.headers["Location"] == "https://tradestream.io/register"
        (await browser.send("GET", "/join/")).problem(404, "NOT_FOUND")
        (await browser.send("GET", "/join/a/b")).problem(404, "NOT_FOUND")


async def test_a_code_of_ones_own_takes_silver(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        king = user_of(browser)
        for more in (0, 4):
            await qualified(world, king, more)
            problem = (await browser.send("POST", CODE, {"code": "CRYPTOKING"})).problem(403, "FORBIDDEN")
            assert "silver" in problem["message"]
        await qualified(world, king, 1)
        answer = (await browser.send("POST", CODE, {"code": "CryptoKing"})).expect(200).json
        assert answer == {
            "referral_code": "CRYPTOKING",
            "referral_url": f"{world.settings.api_url}/join/CRYPTOKING",
        }
        assert (await browser.send("POST", CODE, {"code": "CRYPTOKING"})).expect(200).json == answer
        mine = await get(browser, MINE)
        assert (mine["referral_code"], mine["referral_url"]) == tuple(answer.values())


@pytest.mark.parametrize(
    "code", ["ABC", "A" * 21, "", "KING-42", "KING 42", "KÖNIG", "ſſſſ", "KING\n", None, 4242, True]
)
async def test_a_code_has_4_to_20_letters_and_digits(settings: Settings, code: Any) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        assert await refused(browser, {"code": code}) == ["code"]
        assert await refused(browser, {}) == ["code"]
        assert await refused(browser, {"code": "KING42", "more": 1}) == ["more"]


async def silver(world: World, address: str, **changes: Any) -> Browser:
    browser = await world.logged_in(address, **changes)
    await qualified(world, user_of(browser), 5)
    return browser


async def test_the_code_before_goes_on_to_work_and_stays_ones_own(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        one = await silver(world, ADDRESS, referral_code="OLD234")
        two = await silver(world, "queen@example.com")
        (await one.send("POST", CODE, {"code": "CRYPTOKING"})).expect(200)
        for code in ("old234", "cryptoking"):
            assert (await world.register(f"{code}@example.com", referral_code=code)).status == 201
            assert (await two.send("POST", CODE, {"code": code})).problem(409, "CONFLICT")["message"]
        assert (await stats(one))["pending_referrals"] == 2
        assert (await world.browser().send("GET", "/join/OLD234")).headers["Location"].endswith("=OLD234")
        assert (await one.send("POST", CODE, {"code": "OLD234"})).expect(200).json["referral_code"] == "OLD234"
        await world.forget()
        assert (await get(one, MINE))["referral_code"] == "OLD234"


async def test_a_code_wanted_by_many_at_once_goes_to_one(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browsers = [await silver(world, f"b{n}@example.com") for n in range(5)]
        answers = await asyncio.gather(*(each.send("POST", CODE, {"code": "SAME"}) for each in browsers))
        assert sorted(each.status for each in answers) == [200, 409, 409, 409, 409]
        holders = [each for each in browsers if (await get(each, MINE))["referral_code"] == "SAME"]
        assert len(holders) == 1


async def test_one_user_has_no_more_than_ten_codes_besides_the_first(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await silver(world, ADDRESS, referral_code="FIRST2")
        for number in range(10):
            (await browser.send("POST", CODE, {"code": f"CODE{number}"})).expect(200)
        (await browser.send("POST", CODE, {"code": "CODE10"})).problem(409, "CONFLICT")
        (await browser.send("POST", CODE, {"code": "CODE3"})).expect(200)
        assert (await get(browser, MINE))["referral_code"] == "CODE3"
        assert await world.value("SELECT count(*) FROM referral_codes WHERE code = 'CODE10'") == 0


async def test_past_500_that_count_a_code_still_lets_people_in(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS, referral_code="KING42")
        king = user_of(browser)
        late = await newcomer(world, king)
        await world.execute(
            """
            WITH people AS (
                INSERT INTO users (id, email, email_verified, display_name, referral_code, created_at)
                SELECT gen_random_uuid(), 'p' || n, true, 'P' || n, 'P' || n, now() FROM generate_series(1, 500) n
                RETURNING id
            )
            INSERT INTO referrals (referee_id, referrer_id, status, created_at, acted_at, qualified_at, tier,
                                   reward_amount, referee_reward)
            SELECT id, $1, 'qualified', now(), now(), now(), 'gold', 75, 50 FROM people
            """,
            king,
        )
        await world.forget()
        await tell(world, late, FirstFollow(now()))
        assert (await world.register("a@example.com", referral_code="KING42")).status == 201
        found = await stats(browser)
        assert found["qualified_referrals"] == 500
        assert (found["pending_referrals"], found["pending_earnings"]) == (1, 0.0)


ALIASES = [
    *[("ann.lee@gmail.com", each) for each in ("annlee+2@gmail.com", "a.n.n.l.e.e@googlemail.com", "annlee@gmail.com")],
    *[("bob@example.com", each) for each in ("bob+work@example.com", "bob+@example.com")],
]
OTHERS = [
    ("ann.lee@example.com", "annlee@example.com"),
    ("bob@example.com", "bob@example.org"),
    ("+x@example.org", "+y@example.org"),
]
PAIRS = [*((*each, 1) for each in ALIASES), *((*each, 2) for each in OTHERS)]


@pytest.mark.parametrize(("first", "second", "most"), PAIRS)
async def test_the_aliases_of_a_mailbox_qualify_once(settings: Settings, first: str, second: str, most: int) -> None:
    """The kind of fault: a count of people counts spellings, of which one person has any number."""
    async with accounts_world(settings) as world:
        king, other = [user_of(await world.logged_in(each)) for each in (ADDRESS, "queen@example.com")]
        referees = [await newcomer(world, king, email=first), await newcomer(world, other, email=second)]
        await tell(world, referees[0], FirstFollow(now()))
        await until(lambda: is_qualified(world, referees[0]))
        await tell(world, referees[1], FirstFollow(now()))
        if most == 2:
            await until(lambda: is_qualified(world, referees[1]))
        later = await newcomer(world, other, email="later@example.com")
        await tell(world, later, FirstFollow(now()))
        await until(lambda: is_qualified(world, later))  # so what came before it has been dealt with
        assert await count_qualified(world, king) + await count_qualified(world, other) == most + 1
        async with connection(world.pool) as conn:
            assert await walk_unnotified(conn, UUID(int=0), 100, 500) == ([], None)


async def test_aliases_of_one_mailbox_that_act_at_once_qualify_once(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        king = user_of(await world.logged_in(ADDRESS))
        crowd = [await newcomer(world, king, email=f"x+{n}@example.com") for n in range(6)]
        honest = await newcomer(world, king, email="y@example.com")
        await asyncio.gather(*(tell(world, each, FirstFollow(now())) for each in (*crowd, honest)))
        await until(lambda: is_qualified(world, honest))
        await world.forget()
        last = await newcomer(world, king, email="z@example.com")
        await tell(world, last, FirstFollow(now()))
        await until(lambda: is_qualified(world, last))
        assert await count_qualified(world, king) == 3


async def test_an_alias_of_the_own_address_is_no_referral(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        king = user_of(await world.logged_in(ADDRESS))
        own, honest = await newcomer(world, king, email="king+1@example.com"), await newcomer(world, king)
        for each in (own, honest):
            await tell(world, each, FirstFollow(now()))
        await until(lambda: is_qualified(world, honest))
        assert not await is_qualified(world, own)


async def test_clusters_of_referrals_by_address_are_listed_for_operators(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        king, queen = [user_of(await world.logged_in(each)) for each in (ADDRESS, "queen@example.com")]
        await world.execute("UPDATE sessions SET ip = '203.0.113.1' WHERE user_id = $1", king)
        await world.execute("UPDATE sessions SET ip = '2001:db8::1' WHERE user_id = $1", queen)
        hosts = {
            king: ["198.51.100.1"] * 3 + ["198.51.100.2", "203.0.113.1"],
            queen: ["2001:db8:1::1", "2001:db8:1::2"],
        }
        referees = {}
        for referrer, addresses in hosts.items():
            for number, address in enumerate(addresses):
                email = f"r{number}{str(referrer)[-6:]}@example.com"
                browser = await world.logged_in(email)
                referees[browser.claims["sub"]] = address
                await world.execute("UPDATE sessions SET ip = $1 WHERE user_id = $2", address, user_of(browser))
                await world.execute(
                    "INSERT INTO referrals (referee_id, referrer_id, created_at) VALUES ($1, $2, now())",
                    user_of(browser),
                    referrer,
                )
        browser = world.browser()
        page = (await browser.send("GET", "/api/v1/referrals/clusters")).expect(200).json
        assert page["total"] == 3
        assert [(each["referrer_id"], each["address"], each["referees"]) for each in page["clusters"]] == [
            (str(king), "198.51.100.1", 3),
            (str(queen), "2001:db8:1::/64", 2),
            (str(king), "203.0.113.1", 1),
        ]
        largest = page["clusters"][0]
        assert sorted(largest["referee_ids"]) == sorted(key for key, at in referees.items() if at == "198.51.100.1")
        assert (largest["qualified"], largest["rewards"], largest["is_referrers"]) == (0, 0.0, False)
        assert {each["address"] for each in page["clusters"] if each["is_referrers"]} == {"203.0.113.1"}
        few = (await browser.send("GET", "/api/v1/referrals/clusters?least=3&limit=1&offset=1")).expect(200).json
        assert (few["total"], few["clusters"][0]["address"]) == (2, "203.0.113.1")
        gone = (await browser.send("GET", "/api/v1/referrals/clusters?offset=9")).expect(200).json
        assert (gone["total"], gone["clusters"]) == (3, [])
        for query in ("least=1", "limit=0", "offset=-1"):
            (await browser.send("GET", f"/api/v1/referrals/clusters?{query}")).problem(400, "VALIDATION_ERROR")


async def test_clusters_are_for_the_internal_network_alone(settings: Settings) -> None:
    async with accounts_world(settings, internal_networks=()) as world:
        (await world.browser().send("GET", "/api/v1/referrals/clusters")).problem(403, "FORBIDDEN")
