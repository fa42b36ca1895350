"""SQL of the outcomes of opening signals, as the owner of their provider writes them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from db._postgres import Connection, Record
from db._rows import Exact, columns, insert, unnest
from schemas._vocabulary import AssetType, CloseReason, OutcomeStatus, Side

PositionKey = tuple[UUID, str, str, str]
"""The key by which positions are matched to their close: provider, asset type, instrument, `long` or `short`."""

WHOLE = 10**12
"""A whole position, in the units of parts and returns."""


@dataclass(frozen=True, slots=True)
class Leg:
    """A part of a position that was closed: by the signal `closed_by`, or by the market.

    `returned` is what a whole unit returned at this price; `record_return` what it did by the prices that count: None
    where they are not known, or not known yet.
    """

    at: datetime
    price: Decimal
    part: int
    returned: int
    record_return: int | None
    reason: CloseReason
    closed_by: UUID | None


@dataclass(slots=True)  # not frozen: made for every signal
class OutcomeRow:
    """An opening signal and its outcome; `symbol` is its instrument's; parts and returns are in units of 1e-12.

    `closed_seq` is the number of the log's entry that closed it, from 1. `record_entry` is None of one that is
    unverified. PENDING without an open part: its market was not resolved in time.
    """

    signal_id: UUID
    provider_id: UUID
    symbol: str
    direction: Side
    entry_price: Decimal
    opened_seq: int
    opened_at: datetime
    status: OutcomeStatus = "PENDING"
    returned: Exact | None = None
    closed_at: datetime | None = None
    closed_by: UUID | None = None
    closed_seq: int | None = None
    asset_type: AssetType = "crypto"
    open_part: int = WHOLE
    record_entry: Decimal | None = None
    record_return: Exact | None = None
    close_reason: CloseReason | None = None
    is_unmarked: bool = False
    legs: tuple[Leg, ...] = field(default=(), kw_only=True)  # stored as StoredLegs


@dataclass(frozen=True, slots=True)
class StoredLegs:
    """The legs of an outcome as JSON."""

    legs_json: Annotated[str, "text"]


def encode_legs(legs: Iterable[Leg]) -> str:
    """Return legs as JSON, amounts as whole numbers and prices as texts."""
    return json.dumps(
        [
            {
                "at": each.at.isoformat(),
                "price": str(each.price),
                "part": each.part,
                "return": each.returned,
                "record_return": each.record_return,
                "reason": each.reason,
                "by": None if each.closed_by is None else str(each.closed_by),
            }
            for each in legs
        ]
    )


def decode_legs(text: str) -> tuple[Leg, ...]:
    """Return the legs of a JSON."""
    return tuple(
        Leg(
            datetime.fromisoformat(each["at"]),
            Decimal(each["price"]),
            each["part"],
            each["return"],
            each["record_return"],
            each["reason"],
            None if each["by"] is None else UUID(each["by"]),
        )
        for each in json.loads(text)
    )


INSERT_OUTCOMES = insert(
    "signal_outcomes",
    OutcomeRow,
    StoredLegs,
    skip=("returned", "record_return", "legs_json"),
    **{"return": "n.returned * 1e-12", "record_return": "n.record_return * 1e-12", "legs": "n.legs_json::jsonb"},
)


async def insert_outcomes(conn: Connection, rows: Sequence[OutcomeRow]) -> None:
    """Store positions that were opened; some of them may be closed by now."""
    await conn.execute(INSERT_OUTCOMES, *_columns(rows))


UPDATE_OUTCOMES = f"""
UPDATE signal_outcomes o SET
    status = u.status, return = u.returned * 1e-12, closed_at = u.closed_at, closed_by = u.closed_by,
    closed_seq = u.closed_seq, entry_price = u.entry_price, open_part = u.open_part, record_entry = u.record_entry,
    record_return = u.record_return * 1e-12, close_reason = u.close_reason, is_unmarked = u.is_unmarked,
    legs = u.legs_json::jsonb
FROM {unnest(OutcomeRow, StoredLegs, alias="u")}
WHERE o.signal_id = u.signal_id
"""


async def update_outcomes(conn: Connection, rows: Sequence[OutcomeRow]) -> None:
    """Store what became of positions that were stored before."""
    await conn.execute(UPDATE_OUTCOMES, *_columns(rows))


def _columns(rows: Sequence[OutcomeRow]) -> list[Sequence[object]]:
    return [*columns(OutcomeRow, rows), [encode_legs(each.legs) for each in rows]]


DELETE_OUTCOMES = "DELETE FROM signal_outcomes WHERE signal_id = ANY ($1::uuid[])"


async def delete_outcomes(conn: Connection, signal_ids: Collection[UUID]) -> None:
    """Delete positions that count as if they had never been."""
    await conn.execute(DELETE_OUTCOMES, list(signal_ids))


DELETE_OUTCOMES_OF = "DELETE FROM signal_outcomes WHERE provider_id = $1"


async def delete_outcomes_of(conn: Connection, provider_id: UUID) -> None:
    """Delete every position of a provider, to store them anew."""
    await conn.execute(DELETE_OUTCOMES_OF, provider_id)


_LOADED = """
SELECT signal_id, provider_id, symbol, direction, entry_price, opened_seq, opened_at, status,
       trunc(return * 1e12), closed_at, closed_by, closed_seq, asset_type, open_part, record_entry,
       trunc(record_return * 1e12), close_reason, is_unmarked, legs::text
FROM signal_outcomes
"""

LOAD_OUTCOMES = f"{_LOADED} WHERE signal_id = ANY ($1::uuid[])"


async def load_outcomes(conn: Connection, signal_ids: Collection[UUID]) -> list[OutcomeRow]:
    """Return the positions of these opening signals."""
    return _rows(await conn.fetch(LOAD_OUTCOMES, list(signal_ids)))


LOAD_OUTCOMES_OF = f"{_LOADED} WHERE provider_id = ANY ($1::uuid[]) ORDER BY opened_seq"


async def load_outcomes_of(conn: Connection, provider_ids: Collection[UUID]) -> list[OutcomeRow]:
    """Return every position of providers, oldest first."""
    return _rows(await conn.fetch(LOAD_OUTCOMES_OF, list(provider_ids)))


LOAD_UNMARKED = f"{_LOADED} WHERE is_unmarked"


async def load_unmarked(conn: Connection) -> list[OutcomeRow]:
    """Return the positions that have a leg without a quote, which waits for the next mark."""
    return _rows(await conn.fetch(LOAD_UNMARKED))


LOAD_OPEN_ON = f"{_LOADED} WHERE asset_type = $1 AND symbol = $2 AND status = 'PENDING' AND open_part > 0"


async def load_open_on(conn: Connection, asset_type: str, instrument: str) -> list[OutcomeRow]:
    """Return the open positions on an instrument; reads all that are open."""
    return _rows(await conn.fetch(LOAD_OPEN_ON, asset_type, instrument))


def _rows(records: Iterable[Record]) -> list[OutcomeRow]:
    found = []
    for record in records:
        *values, legs = record
        row = OutcomeRow(*values, legs=decode_legs(str(legs)))
        row.returned = None if row.returned is None else int(row.returned)
        row.record_return = None if row.record_return is None else int(row.record_return)
        found.append(row)
    return found
