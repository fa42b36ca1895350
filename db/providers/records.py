"""SQL of track records: the exact figures of each provider, and the feed offset of each owner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from db._postgres import Connection
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
    return_sum: int = 0
    return_square_sum: int = 0
    return_peak: int = 0  # the highest that return_sum ever was, at least 0
    drawdown_peak: int = 0  # of the deepest drawdown: the return_peak that it fell from,
    drawdown_low: int = 0  # and the return_sum that it fell to
    current_streak: int = 0
    longest_streak: int = 0
    follower_count: int = 0
    most_followers: int = 0
    verification_level: VerificationLevel = "none"
    verified_at: datetime | None = None

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


_EXACT = "return_sum, return_square_sum, return_peak, drawdown_peak, drawdown_low"

LOAD_RECORDS = """
SELECT p.user_id, p.is_system, s.applied_seq, s.total_signals, s.win_count, s.loss_count, s.breakeven_count,
       trunc(s.return_sum * 1e12), trunc(s.return_square_sum * 1e24), trunc(s.return_peak * 1e12),
       trunc(s.drawdown_peak * 1e12), trunc(s.drawdown_low * 1e12), s.current_streak, s.longest_streak,
       s.follower_count, s.most_followers, s.verification_level, s.verified_at
FROM providers p LEFT JOIN provider_stats s ON s.provider_id = p.user_id
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


UPSERT_RECORDS = f"""
INSERT INTO provider_stats AS s (
    provider_id, applied_seq, total_signals, win_count, loss_count, breakeven_count, {_EXACT}, current_streak,
    longest_streak, follower_count, most_followers, verification_level, verified_at, win_rate, avg_return, total_return,
    sharpe_ratio, max_drawdown)
SELECT provider_id, applied_seq, total_signals, win_count, loss_count, breakeven_count, return_sum * 1e-12,
       return_square_sum * 1e-24, return_peak * 1e-12, drawdown_peak * 1e-12, drawdown_low * 1e-12, current_streak,
       longest_streak, follower_count, most_followers, verification_level, verified_at, win_rate, avg_return,
       total_return, sharpe_ratio, max_drawdown
FROM unnest($1::uuid[], $2::bigint[], $3::int[], $4::int[], $5::int[], $6::int[], $7::numeric[], $8::numeric[],
            $9::numeric[], $10::numeric[], $11::numeric[], $12::int[], $13::int[], $14::int[], $15::int[], $16::text[],
            $17::timestamptz[], $18::float8[], $19::float8[], $20::float8[], $21::float8[], $22::float8[])
     AS n (provider_id, applied_seq, total_signals, win_count, loss_count, breakeven_count, {_EXACT}, current_streak,
           longest_streak, follower_count, most_followers, verification_level, verified_at, win_rate, avg_return,
           total_return, sharpe_ratio, max_drawdown)
ON CONFLICT (provider_id) DO UPDATE SET
    applied_seq = excluded.applied_seq, total_signals = excluded.total_signals, win_count = excluded.win_count,
    loss_count = excluded.loss_count, breakeven_count = excluded.breakeven_count, return_sum = excluded.return_sum,
    return_square_sum = excluded.return_square_sum, return_peak = excluded.return_peak,
    drawdown_peak = excluded.drawdown_peak, drawdown_low = excluded.drawdown_low,
    current_streak = excluded.current_streak, longest_streak = excluded.longest_streak,
    follower_count = excluded.follower_count, most_followers = excluded.most_followers,
    verification_level = excluded.verification_level, verified_at = excluded.verified_at, win_rate = excluded.win_rate,
    avg_return = excluded.avg_return, total_return = excluded.total_return, sharpe_ratio = excluded.sharpe_ratio,
    max_drawdown = excluded.max_drawdown
"""


async def upsert_records(conn: Connection, rows: Iterable[tuple[RecordRow, Figures]]) -> None:
    """Store records, each with the figures that follow from it."""
    columns: list[Sequence[object]] = list(zip(*[_values(row, figures) for row, figures in rows], strict=True))
    if columns:
        await conn.execute(UPSERT_RECORDS, *columns)


LOAD_FIGURES = """
SELECT win_rate, avg_return, total_return, sharpe_ratio, max_drawdown FROM provider_stats WHERE provider_id = $1
"""


async def load_figures(conn: Connection, provider_id: UUID) -> Figures | None:
    """Return a provider's figures as they are stored; None: it has no record yet."""
    row = await conn.fetchrow(LOAD_FIGURES, provider_id)
    return None if row is None else Figures(*row)


WALK_RECORDS = "SELECT provider_id FROM provider_stats WHERE provider_id > $1 ORDER BY provider_id LIMIT $2"


async def walk_records(conn: Connection, after: UUID, limit: int) -> list[UUID]:
    """Return the ids of providers with a record, in order: those that follow `after`, at most `limit`."""
    return [row[0] for row in await conn.fetch(WALK_RECORDS, after, limit)]


def _values(r: RecordRow, f: Figures) -> tuple[object, ...]:
    # The driver takes a Decimal made of an int as it is, however long: a Decimal is only rounded when it is calculated.
    return (
        r.provider_id,
        r.applied_seq,
        r.total_signals,
        r.win_count,
        r.loss_count,
        r.breakeven_count,
        Decimal(r.return_sum),
        Decimal(r.return_square_sum),
        Decimal(r.return_peak),
        Decimal(r.drawdown_peak),
        Decimal(r.drawdown_low),
        r.current_streak,
        r.longest_streak,
        r.follower_count,
        r.most_followers,
        r.verification_level,
        r.verified_at,
        f.win_rate,
        f.avg_return,
        f.total_return,
        f.sharpe_ratio,
        f.max_drawdown,
    )


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
    return [LoggedSignal(*row) for row in await conn.fetch(READ_LOG, after_seq, limit)]


READ_LOG_OF = f"SELECT {_LOGGED} FROM signals WHERE provider_id = $1 AND feed_seq <= $2 ORDER BY feed_seq"


async def read_log_of(conn: Connection, provider_id: UUID, until_seq: int) -> list[LoggedSignal]:
    """Return every signal of a provider up to `until_seq`, in order."""
    return [LoggedSignal(*row) for row in await conn.fetch(READ_LOG_OF, provider_id, until_seq)]


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
    place: int = await conn.fetchval(GET_CURSOR, shards, shard)
    return place


SET_CURSOR = """
INSERT INTO provider_tails (shards, shard, feed_seq) VALUES ($1, $2, $3)
ON CONFLICT (shards, shard) DO UPDATE SET feed_seq = excluded.feed_seq
"""


async def set_cursor(conn: Connection, shards: int, shard: int, feed_seq: int) -> None:
    """Store a shard's offset."""
    await conn.execute(SET_CURSOR, shards, shard, feed_seq)
