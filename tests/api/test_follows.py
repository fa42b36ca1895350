"""Following over HTTP: new once, counted exactly, listed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.ids import uuid7
from config.settings import Settings
from db._postgres import transaction
from tests.support.accounts import World, token_of
from tests.support.providers_factory import add_system_provider, id_of, new_provider, providers_world

FOLLOWING = "/api/social/following"


def path_of(provider_id: object) -> str:
    return f"/api/social/follow/{provider_id}"


async def followers_of(world: World, provider_id: object) -> int:
    answer = (await world.browser().send("GET", f"/api/providers/{provider_id}")).expect(200).json
    count: int = answer["stats"]["follower_count"]
    return count


async def test_a_follow_is_new_once_and_keeps_its_time(settings: Settings) -> None:
    async with providers_world(settings) as world:
        king = id_of(await new_provider(world, "king@example.com", "King"))
        fan = await world.logged_in("fan@example.com")
        first = (await fan.send("POST", path_of(king), {"notify_on_signal": True})).expect(201).json
        assert first == {
            "following": True,
            "provider_id": str(king),
            "notify_on_signal": True,
            "followed_at": first["followed_at"],
        }
        again = (await fan.send("POST", path_of(king), {"notify_on_signal": False})).expect(200).json
        assert again == first | {"notify_on_signal": False}
        assert (await fan.send("POST", path_of(king))).expect(200).json == again
        assert (await fan.send("PATCH", path_of(king), {"notify_on_signal": True})).expect(200).json == first
        assert await followers_of(world, king) == 1
        assert (await fan.send("GET", f"/api/providers/{king}")).json["is_following"] is True
        other = await world.logged_in("other@example.com")
        assert (await other.send("GET", f"/api/providers/{king}")).json["is_following"] is False


async def test_an_unfollow_is_no_error_twice(settings: Settings) -> None:
    async with providers_world(settings) as world:
        king = id_of(await new_provider(world, "king@example.com", "King"))
        fan = await world.logged_in("fan@example.com")
        gone = {"following": False, "provider_id": str(king)}
        assert (await fan.send("DELETE", path_of(king))).expect(200).json == gone
        (await fan.send("POST", path_of(king), {})).expect(201)
        for _ in range(2):
            assert (await fan.send("DELETE", path_of(king))).expect(200).json == gone
        assert await followers_of(world, king) == 0
        (await fan.send("PATCH", path_of(king), {"notify_on_signal": True})).problem(404, "NOT_FOUND")
        (await fan.send("POST", path_of(king))).expect(201)
        assert await followers_of(world, king) == 1


async def test_following_what_is_no_other_provider_is_refused(settings: Settings) -> None:
    async with providers_world(settings) as world:
        king = await new_provider(world, "king@example.com", "King")
        fan = await world.logged_in("fan@example.com")
        for unknown in (uuid7(), "nobody", id_of(fan)):
            (await king.send("POST", path_of(unknown))).problem(404, "NOT_FOUND")
            (await king.send("DELETE", path_of(unknown))).problem(404, "NOT_FOUND")
            (await king.send("PATCH", path_of(unknown), {"notify_on_signal": True})).problem(404, "NOT_FOUND")
        (await king.send("POST", path_of(id_of(king)))).problem(400, "VALIDATION_ERROR")
        bodies: list[Any] = [{"notify_on_signal": "yes"}, {"notify_on_signal": None}, {"notify": True}, [True]]
        for body in bodies:
            (await fan.send("POST", path_of(id_of(king)), body)).problem(400, "VALIDATION_ERROR")
        (await fan.send("PATCH", path_of(id_of(king)), {})).problem(400, "VALIDATION_ERROR")
        assert await followers_of(world, id_of(king)) == 0


@pytest.mark.parametrize(("kind", "status"), [("none", 401), ("demo", 403), ("unverified", 403), ("verified", 401)])
async def test_only_verified_users_follow(settings: Settings, kind: str, status: int) -> None:
    async with providers_world(settings) as world:
        king = id_of(await new_provider(world, "king@example.com", "King"))
        caller = world.browser()
        caller.token = token_of(world.settings, kind)  # `verified`: of an account that does not exist
        code = "UNAUTHORIZED" if status == 401 else "FORBIDDEN"
        (await caller.send("POST", path_of(king))).problem(status, code)
        if kind != "verified":
            (await caller.send("DELETE", path_of(king))).problem(status, code)
            (await caller.send("PATCH", path_of(king), {"notify_on_signal": True})).problem(status, code)


async def test_whom_one_follows_is_listed_newest_first(settings: Settings) -> None:
    async with providers_world(settings) as world:
        fan = await world.logged_in("fan@example.com")
        assert (await fan.send("GET", FOLLOWING)).expect(200).json == {"following": [], "total": 0}
        ids = [id_of(await new_provider(world, f"p{n}@example.com", f"Provider {n}")) for n in range(3)]
        for provider_id in ids:
            (await fan.send("POST", path_of(provider_id), {"notify_on_signal": False})).expect(201)
        listed = (await fan.send("GET", FOLLOWING)).expect(200).json
        assert [each["provider"]["user_id"] for each in listed["following"]] == [str(each) for each in reversed(ids)]
        assert listed["total"] == 3
        newest = listed["following"][0]
        assert newest == {
            "provider": {
                "user_id": str(ids[2]),
                "display_name": "Provider 2",
                "avatar_url": None,
                "win_rate": None,
                "follower_count": 1,
            },
            "notify_on_signal": False,
            "followed_at": newest["followed_at"],
        }
        page = (await fan.send("GET", f"{FOLLOWING}?limit=1&offset=1")).expect(200).json
        assert page == {"following": [listed["following"][1]], "total": 3}
        (await fan.send("GET", f"{FOLLOWING}?limit=0")).problem(400, "VALIDATION_ERROR")


async def test_following_is_bounded_by_five_hundred(settings: Settings) -> None:
    async with providers_world(settings) as world:
        fan = await world.logged_in("fan@example.com")
        async with transaction(world.pool) as conn:
            ids = [await add_system_provider(conn) for _ in range(510)]
        answers = await asyncio.gather(*(fan.send("POST", path_of(each)) for each in ids[:60]))
        assert {each.status for each in answers} == {201}
        rest = ids[60:]
        statuses = []
        for start in range(0, len(rest), 90):
            chunk = await asyncio.gather(*(fan.send("POST", path_of(each)) for each in rest[start : start + 90]))
            statuses += [each.status for each in chunk]
        assert (statuses.count(201), statuses.count(409)) == (440, 10)
        assert (await fan.send("GET", FOLLOWING)).json["total"] == 500
        refused = next(each for each, status in zip(rest, statuses, strict=True) if status == 409)
        (await fan.send("POST", path_of(refused))).problem(409, "CONFLICT")
        (await fan.send("POST", path_of(ids[0]), {"notify_on_signal": False})).expect(200)
        (await fan.send("DELETE", path_of(ids[0]))).expect(200)
        (await fan.send("POST", path_of(refused))).expect(201)
