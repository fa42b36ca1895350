"""SQL of the simulated market's anchors: the price that each instrument starts at, the same for every process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from db._postgres import Connection
from db._rows import columns, insert, names, row_of, rows_of, transposed


@dataclass(frozen=True, slots=True)
class DeclaredPrice:
    """The first declared price of an instrument, which has one spelling; an option's holds its full expiry."""

    asset_type: str
    instrument: str
    price: Decimal
    declared_at: datetime


DECLARE = f"{insert('simulated_anchors', DeclaredPrice)} ON CONFLICT (asset_type, instrument) DO NOTHING"


async def declare(conn: Connection, rows: Sequence[DeclaredPrice]) -> None:
    """Store the prices of instruments that have none yet."""
    # In one order, so that two that declare the same instruments never wait for each other.
    ordered = sorted(rows, key=lambda row: (row.asset_type, row.instrument))
    await conn.execute(DECLARE, *columns(DeclaredPrice, ordered))


READ_ANCHOR = f"SELECT {names(DeclaredPrice)} FROM simulated_anchors WHERE asset_type = $1 AND instrument = $2"


async def read_anchor(conn: Connection, asset_type: str, instrument: str) -> DeclaredPrice | None:
    """Return the price that an instrument starts at; None where none was declared."""
    return row_of(DeclaredPrice, await conn.fetchrow(READ_ANCHOR, asset_type, instrument))


READ_ANCHORS = f"""
SELECT {names(DeclaredPrice)} FROM simulated_anchors
WHERE (asset_type, instrument) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""


async def read_anchors(conn: Connection, keys: Sequence[tuple[str, str]]) -> list[DeclaredPrice]:
    """Return the prices that instruments start at, by their asset types and names, where one was declared."""
    return rows_of(DeclaredPrice, await conn.fetch(READ_ANCHORS, *transposed(keys, 2)))
