"""SQL of the boards that find skill: the columns that they are computed from, and what was computed each night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from db._postgres import Connection
from db._rows import columns, insert, names, row_of, rows_of
from schemas._vocabulary import SkillBoard

KEPT_NIGHTS = 9
"""Nights that are kept: a week, to compare with, and one at either end."""

_CHUNK = 5_000  # rows of one statement: some 50 ms of the event loop


@dataclass(frozen=True, slots=True)
class Night:
    """The boards of one night: the last UTC day that counts, and how many were ever eligible and are listed."""

    day: date
    as_of_seq: int
    computed_at: datetime
    eligible: int
    listed: int
    least_luck: float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider that was ever eligible, as of a night. Without ranks it is not listed."""

    day: date
    provider_id: UUID
    skill_rank: int | None
    steady_rank: int | None
    skill: float
    upper: float
    luck: float
    steadiness: float
    bets: int
    days: int
    max_drawdown: float
    open_result: float
    share_verified: float


@dataclass(frozen=True, slots=True)
class StatsColumns:
    """The figures that the boards are computed from, by column. Amounts are of 1, `first_on` counts from year 1."""

    provider_id: Sequence[UUID]
    bets: Sequence[int]
    days: Sequence[int]
    first_on: Sequence[int]
    positions: Sequence[int]
    unverified: Sequence[int]
    day_sum: Sequence[float]
    day_square_sum: Sequence[float]
    daily_loss: Sequence[float]
    max_drawdown: Sequence[float]
    open_result: Sequence[float]
    was_eligible: Sequence[bool]
    as_of_seq: int


LOAD_REACHED_AT = "SELECT reached_at FROM log_state"
LOAD_NEWEST_DAY = "SELECT max(day) FROM board_nights"
LOAD_DAYS_END = """
SELECT index FROM (SELECT index, convert_from(body, 'UTF8')::json AS mark FROM log_entries WHERE kind = 'mark') marks
WHERE (mark->>'hour')::timestamptz <= $1 AND coalesce((mark->>'last')::bool, true)
  AND extract(hour FROM (mark->>'hour')::timestamptz AT TIME ZONE 'UTC') = 0
ORDER BY index DESC LIMIT 1
"""
# Each number of shards that there ever was has rows of its own; those of one that covers all providers are enough.
HAVE_ALL_READ = """
SELECT EXISTS (SELECT 1 FROM provider_offsets GROUP BY shards HAVING count(*) = shards AND min(index) > $1)
"""


async def load_reached_at(conn: Connection) -> datetime | None:
    """Return the full hour that the log's time has come to; None of an empty log."""
    found: datetime | None = await conn.fetchval(LOAD_REACHED_AT)
    return found


async def load_newest_day(conn: Connection) -> date | None:
    """Return the day of the newest night."""
    found: date | None = await conn.fetchval(LOAD_NEWEST_DAY)
    return found


async def have_all_read(conn: Connection, midnight: datetime) -> bool:
    """Return whether every shard of providers has read the newest mark up to this midnight that ends a day.

    A day on which nothing was open has no such mark: then that of an earlier one is the newest.
    """
    index = await conn.fetchval(LOAD_DAYS_END, midnight)
    return index is not None and bool(await conn.fetchval(HAVE_ALL_READ, index))


# In a few arrays: a row each, with its Decimals, takes ten times as long.
LOAD_STATS = """
SELECT array_agg(provider_id), array_agg(bets), array_agg(days), array_agg(first_on - date '0001-01-01'),
       array_agg(positions), array_agg(unverified), array_agg(day_sum::float8 * 1e-12),
       array_agg(day_square_sum::float8 * 1e-24), array_agg(coalesce(daily_loss, 0)::float8 * 1e-12),
       array_agg(max_drawdown::float8 * 1e-12), array_agg(open_result::float8 * 1e-12),
       array_agg(eligible_since IS NOT NULL OR EXISTS (
           SELECT 1 FROM board_candidates c
           WHERE c.provider_id = s.provider_id AND c.day = (SELECT max(day) FROM board_nights))),
       max(as_of_seq)
FROM record_stats s WHERE first_on IS NOT NULL AND days > 1
"""


async def load_stats(conn: Connection) -> StatsColumns | None:
    """Return the figures of everyone with a record of two days or more; None: there is nobody."""
    row = await conn.fetchrow(LOAD_STATS)
    return None if row is None or row[0] is None else StatsColumns(*row)


INSERT_NIGHT = f"{insert('board_nights', Night)} ON CONFLICT DO NOTHING RETURNING day"
INSERT_CANDIDATES = insert("board_candidates", Candidate)
FORGET_UNLISTED = "DELETE FROM board_candidates WHERE day < $1 AND skill_rank IS NULL"
FORGET_NIGHTS = "DELETE FROM board_nights WHERE day <= $1::date - $2::int"


async def insert_night(conn: Connection, night: Night, candidates: Sequence[Candidate]) -> bool:
    """Store a night, and forget what is too old; False: it was stored before. For a transaction."""
    if await conn.fetchval(INSERT_NIGHT, *columns(Night, [night])) is None:
        return False
    for start in range(0, len(candidates), _CHUNK):
        await conn.execute(INSERT_CANDIDATES, *columns(Candidate, candidates[start : start + _CHUNK]))
    await conn.execute(FORGET_UNLISTED, night.day)
    await conn.execute(FORGET_NIGHTS, night.day, KEPT_NIGHTS)
    return True


LOAD_NIGHT = f"""
SELECT {names(Night)} FROM board_nights WHERE $1::bigint IS NULL OR as_of_seq <= $1 ORDER BY day DESC LIMIT 1
"""


async def load_night(conn: Connection, as_of: int | None) -> Night | None:
    """Return the newest night, or the newest as of a `feed_seq`; None: there is none that is kept."""
    return row_of(Night, await conn.fetchrow(LOAD_NIGHT, as_of))


_RANKS: Mapping[SkillBoard, str] = {"skill": "skill_rank", "steady": "steady_rank"}

LOAD_LISTED = {
    board: f"""
SELECT {names(Candidate)} FROM board_candidates WHERE day = $1 AND {rank} > $2 ORDER BY {rank} LIMIT $3
"""
    for board, rank in _RANKS.items()
}


async def load_listed(conn: Connection, board: SkillBoard, day: date, offset: int, limit: int) -> list[Candidate]:
    """Return a page of a night's board, best first."""
    return rows_of(Candidate, await conn.fetch(LOAD_LISTED[board], day, offset, limit))


LOAD_CANDIDATES = f"SELECT {names(Candidate)} FROM board_candidates WHERE day = $1 AND provider_id = ANY ($2::uuid[])"


async def load_candidates(conn: Connection, day: date, ids: Sequence[UUID]) -> dict[UUID, Candidate]:
    """Return those of these providers that are kept of a night."""
    return {each.provider_id: each for each in rows_of(Candidate, await conn.fetch(LOAD_CANDIDATES, day, ids))}


@dataclass(frozen=True, slots=True)
class TrackRow:
    """The figures of a provider that the gates check, as of the end of its last day."""

    bets: int
    days: int
    first_on: date | None
    positions: int
    unverified: int


LOAD_TRACK = f"SELECT {names(TrackRow)} FROM record_stats WHERE provider_id = $1"


async def load_track(conn: Connection, provider_id: UUID) -> TrackRow | None:
    """Return what the gates check of a provider; None: it has no record yet."""
    return row_of(TrackRow, await conn.fetchrow(LOAD_TRACK, provider_id))
