"""Streaks, achievements and referrals count exactly once, through losses, repetitions and kills."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from actors._runtime.messages import Envelope, Message, decode, encode
from actors.users import _repairs
from actors.users._events import notify_posts
from actors.users._repairs import Repairs
from actors.users.messages import USERS, Activity, FirstFollow, ProviderFacts, Qualify, progress_key
from config.clock import now
from config.ids import first_id, uuid7
from config.settings import Settings
from db import achievements, referrals, streaks
from db._postgres import connection, transaction
from schemas.errors import AppError, Internal, NotFound
from tests.support.accounts import World, accounts_world, gateway_of
from tests.support.progress import as_provider, get, newcomer, progress_world, tell, turned, until

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def batch(world: World, *pairs: tuple[UUID, Message[Any]]) -> list[Any]:
    """Return the replies to messages that arrive together, errors as values."""
    envelopes = [Envelope(progress_key(user), decode(encode(message))) for user, message in pairs]
    return list(await world.actors.behaviours[USERS].process(envelopes))


def repairs(world: World) -> Repairs:
    return Repairs(world.actors.behaviours[USERS].context)


async def unlocked(world: World, user: UUID) -> set[str]:
    async with connection(world.pool) as conn:
        return {each.achievement_id for each in await achievements.unlocked(conn, user)}


async def rewards(world: World, referrer: UUID) -> list[int]:
    async with connection(world.pool) as conn:
        rows = await conn.fetch("SELECT reward_amount FROM referrals WHERE referrer_id = $1", referrer)
    return sorted(int(row[0]) for row in rows if row[0] is not None)


async def has(world: World, user: UUID, *names: str) -> bool:
    return set(names) <= await unlocked(world, user)


async def are_qualified(world: World, referrer: UUID, count: int) -> bool:
    return len(await rewards(world, referrer)) == count


@asynccontextmanager
async def quiet(settings: Settings) -> AsyncIterator[World]:
    async with accounts_world(settings) as world:
        yield world


# --- achievements


async def test_facts_that_come_doubled_mixed_up_and_from_all_sides_unlock_once(settings: Settings) -> None:
    async with quiet(settings) as world:
        user = await newcomer(world)
        messages = [ProviderFacts(n, n, n, "basic" if n > 9 else "none", True, NOON) for n in range(13)] * 4
        random.Random(5).shuffle(messages)
        await asyncio.gather(*(batch(world, *((user, each) for each in messages[n::5])) for n in range(5)))
        expected = {"first_signal", "first_win", "win_10", "follower_10", "provider_first", "provider_verified"}
        assert await unlocked(world, user) == expected
        assert await world.value("SELECT count(*) FROM achievements") == 6


async def test_the_unlock_comes_although_no_notice_is_sent_and_the_owner_dies(settings: Settings) -> None:
    async with quiet(settings) as world:
        user = await newcomer(world)
        await tell(world, user, ProviderFacts(1, 0, 0, "none", True, NOON))
        await as_provider(world, user, total_signals=20, win_count=10)
        await world.forget()
        await repairs(world).turn()
        await until(lambda: has(world, user, "win_10", "first_win"))
        first = await world.value("SELECT unlocked_at FROM achievements WHERE achievement_id = 'first_signal'")
        assert first == NOON, "what was unlocked before is not unlocked again"


async def test_a_walk_finds_all_that_is_missing_page_by_page_and_tells_of_nothing_else(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_repairs, "PAGE", 3)
    async with quiet(settings) as world:
        lacking = [await newcomer(world) for _ in range(5)]
        complete = [await newcomer(world) for _ in range(5)]
        for user in (*lacking, *complete):
            await as_provider(world, user, total_signals=1, win_count=9)
        for user in complete:
            await tell(world, user, ProviderFacts(1, 9, 0, "none", True, NOON))
        told: list[str] = []
        ref = world.actors.ref(USERS)
        original = ref.tell
        monkeypatch.setattr(ref, "tell", lambda key, message: told.append(key) or original(key, message))
        walk = repairs(world)
        for _ in range(4):
            await walk.turn()
        assert sorted(told) == sorted(map(progress_key, lacking))
        for user in lacking:
            await until(lambda user=user: has(world, user, "first_win", "first_signal", "provider_first"))
        for _ in range(4):
            await walk.turn()
        assert len(told) == 5


async def test_messages_to_users_who_do_not_exist_fail_alone(settings: Settings) -> None:
    async with quiet(settings) as world:
        user = await newcomer(world)
        replies = await batch(
            world, (uuid7(), FirstFollow(NOON)), (user, ProviderFacts(1, 1, 0, "none", True, NOON)), (user, Unknown())
        )
        assert [type(each) for each in replies] == [NotFound, type(None), Internal]
        assert await unlocked(world, user) == {"first_signal", "first_win", "provider_first"}


class Unknown(Message[None]):
    """A message that progress does not take."""

    def __reduce__(self) -> tuple[object, ...]:
        return Unknown, ()


# --- streaks


async def test_a_crash_loses_no_day(settings: Settings) -> None:
    async with quiet(settings) as world:
        user = await newcomer(world)
        for day in range(8):
            await tell(world, user, Activity("login", NOON + timedelta(days=day), "Asia/Tokyo"))
            if day % 3 == 0:
                await world.forget()
        assert await unlocked(world, user) == {"streak_7"}
        async with connection(world.pool) as conn:
            [row] = await streaks.load_streaks(conn, "user", [user])
        assert (row.current_count, row.longest_count, row.zone) == (8, 8, "Asia/Tokyo")
        await tell(world, user, Activity("login", NOON + timedelta(days=20), "Asia/Tokyo"))
        await world.forget()
        await tell(world, user, Activity("login", NOON + timedelta(days=30), "Asia/Tokyo"))
        runs = await world.value("SELECT array_agg(count ORDER BY started_on) FROM user_streak_runs")
        assert runs == [8, 1]


async def test_days_of_several_kinds_in_one_batch_are_all_kept(settings: Settings) -> None:
    async with quiet(settings) as world:
        user = await newcomer(world)
        days = [NOON + timedelta(days=each) for each in (0, 1, 2, 9, 10, 30)]
        await batch(world, *((user, Activity(kind, at, "UTC")) for at in days for kind in ("login", "analysis_post")))
        async with connection(world.pool) as conn:
            rows = await streaks.load_streaks(conn, "user", [user])
        assert {(each.streak_type, each.current_count, each.longest_count) for each in rows} == {
            ("login", 1, 3),
            ("analysis_post", 1, 3),
        }
        assert await world.value("SELECT array_agg(count ORDER BY count) FROM user_streak_runs") == [2, 2, 3, 3]


async def test_comments_count_in_their_authors_zones_whether_or_not_they_were_told(settings: Settings) -> None:
    async with quiet(settings) as world:
        told, untold = await newcomer(world), await newcomer(world)
        at = now().replace(hour=0, minute=30) - timedelta(days=1)
        await world.execute(
            "INSERT INTO user_settings VALUES ($1, 'moderate', 0.6, '{BUY}', 'dark', 'America/New_York', false, 0)",
            told,
        )
        await notify_posts(world.actors.behaviours[USERS].context, [(told, at)])
        await world.execute("INSERT INTO providers (user_id, display_name, is_system) VALUES ($1, 's', true)", told)
        signal = await a_signal(world, told)
        for author, when in ((untold, at), (untold, at + timedelta(minutes=5)), (told, at)):
            await world.execute(
                "INSERT INTO comments (id, signal_id, user_id, content, is_edited, created_at)"
                " VALUES ($1, $2, $3, 'x', false, $4)",
                UUID(int=first_id(when).int + random.getrandbits(40)),
                signal,
                author,
                when,
            )
        await repairs(world).turn()

        async def days() -> Any:
            async with connection(world.pool) as conn:
                rows = await streaks.load_streaks(conn, "user", [told, untold])
            return {each.owner_id: (each.last_on, each.current_count) for each in rows} if len(rows) == 2 else None

        found = await until(days)
        assert found[untold] == (at.date(), 1)
        assert found[told] == (at.date() - timedelta(days=1), 1), "half past midnight is the evening before there"


async def a_signal(world: World, provider: UUID) -> UUID:
    signal = uuid7()
    await world.execute(
        """
        INSERT INTO signals (id, feed_seq, provider_id, asset_type, asset_category, symbol, action, event_type, score,
                             tier, reasoning, asset_data, feed_data, created_at)
        VALUES ($1, 1, $2, 'crypto', 'crypto', 'BTC', 'buy', 'OPEN_SIGNAL', 50, 'NEUTRAL', '', '{}'::jsonb, '{}', now())
        """,
        signal,
        provider,
    )
    return signal


async def test_every_gateway_hears_that_a_user_has_moved(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = turned(monkeypatch)
    clock.set("UTC", "2026-02-01 10:30")
    async with progress_world(settings) as world, gateway_of(world.settings, world.actors) as other:
        gateway = other.client.application.gateway
        assert gateway.services is not None
        gateway.activity_recorder.start(gateway.services)
        try:
            browser = await world.logged_in("trader@example.com")
            there = other.browser()
            there.token = browser.token
            assert (await get(there, "/api/achievements/streaks"))["streaks"][0]["current_count"] == 1
            # By UTC, which the other gateway knows, there is nothing to tell until midnight.
            (await browser.send("PUT", "/api/user/settings", {"timezone": "Pacific/Kiritimati"})).expect(200)
            remembered = gateway.activity_recorder._until
            await until(lambda: forgotten(remembered, browser.claims["sub"]))
            found = (await get(there, "/api/achievements/streaks"))["streaks"][0]
            # The date of where they are now; another day only when midnight comes there.
            assert (found["current_count"], found["last_activity_date"]) == (1, "2026-02-02")
            clock.set("UTC", "2026-02-02 10:00")
            found = (await get(there, "/api/achievements/streaks"))["streaks"][0]
            assert (found["current_count"], found["last_activity_date"]) == (2, "2026-02-03")
        finally:
            await gateway.activity_recorder.stop()


async def test_a_gateway_remembers_and_holds_no_more_than_its_bounds(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handlers._activity.REMEMBERED", 3)
    monkeypatch.setattr("handlers._activity.WAITING", 2)
    async with progress_world(settings) as world:
        activity_recorder = world.client.application.gateway.activity_recorder
        users = [await newcomer(world) for _ in range(6)]
        for user in users:
            activity_recorder.note(str(user))
        assert list(activity_recorder._waiting) == [str(user) for user in users[:2]]  # the others will come again
        for user in users * 2:
            activity_recorder.note(str(user))
            await activity_recorder.wait_until_reported(str(user))
        assert list(activity_recorder._until) == [str(user) for user in users[3:]]
        assert await world.value("SELECT array_agg(DISTINCT current_count) FROM user_streaks") == [1]
        assert await world.value("SELECT count(*) FROM user_streaks") == 6


async def forgotten(remembered: dict[str, float], user: str) -> bool:
    return user not in remembered


# --- referrals


async def test_each_referral_is_rewarded_once_however_often_and_at_once_it_is_told(settings: Settings) -> None:
    async with quiet(settings) as world:
        referrer = await newcomer(world)
        referees = [await newcomer(world, referrer) for _ in range(20)]
        acts: list[Message[None]] = [FirstFollow(NOON), ProviderFacts(1, 0, 0, "none", True, NOON)]
        everything = [(each, act) for each in referees for act in acts * 3]
        random.Random(7).shuffle(everything)
        await asyncio.gather(*(batch(world, *everything[n::8]) for n in range(8)))
        await until(lambda: are_qualified(world, referrer, 20))
        assert await rewards(world, referrer) == [25] * 4 + [50] * 5 + [75] * 11
        assert await unlocked(world, referrer) == {"referral_1", "referral_5", "referral_10"}
        await batch(world, *((referrer, Qualify(each, NOON)) for each in referees))
        assert await rewards(world, referrer) == [25] * 4 + [50] * 5 + [75] * 11


async def test_an_act_that_was_noted_is_rewarded_though_its_teller_dies(settings: Settings) -> None:
    async with quiet(settings) as world:
        referrer = await newcomer(world)
        referees = [await newcomer(world, referrer) for _ in range(6)]
        world.actors.refs[USERS].dropping = True  # the owner dies before it has sent the events
        for each in referees:
            await tell(world, each, FirstFollow(NOON))
        assert await world.value("SELECT count(acted_at) FROM referrals") == 6
        await world.forget()
        assert await rewards(world, referrer) == []
        walk = repairs(world)
        await walk.turn()
        await until(lambda: are_qualified(world, referrer, 6))
        await walk.turn()
        assert await rewards(world, referrer) == [25] * 4 + [50] * 2
        assert await world.value("SELECT array_agg(DISTINCT qualified_at) FROM referrals") == [NOON]


async def test_an_act_that_nobody_was_told_of_is_found_and_dated(settings: Settings) -> None:
    async with quiet(settings) as world:
        referrer = await newcomer(world)
        follower, publisher, idle = [await newcomer(world, referrer) for _ in range(3)]
        await world.execute("INSERT INTO following_counts VALUES ($1, 0, $2)", follower, NOON)
        await as_provider(world, publisher)
        signal = await a_signal(world, publisher)
        await world.forget()
        walk = repairs(world)
        await walk.turn()
        await until(lambda: are_qualified(world, referrer, 2))
        dates = dict(await fetch(world, "SELECT referee_id, qualified_at FROM referrals"))
        assert dates[follower] == NOON, "though nobody is followed any more"
        assert dates[publisher] == await world.value("SELECT created_at FROM signals WHERE id = $1", signal)
        assert dates[idle] is None


async def fetch(world: World, statement: str, *arguments: Any) -> list[Any]:
    async with connection(world.pool) as conn:
        return [tuple(row) for row in await conn.fetch(statement, *arguments)]


async def test_referrals_past_the_most_that_count_are_passed_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.users.progress.REFERRALS", 2)
    monkeypatch.setattr(_repairs, "REFERRALS", 2)
    monkeypatch.setattr(_repairs, "PAGE", 2)
    async with quiet(settings) as world:
        crowded, other = await newcomer(world), await newcomer(world)
        for _ in range(7):
            await tell(world, await newcomer(world, crowded), FirstFollow(NOON))
        await until(lambda: are_qualified(world, crowded, 2))
        world.actors.refs[USERS].dropping = True
        unnotified = await newcomer(world, other)
        await tell(world, unnotified, FirstFollow(NOON))
        world.actors.refs[USERS].dropping = False
        walk = repairs(world)
        for _ in range(4):
            await walk.turn()
        await until(lambda: are_qualified(world, other, 1))
        assert await rewards(world, crowded) == [25, 25]


async def test_a_referral_that_is_none_fails_alone(settings: Settings) -> None:
    async with quiet(settings) as world:
        referrer, stranger = await newcomer(world), await newcomer(world)
        referee, idle = await newcomer(world, referrer), await newcomer(world, referrer)
        world.actors.refs[USERS].dropping = True
        await tell(world, referee, FirstFollow(NOON))
        replies = await batch(
            world,
            (referrer, Qualify(stranger, NOON)),
            (referrer, Qualify(referee, NOON)),
            (referrer, Qualify(idle, NOON)),
        )
        assert [isinstance(each, AppError) for each in replies] == [True, False, True]
        assert await rewards(world, referrer) == [25]
        assert await world.value("SELECT referee_reward FROM referrals WHERE status = 'qualified'") == Decimal(25)


async def test_a_code_that_is_taken_between_the_look_and_the_write_is_refused(settings: Settings) -> None:
    async with quiet(settings) as world:
        await newcomer(world, referral_code="SAME42")
        with pytest.raises(AppError, match="referral code is taken"):
            await newcomer(world, referral_code="SAME42")
        assert await world.value("SELECT count(*) FROM users") == 1
        await world.execute("UPDATE users SET referral_code = 'NEW424'")  # as by choosing one: the old one stays taken
        with pytest.raises(AppError, match="referral code is taken"):
            await newcomer(world, referral_code="SAME42")
        assert await world.value("SELECT count(*) FROM users") == 1


async def test_the_look_ups_use_an_index(settings: Settings) -> None:
    some = uuid7()
    questions: dict[str, list[Any]] = {
        achievements.LOAD_PROGRESS: [[some]],
        streaks.LOAD_STREAKS["user"]: [[some]],
        achievements.UNLOCKED: [some],
        achievements.FACTS: [some],
        achievements.QUALIFIED: [some],
        streaks.STREAKS_OF: [[some]],
        streaks.LOAD_ZONES: [[some]],
        achievements.POSTS: [some, some, 10],
        achievements.WALK_PROVIDERS: [some, 10, ["x"], ["wins"], [1]],
        referrals.FIND_OWNER: ["KING42"],
        referrals.TOTALS: [some],
        referrals.LIST_REFERRALS: [some, 10, 0],
        referrals.WALK_UNNOTIFIED: [some, 10],
        referrals.WALK_IDLE: [some, 10],
        referrals.COUNT_CODES: [some, "KING42"],
    }
    async with quiet(settings) as world, transaction(world.pool) as conn:
        await conn.execute("SET LOCAL enable_seqscan = off")
        for statement, arguments in questions.items():
            plan = "\n".join(row[0] for row in await conn.fetch("EXPLAIN " + statement, *arguments))
            assert "Seq Scan" not in plan, plan
