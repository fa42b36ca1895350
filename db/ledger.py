"""SQL of what the owner of the log keeps beside it: open positions, their instruments, and the log's time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, cast
from uuid import UUID

from config.values import Value
from db._postgres import Connection
from db._rows import columns, insert, names, rows_of, transposed, unnest, upsert
from db.providers.outcomes import PositionKey
from schemas._vocabulary import AssetType, Side

Prices = Annotated[list[Decimal], "jsonb as text"]

Instrument = tuple[AssetType, str]
"""Asset type and canonical instrument."""


@dataclass(slots=True)  # not frozen: a page changes some of them more than once
class PositionRow:
    """A position that is open, or was until a moment ago, or a limit order that waits. Parts are in units of 1e-12.

    `take_profit` has the targets that are left. `low_level`: a candle whose low is at or below it does something to
    the position, as does one whose high is at or above `high_level`.
    """

    signal_id: UUID
    provider_id: UUID
    asset_type: AssetType
    instrument: str
    side: Side
    opened_seq: int
    received_at: datetime
    declared_price: Decimal
    record_price: Decimal | None
    open_part: int
    is_filled: bool
    take_profit: Prices
    target_part: int
    stop_loss: Decimal | None
    liquidation_price: Decimal | None
    floor_price: Decimal | None
    valid_until: datetime | None
    watched_from: datetime
    low_level: Decimal | None = None
    high_level: Decimal | None = None
    ended_at: datetime | None = None

    @property
    def key(self) -> PositionKey:
        """Return the key by which a close finds it."""
        return self.provider_id, self.asset_type, self.instrument, self.side

    @property
    def entry(self) -> Decimal:
        """Return the price at which it was opened, or would be: the declared one where the market's is not known."""
        return self.declared_price if self.record_price is None else self.record_price


class InstrumentRow(Value):
    """An instrument with open positions. Its minutes were looked at up to `checked_until`; `mid` is the last one."""

    asset_type: AssetType
    instrument: str
    symbol: str
    platform: str | None
    market_id: str | None
    expires_on: date | None
    checked_until: datetime
    mid: Decimal | None = None
    mid_at: datetime | None = None


@dataclass(slots=True)
class WatchedInstrument:
    """An instrument with what its positions wait for: the nearest levels on both sides, and an order's end.

    `is_held`: a position is open in it, not orders alone.
    """

    row: InstrumentRow
    low_level: Decimal | None
    high_level: Decimal | None
    first_lapse: datetime | None
    is_held: bool


class LogTime(Value):
    """The full hour that the log's time has come to, and the number of entries up to the newest mark."""

    feed_seq: int
    size: int
    marked_size: int
    reached_at: datetime | None


@dataclass(frozen=True, slots=True)
class SplitRow:
    """A split that is in the log."""

    asset_type: str
    instrument: str
    day: date


READ_TIME = f"SELECT {names(LogTime)} FROM log_state"


async def read_time(conn: Connection) -> LogTime:
    """Return how far the log's time has come."""
    [found] = rows_of(LogTime, await conn.fetch(READ_TIME))
    return found


IS_OF_THE_PAST = "SELECT way_in = 'backfill' FROM signals WHERE feed_seq <= $1 ORDER BY feed_seq DESC LIMIT 1"


async def is_of_the_past(conn: Connection, feed_seq: int) -> bool:
    """Return whether the signal at this place of the feed, or the last one before, is a past one."""
    return bool(await conn.fetchval(IS_OF_THE_PAST, feed_seq))


SET_TIME = "UPDATE log_state SET reached_at = $1, marked_size = $2"


async def set_time(conn: Connection, reached_at: datetime, marked_size: int) -> None:
    """Store how far the log's time has come."""
    await conn.execute(SET_TIME, reached_at, marked_size)


SKIP_ITEM = "UPDATE log_state SET feed_seq = greatest(feed_seq, $1)"


async def skip_item(conn: Connection, feed_seq: int) -> None:
    """Go on after a feed item that cannot be an entry."""
    await conn.execute(SKIP_ITEM, feed_seq)


