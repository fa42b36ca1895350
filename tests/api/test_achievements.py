"""Achievements and streaks over HTTP: those unlocked, the next ones, and days by the user's time zone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from actors.users.achievements import ACHIEVEMENTS
from actors.users.messages import USERS, Activity, ProviderFacts
from config.clock import now
from config.settings import Settings
from config.tasks import spawn
from handlers.achievements import CACHE_KEY
from schemas.errors import ActorUnavailable
from tests.support.accounts import Browser, World, accounts_world, token_of
from tests.support.progress import as_provider, get, progress_world, tell, turned, until

ADDRESS = "trader@example.com"
DEFINITIONS, MINE, STREAKS = "/api/achievements", "/api/achievements/me", "/api/achievements/streaks"
PATHS = (DEFINITIONS, MINE, STREAKS)


def user_of(browser: Browser) -> UUID:
    return UUID(browser.claims["sub"])


def wins(count: int, at: datetime | None = None) -> ProviderFacts:
    return ProviderFacts(0, count, 0, "none", False, at or now())


async def streak(browser: Browser, name: str = "login") -> dict[str, Any]:
    found: dict[str, Any] = {each["streak_type"]: each for each in (await get(browser, STREAKS))["streaks"]}
    return dict(found[name])


async def logins(browser: Browser) -> tuple[int, int, str]:
    found = await streak(browser)
    return found["current_count"], found["longest_count"], found["last_activity_date"]


@pytest.mark.parametrize("path", PATHS)
async def test_the_whole_group_needs_a_verified_users_token(settings: Settings, path: str) -> None:
    async with accounts_world(settings) as world:
        browser = world.browser()
        (await browser.send("GET", path)).problem(401, "UNAUTHORIZED")
        for kind in ("demo", "unverified"):
            browser.token = token_of(world.settings, kind)
            (await browser.send("GET", path)).problem(403, "FORBIDDEN")
        browser.token = "nonsense"
        (await browser.send("GET", path)).problem(401, "UNAUTHORIZED")
        answer = await browser.send("POST", path, {})
        answer.problem(405, "METHOD_NOT_ALLOWED")
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


async def test_the_definitions_are_the_table(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        listed = (await get(browser, DEFINITIONS))["achievements"]
        names = ["id", "name", "description", "category", "icon", "points", "rarity"]
        assert listed == [{name: getattr(each, name) for name in names} for each in ACHIEVEMENTS]
        assert listed[1] == {
            "id": "first_win",
            "name": "First Win",
            "description": "Your first profitable signal",
            "category": "trading",
            "icon": "🏆",
            "points": 25,
            "rarity": "common",
        }
        assert {len(each["description"]) > 5 for each in listed} == {True}


async def test_the_definitions_are_cached_in_redis_for_an_hour_and_by_browsers(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        first = (await browser.send("GET", DEFINITIONS)).expect(200)
        redis = world.client.application.gateway.services.redis  # type: ignore[union-attr]
        assert await redis.get(CACHE_KEY) == first.response.body
        assert 3590 <= await redis.ttl(CACHE_KEY) <= 3600
        second = (await browser.send("GET", DEFINITIONS)).expect(200)
        assert second.response.body == first.response.body
        again = await browser.send("GET", DEFINITIONS, headers={"If-None-Match": first.headers["ETag"]})
        assert again.expect(304).response.body == b""


async def test_the_definitions_do_without_redis(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        redis = world.client.application.gateway.services.redis  # type: ignore[union-attr]
        redis.connection_pool.connection_kwargs["path"] = "/nowhere"
        await redis.connection_pool.disconnect()
        assert len((await get(browser, DEFINITIONS))["achievements"]) == len(ACHIEVEMENTS)


async def test_a_user_without_achievements_sees_what_comes_first(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        mine = await get(browser, MINE)
        assert (mine["unlocked"], mine["total_points"]) == ([], 0)
        assert mine["next_achievements"][0] == {
            "id": "first_signal",
            "name": "First Signal",
            "progress": 0,
            "target": 1,
        }
        assert [each["id"] for each in mine["next_achievements"]] == [
            "first_signal", "first_win", "streak_7", "follower_10", "provider_first", "provider_verified", "referral_1",
        ]  # fmt: skip


async def test_the_documents_example(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        user = user_of(browser)
        await tell(world, user, wins(1, datetime(2025, 1, 15, 10, tzinfo=UTC)))
        for day in range(16, 23):
            await tell(world, user, Activity("login", datetime(2025, 1, day, tzinfo=UTC), "UTC"))
        await as_provider(world, user, win_count=7)
        mine = await get(browser, MINE)
        assert mine["unlocked"] == [
            {"achievement_id": "first_win", "unlocked_at": "2025-01-15T10:00:00.000Z"},
            {"achievement_id": "streak_7", "unlocked_at": "2025-01-22T00:00:00.000Z"},
        ]
        assert mine["total_points"] == 75
        assert mine["next_achievements"][0] == {"id": "win_10", "name": "Getting Started", "progress": 7, "target": 10}


async def test_an_unlock_without_a_notice_is_there_to_be_read(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        await as_provider(
            world,
            user_of(browser),
            total_signals=60,
            win_count=12,
            most_followers=40,
            follower_count=40,
            verification_level="pro",
        )
        mine = await get(browser, MINE)
        have = [each["achievement_id"] for each in mine["unlocked"]]
        assert have == ["first_signal", "first_win", "win_10", "follower_10", "provider_first", "provider_verified"]
        assert mine["total_points"] == 10 + 25 + 50 + 50 + 100 + 500
        nexts = {each["id"]: (each["progress"], each["target"]) for each in mine["next_achievements"]}
        assert nexts == {"follower_100": (40, 100), "win_100": (12, 100), "streak_7": (0, 7), "referral_1": (0, 1)}
        assert await get(browser, MINE) == mine
        await world.forget()
        assert await get(browser, MINE) == mine


async def test_losing_followers_takes_nothing_away(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        await as_provider(world, user_of(browser), most_followers=10, follower_count=3)
        have = [each["achievement_id"] for each in (await get(browser, MINE))["unlocked"]]
        assert have == ["follower_10"]


async def test_a_system_providers_record_is_nobodys(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        await as_provider(world, user_of(browser), win_count=50)
        await world.execute("UPDATE providers SET is_system = true")
        assert (await get(browser, MINE))["unlocked"] == []


async def test_saved_state_is_read_while_the_owner_is_unavailable(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        await tell(world, user_of(browser), wins(1))
        await as_provider(world, user_of(browser), win_count=10)
        await world.actors.kill(USERS)
        world.actors.refs[USERS] = Away()  # type: ignore[assignment]
        have = [each["achievement_id"] for each in (await get(browser, MINE))["unlocked"]]
        assert have == ["first_win"]
        assert (await get(browser, STREAKS))["streaks"][0]["current_count"] == 0


class Away:
    """A reference to an owner that is unavailable while its process is replaced."""

    async def ask(self, *_: Any, **__: Any) -> None:
        raise ActorUnavailable

    async def close(self) -> None: ...


async def test_a_user_without_activity_has_empty_streaks(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        empty = {"current_count": 0, "longest_count": 0, "last_activity_date": None}
        assert (await get(browser, STREAKS))["streaks"] == [
            {"streak_type": name} | empty for name in ("login", "analysis_post")
        ]


async def test_a_provider_has_all_four_streaks(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        user = user_of(browser)
        await as_provider(world, user)
        today = now().date()
        for name, current in (("profitable_signal", 3), ("provider_signal", 5)):
            await world.execute(
                "INSERT INTO provider_streaks VALUES ($1, $2, $3, 8, $4, $4, $4, 'UTC')", user, name, current, today
            )
        await tell(world, user, Activity("analysis_post", now(), "UTC"))
        await tell(world, user, Activity("login", now(), "UTC"))
        assert [tuple(each.values()) for each in (await get(browser, STREAKS))["streaks"]] == [
            ("login", 1, 1, today.isoformat()),
            ("profitable_signal", 3, 8, today.isoformat()),
            ("provider_signal", 5, 8, today.isoformat()),
            ("analysis_post", 1, 1, today.isoformat()),
        ]
        await world.execute("UPDATE provider_streaks SET last_on = '2025-02-01', seen_on = '2025-02-01'")
        shown = {each["streak_type"]: each for each in (await get(browser, STREAKS))["streaks"]}
        assert shown["profitable_signal"]["current_count"] == 3, "a run of profits has no days to leave out"
        assert (shown["provider_signal"]["current_count"], shown["provider_signal"]["longest_count"]) == (0, 8)


async def test_the_first_request_of_a_day_counts_and_is_seen_by_itself(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = turned(monkeypatch)
    clock.set("UTC", "2026-02-01 10:00")
    async with progress_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        assert await logins(browser) == (1, 1, "2026-02-01")
        for _ in range(5):
            await get(browser, "/auth/me")
        clock.set("UTC", "2026-02-02 23:59")
        await get(browser, "/auth/me")
        assert await logins(browser) == (2, 2, "2026-02-02")
        clock.set("UTC", "2026-02-05 00:00")
        assert await logins(browser) == (1, 2, "2026-02-05")
        runs = await world.value("SELECT array_agg((count, started_on, ended_on)::text) FROM user_streak_runs")
        assert runs == ["(2,2026-02-01,2026-02-02)"]


async def test_a_streak_that_has_been_broken_shows_before_it_begins_anew(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = turned(monkeypatch)
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        for day in (1, 2, 3):
            await tell(world, user_of(browser), Activity("login", datetime(2026, 2, day, tzinfo=UTC), "UTC"))
        for text, current in (("2026-02-03 23:00", 3), ("2026-02-04 23:59", 3), ("2026-02-05 00:00", 0)):
            clock.set("UTC", text)
            assert await logins(browser) == (current, 3, "2026-02-03")
            nexts = {each["id"]: each["progress"] for each in (await get(browser, MINE))["next_achievements"]}
            assert nexts["streak_7"] == current


async def test_days_are_those_of_the_users_zone_also_when_clocks_change(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, zone = turned(monkeypatch), "America/New_York"
    clock.set(zone, "2026-03-06 12:00")
    async with progress_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        (await browser.send("PUT", "/api/user/settings", {"timezone": zone})).expect(200)
        # 23 hours long is the 8th; each of these is another day in UTC than in New York.
        for count, text in enumerate(("03-06 23:30", "03-07 23:30", "03-08 23:30", "03-09 00:30", "03-10 23:59"), 1):
            clock.set(zone, f"2026-{text}")
            assert await logins(browser) == (count, count, f"2026-{text[:5]}")
        for count, text in enumerate(("10-31 00:30", "11-01 00:30", "11-01 23:30", "11-02 00:30")):
            clock.set(zone, f"2026-{text}")
            current, _, day = await logins(browser)
            assert (current, day) == ((1, 2, 2, 3)[count], f"2026-{text[:5]}")


async def test_a_user_who_moves_keeps_the_streak_and_counts_no_day_twice(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = turned(monkeypatch)

    async def live_in(zone: str, text: str) -> None:
        """Move, after the activity of this moment has been recorded in the zone that was in force until now."""
        clock.set(zone, text)
        await logins(browser)
        (await browser.send("PUT", "/api/user/settings", {"timezone": zone})).expect(200)

    clock.set("Pacific/Honolulu", "2026-01-01 12:00")
    async with progress_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        await live_in("Pacific/Honolulu", "2026-01-01 12:00")
        assert await logins(browser) == (1, 1, "2026-01-01")
        await live_in("Pacific/Kiritimati", "2026-01-03 11:00")  # 23 hours later, on the 2nd in Honolulu
        assert await logins(browser) == (2, 2, "2026-01-03")
        await live_in("Pacific/Honolulu", "2026-01-02 12:00")  # 1 hour later, and the day before
        clock.set("Pacific/Honolulu", "2026-01-02 23:00")
        assert await logins(browser) == (2, 2, "2026-01-03")
        clock.set("Pacific/Honolulu", "2026-01-03 12:00")
        assert await logins(browser) == (3, 3, "2026-01-03")
        clock.set("Pacific/Honolulu", "2026-01-04 23:00")
        assert await logins(browser) == (4, 4, "2026-01-04")
        assert await world.value("SELECT count(*) FROM user_streak_runs") == 0


async def test_a_move_during_a_report_is_reported_anew(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind: what a report under way cannot know yet is taken for reported by it."""
    clock = turned(monkeypatch)
    clock.set("Pacific/Honolulu", "2026-01-02 11:00")
    async with progress_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        (await browser.send("PUT", "/api/user/settings", {"timezone": "Pacific/Honolulu"})).expect(200)
        assert (await logins(browser))[2] == "2026-01-02"
        ref, moved = world.actors.ref(USERS), asyncio.Event()
        ask = ref.ask

        async def asked_late(key: str, message: Any, **options: Any) -> Any:
            reply = await ask(key, message, **options)
            if isinstance(message, Activity):
                await moved.wait()  # the report has been applied, and its answer is under way
            return reply

        clock.set("Pacific/Honolulu", "2026-01-03 11:00")
        monkeypatch.setattr(ref, "ask", asked_late)
        (await browser.send("GET", "/auth/me")).expect(200)
        await asyncio.sleep(0.2)
        (await browser.send("PUT", "/api/user/settings", {"timezone": "Pacific/Kiritimati"})).expect(200)
        shown = spawn(logins(browser), name="read the streak")
        await asyncio.sleep(0.1)
        moved.set()
        assert (await shown)[2] == "2026-01-04"


