"""SQL of the outcomes of opening signals, as the owner of their provider writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from db._postgres import Connection
from db._rows import Exact, columns, insert, rows_of, transposed, unnest
from schemas._vocabulary import OutcomeStatus

PositionKey = tuple[UUID, str, str, str]
"""The key by which positions are matched to their close: provider, asset type, instrument, `long` or `short`."""


@dataclass(slots=True)  # not frozen: made for every signal
class OutcomeRow:
    """An opening signal and its outcome; `symbol` is its instrument's; `returned` is in units of 1e-12."""

    signal_id: UUID
    provider_id: UUID
    symbol: str
    direction: str
    entry_price: Decimal
    opened_seq: int
    opened_at: datetime
    status: OutcomeStatus = "PENDING"
    returned: Exact | None = None
    closed_at: datetime | None = None
    closed_by: UUID | None = None
    closed_seq: int | None = None
    asset_type: str = "crypto"


OLDEST_OPEN = """
SELECT o.signal_id, u.provider_id, u.symbol, u.direction, o.entry_price, o.opened_seq, o.opened_at, u.asset_type
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int[])
     AS u (provider_id, asset_type, symbol, direction, wanted)
CROSS JOIN LATERAL (
    SELECT * FROM signal_outcomes s
    WHERE s.provider_id = u.provider_id AND s.asset_type = u.asset_type AND s.symbol = u.symbol
      AND s.direction = u.direction AND s.status = 'PENDING'
    ORDER BY s.opened_seq LIMIT u.wanted
) o
ORDER BY o.opened_seq
"""


async def oldest_open(conn: Connection, wanted: Mapping[PositionKey, int]) -> list[OutcomeRow]:
    """Return the oldest open positions, as many of each key as are wanted, oldest first."""
    rows = await conn.fetch(OLDEST_OPEN, *transposed(wanted, 4), list(wanted.values()))
    found = [OutcomeRow(*row[:7]) for row in rows]
    for each, row in zip(found, rows, strict=True):
        each.asset_type = row[7]
    return found


INSERT_OUTCOMES = insert("signal_outcomes", OutcomeRow, skip=("returned",), **{"return": "n.returned * 1e-12"})


async def insert_outcomes(conn: Connection, rows: Sequence[OutcomeRow]) -> None:
    """Store positions that were opened; some of them may be closed by now."""
    await conn.execute(INSERT_OUTCOMES, *columns(OutcomeRow, rows))


CLOSE_OUTCOMES = f"""
UPDATE signal_outcomes o SET
    status = u.status, return = u.returned * 1e-12, closed_at = u.closed_at, closed_by = u.closed_by,
    closed_seq = u.closed_seq
FROM {unnest(OutcomeRow, alias="u")}
WHERE o.signal_id = u.signal_id
"""


async def close_outcomes(conn: Connection, rows: Sequence[OutcomeRow]) -> None:
    """Store the closing of positions that were stored open."""
    await conn.execute(CLOSE_OUTCOMES, *columns(OutcomeRow, rows))


DELETE_OUTCOMES = "DELETE FROM signal_outcomes WHERE provider_id = $1"


async def delete_outcomes(conn: Connection, provider_id: UUID) -> None:
    """Delete every position of a provider, to store them anew."""
    await conn.execute(DELETE_OUTCOMES, provider_id)


LOAD_OUTCOMES = """
SELECT signal_id, provider_id, symbol, direction, entry_price, opened_seq, opened_at, status,
       trunc(return * 1e12), closed_at, closed_by, closed_seq, asset_type
FROM signal_outcomes WHERE provider_id = $1 ORDER BY opened_seq
"""


async def load_outcomes(conn: Connection, provider_id: UUID) -> list[OutcomeRow]:
    """Return every position of a provider, oldest first."""
    rows = await conn.fetch(LOAD_OUTCOMES, provider_id)
    found = rows_of(OutcomeRow, rows)
    for each in found:
        each.returned = None if each.returned is None else int(each.returned)
    return found