COUNT_OPEN = "SELECT count(*) FROM open_positions WHERE open_part > 0"


async def count_open(conn: Connection) -> int:
    """Return how many positions and orders there are."""
    return int(await conn.fetchval(COUNT_OPEN))


_POSITION = names(PositionRow, "p.").replace("p.take_profit", "p.take_profit::text")

# What is open comes before orders that wait, the oldest first: an order is cancelled only where nothing is open.
OLDEST = f"""
SELECT {_POSITION}
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int[])
     AS u (provider_id, asset_type, instrument, side, wanted)
CROSS JOIN LATERAL (
    SELECT * FROM open_positions s
    WHERE s.provider_id = u.provider_id AND s.asset_type = u.asset_type AND s.instrument = u.instrument
      AND s.side = u.side AND s.open_part > 0
    ORDER BY s.is_filled DESC, s.opened_seq LIMIT u.wanted
) p
"""


async def oldest(conn: Connection, wanted: Mapping[PositionKey, int]) -> list[PositionRow]:
    """Return those that closes take up first, as many of each key as are wanted."""
    return _positions(await conn.fetch(OLDEST, *transposed(wanted, 4), list(wanted.values())))


LOAD_POSITIONS = f"SELECT {_POSITION} FROM open_positions p WHERE p.signal_id = ANY ($1::uuid[])"


async def load_positions(conn: Connection, ids: Collection[UUID]) -> list[PositionRow]:
    """Return positions by their opening signals, also those that have ended a moment ago."""
    return _positions(await conn.fetch(LOAD_POSITIONS, ids))


@dataclass(frozen=True, slots=True)
class TouchedRow:
    """An instrument, and what its price did from `since` on: the lowest and highest price up to `until`."""

    asset_type: str
    instrument: str
    low: Decimal | None
    high: Decimal | None
    until: datetime


TOUCHED = f"""
SELECT {_POSITION} FROM {unnest(TouchedRow, alias="u")}
JOIN open_positions p ON p.asset_type = u.asset_type AND p.instrument = u.instrument
WHERE p.open_part > 0 AND p.watched_from < u.until
  AND (p.low_level >= u.low OR p.high_level <= u.high OR (NOT p.is_filled AND p.valid_until <= u.until))
"""


async def touched(conn: Connection, rows: Sequence[TouchedRow]) -> list[PositionRow]:
    """Return the positions that such prices may do something to."""
    return _positions(await conn.fetch(TOUCHED, *columns(TouchedRow, rows)))


OPEN_IN = f"""
SELECT {_POSITION} FROM unnest($1::text[], $2::text[]) AS u (asset_type, instrument)
JOIN open_positions p ON p.asset_type = u.asset_type AND p.instrument = u.instrument
WHERE p.open_part > 0 ORDER BY p.opened_seq
"""


async def open_in(conn: Connection, instruments: Collection[Instrument]) -> list[PositionRow]:
    """Return everything that is open in some instruments, the oldest first."""
    return _positions(await conn.fetch(OPEN_IN, *transposed(instruments, 2)))


UPSERT_POSITIONS = upsert("open_positions", PositionRow, key=("signal_id",))


async def upsert_positions(conn: Connection, rows: Sequence[PositionRow]) -> None:
    """Store positions."""
    await conn.execute(UPSERT_POSITIONS, *columns(PositionRow, rows))


DELETE_POSITIONS = "DELETE FROM open_positions WHERE signal_id = ANY ($1::uuid[])"


async def delete_positions(conn: Connection, ids: Collection[UUID]) -> None:
    """Delete positions that count as if they had never been."""
    await conn.execute(DELETE_POSITIONS, ids)


PURGE_POSITIONS = "DELETE FROM open_positions WHERE ended_at < $1"


async def purge_positions(conn: Connection, before: datetime) -> None:
    """Delete positions that ended before."""
    await conn.execute(PURGE_POSITIONS, before)


