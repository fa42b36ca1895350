"""What the API reads of the pipeline: events, their status and their timeline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from db._postgres import Connection


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event as lists show it."""

    event_id: UUID
    event_type: str
    symbol: str
    signal_direction: str
    entry_price: Decimal
    size: Decimal
    status: str
    source: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class EventDetail:
    """One event with all that is known of it. `enriched` fields are None and `decisions` empty until there are any."""

    event_id: UUID
    event_type: str
    symbol: str
    signal_direction: str
    entry_price: Decimal
    size: Decimal
    liquidation_price: Decimal | None
    ts_utc: datetime
    source: str
    asset_type: str
    asset_data: dict[str, Any] | None
    commentary: str | None
    received_at: datetime
    status: str
    timeline: list[dict[str, Any]]  # {status, timestamp, details?}
    feature_profile: str | None
    quality_flags: dict[str, Any] | None
    decisions: list[dict[str, Any]]  # {model, decision, confidence}


@dataclass(frozen=True, slots=True)
class EventStatus:
    """Where an event stands. `finished_at` is None while it is under way."""

    event_id: UUID
    status: str
    stage: str
    received_at: datetime
    finished_at: datetime | None


GET_EVENT = """
SELECT e.event_id, e.event_type, e.symbol, e.signal_direction, e.entry_price, e.size, e.liquidation_price, e.ts_utc,
       e.source, e.asset_type, e.asset_data, e.commentary, e.received_at, p.status, p.timeline,
       n.feature_profile, n.quality_flags,
       (SELECT coalesce(jsonb_agg(
                   jsonb_build_object('model', d.model, 'decision', d.decision, 'confidence', d.confidence)
                   ORDER BY d.evaluated_at, d.model), '[]')
        FROM lens_decisions d WHERE d.event_id = e.event_id)
FROM lens_events e
JOIN lens_progress p USING (event_id)
LEFT JOIN lens_enriched n USING (event_id)
WHERE e.event_id = $1
"""


async def get_event(conn: Connection, event_id: UUID) -> EventDetail | None:
    """One event, or None."""
    row = await conn.fetchrow(GET_EVENT, event_id)
    return None if row is None else EventDetail(*row)


GET_STATUS = """
SELECT event_id, p.status, p.stage, e.received_at, p.finished_at
FROM lens_events e JOIN lens_progress p USING (event_id) WHERE event_id = $1
"""


async def get_status(conn: Connection, event_id: UUID) -> EventStatus | None:
    """Where one event stands, or None."""
    row = await conn.fetchrow(GET_STATUS, event_id)
    return None if row is None else EventStatus(*row)


# Each filter is `$n IS NULL OR …`, which the planner folds away when it plans for the given values. event_id is a
# UUIDv7 of received_at: its order is the order of arrival, ties included.
_FILTERS = """
    ($1::text IS NULL OR e.symbol = $1)
    AND ($2::text IS NULL OR e.event_type = $2)
    AND ($3::text IS NULL OR e.source = $3)
    AND ($4::timestamptz IS NULL OR e.received_at >= $4)
    AND ($5::timestamptz IS NULL OR e.received_at <= $5)
    AND ($6::text IS NULL OR p.status = $6)
"""

LIST_EVENTS = f"""
SELECT e.event_id, e.event_type, e.symbol, e.signal_direction, e.entry_price, e.size, p.status, e.source, e.received_at
FROM lens_events e JOIN lens_progress p USING (event_id)
WHERE {_FILTERS}
ORDER BY e.event_id DESC LIMIT $7 OFFSET $8
"""

COUNT_EVENTS = f"SELECT count(*) FROM lens_events e JOIN lens_progress p USING (event_id) WHERE {_FILTERS}"


async def list_events(
    conn: Connection,
    *,
    symbol: str | None = None,
    event_type: str | None = None,
    source: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    status: str | None = None,
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[EventRow], int]:
    """Events that match every given filter, newest first, and how many there are in all."""
    filters = (symbol, event_type, source, since, until, status)
    rows = await conn.fetch(LIST_EVENTS, *filters, limit, offset)
    total = await conn.fetchval(COUNT_EVENTS, *filters)
    return [EventRow(*row) for row in rows], total
