"""SQL of track records: the exact figures of each provider, and the feed offset of each owner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from db._postgres import Connection
from db._rows import Exact, columns, names, row_of, upsert
from schemas._vocabulary import VerificationLevel

RETURN_UNITS = 10**12
"""The units of returns, exact to 12 decimals: in memory they are whole numbers of 1e-12, their squares of 1e-24."""


@dataclass(frozen=True, slots=True)
class RecordRow:
    """A provider's track record; returns in units of 1e-12, their squares of 1e-24: sums of whole numbers are exact."""

    provider_id: UUID
    is_system: bool
    applied_seq: int = 0  # the newest signal that is in it
    total_signals: int = 0
    win_count: int = 0
    loss_count: int = 0
    breakeven_count: int = 0
    return_sum: Exact = 0
    return_square_sum: Exact = 0
    return_peak: Exact = 0  # the highest that return_sum ever was, at least 0
    drawdown_peak: Exact = 0  # of the deepest drawdown: the return_peak that it fell from,
    drawdown_low: Exact = 0  # and the return_sum that it fell to
    current_streak: int = 0
    longest_streak: int = 0
    follower_count: int = 0
    most_followers: int = 0
    verification_level: VerificationLevel = "none"
    verified_at: datetime | None = None
    eligible_since: date | None = None  # in record_stats
    applied_index: int = -1  # the newest entry of the log that is in it

    @property
    def closed_count(self) -> int:
        """Return how many signals were opened and closed."""
        return self.win_count + self.loss_count + self.breakeven_count


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures that follow from a record, each rounded once, to 4 decimals."""

    win_rate: float | None
    avg_return: float | None
    total_return: float
    sharpe_ratio: float | None
    max_drawdown: float


LOAD_RECORDS = """
SELECT p.user_id, p.is_system, s.applied_seq, s.total_signals, s.win_count, s.loss_count, s.breakeven_count,
       trunc(s.return_sum * 1e12), trunc(s.return_square_sum * 1e24), trunc(s.return_peak * 1e12),
       trunc(s.drawdown_peak * 1e12), trunc(s.drawdown_low * 1e12), s.current_streak, s.longest_streak,
       s.follower_count, s.most_followers, s.verification_level, s.verified_at, r.eligible_since, s.applied_index
FROM providers p
LEFT JOIN provider_stats s ON s.provider_id = p.user_id
LEFT JOIN record_stats r ON r.provider_id = p.user_id
WHERE p.user_id = ANY ($1::uuid[])
"""


async def load_records(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, RecordRow]:
    """Return the records of those providers that exist; an empty one for a provider that has none yet."""
    found: dict[UUID, RecordRow] = {}
    for row in await conn.fetch(LOAD_RECORDS, ids):
        if row[2] is None:
            found[row[0]] = RecordRow(row[0], row[1])
        else:
            found[row[0]] = RecordRow(*row[:7], *map(int, row[7:12]), *row[12:])
    return found


UPSERT_RECORDS = upsert(
    "provider_stats",
    RecordRow,
    Figures,
    key=("provider_id",),
    skip=("is_system", "eligible_since"),
    return_sum="n.return_sum * 1e-12",
    return_square_sum="n.return_square_sum * 1e-24",
    return_peak="n.return_peak * 1e-12",
    drawdown_peak="n.drawdown_peak * 1e-12",
    drawdown_low="n.drawdown_low * 1e-12",
)


async def upsert_records(conn: Connection, rows: Sequence[tuple[RecordRow, Figures]]) -> None:
    """Store records, each with the figures that follow from it."""
    records, figures = [each[0] for each in rows], [each[1] for each in rows]
    await conn.execute(UPSERT_RECORDS, *columns(RecordRow, records), *columns(Figures, figures))


LOAD_FIGURES = f"SELECT {names(Figures)} FROM provider_stats WHERE provider_id = $1"


async def load_figures(conn: Connection, provider_id: UUID) -> Figures | None:
    """Return a provider's figures as they are stored; None: it has no record yet."""
    return row_of(Figures, await conn.fetchrow(LOAD_FIGURES, provider_id))


WALK_RECORDS = "SELECT provider_id FROM provider_stats WHERE provider_id > $1 ORDER BY provider_id LIMIT $2"


async def walk_records(conn: Connection, after: UUID, limit: int) -> list[UUID]:
    """Return the ids of providers with a record, in order: those that follow `after`, at most `limit`."""
    return [row[0] for row in await conn.fetch(WALK_RECORDS, after, limit)]


@dataclass(frozen=True, slots=True)
class LogOffset:
    """The first entry that a shard has not read, and the one that ended the last day whose books are closed."""

    index: int = 0
    day_index: int = -1


# What all shards of some number of shards have read has been read entirely: another number of shards starts there.
GET_OFFSET = """
SELECT reached, day_index FROM (
    SELECT index AS reached, day_index FROM provider_offsets WHERE shards = $1 AND shard = $2
    UNION ALL
    SELECT min(index), min(day_index) FROM provider_offsets GROUP BY shards HAVING count(*) = shards
) AS known
ORDER BY reached DESC LIMIT 1
"""


async def get_offset(conn: Connection, shards: int, shard: int) -> LogOffset:
    """Return the offset from which a shard reads the log; what it reads again is in the records already."""
    return row_of(LogOffset, await conn.fetchrow(GET_OFFSET, shards, shard)) or LogOffset()


SET_OFFSET = """
INSERT INTO provider_offsets (shards, shard, index, day_index) VALUES ($1, $2, $3, $4)
ON CONFLICT (shards, shard) DO UPDATE SET index = excluded.index, day_index = excluded.day_index
"""


async def set_offset(conn: Connection, shards: int, shard: int, offset: LogOffset) -> None:
    """Store a shard's offset."""
    await conn.execute(SET_OFFSET, shards, shard, offset.index, offset.day_index)
