"""SQL of the pipeline's events, their status and their timeline, as the API reads them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from config.documents import Document, Loaded
from db._instruments import key_of
from db._postgres import Connection
from db._rows import names, row_of, rows_of
from db._totals import Totals
from db._where import WHERE, Condition, filtered, given
from db.lens.intake import AcceptedSignal


@dataclass(slots=True)  # not frozen: a frozen one takes four times as long to make, and a page has a hundred
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


class EventDetail(AcceptedSignal):
    """One event in full; `enriched` fields are None and `decisions` empty until there are any."""

    received_at: datetime
    status: str
    timeline: list[Document]  # {status, timestamp, details?}
    feature_profile: str | None
    quality_flags: Document | None
    quote: Loaded | None  # of the receipt, prices as texts
    decisions: list[Document]  # {model, decision, confidence}


@dataclass(frozen=True, slots=True)
class EventProgress:
    """The status of an event; `ended_at` is its timeline's last line, and None while it is under way."""

    event_id: UUID
    status: str
    stage: str
    began_at: datetime  # the timeline's first line
    ended_at: datetime | None


GET_EVENT = f"""
SELECT {names(AcceptedSignal, "e.")}, e.received_at, p.status, p.timeline, n.feature_profile, n.quality_flags,
       n.document->'quote',
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
    """Return one event, or None."""
    return row_of(EventDetail, await conn.fetchrow(GET_EVENT, event_id))


# Not by `finished_at`, the time of the commit: a reader of the timeline must compute the same.
GET_STATUS = """
SELECT event_id, p.status, p.stage, coalesce((p.timeline->0->>'timestamp')::timestamptz, e.received_at),
       CASE WHEN p.finished_at IS NOT NULL
       THEN coalesce((p.timeline->-1->>'timestamp')::timestamptz, p.finished_at) END
FROM lens_events e JOIN lens_progress p USING (event_id) WHERE event_id = $1
"""


async def get_status(conn: Connection, event_id: UUID) -> EventProgress | None:
    """Return the status of one event, or None."""
    return row_of(EventProgress, await conn.fetchrow(GET_STATUS, event_id))


@dataclass(frozen=True, slots=True)
class EventFilters:
    """Filters on events; every one that is not None must match.

    `since` and `until` are inclusive. `symbol` finds every spelling of its instrument.
    """

    symbol: str | None = None
    event_type: str | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    status: str | None = None

    def conditions(self) -> list[Condition]:
        """Return each filter as SQL over lens_events `e` and, for the status, lens_progress `p`."""
        return given(
            self,
            symbol=f"{key_of('e.symbol')} = {key_of('{}')}",
            event_type="e.event_type = {}",
            source="e.source = {}",
            since="event_id >= {}",
            until="event_id <= {}",
            status="p.status = {}",
        )


# event_id is a UUIDv7 of received_at: its order is the order of arrival, ties included.
LIST_EVENTS = f"""
SELECT e.event_id, e.event_type, e.symbol, e.signal_direction, e.entry_price, e.size, p.status, e.source, e.received_at
FROM lens_events e JOIN lens_progress p USING (event_id) {WHERE}
ORDER BY e.event_id DESC LIMIT $1 OFFSET $2
"""

COUNT_EVENTS = f"SELECT count(*) FROM lens_events e JOIN lens_progress p USING (event_id) {WHERE}"
COUNT_STATUS = f"SELECT count(*) FROM lens_progress p {WHERE}"


async def list_events(
    conn: Connection, totals: Totals, filters: EventFilters, *, limit: int, offset: int
) -> tuple[list[EventRow], int]:
    """Return the events that match every given filter, newest first, and their total number."""
    conditions = filters.conditions()
    if filters.status is None:
        total = await totals.count(conn, "lens_events e", "event_id", conditions)
    else:  # the status changes, so its count is not kept
        statement, values = filtered(COUNT_EVENTS if _needs_facts(filters) else COUNT_STATUS, conditions)
        total = await conn.fetchval(statement, *values)
    if offset >= total:
        return [], total
    statement, values = filtered(LIST_EVENTS, conditions, first=3)
    rows = await conn.fetch(statement, limit, offset, *values)
    return rows_of(EventRow, rows), max(total, offset + len(rows))


def _needs_facts(filters: EventFilters) -> bool:
    return any(each is not None for each in (filters.symbol, filters.event_type, filters.source))
