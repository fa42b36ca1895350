"""SQL of accepting raw signals: events, their progress rows and idempotency keys, a whole batch in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from config.documents import Document
from config.values import Value
from db._postgres import Connection
from db._rows import columns, rows_of, unnest
from schemas._vocabulary import AssetType, Direction, EventType, OrderType

IDEMPOTENCY_HOURS = 24


class Submission(Value):
    """A raw signal as it was submitted, its prices exact. `ts_utc` None stands for the time of receipt."""

    event_id: UUID
    event_type: EventType
    signal_direction: Direction
    symbol: str  # as stored: upper case except for predictions
    entry_price: Decimal
    size: Decimal
    liquidation_price: Decimal | None
    ts_utc: datetime | None
    source: str
    asset_type: AssetType
    asset_data: Document | None
    commentary: str | None


class AcceptedSignal(Submission):
    """A raw signal as it is stored: with the terms of its order, see `db._orders.OrderTerms`."""

    order_type: OrderType | None
    take_profit: list[Decimal] | None
    stop_loss: Decimal | None
    valid_until: datetime | None
    close_fraction: Decimal | None


class NewEvent(AcceptedSignal):
    """A raw signal to store; `idempotency_key` and `body_hash` are None when the producer sent no key."""

    idempotency_key: str | None
    received_at: datetime
    body_hash: bytes | None
    timeline: list[Document]
    source_hash: int


class Accepted(Value):
    """The event that an idempotency key stands for."""

    source: str
    key: str
    body_hash: bytes
    event_id: UUID
    received_at: datetime


FIND_KEYS = f"""
SELECT k.source, k.key, k.body_hash, k.event_id, k.received_at
FROM unnest($1::text[], $2::text[]) AS asked (source, key)
JOIN lens_idempotency k ON k.source = asked.source AND k.key = asked.key
WHERE k.received_at > now() - interval '{IDEMPOTENCY_HOURS} hours'
"""


async def find_keys(conn: Connection, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Accepted]:
    """Return the unexpired idempotency keys among `keys` (source, key)."""
    found = rows_of(Accepted, await conn.fetch(FIND_KEYS, *zip(*keys, strict=True)))
    return {(each.source, each.key): each for each in found}


# One statement: one round trip and one plan for the three tables. An event that exists already belongs to a batch that
# was delivered again: the sender chose its id, so it counts once. A key that exists already is an expired one
# (find_keys has answered for the others, and one shard of lens/intake writes all keys of a source): it is taken over.
INSERT_EVENTS = f"""
WITH incoming AS (
    SELECT * FROM {unnest(NewEvent, first=2)}
), facts AS (
    INSERT INTO lens_events
    SELECT event_id, received_at, event_type, signal_direction, symbol, entry_price, size, liquidation_price,
           ts_utc, source, asset_type, asset_data, commentary, order_type, take_profit, stop_loss, valid_until,
           close_fraction
    FROM incoming
    ON CONFLICT (event_id) DO NOTHING
), keys AS (
    INSERT INTO lens_idempotency (source, key, body_hash, event_id, received_at)
    SELECT source, idempotency_key, body_hash, event_id, received_at FROM incoming WHERE idempotency_key IS NOT NULL
    ON CONFLICT (source, key) DO UPDATE
    SET body_hash = excluded.body_hash, event_id = excluded.event_id, received_at = excluded.received_at
)
INSERT INTO lens_progress (event_id, status, stage, due_at, lease_until, timeline, source_hash)
SELECT event_id, 'ENQUEUED', 'ENRICH', now(), now() + $1 * interval '1 second', timeline, source_hash
FROM incoming
ON CONFLICT (event_id) DO NOTHING
"""


async def insert_events(conn: Connection, events: Sequence[NewEvent], *, lease_seconds: float) -> None:
    """Store accepted events as ENQUEUED, leased to the enrich stage for `lease_seconds`."""
    await conn.execute(INSERT_EVENTS, lease_seconds, *columns(NewEvent, events))


EXPIRE_KEYS = f"""
DELETE FROM lens_idempotency
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM lens_idempotency WHERE received_at < now() - interval '{IDEMPOTENCY_HOURS} hours' LIMIT $1))
"""


async def expire_keys(conn: Connection, limit: int) -> int:
    """Remove up to `limit` expired idempotency keys; return how many."""
    return int((await conn.execute(EXPIRE_KEYS, limit)).split()[-1])
