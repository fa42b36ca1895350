"""The leaderboards over a real Postgres: every board against counting by hand, live, after a restart, from the copy."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from unittest.mock import ANY
from uuid import UUID

import asyncpg
import pytest

from actors.leaderboards import leaderboards, refreshing
from actors.leaderboards.leaderboards import Leaderboards
from actors.leaderboards.messages import LEADERBOARDS, BoardPosition, PositionOf, Ranking, RankRecords, Top
from actors.leaderboards.rankings import entry_of
from actors.leaderboards.totals import BOARDS, BoardTotals, earlier_values, values
from config.clock import now
from config.ids import uuid7
from config.settings import Settings
from db import leaderboards as sql
from db.leaderboards import BoardRecord
from tests.support.local_actors import LocalActors, local_actors
from tests.support.streams import until

UNIT = 10**12


@dataclass
class History:
    """A provider's history: closed signals (when, return in units of 1e-12), follows and unfollows (when, ±1)."""

    provider_id: UUID = field(default_factory=uuid7)
    closes: list[tuple[datetime, int]] = field(default_factory=list)
    follows: list[tuple[datetime, int]] = field(default_factory=list)

    @property
    def record(self) -> BoardRecord:
        returns = [returned for _, returned in self.closes]
        streak = _run(returns)
        wins = sum(each > 0 for each in returns)
        followers = sum(delta for _, delta in self.follows)
        return BoardRecord(self.provider_id, len(returns) + 3, followers, len(returns), wins, sum(returns), streak)


def _run(returns: Sequence[int]) -> int:
    return len(list(takewhile(lambda each: each > 0, reversed(returns))))


def _best(returns: Sequence[int]) -> int:
    return max((_run(returns[:end]) for end in range(1, len(returns) + 1)), default=0)


def _values_by_hand(history: History, at: datetime) -> list[int | None]:
    """Compute the values of BOARDS as the contract defines them."""

    def rate(returns: Sequence[int]) -> int | None:
        return round(sum(each > 0 for each in returns) * 10**4 / len(returns)) if len(returns) >= 10 else None

    def mean(returns: Sequence[int]) -> int | None:
        return round(sum(returns) * 10**4 / (len(returns) * UNIT)) if returns else None

    found: dict[tuple[str, str], int | None] = {}
    followers = sum(delta for _, delta in history.follows)
    for period, days in (("all", 10_000), ("month", 30), ("week", 7)):
        since = at - timedelta(days=days)
        returns = [returned for when, returned in history.closes if when > since]
        gained = sum(delta for when, delta in history.follows if when > since)
        found["followers", period] = gained
        found["win_rate", period] = rate(returns)
        found["return", period] = mean(returns)
        found["streak", period] = (_run(returns) if period == "all" else _best(returns)) or None
        found["rising", period] = round(gained * 10**4 / max(followers - gained, 10)) if gained > 0 else None
    return [found[key] for key in BOARDS]


def _random_history(chance: random.Random, at: datetime) -> History:
    def when() -> datetime:
        return at - timedelta(days=chance.choice((1, 3, 10, 20, 45, 80)), seconds=chance.randrange(3600))

    closes = sorted(
        (when(), chance.choice((-1, 1, 1, 0)) * chance.randrange(1, UNIT)) for _ in range(chance.randrange(60))
    )
    return History(closes=closes, follows=sorted((when(), 1) for _ in range(chance.randrange(60))))


async def _store(conn: asyncpg.Connection[asyncpg.Record], histories: Sequence[History]) -> None:
    await conn.executemany(
        "INSERT INTO providers (user_id, display_name, is_system) VALUES ($1, 'x', true) ON CONFLICT DO NOTHING",
        [(each.provider_id,) for each in histories],
    )
    await conn.execute(
        "DELETE FROM signal_outcomes WHERE provider_id = ANY ($1::uuid[])", [each.provider_id for each in histories]
    )
    await conn.execute(
        "DELETE FROM follower_changes WHERE provider_id = ANY ($1::uuid[])", [each.provider_id for each in histories]
    )
    for history in histories:
        await conn.executemany(
            """INSERT INTO signal_outcomes (signal_id, provider_id, symbol, direction, entry_price, opened_seq,
                   opened_at, status, return, closed_at, closed_by, closed_seq)
               VALUES ($1, $2, 'BTC', 'long', 1, 1, $3, $4, $5::numeric * 1e-12, $3, $6, $7)""",
            [
                (uuid7(), history.provider_id, when, "PROFIT" if returned > 0 else "LOSS" if returned else "BREAKEVEN",
                 returned, uuid7(), number)
                for number, (when, returned) in enumerate(history.closes, start=1)
            ],
        )  # fmt: skip
        await conn.executemany(
            "INSERT INTO follower_changes (provider_id, at, delta) VALUES ($1, $2, $3)",
            [(history.provider_id, when, delta) for when, delta in history.follows],
        )
        _, signals, followers, closed, wins, total, streak = history.record
        await conn.execute(
            """INSERT INTO provider_stats AS s (provider_id, total_signals, follower_count, win_count, loss_count,
                   return_sum, current_streak) VALUES ($1, $2, $3, $4, $5, $6::numeric * 1e-12, $7)
               ON CONFLICT (provider_id) DO UPDATE SET total_signals = excluded.total_signals,
                   follower_count = excluded.follower_count, win_count = excluded.win_count,
                   loss_count = excluded.loss_count, return_sum = excluded.return_sum,
                   current_streak = excluded.current_streak""",
            history.provider_id, signals, followers, wins, closed - wins, total, streak,
        )  # fmt: skip


