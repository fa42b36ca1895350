"""Providers over HTTP: the list, profiles, becoming one, editing one's own."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from config.clock import now
from config.settings import Settings
from db._postgres import transaction
from tests.support.accounts import Browser, token_of
from tests.support.providers_factory import (
    Trade,
    add_system_provider,
    id_of,
    new_provider,
    post_trades,
    providers_world,
)

LIST = "/api/providers"
BECOME = "/api/providers/become"
ME = "/api/providers/me"
DOCUMENTED = {
    "display_name": "MyTradingName",
    "bio": "Experienced trader...",
    "strategy_description": "I specialize in...",
    "risk_level": "moderate",
}
STATS = {
    "total_signals": 0,
    "win_count": 0,
    "loss_count": 0,
    "win_rate": None,
    "avg_return": None,
    "total_return": 0.0,
    "sharpe_ratio": None,
    "max_drawdown": 0.0,
    "current_streak": 0,
    "longest_streak": 0,
    "follower_count": 0,
    "signal_likes_total": 0,
}
RECORD = {
    "profit_factor": None,
    "payoff": None,
    "expectancy": None,
    "median_holding_seconds": None,
    "oldest_open_seconds": None,
    "share_open": None,
    "share_verified": None,
    "worst_day": None,
    "open": 0,
    "closed": 0,
    "breakeven": 0,
    "stale": 0,
    "days": 0,
    "win_rate_interval": None,
    "missing": [
        {"gate": "bets", "have": 0, "need": 30},
        {"gate": "days", "have": 0, "need": 30},
        {"gate": "age_days", "have": 0, "need": 60},
    ],
    "risk_score": None,
    "moves_with": [],
}


async def refused_fields(browser: Browser, method: str, path: str, body: Any) -> list[str]:
    problem = (await browser.send(method, path, body)).problem(400, "VALIDATION_ERROR")
    return [each["field"] for each in problem["details"]]


async def test_a_user_becomes_a_provider_and_the_next_token_says_so(settings: Settings) -> None:
    async with providers_world(settings) as world:
        browser = await world.logged_in("king@example.com", avatar_url="https://cdn.example.com/king.png")
        user_id = str(id_of(browser))
        profile = (await browser.send("POST", BECOME, DOCUMENTED)).expect(201).json
        created_at = profile.pop("created_at")
        assert profile.pop("record") == RECORD
        assert profile == DOCUMENTED | {
            "user_id": user_id,
            "avatar_url": "https://cdn.example.com/king.png",
            "banner_url": None,
            "website_url": None,
            "twitter_handle": None,
            "specialties": [],
            "stats": STATS,
            "is_verified": False,
            "verification_level": "none",
            "verified_at": None,
            "recent_signals": [],
            "is_following": False,
        }
        shown = (await world.browser().send("GET", f"{LIST}/{user_id.upper()}")).expect(200).json
        assert shown == profile | {"created_at": created_at, "record": RECORD}
        assert not browser.claims["is_provider"]
        (await browser.refresh()).expect(200)
        assert browser.claims["is_provider"]
        assert "write:provider" in browser.claims["permissions"]
        again = world.browser()
        assert (await again.login("king@example.com")).expect(200).json["user"]["is_provider"]
        assert (await again.send("GET", "/auth/me")).json["is_provider"]
        (await browser.send("POST", BECOME, DOCUMENTED | {"display_name": "Another"})).problem(409, "CONFLICT")


async def test_only_users_with_a_verified_address_become_providers(settings: Settings) -> None:
    async with providers_world(settings) as world:
        browser = await world.logged_in("new@example.com")
        await world.execute("UPDATE users SET email_verified = false")
        (await browser.send("POST", BECOME, DOCUMENTED)).problem(403, "FORBIDDEN")
        await world.execute("UPDATE users SET email_verified = true")
        (await browser.send("POST", BECOME, DOCUMENTED)).expect(201)
        anybody = world.browser()
        (await anybody.send("POST", BECOME, DOCUMENTED)).problem(401, "UNAUTHORIZED")
        anybody.token = token_of(world.settings, "demo")
        (await anybody.send("POST", BECOME, DOCUMENTED)).problem(403, "FORBIDDEN")
        anybody.token = token_of(world.settings, "verified")  # of an account that does not exist
        (await anybody.send("POST", BECOME, DOCUMENTED)).problem(401, "UNAUTHORIZED")


@pytest.mark.parametrize("taken", ["CryptoKing", "cryptoKING", "ＣryptoKing"])
async def test_a_name_is_one_providers_alone_ignoring_case(settings: Settings, taken: str) -> None:
    async with providers_world(settings) as world:
        await new_provider(world, "king@example.com", "CryptoKing")
        other = await world.logged_in("other@example.com")
        (await other.send("POST", BECOME, {"display_name": taken})).problem(409, "CONFLICT")
        (await other.send("POST", BECOME, {"display_name": "ÜberTrader"})).expect(201)
        (await other.send("PATCH", ME, {"display_name": taken})).problem(409, "CONFLICT")
        third = await world.logged_in("third@example.com")
        (await third.send("POST", BECOME, {"display_name": "übertrader"})).problem(409, "CONFLICT")
        assert (await other.send("PATCH", ME, {"display_name": "ÜBERtrader"})).expect(200).json["display_name"] == (
            "ÜBERtrader"
        )


TWINS = [
    *[("Crypto King", each) for each in ("Crурto King", "𝐂rypto King", "Сrypto King", "Crypto\u2002King")],
    *[("Crypto King", each) for each in ("Crypto\u3164King", "Crypto\u2800King", "Crypto King\u2800")],
    *[("CryptoKing", each) for each in ("CRYPTO\u200dKING", "Crypto\u3164King")],
]


@pytest.mark.parametrize(("taken", "twin"), TWINS)
async def test_a_name_that_looks_like_anothers_is_taken(settings: Settings, taken: str, twin: str) -> None:
    """The kind of fault: texts that differ to a program and are one to the eye. Also in the order of arrival."""
    async with providers_world(settings) as world:
        first = await new_provider(world, "king@example.com", taken)
        other = await world.logged_in("other@example.com")
        problem = (await other.send("POST", BECOME, {"display_name": twin})).problem(409, "CONFLICT")
        assert problem["message"] == "This display name is taken"
        (await other.send("POST", BECOME, {"display_name": "Other"})).expect(201)
        (await other.send("PATCH", ME, {"display_name": twin})).problem(409, "CONFLICT")
        assert (await first.send("PATCH", ME, {"bio": "x"})).status == 200


async def test_idle_characters_are_refused_where_the_name_is_free(settings: Settings) -> None:
    async with providers_world(settings) as world:
        other = await world.logged_in("other@example.com")
        for name in ("Cry\u200dpto", "Cry\u3164pto", "Crypto\u2800"):
            assert await refused_fields(other, "POST", BECOME, {"display_name": name}) == ["display_name"]
        for name, email in (("Иван", "i@example.com"), ("👩\u200d💻 Ann", "a@example.com"), ("Ill", "x@example.com")):
            await new_provider(world, email, name)
        (await other.send("POST", BECOME, {"display_name": "lll"})).expect(201)


async def test_names_of_before_and_of_sources_are_compared_too(settings: Settings) -> None:
    """Rows that no owner has written have no skeleton yet; those that are alike already keep their names."""
    async with providers_world(settings) as world:
        async with transaction(world.pool) as conn:
            await add_system_provider(conn, "strategy_alpha")
            await add_system_provider(conn, "ѕtrategy_alpha")
        king = await new_provider(world, "king@example.com", "King")
        await world.execute("UPDATE providers SET name_skeletons = NULL")
        browser = await world.logged_in("alpha@example.com")
        for name in ("strategy_аlpha", "Кing"):
            (await browser.send("POST", BECOME, {"display_name": name})).problem(409, "CONFLICT")
        assert await world.value("SELECT count(*) FROM providers WHERE name_skeletons IS NULL") == 0
        (await king.send("PATCH", ME, {"display_name": "KING"})).expect(200)


async def test_a_provider_is_renamed_once_in_thirty_days_and_its_former_name_stays(settings: Settings) -> None:
    """The kind of fault: a track record that changes its name overnight, and the name that is free for others then."""
    async with providers_world(settings) as world:
        king = await new_provider(world, "king@example.com", "Crypto King")
        shown = (await king.send("PATCH", ME, {"display_name": "CRYPTO KING", "bio": "x"})).expect(200).json
        assert "former_name" not in shown
        shown = (await king.send("PATCH", ME, {"display_name": "Queen"})).expect(200).json
        assert (shown["display_name"], shown["former_name"]) == ("Queen", "CRYPTO KING")
        until = datetime.fromisoformat(shown["former_name_until"])
        assert timedelta(days=29.9) < until - now() < timedelta(days=30.1)
        for name in ("Third", "Crypto King"):
            (await king.send("PATCH", ME, {"display_name": name})).problem(409, "CONFLICT")
        assert (await king.send("PATCH", ME, {"display_name": "Queen", "bio": "y"})).expect(200).json["bio"] == "y"
        other = await world.logged_in("other@example.com")
        for name in ("crypto king", "Crурto King"):
            (await other.send("POST", BECOME, {"display_name": name})).problem(409, "CONFLICT")
        public = (await other.send("GET", f"/api/providers/{king.claims['sub']}")).expect(200).json
        assert public["former_name"] == "CRYPTO KING"
        await world.execute("UPDATE providers SET renamed_at = renamed_at - interval '30 days 1 minute'")
        public = (await other.send("GET", f"/api/providers/{king.claims['sub']}")).expect(200).json
        assert "former_name" not in public
        (await other.send("POST", BECOME, {"display_name": "Crypto King"})).expect(201)
        (await king.send("PATCH", ME, {"display_name": "Third"})).expect(200)


async def test_names_that_look_alike_wanted_by_many_at_once_go_to_one(settings: Settings) -> None:
    async with providers_world(settings) as world:
        browsers = [await world.logged_in(f"t{n}@example.com") for n in range(6)]
        names = ["King Kong", "Кing Kong", "King Коng", "Κing Kong", "Kіng Kong", "King Kоng"]
        answers = await asyncio.gather(
            *(each.send("POST", BECOME, {"display_name": name}) for name, each in zip(names, browsers, strict=True))
        )
        assert sorted(each.status for each in answers) == [201, *[409] * 5]


async def test_the_name_of_a_source_cannot_be_taken(settings: Settings) -> None:
    async with providers_world(settings) as world:
        async with transaction(world.pool) as conn:
            await add_system_provider(conn, "strategy_alpha")
        browser = await world.logged_in("alpha@example.com")
        (await browser.send("POST", BECOME, {"display_name": "Strategy_Alpha"})).problem(409, "CONFLICT")


async def test_a_name_wanted_by_many_at_once_goes_to_one(settings: Settings) -> None:
    async with providers_world(settings) as world:
        browsers = [await world.logged_in(f"t{n}@example.com") for n in range(8)]
        names = ["King Kong", "KING  kong", "KingKong", "kingkong"] * 2
        answers = await asyncio.gather(
            *(each.send("POST", BECOME, {"display_name": name}) for name, each in zip(names, browsers, strict=True))
        )
        assert sorted(each.status for each in answers) == [201, 201, *[409] * 6]
        assert await world.value("SELECT count(*) FROM provider_stats") == 2


async def test_a_provider_edits_what_it_says_of_itself(settings: Settings) -> None:
    async with providers_world(settings) as world:
        browser = await new_provider(world, "king@example.com", "King")
        change = {
            "bio": "Trading since 2017...\r\nEvery day.",
            "banner_url": "https://cdn.example.com/b.png",
            "website_url": "https://king.example.com/?a=1",
            "twitter_handle": "@cryptoking42",
            "risk_level": "aggressive",
            "specialties": ["crypto", " momentum ", "Crypto"],
        }
        shown = (await browser.send("PATCH", ME, change)).expect(200).json
        assert shown["bio"] == "Trading since 2017...\nEvery day."
        assert shown["twitter_handle"] == "cryptoking42"
        assert shown["specialties"] == ["crypto", "momentum"]
        assert shown["website_url"] == change["website_url"]
        assert (await browser.send("PATCH", ME, {})).expect(200).json == shown
        gone = dict.fromkeys(("bio", "banner_url", "website_url", "twitter_handle", "risk_level"))
        cleared = (await browser.send("PATCH", ME, gone | {"specialties": []})).expect(200).json
        assert cleared == shown | gone | {"specialties": []}
        nobody = await world.logged_in("nobody@example.com")
        (await nobody.send("PATCH", ME, {"bio": "x"})).problem(403, "FORBIDDEN")
        (await world.browser().send("PATCH", ME, {"bio": "x"})).problem(401, "UNAUTHORIZED")


async def test_every_field_of_a_profile_is_checked(settings: Settings) -> None:
    async with providers_world(settings) as world:
        browser = await new_provider(world, "king@example.com", "King")
        bad: dict[str, list[Any]] = {
            "display_name": ["K", "x" * 51, "a\u202eb", None, 7],
            "bio": ["x" * 501, "\0", 5],
            "strategy_description": ["x" * 2001],
            "avatar_url": ["http://cdn.example.com/a.png", "javascript:alert(1)", "https://", "x", 1],
            "banner_url": ["ftp://cdn.example.com/a.png", "//cdn.example.com/a"],
            "website_url": ["http://king.example.com", "https://user:pw@king.example.com"],
            "twitter_handle": ["no spaces", "x" * 16, "", "https://twitter.com/king"],
            "risk_level": ["reckless", 1],
            "specialties": ["crypto", ["x" * 31], [" "], ["a"] * 11, [1], None],
            "follower_count": [7],
        }
        for name, values in bad.items():
            for value in values:
                [field] = await refused_fields(browser, "PATCH", ME, {name: value})
                assert field.split(".")[0] == name, (name, value)
        another = await world.logged_in("another@example.com")
        assert await refused_fields(another, "POST", BECOME, {"bio": "no name"}) == ["display_name"]
        assert await refused_fields(another, "POST", BECOME, DOCUMENTED | {"user_id": "x"}) == ["user_id"]


async def test_a_profile_shows_the_track_record_and_the_newest_signals(settings: Settings) -> None:
    async with providers_world(settings) as world:
        browser = await new_provider(world, "king@example.com", "King")
        who = id_of(browser)
        trades = []
        for n in range(12):
            trades.append(Trade(who, symbol=f"S{n}", price=Decimal(100), minutes=2 * n))
            trades.append(Trade(who, opens=False, symbol=f"S{n}", price=Decimal(90 + 2 * n), minutes=2 * n + 1))
        signals = await post_trades(world, trades)
        profile = (await browser.send("GET", f"{LIST}/{who}")).expect(200).json
        assert profile["stats"] == STATS | {
            "total_signals": 24,
            "win_count": 6,
            "loss_count": 5,
            "win_rate": 0.5,  # of twelve: one broke even
            "avg_return": 0.01,
            "total_return": 0.12,
            "sharpe_ratio": 0.1387,
            "max_drawdown": 0.3,
            "current_streak": 6,
            "longest_streak": 6,
        }
        assert [each["id"] for each in profile["recent_signals"]] == [str(each.id) for each in signals[:-11:-1]]
        assert profile["recent_signals"][0]["provider"]["win_rate"] == 50
        assert profile["verification_level"] == "basic"
        assert profile["is_verified"] is True
        assert profile["verified_at"] == "2026-03-01T12:09:00.000Z"


async def test_a_profile_that_has_not_changed_is_not_sent_again(settings: Settings) -> None:
    async with providers_world(settings) as world:
        browser = await new_provider(world, "king@example.com", "King")
        path = f"{LIST}/{id_of(browser)}"
        first = (await browser.send("GET", path)).expect(200)
        known = {"If-None-Match": first.headers["ETag"]}
        assert (await browser.send("GET", path, headers=known)).expect(304).response.body == b""
        await post_trades(world, [Trade(id_of(browser))])
        assert (await browser.send("GET", path, headers=known)).expect(200).headers["ETag"] != first.headers["ETag"]
        (await browser.send("HEAD", path)).expect(200)


@pytest.mark.parametrize("unknown", ["nobody", "01890a5d-ac96-774b-bcce-b302099a8057", "0"])
async def test_an_unknown_provider_is_not_found(settings: Settings, unknown: str) -> None:
    async with providers_world(settings) as world:
        for path in (f"{LIST}/{unknown}", f"{LIST}/{unknown}/signals"):
            (await world.browser().send("GET", path)).problem(404, "NOT_FOUND")
        (await world.browser().send("GET", ME)).problem(405, "METHOD_NOT_ALLOWED")


async def test_providers_are_listed_by_every_figure_that_there_is(settings: Settings) -> None:
    async with providers_world(settings) as world:
        people = ("Ann", "Bob", "Cid", "Dan")
        browsers = {name: await new_provider(world, f"{name.lower()}@example.com", name) for name in people}
        who = {name: id_of(each) for name, each in browsers.items()}
        wins = {"Ann": [110, 110, 90], "Bob": [300, 90], "Cid": [101, 101, 101]}
        for name, prices in wins.items():
            for price in prices:
                pair = [Trade(who[name]), Trade(who[name], opens=False, price=Decimal(price))]
                await post_trades(world, pair)
        for follower in ("Ann", "Bob"):
            (await browsers[follower].send("POST", f"/api/social/follow/{who['Dan']}")).expect(201)
        (await browsers["Ann"].send("POST", f"/api/social/follow/{who['Cid']}")).expect(201)

        async def names(**query: Any) -> list[str]:
            text = "&".join(f"{name}={value}" for name, value in query.items())
            answer = (await world.browser().send("GET", f"{LIST}?{text}")).expect(200).json
            assert answer["total"] == 4
            return [each["display_name"] for each in answer["providers"]]

        assert await names() == ["Dan", "Cid", "Ann", "Bob"]  # ties by id: in the order of their making
        assert await names(sort="followers") == await names()
        assert await names(sort="win_rate") == ["Cid", "Ann", "Bob", "Dan"]
        assert await names(sort="return") == ["Bob", "Ann", "Cid", "Dan"]
        assert await names(sort="streak") == ["Cid", "Ann", "Bob", "Dan"]
        assert await names(limit=2, offset=1) == ["Cid", "Ann"]
        assert await names(offset=4) == []
        listed = (await world.browser().send("GET", f"{LIST}?sort=win_rate&limit=1")).json
        assert listed == {
            "providers": [
                {
                    "user_id": str(who["Cid"]),
                    "display_name": "Cid",
                    "bio": None,
                    "avatar_url": None,
                    "risk_level": None,
                    "specialties": [],
                    "total_signals": 6,
                    "win_rate": 1.0,
                    "avg_return": 0.01,
                    "total_return": 0.03,
                    "current_streak": 3,
                    "longest_streak": 3,
                    "follower_count": 1,
                    "is_verified": False,
                    "verification_level": "none",
                }
            ],
            "total": 4,
            "limit": 1,
            "offset": 0,
        }


async def test_only_verified_providers_are_listed_on_request(settings: Settings) -> None:
    async with providers_world(settings) as world:
        async with transaction(world.pool) as conn:
            steady, fresh = await add_system_provider(conn), await add_system_provider(conn)
        await post_trades(world, [Trade(steady)] * 10 + [Trade(fresh)] * 9)
        answer = (await world.browser().send("GET", f"{LIST}?verified_only=true")).expect(200).json
        assert [each["user_id"] for each in answer["providers"]] == [str(steady)]
        assert answer["total"] == 1
        assert answer["limit"] == 20
        assert (await world.browser().send("GET", f"{LIST}?verified_only=false")).json["total"] == 2


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("sort=name", "sort"),
        ("sort=", "sort"),
        ("verified_only=1", "verified_only"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("offset=-1", "offset"),
    ],
)
async def test_a_bad_query_of_the_list_is_refused(settings: Settings, query: str, field: str) -> None:
    async with providers_world(settings) as world:
        assert await refused_fields(world.browser(), "GET", f"{LIST}?{query}", None) == [field]


async def test_demo_callers_may_look_and_do_nothing_else(settings: Settings) -> None:
    async with providers_world(settings) as world:
        king = await new_provider(world, "king@example.com", "King")
        demo = world.browser()
        demo.token = token_of(world.settings, "demo")
        (await demo.send("GET", LIST)).expect(200)
        profile = (await demo.send("GET", f"{LIST}/{id_of(king)}")).expect(200).json
        assert profile["is_following"] is False
        (await demo.send("PATCH", ME, {})).problem(403, "FORBIDDEN")
        (await demo.send("GET", "/api/social/following")).problem(403, "FORBIDDEN")
        bad = world.browser()
        bad.token = "nonsense"
        (await bad.send("GET", LIST)).problem(401, "UNAUTHORIZED")


async def test_a_providers_signals_are_listed_with_the_filters_of_all(settings: Settings) -> None:
    async with providers_world(settings) as world:
        async with transaction(world.pool) as conn:
            who, other = await add_system_provider(conn, "alpha"), await add_system_provider(conn, "beta")
        trades = [Trade(who, symbol="BTC"), Trade(other), Trade(who, symbol="ETH", direction="short", minutes=1)]
        signals = await post_trades(world, [*trades, Trade(who, symbol="Rain", asset_type="prediction", minutes=2)])

        async def ids(query: str = "") -> list[str]:
            page = (await world.browser().send("GET", f"{LIST}/{who}/signals?{query}")).expect(200).json
            assert page.keys() == {"signals", "total", "limit", "offset"}
            return [each["id"] for each in page["signals"]]

        btc, _, eth, rain = [str(each.id) for each in signals]
        assert await ids() == [rain, eth, btc]
        assert await ids(f"provider_id={other}") == [rain, eth, btc]  # the path has said whose
        assert await ids("symbol=btc") == [btc]
        assert await ids("action=SELL") == [eth]
        assert await ids("min_score=71") == []
        assert await ids("categories=prediction") == [rain]
        assert await ids("asset_types=crypto,stock&limit=1&offset=1") == [btc]
        assert await refused_fields(world.browser(), "GET", f"{LIST}/{who}/signals?action=maybe", None) == ["action"]
        assert await refused_fields(world.browser(), "GET", f"{LIST}/{who}/signals?limit=101", None) == ["limit"]


async def test_progress_of_a_provider_is_told_to_those_concerned(settings: Settings) -> None:
    async with providers_world(settings) as world:
        king = await new_provider(world, "king@example.com", "King")
        fans = [await world.logged_in(f"fan{n}@example.com") for n in range(10)]
        await post_trades(world, [Trade(id_of(king)), Trade(id_of(king), opens=False, price=Decimal(101))])
        for fan in fans:
            (await fan.send("POST", f"/api/social/follow/{id_of(king)}")).expect(201)
        wanted = {"first_signal", "provider_first", "first_win", "follower_10"}
        deadline = asyncio.get_running_loop().time() + 3  # long before the next search for lost messages
        while True:
            mine = (await king.send("GET", "/api/achievements/me")).expect(200).json
            if wanted <= {each["achievement_id"] for each in mine["unlocked"]}:
                break
            assert asyncio.get_running_loop().time() < deadline, mine
            await asyncio.sleep(0.02)
