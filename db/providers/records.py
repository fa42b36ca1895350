"""SQL of track records: the exact figures of each provider, and the feed offset of each owner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from db._postgres import Connection
from db._rows import Exact, columns, names, row_of, rows_of, upsert
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
       s.follower_count, s.most_followers, s.verification_level, s.verified_at, r.eligible_since
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


@dataclass(slots=True)  # not frozen: made for every signal
class LoggedSignal:
    """A published signal as feed consumers see it, in their order; without a price it opens nothing.

    `symbol` is its instrument's. One that is not ranked counts as a signal, and opens and closes nothing.
    """

    feed_seq: int
    id: UUID
    provider_id: UUID
    symbol: str
    event_type: str
    direction: str | None
    entry_price: Decimal | None
    created_at: datetime
    asset_type: str = "crypto"
    is_ranked: bool = True


_LOGGED = (
    "feed_seq, id, provider_id, coalesce(instrument, symbol), event_type, direction, entry_price, created_at, "
    "asset_type, is_ranked"
)

READ_LOG = f"SELECT {_LOGGED} FROM signals WHERE feed_seq > $1 ORDER BY feed_seq LIMIT $2"


async def read_log(conn: Connection, after_seq: int, limit: int) -> list[LoggedSignal]:
    """Return the signals after `after_seq`, in order, complete up to the last one returned (see `feed.fetch_after`)."""
    return rows_of(LoggedSignal, await conn.fetch(READ_LOG, after_seq, limit))


READ_LOG_OF = f"SELECT {_LOGGED} FROM signals WHERE provider_id = $1 AND feed_seq <= $2 ORDER BY feed_seq"


async def read_log_of(conn: Connection, provider_id: UUID, until_seq: int) -> list[LoggedSignal]:
    """Return every signal of a provider up to `until_seq`, in order."""
    return rows_of(LoggedSignal, await conn.fetch(READ_LOG_OF, provider_id, until_seq))


# What all shards of some number of shards have read has been read entirely: another number of shards starts there.
GET_CURSOR = """
SELECT coalesce(max(reached), 0) FROM (
    SELECT feed_seq AS reached FROM provider_tails WHERE shards = $1 AND shard = $2
    UNION ALL
    SELECT min(feed_seq) FROM provider_tails GROUP BY shards HAVING count(*) = shards
) AS known
"""


async def get_cursor(conn: Connection, shards: int, shard: int) -> int:
    """Return the offset from which a shard reads the feed; what it reads again is in the records already."""
    return int(await conn.fetchval(GET_CURSOR, shards, shard))


SET_CURSOR = """
INSERT INTO provider_tails (shards, shard, feed_seq) VALUES ($1, $2, $3)
ON CONFLICT (shards, shard) DO UPDATE SET feed_seq = excluded.feed_seq
"""


async def set_cursor(conn: Connection, shards: int, shard: int, feed_seq: int) -> None:
    """Store a shard's offset."""
    await conn.execute(SET_CURSOR, shards, shard, feed_seq)