@asynccontextmanager
async def _world(
    settings: Settings, histories: Sequence[History]
) -> AsyncIterator[tuple[LocalActors, asyncpg.Connection[asyncpg.Record]]]:
    conn = await asyncpg.connect(settings.database_url)
    try:
        await _store(conn, histories)
        await sql.refresh(conn)  # type: ignore[arg-type]
        async with local_actors(settings, {LEADERBOARDS: Leaderboards()}) as actors:
            yield actors, conn
    finally:
        await conn.close()


async def _top(actors: LocalActors, board: str, period: str, limit: int = 100) -> Ranking:
    return await actors.ref(LEADERBOARDS).ask("", Top(board, period, limit))  # type: ignore[arg-type]


async def _followers_of(actors: LocalActors) -> dict[UUID, float]:
    return {entry.provider_id: entry.value for entry in (await _top(actors, "followers", "all")).entries}


async def _streaks_of_the_week(actors: LocalActors) -> dict[UUID, float]:
    return {entry.provider_id: entry.value for entry in (await _top(actors, "streak", "week")).entries}


async def test_every_board_is_what_counting_by_hand_says_and_what_its_copy_says(settings: Settings) -> None:
    at = now()
    histories = [_random_history(random.Random(seed), at) for seed in range(40)]
    async with _world(settings, histories) as (actors, conn):
        by_hand = {each.provider_id: _values_by_hand(each, at) for each in histories}
        rows = await sql.load_totals(conn, list(by_hand))  # type: ignore[arg-type]
        assert {row.provider_id: list(values(BoardTotals(row))) for row in rows} == by_hand
        before = {each.provider_id: _values_by_hand(_until(each, at - timedelta(days=7)), at) for each in histories}
        for row in rows:
            week_ago = earlier_values(BoardTotals(row))
            assert week_ago[BOARDS.index(("streak", "all"))] == (before[row.provider_id][9] or 0)
            assert week_ago[BOARDS.index(("return", "all"))] == before[row.provider_id][6]
        for number, (board, period) in enumerate(BOARDS):
            top = (await _top(actors, board, period)).entries
            assert {entry.provider_id for entry in top} == {
                provider_id for provider_id, found in by_hand.items() if found[number] is not None
            }
            copied = await sql.load_top(conn, board, period, 100)  # type: ignore[arg-type]
            assert (
                tuple(entry_of(rank, BoardTotals(row), board, period) for rank, (row, _) in enumerate(copied, start=1))
                == top
            )
            for entry in (top[0], top[-1]):
                assert await sql.load_rank(conn, board, period, entry.provider_id) == (entry.rank,)  # type: ignore[arg-type]
        nobody = await sql.load_rank(conn, "followers", "all", uuid7())  # type: ignore[arg-type]
        assert nobody is None


def _until(history: History, at: datetime) -> History:
    return History(history.provider_id, [each for each in history.closes if each[0] <= at], [])


async def test_a_record_moves_the_boards_at_once_and_a_restart_finds_them_again(settings: Settings) -> None:
    first, second = History(follows=[(now(), 1)]), History()
    async with _world(settings, [first, second]) as (actors, conn):
        assert list(await _followers_of(actors)) == [first.provider_id, second.provider_id]
        second.follows += [(now(), 1), (now(), 1)]
        await _store(conn, [second])
        ref = actors.ref(LEADERBOARDS)
        await ref.ask("", RankRecords((second.record,)))
        assert list(await _followers_of(actors)) == [second.provider_id, first.provider_id]
        entry = await ref.ask("", PositionOf("followers", "week", second.provider_id))
        assert entry == BoardPosition(1, 2)
        changed = (await _top(actors, "followers", "all")).updated_at
        await ref.ask("", RankRecords((second.record,)))  # sent twice: nothing changes
        assert (await _top(actors, "followers", "all")).updated_at == changed
        newcomer = History(follows=[(now(), 1)] * 3)
        await _store(conn, [newcomer])
        await actors.kill(LEADERBOARDS)
        await actors.start(LEADERBOARDS, Leaderboards(), settings)
        assert list((await _followers_of(actors)).values()) == [3, 2, 1]