# A late signal's minutes are looked at again, with all of its instrument's: what they did before, they do not do twice.
PUT_INSTRUMENTS = f"""
{insert("open_instruments", InstrumentRow)}
ON CONFLICT (asset_type, instrument) DO UPDATE SET
    checked_until = least(open_instruments.checked_until, excluded.checked_until),
    platform = coalesce(open_instruments.platform, excluded.platform),
    market_id = coalesce(open_instruments.market_id, excluded.market_id),
    expires_on = coalesce(open_instruments.expires_on, excluded.expires_on)
"""


async def put_instruments(conn: Connection, rows: Sequence[InstrumentRow]) -> None:
    """Store the instruments of new positions."""
    await conn.execute(PUT_INSTRUMENTS, *columns(InstrumentRow, rows))


UPDATE_INSTRUMENTS = f"""
UPDATE open_instruments o SET checked_until = n.checked_until, mid = n.mid, mid_at = n.mid_at
FROM {unnest(InstrumentRow)} WHERE o.asset_type = n.asset_type AND o.instrument = n.instrument
"""


async def update_instruments(conn: Connection, rows: Sequence[InstrumentRow]) -> None:
    """Store how far instruments were looked at, and their last mids."""
    await conn.execute(UPDATE_INSTRUMENTS, *columns(InstrumentRow, rows))


PURGE_INSTRUMENTS = """
DELETE FROM open_instruments i WHERE NOT EXISTS (
    SELECT FROM open_positions p WHERE p.asset_type = i.asset_type AND p.instrument = i.instrument
)
"""


async def purge_instruments(conn: Connection) -> None:
    """Delete instruments without positions."""
    await conn.execute(PURGE_INSTRUMENTS)


_WATCHED = f"""
{names(InstrumentRow, "i.")}, max(p.low_level), min(p.high_level), min(p.valid_until) FILTER (WHERE NOT p.is_filled),
bool_or(p.is_filled)
FROM open_instruments i
JOIN open_positions p ON p.asset_type = i.asset_type AND p.instrument = i.instrument AND p.open_part > 0
"""
READ_WATCHED = f"SELECT {_WATCHED} GROUP BY i.asset_type, i.instrument"
READ_WATCHED_IN = f"""
SELECT {_WATCHED}
JOIN unnest($1::text[], $2::text[]) AS u (asset_type, instrument)
  ON u.asset_type = i.asset_type AND u.instrument = i.instrument
GROUP BY i.asset_type, i.instrument
"""


async def read_watched(
    conn: Connection, instruments: Collection[Instrument] | None = None
) -> dict[Instrument, WatchedInstrument]:
    """Return the instruments of open positions and orders, or those of them that are named."""
    if instruments is None:
        rows = await conn.fetch(READ_WATCHED)
    else:
        rows = await conn.fetch(READ_WATCHED_IN, *transposed(instruments, 2))
    found = (WatchedInstrument(InstrumentRow(*row[:9]), *row[9:]) for row in rows)
    return {(each.row.asset_type, each.row.instrument): each for each in found}


READ_LEAVES = """
SELECT signal_id, body FROM log_entries WHERE signal_id = ANY ($1::uuid[]) AND kind = 'signal'
"""


async def read_leaves(conn: Connection, signal_ids: Collection[UUID]) -> dict[UUID, bytes]:
    """Return the leaves of signals."""
    return {row[0]: row[1] for row in await conn.fetch(READ_LEAVES, signal_ids)}


READ_SPLITS = f"SELECT {names(SplitRow)} FROM applied_splits"


async def read_splits(conn: Connection) -> list[SplitRow]:
    """Return the splits that are in the log."""
    return rows_of(SplitRow, await conn.fetch(READ_SPLITS))


INSERT_SPLITS = insert("applied_splits", SplitRow)


async def insert_splits(conn: Connection, rows: Sequence[SplitRow]) -> None:
    """Store that splits are in the log."""
    await conn.execute(INSERT_SPLITS, *columns(SplitRow, rows))


def _positions(rows: Iterable[Iterable[object]]) -> list[PositionRow]:
    found = rows_of(PositionRow, rows)
    for each in found:
        each.take_profit = json.loads(cast(str, each.take_profit), parse_float=Decimal, parse_int=Decimal)
    return found
