"""Reactions, comments and the social feed over HTTP, as browsers use them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from actors.users.messages import Profile
from config import clock
from config.clock import rfc3339
from config.ids import time_of, uuid7
from config.settings import Settings
from handlers import social as handlers
from schemas.social import Comment, Feed, PageOfComments, Reacted
from tests.support.accounts import Browser, World, accounts_world, token_of
from tests.support.signals_factory import publish
from tests.support.users_factory import NOON

SIGNALS = "/api/social/signals"


async def a_signal(world: World, **draft: Any) -> str:
    [row] = await publish(world.pool, [draft])
    return str(row.id)


async def people(world: World, count: int) -> list[Browser]:
    """Logged in accounts; the tokens are made here, since a login costs what it must."""
    found = []
    for number in range(count):
        user_id = await world.verified(f"p{number}@example.com", display_name=f"Person {number}")
        browser = world.browser()
        browser.token = await token(world, user_id)
        found.append(browser)
    return found


async def token(world: World, user_id: UUID) -> str:
    profile = Profile(user_id, "x@example.com", True, "X", None, None, clock.now())
    return world.accounts.access.of_user(profile, uuid7(), is_provider=False)


async def react(browser: Browser, signal: str, kind: str, status: int = 201) -> dict[str, Any]:
    answer = (await browser.send("POST", f"{SIGNALS}/{signal}/react", {"reaction_type": kind})).expect(status)
    assert not Reacted().validate(answer.json)
    found: dict[str, Any] = answer.json
    return found


async def say(browser: Browser, signal: str, text: str, parent: str | None = None, status: int = 201) -> dict[str, Any]:
    body = {"content": text, "parent_id": parent}
    answer = (await browser.send("POST", f"{SIGNALS}/{signal}/comments", body)).expect(status)
    found: dict[str, Any] = answer.json
    return found


async def talk(browser: Browser, signal: str, query: str = "") -> dict[str, Any]:
    answer = (await browser.send("GET", f"{SIGNALS}/{signal}/comments?{query}")).expect(200)
    assert not PageOfComments().validate(answer.json), answer.json
    found: dict[str, Any] = answer.json
    return found


async def shown(world: World, signal: str) -> tuple[dict[str, int], int]:
    """Return the reactions and the comment count of the list's item."""
    found = (await world.client.get("/api/signals?limit=100")).json["signals"]
    item = next(each for each in found if each["id"] == signal)
    return item["reactions"], item["comment_count"]


