"""SQL of the leaderboards: what providers are ranked by, its hourly copy, and the providers' cards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from db._postgres import Connection, Record
from db._rows import rows_of
from schemas._vocabulary import LiveBoard, Period

PAGE = 500  # rows that are fetched at a time: ranking them takes 30 ms, during which no message is answered


@dataclass(frozen=True, slots=True)
class TotalsRow:
    """A provider's record at a moment, and its increase in windows of 7, 14, 30 and 60 days before.

    Returns are sums in units of 1e-12. `*_best` is the longest run of PROFIT among the signals closed in the window,
    `*_before_best` in the one before it.
    """

    provider_id: UUID
    total_signals: int
    followers: int
    closed: int
    wins: int
    return_sum: int
    current_streak: int
    week_follows: int
    two_weeks_follows: int
    month_follows: int
    two_months_follows: int
    week_closed: int
    week_wins: int
    week_returns: int
    two_weeks_closed: int
    two_weeks_wins: int
    two_weeks_returns: int
    month_closed: int
    month_wins: int
    month_returns: int
    two_months_closed: int
    two_months_wins: int
    two_months_returns: int
    week_best: int
    week_before_best: int
    month_best: int
    month_before_best: int
    week_old_streak: int


_FIELDS = TotalsRow.__match_args__
_SUMS = [place for place, name in enumerate(_FIELDS) if name == "return_sum" or name.endswith("_returns")]
# Sums come as text: the driver's Decimals cost four times as much to make as their texts, and we want integers.
_TOTALS = ", ".join(f"trunc({name} * 1e12)::text" if place in _SUMS else name for place, name in enumerate(_FIELDS))


class BoardRecord(NamedTuple):
    """A provider's current track record, in absolute figures: the next one makes up for one that was lost."""

    provider_id: UUID
    total_signals: int
    followers: int
    closed: int
    wins: int
    return_sum: int  # of the closed signals' returns, in units of 1e-12
    current_streak: int


REFRESH = "REFRESH MATERIALIZED VIEW CONCURRENTLY leaderboard"
_ALONE = "SELECT pg_try_advisory_xact_lock($1)"
_ALONE_KEY = 0x6C656164  # "lead"
_REFRESH_TIMEOUT = "SET LOCAL statement_timeout = '10min'"  # 10 s for 100 000 providers


async def refresh(conn: Connection) -> bool:
    """Refresh the hourly copy without blocking readers; return False when another process is refreshing it."""
    async with conn.transaction():
        if not await conn.fetchval(_ALONE, _ALONE_KEY):
            return False
        await conn.execute(_REFRESH_TIMEOUT)
        await conn.execute(REFRESH)
    return True


@dataclass(frozen=True, slots=True)
class Lag:
    """The difference between the hourly copy and the current records.

    `age_seconds` is None when it is empty, as it is before the first provider. `drift` is the part (0 to 1; more when
    much was taken back) of the providers that are not in both, or of the signals, followers and closes that it counts
    otherwise, whichever is larger.
    """

    age_seconds: float | None
    drift: float


LOAD_LAG = """
SELECT extract(epoch FROM now() - min(l.at))::float8,
       greatest(
           count(*) FILTER (WHERE s.provider_id IS NULL OR l.provider_id IS NULL)::float8 / greatest(count(*), 1),
           coalesce(sum(abs(coalesce(s.total_signals, 0) - coalesce(l.total_signals, 0))
                        + abs(coalesce(s.follower_count, 0) - coalesce(l.followers, 0))
                        + abs(coalesce(s.win_count + s.loss_count + s.breakeven_count, 0) - coalesce(l.closed, 0))
                    ), 0)::float8
           / greatest(sum(s.total_signals + s.follower_count + s.win_count + s.loss_count + s.breakeven_count), 1)
       )::float8
FROM provider_stats s FULL JOIN leaderboard l ON l.provider_id = s.provider_id
"""


async def load_lag(conn: Connection) -> Lag:
    """Return how far the hourly copy is from the current records; reads all of both."""
    [lag] = rows_of(Lag, await conn.fetch(LOAD_LAG))
    return lag


LOAD_COPY = f"SELECT {_TOTALS} FROM leaderboard"


async def load_copy(conn: Connection) -> AsyncIterator[list[TotalsRow]]:
    """Yield the hourly copy, some hundreds at a time, within a transaction."""
    cursor = await conn.cursor(LOAD_COPY)
    while rows := await cursor.fetch(PAGE):
        yield [_totals(row) for row in rows]


LOAD_NEWEST_SEQ = "SELECT coalesce(max(applied_seq), 0) FROM provider_stats"


async def load_newest_seq(conn: Connection) -> int:
    """Return the `feed_seq` of the newest signal that is in a record; 0 before the first."""
    return int(await conn.fetchval(LOAD_NEWEST_SEQ))


LOAD_TOTALS = f"SELECT {_TOTALS} FROM provider_standings WHERE provider_id = ANY ($1::uuid[])"


async def load_totals(conn: Connection, ids: Sequence[UUID]) -> list[TotalsRow]:
    """Return the current figures of these providers."""
    return [_totals(row) for row in await conn.fetch(LOAD_TOTALS, ids)]


LOAD_RECORDS = """
SELECT provider_id, total_signals, follower_count, win_count + loss_count + breakeven_count, win_count,
       trunc(return_sum * 1e12)::text, current_streak
FROM provider_stats
"""