async def test_the_owner_is_told_once_per_user_and_day(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = turned(monkeypatch)
    clock.set("UTC", "2026-02-01 10:00")
    async with progress_world(settings) as world:
        told: list[Any] = []
        ref = world.actors.ref(USERS)
        ask = ref.ask

        async def counted(key: str, message: Any, **options: Any) -> Any:
            told.extend([key] if isinstance(message, Activity) else [])
            return await ask(key, message, **options)

        monkeypatch.setattr(ref, "ask", counted)
        one, two = await world.logged_in(ADDRESS), await world.logged_in("other@example.com")
        for _ in range(10):
            await get(one, STREAKS)
            await get(two, STREAKS)
        assert len(told) == len(set(told)) == 2
        clock.forward(days=1)
        await get(one, STREAKS)
        assert len(told) == 3


async def test_activity_that_could_not_be_reported_is_reported_later_with_its_own_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = turned(monkeypatch)
    monkeypatch.setattr("handlers._activity.RETRY_SECONDS", (0.01, 0.05))
    monkeypatch.setattr("handlers._activity.WAIT_SECONDS", 0.1)
    clock.set("UTC", "2026-02-01 10:00")
    async with progress_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        ref = world.actors.refs[USERS]
        world.actors.refs[USERS] = Away()  # type: ignore[assignment]
        await get(browser, STREAKS)
        clock.set("UTC", "2026-02-02 10:00")
        assert await logins(browser) == (0, 0, None)
        world.actors.refs[USERS] = ref
        await until(lambda: reached(world, 2))
        assert await logins(browser) == (2, 2, "2026-02-02")


async def reached(world: World, count: int) -> bool:
    return bool(await world.value("SELECT max(current_count) = $1 FROM user_streaks", count))


async def test_a_token_of_nobodys_account_counts_for_nobody(settings: Settings) -> None:
    async with progress_world(settings) as world:
        browser = world.browser()
        browser.token = token_of(world.settings, "verified")
        await get(browser, STREAKS)
        assert await world.value("SELECT count(*) FROM user_streaks") == 0