async def at_once(calls: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Return the answers of all requests, 30 under way at a time.

    Here each is a transaction of its own, so on a busy machine 100 time out."""
    room = asyncio.Semaphore(30)

    async def one(call: Coroutine[Any, Any, Any]) -> Any:
        async with room:
            return await call

    return await asyncio.gather(*map(one, calls))


async def test_reactions_are_new_once_and_several_kinds_stand_beside_each_other(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        signal = await a_signal(world)
        ann, ben = await people(world, 2)
        assert await react(ann, signal, "fire") == {"reaction_type": "fire", "reactions": {"fire": 1}}
        assert await react(ann, signal, "fire", 200) == {"reaction_type": "fire", "reactions": {"fire": 1}}
        assert (await react(ann, signal, "like"))["reactions"] == {"like": 1, "fire": 1}
        assert (await react(ben, signal, "like"))["reactions"] == {"like": 2, "fire": 1}
        await world.forget()
        assert (await react(ben, signal, "like", 200))["reactions"] == {"like": 2, "fire": 1}
        assert await shown(world, signal) == ({"like": 2, "fire": 1}, 0)
        for browser, own in ((ann, ["like", "fire"]), (ben, ["like"]), (world.browser(), [])):
            detail = (await browser.send("GET", f"/api/signals/{signal}")).expect(200).json
            assert detail["reactions"] == {"like": 2, "fire": 1}
            assert detail["user_reactions"] == own


async def test_a_reaction_is_taken_back_once_and_again_without_error(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        signal = await a_signal(world)
        ann, ben = await people(world, 2)
        path = f"{SIGNALS}/{signal}/react/like"
        (await ann.send("DELETE", path)).problem(404, "NOT_FOUND")
        await react(ann, signal, "like")
        await react(ben, signal, "like")
        for _ in range(2):
            gone = (await ann.send("DELETE", path)).expect(200).json
            assert gone == {"reaction_type": "like", "reactions": {"like": 1}}
        await world.forget()
        (await ann.send("DELETE", path)).expect(200)
        assert (await ann.send("GET", f"/api/signals/{signal}")).json["user_reactions"] == []
        assert (await react(ann, signal, "like"))["reactions"] == {"like": 2}
        (await ann.send("DELETE", f"{SIGNALS}/{signal}/react/love")).problem(404, "NOT_FOUND")


async def test_likes_are_summed_up_for_the_provider(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        king = uuid7()
        first, second = [await a_signal(world, provider_id=king) for _ in range(2)]
        for browser in await people(world, 3):
            await react(browser, first, "like")
            await react(browser, second, "like")
            await react(browser, second, "sad")
        (await browser.send("DELETE", f"{SIGNALS}/{second}/react/like")).expect(200)
        assert await world.value("SELECT likes FROM provider_likes WHERE provider_id = $1", king) == 5


@pytest.mark.parametrize("body", [{}, {"reaction_type": "love"}, {"reaction_type": None}, {"reaction_type": ["like"]}])
async def test_a_bad_reaction_is_refused(settings: Settings, body: dict[str, Any]) -> None:
    async with accounts_world(settings) as world:
        signal = await a_signal(world)
        [ann] = await people(world, 1)
        problem = (await ann.send("POST", f"{SIGNALS}/{signal}/react", body)).problem(400, "VALIDATION_ERROR")
        assert problem["details"][0]["field"] == "reaction_type"


async def test_counters_are_exact_when_fifty_users_do_a_hundred_things_at_once(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        signals = [await a_signal(world) for _ in range(3)]
        crowd = await people(world, 50)
        turns = itertools.cycle(signals)
        await at_once(react(each, next(turns), kind) for each in crowd for kind in ("like", "rocket"))
        again = itertools.cycle(signals)
        await at_once(react(each, next(again), kind, 200) for each in crowd for kind in ("like", "rocket"))
        counted = [await shown(world, each) for each in signals]
        assert sum(reactions["like"] for reactions, _ in counted) == 50
        assert sum(reactions["rocket"] for reactions, _ in counted) == 50
        await at_once(say(each, signals[0], f"word {n}") for each in crowd for n in range(2))
        half = [crowd[n] for n in range(0, 50, 2)]
        targets = [signals[(2 * n) % 3] for n in range(0, 50, 2)]
        paths = [f"{SIGNALS}/{signal}/react/like" for signal in targets]
        gone = await at_once(each.send("DELETE", path) for each, path in zip(half, paths, strict=True))
        assert {each.status for each in gone} == {200}
        counted = [await shown(world, each) for each in signals]
        assert sum(reactions.get("like", 0) for reactions, _ in counted) == 25
        assert [comments for _, comments in counted] == [100, 0, 0]
        assert await world.value("SELECT sum(likes) FROM provider_likes") == 25
        kept = await world.value("SELECT count(*) FROM reactions WHERE is_active AND reaction_type = 'like'")
        assert kept == 25
        assert (await talk(crowd[0], signals[0], "limit=100"))["total"] == 100


async def test_a_comment_and_its_replies_as_the_contract_shows_them(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        signal = await a_signal(world)
        ann = await world.logged_in("ann@example.com", display_name="Ann", avatar_url="https://a.example/a.png")
        ben = await world.logged_in("ben@example.com", display_name="Ben")
        first = await say(ann, signal, "  Great call! I'm in.\r\n")
        assert not Comment().validate(first)
        assert first == {
            "id": first["id"],
            "user": {
                "user_id": ann.claims["sub"],
                "display_name": "Ann",
                "avatar_url": "https://a.example/a.png",
            },
            "content": "Great call! I'm in.",
            "parent_id": None,
            "is_edited": False,
            "created_at": first["created_at"],
            "replies": [],
        }
        reply = await say(ben, signal, "Me too", first["id"])
        assert reply["parent_id"] == first["id"]
        second = await say(ben, signal, "Careful")
        later = await say(ann, signal, "Why?", second["id"])
        last = await say(ann, signal, "Good", first["id"])
        del reply["replies"], later["replies"], last["replies"]
        expected = [first | {"replies": [reply, last]}, second | {"replies": [later]}]
        assert await talk(ben, signal) == {"comments": expected, "total": 5, "limit": 50, "offset": 0}
        page = await talk(ben, signal, "limit=1&offset=1")
        assert page == {"comments": expected[1:], "total": 5, "limit": 1, "offset": 1}
        assert (await world.client.get(f"/api/signals/{signal}")).json["comments"] == expected
        assert (await shown(world, signal))[1] == 5


async def test_a_reply_needs_a_comment_of_the_same_signal_that_is_none_itself(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        signal, other = await a_signal(world), await a_signal(world)
        [ann] = await people(world, 1)
        top = await say(ann, signal, "top")
        reply = await say(ann, signal, "reply", top["id"])
        refused = await say(ann, signal, "deeper", reply["id"], status=400)
        assert refused["error"]["details"][0]["field"] == "parent_id"
        await say(ann, other, "elsewhere", top["id"], status=404)
        await say(ann, signal, "nobody", str(uuid7()), status=404)
        malformed = await say(ann, signal, "malformed", "abc", status=400)
        assert malformed["error"]["details"][0]["field"] == "parent_id"
        assert (await talk(ann, signal))["total"] == 2


@pytest.mark.parametrize("content", ["", "   \n\t ", "x" * 501, None, 7, "a\u0007b", "a\u202eb"])
async def test_a_bad_comment_is_refused(settings: Settings, content: Any) -> None:
    async with accounts_world(settings) as world:
        signal = await a_signal(world)
        [ann] = await people(world, 1)
        for method, path in (("POST", "/comments"), ("PATCH", f"/comments/{uuid7()}")):
            answer = await ann.send(method, f"{SIGNALS}/{signal}{path}", {"content": content})
            assert answer.problem(400, "VALIDATION_ERROR")["details"][0]["field"] == "content"


async def test_a_comment_may_have_500_characters_of_any_script(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        signal = await a_signal(world)
        [ann] = await people(world, 1)
        for text in ("x" * 500, "🚀" * 500, "один\nдва\tтри", '"quoted" \\ <b>'):
            assert (await say(ann, signal, f" {text} "))["content"] == text


async def test_the_same_text_twice_within_a_minute_is_a_conflict(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with accounts_world(settings) as world:
        signal, other = await a_signal(world), await a_signal(world)
        ann, ben = await people(world, 2)
        at = clock.now()
        monkeypatch.setattr(handlers, "now", lambda: at)
        top = await say(ann, signal, "Great call!")
        assert (await say(ann, signal, " Great call! ", status=409))["error"]["code"] == "CONFLICT"
        await say(ann, signal, "Great call!", top["id"], status=409)
        await say(ben, signal, "Great call!")
        await say(ann, other, "Great call!")
        await say(ann, signal, "great call!")
        monkeypatch.setattr(handlers, "now", lambda: at + timedelta(seconds=59.9))
        await world.forget()
        await say(ann, signal, "Great call!", status=409)
        monkeypatch.setattr(handlers, "now", lambda: at + timedelta(seconds=60))
        await say(ann, signal, "Great call!")
        both = await asyncio.gather(*(ben.send("POST", f"{SIGNALS}/{other}/comments", {"content": "x"}) for _ in "ab"))
        assert sorted(each.status for each in both) == [201, 409]


async def test_the_author_edits_and_nobody_else_does(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        signal, other = await a_signal(world), await a_signal(world)
        ann, ben = await people(world, 2)
        comment = await say(ann, signal, "Buy")
        path = f"{SIGNALS}/{signal}/comments/{comment['id']}"
        unchanged = (await ann.send("PATCH", path, {"content": " Buy "})).expect(200).json
        assert unchanged == comment
        edited = (await ann.send("PATCH", path, {"content": "Sell"})).expect(200).json
        assert edited == comment | {"content": "Sell", "is_edited": True}
        await world.forget()
        [listed] = (await talk(ben, signal))["comments"]
        assert listed == edited
        (await ben.send("PATCH", path, {"content": "Mine"})).problem(403, "FORBIDDEN")
        (await ben.send("DELETE", path)).problem(403, "FORBIDDEN")
        for wrong in (f"{SIGNALS}/{other}/comments/{comment['id']}", f"{SIGNALS}/{signal}/comments/{uuid7()}"):
            (await ann.send("PATCH", wrong, {"content": "x"})).problem(404, "NOT_FOUND")
            (await ann.send("DELETE", wrong)).problem(404, "NOT_FOUND")
        (await ann.send("PATCH", path, {"content": "x", "parent_id": None})).problem(400, "VALIDATION_ERROR")


async def test_a_deleted_comment_leaves_a_tombstone_while_it_has_replies(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        signal = await a_signal(world)
        ann, ben = await people(world, 2)
        top = await say(ann, signal, "top")
        reply = await say(ben, signal, "reply", top["id"])
        lone = await say(ann, signal, "lone")
        for comment in (top, lone):
            path = f"{SIGNALS}/{signal}/comments/{comment['id']}"
            for _ in range(2):
                assert (await ann.send("DELETE", path)).expect(200).json == {"id": comment["id"], "deleted": True}
            (await ann.send("PATCH", path, {"content": "back"})).problem(404, "NOT_FOUND")
            (await ben.send("DELETE", path)).problem(404, "NOT_FOUND")
        found = await talk(ben, signal)
        tombstone = top | {"content": None, "user": None, "is_deleted": True}
        [kept] = found["comments"]
        assert {**kept, "replies": []} == tombstone
        assert [each["id"] for each in kept["replies"]] == [reply["id"]]
        assert found["total"] == 1
        assert (await shown(world, signal))[1] == 1
        another = await say(ben, signal, "another", top["id"])
        await say(ben, signal, "to nobody", lone["id"], status=404)
        for each in (reply, another):
            (await ben.send("DELETE", f"{SIGNALS}/{signal}/comments/{each['id']}")).expect(200)
        assert await talk(ben, signal) == {"comments": [], "total": 0, "limit": 50, "offset": 0}


async def test_an_unknown_signal_has_no_comments_or_reactions(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        [ann] = await people(world, 1)
        for signal in (str(uuid7()), "abc"):
            (await ann.send("POST", f"{SIGNALS}/{signal}/react", {"reaction_type": "like"})).problem(404, "NOT_FOUND")
            (await ann.send("DELETE", f"{SIGNALS}/{signal}/react/like")).problem(404, "NOT_FOUND")
            (await ann.send("GET", f"{SIGNALS}/{signal}/comments")).problem(404, "NOT_FOUND")
            (await ann.send("POST", f"{SIGNALS}/{signal}/comments", {"content": "x"})).problem(404, "NOT_FOUND")


async def test_permissions_of_reactions_and_comments(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        signal = await a_signal(world)
        calls: list[tuple[str, str, Any, set[str]]] = [
            ("GET", "/api/social/feed", None, {"unverified", "verified", "provider"}),
            ("GET", f"{SIGNALS}/{signal}/comments", None, {"unverified", "verified", "provider"}),
            ("POST", f"{SIGNALS}/{signal}/react", {}, {"verified", "provider"}),
            ("DELETE", f"{SIGNALS}/{signal}/react/love", None, {"verified", "provider"}),
            ("POST", f"{SIGNALS}/{signal}/comments", {}, {"verified", "provider"}),
            ("PATCH", f"{SIGNALS}/{signal}/comments/{uuid7()}", {}, {"verified", "provider"}),
            ("DELETE", f"{SIGNALS}/{signal}/comments/{uuid7()}", None, {"verified", "provider"}),
            ("POST", "/api/signals", {}, {"provider"}),
        ]
        for caller in ("none", "demo", "unverified", "verified", "provider"):
            browser = world.browser()
            browser.token = token_of(world.settings, caller)
            for method, path, body, allowed in calls:
                status = (await browser.send(method, path, body)).status
                refused = 401 if caller == "none" else 403
                assert (status != refused) == (caller in allowed), (caller, method, path, status)


async def test_reactions_and_comments_are_limited_for_each_user_wherever_from(settings: Settings) -> None:
    async with accounts_world(settings, rate_limit_enabled=True) as world:
        signal = await a_signal(world)
        ann, ben = await people(world, 2)
        for number in range(1, 101):
            answer = await ann.send("POST", f"{SIGNALS}/{signal}/react", {"reaction_type": "like"})
            assert answer.status in (200, 201)
            assert answer.headers["X-RateLimit-Limit"] == "100"
            assert answer.headers["X-RateLimit-Remaining"] == str(100 - number)
        answer = await ann.send("POST", f"{SIGNALS}/{signal}/react", {"reaction_type": "like"})
        assert 3500 < answer.problem(429, "RATE_LIMITED")["retry_after"] <= 3600
        await react(ben, signal, "like")
        for number in range(20):
            await say(ann, signal, f"word {number}")
        answer = await ann.send("POST", f"{SIGNALS}/{signal}/comments", {"content": "one more"})
        assert answer.problem(429, "RATE_LIMITED")
        assert answer.headers["X-RateLimit-Limit"] == "20"
        await say(ben, signal, "one more")


async def follow(world: World, browser: Browser, providers: list[UUID]) -> None:
    await world.execute(
        "INSERT INTO follows SELECT $1, provider_id, true, now() FROM unnest($2::uuid[]) provider_id",
        UUID(browser.claims["sub"]),
        providers,
    )


async def test_the_feed_is_what_those_one_follows_have_published(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        king, queen, knave = uuid7(), uuid7(), uuid7()
        ann, ben = await people(world, 2)
        rows = await publish(
            world.pool,
            [
                {"provider_id": king, "symbol": "ETH/USD", "commentary": 'Strong "setup" here…', "score": 87},
                {"provider_id": knave, "symbol": "SOL"},
                {"provider_id": queen, "signal_direction": "short"},
                {"provider_id": king, "asset_type": "prediction", "symbol": 'Will "it"?'},
                {"provider_id": queen, "at": NOON - timedelta(days=1)},
            ],
        )
        await follow(world, ann, [king, queen])
        await react(ben, str(rows[0].id), "fire")
        await say(ben, str(rows[0].id), "Indeed")

        async def feed(query: str = "") -> dict[str, Any]:
            answer = (await ann.send("GET", f"/api/social/feed?{query}")).expect(200)
            assert not Feed().validate(answer.json), answer.json
            found: dict[str, Any] = answer.json
            return found

        found = await feed()
        listed = [each["signal_id"] for each in found["signals"]]
        assert listed == [str(rows[n].id) for n in (3, 2, 0, 4)]
        assert (found["total"], found["limit"], found["offset"]) == (4, 20, 0)
        assert found["signals"][2] == {
            "signal_id": str(rows[0].id),
            "provider": (await world.client.get(f"/api/signals/{rows[0].id}")).json["provider"],
            "symbol": "ETH/USD",
            "action": "BUY",
            "opportunity_score": 87,
            "commentary": 'Strong "setup" here…',
            "reactions": {"fire": 1},
            "comment_count": 1,
            "created_at": "2026-03-01T12:01:00.000Z",
            "event_type": "OPEN_SIGNAL",
            "direction": "long",
            "entry_price": 42000.5,
            "received_at": rfc3339(time_of(rows[0].id)),
            "retracted_at": None,
            "record_price": None,
            "verified": False,
        }
        assert [each["action"] for each in found["signals"]] == ["YES", "SELL", "BUY", "BUY"]
        assert found["signals"][0]["commentary"] is None
        for offset in range(5):
            page = await feed(f"limit=1&offset={offset}")
            assert [each["signal_id"] for each in page["signals"]] == listed[offset : offset + 1]
            assert page["total"] == 4
        assert [each["signal_id"] for each in (await feed("action=Buy"))["signals"]] == [listed[2], listed[3]]
        assert (await feed("action=buy"))["total"] == 2
        assert (await feed("action=hold")) == {"signals": [], "total": 0, "limit": 20, "offset": 0}
        await follow(world, ann, [knave])
        assert (await feed())["total"] == 5
        [newest] = await publish(world.pool, [{"provider_id": knave}])
        found = await feed()
        assert (found["signals"][0]["signal_id"], found["total"]) == (str(newest.id), 6)
        assert (await ben.send("GET", "/api/social/feed")).json["total"] == 0
        for query in ("action=long", "limit=101", "offset=-1"):
            (await ann.send("GET", f"/api/social/feed?{query}")).problem(400, "VALIDATION_ERROR")
