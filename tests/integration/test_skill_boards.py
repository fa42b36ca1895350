"""The nights of the boards of skill over a real Postgres: when they are computed, from what, and what is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import islice

import numpy as np
import pytest

from actors.leaderboards.leaderboards import Leaderboards
from actors.leaderboards.messages import LEADERBOARDS
from actors.leaderboards.night import night_of, passing
from actors.records.gates import Track, missing_gates
from config.settings import Settings
from db import _board_nights as sql
from db._postgres import Connection, connection, create_pool, transaction
from tests.support.local_actors import LocalActors, local_actors
from tests.support.records_factory import DAY, RecordStats, add_stats, end_day

NOW = datetime(2026, 11, 30, 0, 1, tzinfo=UTC)


@asynccontextmanager
async def boards(settings: Settings, stats: Sequence[RecordStats]) -> AsyncIterator[tuple[LocalActors, Connection]]:
    """The owner of the boards, and a connection to what it reads and writes."""
    pool = await create_pool(settings.database_url, 2, name="test")
    try:
        async with connection(pool) as conn:
            await add_stats(conn, stats)
            async with local_actors(settings, {LEADERBOARDS: Leaderboards()}) as actors:
                yield actors, conn
    finally:
        await pool.close()


async def look(actors: LocalActors) -> None:
    await actors.behaviours[LEADERBOARDS]._look_after_night()  # type: ignore[attr-defined]


def crowd(count: int = 40) -> list[RecordStats]:
    """Providers without skill: their Sharpe ratios are spread evenly around none."""
    return [RecordStats(mean=0.0005 * (place / count - 0.5)) for place in range(count)]


async def test_a_night_is_computed_once_every_shard_has_read_the_end_of_the_day(settings: Settings) -> None:
    ace = RecordStats(as_of_seq=77)
    async with boards(settings, [ace, *crowd()]) as (actors, conn):
        await look(actors)  # the log is empty
        assert await sql.load_night(conn, None) is None
        await end_day(conn, shards=2, read=1)
        await look(actors)  # one shard lags behind
        assert await sql.load_night(conn, None) is None
        await end_day(conn, shards=2)
        await look(actors)
        night = await sql.load_night(conn, None)
        assert night is not None
        assert (night.day, night.as_of_seq, night.eligible, night.listed) == (DAY, 77, 41, 1)
        [listed] = await sql.load_listed(conn, "skill", DAY, 0, 10)
        assert listed.provider_id == ace.provider_id
        assert (listed.bets, listed.days, listed.max_drawdown, listed.open_result) == (200, 200, 0.0456, 0.0123)
        await look(actors)  # idempotent
        assert await sql.load_night(conn, None) == night


async def test_a_mark_that_is_not_the_last_of_its_hour_ends_no_day(settings: Settings) -> None:
    async with boards(settings, [RecordStats()]) as (actors, conn):
        await end_day(conn, is_last=False)
        await look(actors)
        assert await sql.load_night(conn, None) is None


async def test_a_missed_night_is_computed_after_a_restart(settings: Settings) -> None:
    async with boards(settings, [RecordStats(), *crowd()]) as (actors, conn):
        await end_day(conn)
        await look(actors)
        await actors.kill(LEADERBOARDS)
        await end_day(conn, DAY + timedelta(days=1))
        await end_day(conn, DAY + timedelta(days=2))
        await actors.start(LEADERBOARDS, Leaderboards(), settings)
        await look(actors)
        days = [row[0] for row in await conn.fetch("SELECT day FROM board_nights ORDER BY day")]
        assert days == [DAY, DAY + timedelta(days=2)]


async def test_who_was_ever_eligible_counts_for_ever_but_only_who_passes_is_listed(settings: Settings) -> None:
    fallen = RecordStats(unverified=90, is_eligible=True)
    async with boards(settings, [fallen, RecordStats(), *crowd()]) as (actors, conn):
        await end_day(conn)
        await look(actors)
        night = await sql.load_night(conn, None)
        assert night is not None
        assert (night.eligible, night.listed) == (42, 1)
        # The next night knows it by the one before, even where the record does not say so.
        await conn.execute("UPDATE record_stats SET eligible_since = NULL, bets = 3")
        await end_day(conn, DAY + timedelta(days=1))
        await look(actors)
        night = await sql.load_night(conn, None)
        assert night is not None
        assert (night.eligible, night.listed) == (42, 0)


async def test_nights_are_kept_for_a_week_and_of_older_ones_only_the_listed(settings: Settings) -> None:
    async with boards(settings, [RecordStats(), *crowd()]) as (actors, conn):
        for number in range(sql.KEPT_NIGHTS + 2):
            await end_day(conn, DAY + timedelta(days=number))
            await look(actors)
        counts = await conn.fetch("SELECT day, count(*) FROM board_candidates GROUP BY day ORDER BY day")
        assert [row[1] for row in counts] == [1] * (sql.KEPT_NIGHTS - 1) + [41]
        assert await conn.fetchval("SELECT count(*) FROM board_nights") == sql.KEPT_NIGHTS


async def test_pages_follow_one_another_and_ties_go_to_the_lower_id(settings: Settings) -> None:
    aces = [RecordStats() for _ in range(5)]
    async with boards(settings, [*aces, *crowd()]) as (actors, conn):
        await end_day(conn)
        await look(actors)
        for board in ("skill", "steady"):
            pages = [await sql.load_listed(conn, board, DAY, offset, 2) for offset in (0, 2, 4)]  # type: ignore[arg-type]
            assert [each.provider_id for page in pages for each in page] == sorted(each.provider_id for each in aces)


async def test_two_owners_store_one_night(settings: Settings) -> None:
    async with boards(settings, [RecordStats(), *crowd()]) as (_, conn):
        night, candidates = night_of(DAY, await sql.load_stats(conn), NOW)
        pool = await create_pool(settings.database_url, 1, name="test")
        try:
            for is_first in (True, False):
                async with transaction(pool) as other:
                    assert await sql.insert_night(other, night, candidates) is is_first
        finally:
            await pool.close()


async def test_the_columns_say_of_everyone_what_the_gates_say_of_one(settings: Settings) -> None:
    random = np.random.default_rng(5)
    stats = [
        RecordStats(
            bets=int(random.integers(28, 33)), days=int(random.integers(28, 33)), age=int(random.integers(58, 63)),
            positions=int(random.integers(1, 60)), unverified=int(random.integers(0, 12)),
        )
        for _ in range(300)
    ]  # fmt: skip
    async with boards(settings, stats) as (_, conn):
        columns = await sql.load_stats(conn)
        assert columns is not None
        found = dict(zip(columns.provider_id, passing(columns, DAY).tolist(), strict=True))
        expected = {}
        for each in stats:
            first = DAY + timedelta(days=1 - each.age)
            track = Track(each.bets, each.days, first, each.positions, each.unverified)
            expected[each.provider_id] = not missing_gates(track, DAY + timedelta(days=1))
        assert found == expected
        assert len(set(islice(found.values(), 300))) == 2


@pytest.mark.parametrize("day", [DAY, date(2026, 12, 31)])
def test_a_night_without_a_record_is_empty(day: date) -> None:
    night, candidates = night_of(day, None, NOW)
    assert (night.eligible, night.listed, night.least_luck, candidates) == (0, 0, None, [])


async def test_steadiness_is_the_mean_day_over_the_bad_day(settings: Settings) -> None:
    calm, wild = RecordStats(mean=0.004, daily_loss=0.004), RecordStats(mean=0.006, daily_loss=0.02)
    flawless = RecordStats(mean=0.003, daily_loss=0.0)
    async with boards(settings, [calm, wild, flawless, *crowd()]) as (actors, conn):
        await end_day(conn)
        await look(actors)
        found = await sql.load_listed(conn, "steady", DAY, 0, 3)
        assert [each.provider_id for each in found] == [each.provider_id for each in (flawless, calm, wild)]
        assert [each.steadiness for each in found] == [30.0, 1.0, 0.3]


async def test_a_day_on_which_nothing_was_open_ends_without_a_mark(settings: Settings) -> None:
    async with boards(settings, [RecordStats(), *crowd()]) as (actors, conn):
        await end_day(conn)
        await conn.execute("UPDATE log_state SET reached_at = reached_at + interval '49 hours'")
        await look(actors)
        night = await sql.load_night(conn, None)
        assert night is not None
        assert night.day == DAY + timedelta(days=2)