async def test_lost_notices_are_found_by_comparing(settings: Settings) -> None:
    history = History()
    async with _world(settings, [history]) as (actors, conn):
        history.follows.append((now(), 1))
        await _store(conn, [history])
        await actors.behaviours[LEADERBOARDS]._compare()  # type: ignore[attr-defined]
        assert await _followers_of(actors) == {history.provider_id: 1}


async def test_runs_that_a_record_does_not_tell_are_read_anew(settings: Settings) -> None:
    history = History()
    async with _world(settings, [history]) as (actors, conn):
        at = now()
        history.closes = [
            (at - timedelta(minutes=5 - number), returned) for number, returned in enumerate((1, 1, -1, 1))
        ]
        await _store(conn, [history])
        await actors.ref(LEADERBOARDS).ask("", RankRecords((history.record,)))

        async def is_right() -> bool:
            return await _streaks_of_the_week(actors) == {history.provider_id: 2}

        await until(is_right)
        assert actors.behaviours[LEADERBOARDS].stats()["doubtful"] == 0


async def _look(actors: LocalActors) -> None:
    await actors.behaviours[LEADERBOARDS]._look_after_copy()  # type: ignore[attr-defined]


async def _copied(conn: asyncpg.Connection[asyncpg.Record]) -> dict[UUID, int]:
    return {row[0]: row[1] for row in await conn.fetch("SELECT provider_id, followers FROM leaderboard")}


async def test_a_window_moves_on_with_the_hourly_copy(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    at = now()
    history = History(follows=[(at - timedelta(days=6), 1), (at, 1)])
    async with _world(settings, [history]) as (actors, conn):
        assert (await _top(actors, "followers", "week")).entries[0][2:] == (2, 2)
        history.follows[0] = (at - timedelta(days=8), 1)
        await _store(conn, [history])
        await _look(actors)  # too young
        assert (await _top(actors, "followers", "week")).entries[0][2:] == (2, 2)
        monkeypatch.setattr(refreshing, "LEAST_SECONDS", 0.0)
        actors.behaviours[LEADERBOARDS]._refreshing = refreshing.Refreshing()  # type: ignore[attr-defined]
        await _look(actors)
        assert (await _top(actors, "followers", "week")).entries[0][2:] == (1, 0)


async def test_the_copy_is_made_anew_soon_after_a_start(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaderboards, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(refreshing, "LEAST_SECONDS", 0.0)
    history = History()
    async with _world(settings, [history]) as (actors, conn):
        await actors.kill(LEADERBOARDS)
        await sql.refresh(conn)  # type: ignore[arg-type]
        history.follows.append((now(), 1))
        newcomers = [History(follows=[(now(), 1)] * 3) for _ in range(5)]
        await _store(conn, [history, *newcomers])
        await actors.start(LEADERBOARDS, Leaderboards(), settings)
        truth = {each.provider_id: each.record.followers for each in (history, *newcomers)}
        assert await _followers_of(actors) == truth  # at once, whatever the copy says

        async def is_right() -> bool:
            return await _copied(conn) == truth

        await until(is_right)


async def test_the_copy_is_made_anew_after_an_import(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshing, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(refreshing, "PAUSES", 0)
    many = [History(follows=[(now(), 1)]) for _ in range(30)]
    async with _world(settings, many) as (actors, conn):
        await _look(actors)  # that of the start
        many[0].follows.append((now(), 1))
        await _store(conn, many[:1])
        await _look(actors)
        assert (await _copied(conn))[many[0].provider_id] == 1  # one follow does not start a refresh
        imported = [History(follows=[(now() - timedelta(days=20), 1)]) for _ in range(3)]
        await _store(conn, imported)
        await _look(actors)
        assert (await _copied(conn))[many[0].provider_id] == 2
        assert {each.provider_id for each in imported} <= (await _followers_of(actors)).keys()
        assert await sql.load_lag(conn) == sql.Lag(ANY, 0.0)  # type: ignore[arg-type]


async def test_a_refresh_that_fails_is_tried_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshing, "LEAST_SECONDS", 0.0)
    history = History()
    async with _world(settings, [history]) as (actors, conn):
        history.follows.append((now(), 1))
        await _store(conn, [history])
        with monkeypatch.context() as broken:
            broken.setattr(sql, "REFRESH", "REFRESH MATERIALIZED VIEW nowhere")
            with pytest.raises(asyncpg.UndefinedTableError):
                await _look(actors)
        await _look(actors)
        assert await _copied(conn) == {history.provider_id: 1}


async def test_the_copy_is_never_made_twice_at_once(settings: Settings) -> None:
    async with _world(settings, [History()]) as (_, conn):
        other = await asyncpg.connect(settings.database_url)
        try:
            async with other.transaction():
                assert await sql.refresh(other)  # type: ignore[arg-type]
                assert not await sql.refresh(conn)  # type: ignore[arg-type]
            assert await sql.refresh(conn)  # type: ignore[arg-type]
        finally:
            await other.close()