async def load_records(conn: Connection) -> AsyncIterator[list[BoardRecord]]:
    """Yield the current figures that rank each provider, some hundreds at a time, within a transaction."""
    cursor = await conn.cursor(LOAD_RECORDS)
    while rows := await cursor.fetch(PAGE):
        yield [BoardRecord(row[0], row[1], row[2], row[3], row[4], int(row[5]), row[6]) for row in rows]


@dataclass(frozen=True, slots=True)
class CardRow:
    """The card of a provider on a board, and what its record from the market says; null: it has none."""

    user_id: UUID
    display_name: str
    avatar_url: str | None
    is_verified: bool
    bets: int | None = None
    days: int | None = None
    max_drawdown: float | None = None
    open_result: float | None = None
    share_verified: float | None = None


LOAD_CARDS = """
SELECT p.user_id, p.display_name, p.avatar_url, coalesce(s.verification_level, 'none') <> 'none',
       r.bets, r.days, round(r.max_drawdown * 1e-12, 4)::float8, round(r.open_result * 1e-12, 4)::float8,
       round(1 - r.unverified::numeric / nullif(r.positions, 0), 4)::float8
FROM providers p
LEFT JOIN provider_stats s ON s.provider_id = p.user_id
LEFT JOIN record_stats r ON r.provider_id = p.user_id
WHERE p.user_id = ANY ($1::uuid[])
"""


async def load_cards(conn: Connection, ids: Sequence[UUID]) -> Mapping[UUID, CardRow]:
    """Return the cards of these providers."""
    return {each.user_id: each for each in rows_of(CardRow, await conn.fetch(LOAD_CARDS, ids))}


def _rate(wins: str, closed: str) -> str:
    return f"CASE WHEN {closed} >= 10 THEN round({wins}::numeric / {closed}, 4) END"


def _mean(returns: str, closed: str) -> str:
    return f"CASE WHEN {closed} > 0 THEN round({returns} / {closed}, 4) END"


def _growth(gained: str) -> str:
    return f"CASE WHEN {gained} > 0 THEN round({gained}::numeric / greatest(followers - {gained}, 10), 4) END"


# What each board ranks by, in SQL: null is not on it. actors.leaderboards.totals computes the same for one provider,
# and a test compares the two.
_VALUES: Mapping[tuple[LiveBoard, Period], str] = {
    ("followers", "all"): "followers",
    ("followers", "month"): "month_follows",
    ("followers", "week"): "week_follows",
    ("win_rate", "all"): _rate("wins", "closed"),
    ("win_rate", "month"): _rate("month_wins", "month_closed"),
    ("win_rate", "week"): _rate("week_wins", "week_closed"),
    ("return", "all"): _mean("return_sum", "closed"),
    ("return", "month"): _mean("month_returns", "month_closed"),
    ("return", "week"): _mean("week_returns", "week_closed"),
    ("streak", "all"): "nullif(current_streak, 0)",
    ("streak", "month"): "nullif(month_best, 0)",
    ("streak", "week"): "nullif(week_best, 0)",
    ("rising", "all"): _growth("week_follows"),
    ("rising", "month"): _growth("month_follows"),
    ("rising", "week"): _growth("week_follows"),
}

TOP = {
    key: f"""
SELECT {_TOTALS}, at FROM leaderboard
WHERE {value} IS NOT NULL ORDER BY {value} DESC, total_signals DESC, provider_id LIMIT $1 OFFSET $2
"""
    for key, value in _VALUES.items()
}


async def load_top(
    conn: Connection, board: LiveBoard, period: Period, limit: int, offset: int = 0
) -> list[tuple[TotalsRow, datetime]]:
    """Return a page of a board in the hourly copy, best first, and when each was copied."""
    return [(_totals(row), row[-1]) for row in await conn.fetch(TOP[board, period], limit, offset)]


RANK = {
    key: f"""
WITH me AS (SELECT {value} AS value, total_signals, provider_id FROM leaderboard WHERE provider_id = $1)
SELECT CASE WHEN me.value IS NOT NULL THEN (
    SELECT 1 + count(*) FROM leaderboard l
    WHERE ({value}, l.total_signals) > (me.value, me.total_signals)
       OR (({value}, l.total_signals) = (me.value, me.total_signals) AND l.provider_id < me.provider_id)
) END FROM me
"""
    for key, value in _VALUES.items()
}


async def load_rank(conn: Connection, board: LiveBoard, period: Period, provider_id: UUID) -> tuple[int | None] | None:
    """Return a provider's rank in the hourly copy, (None,) when it is not on this board; None: not in the copy."""
    row = await conn.fetchrow(RANK[board, period], provider_id)
    return None if row is None else (row[0],)


LOAD_COPIED = f"SELECT {_TOTALS} FROM leaderboard WHERE provider_id = $1"


async def load_copied(conn: Connection, provider_id: UUID) -> TotalsRow | None:
    """Return a provider's row of the hourly copy."""
    row = await conn.fetchrow(LOAD_COPIED, provider_id)
    return None if row is None else _totals(row)


def _totals(row: Record) -> TotalsRow:
    values = list(row[: len(_FIELDS)])
    for index in _SUMS:
        values[index] = int(values[index])
    return TotalsRow(*values)
