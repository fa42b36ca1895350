"""Serve the Lens API: accept raw signals, read events."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import asdict

from config.clock import now
from config.documents import Document, Loaded
from db.lens import reads
from db.lens.reads import EventDetail
from handlers._http.base import GatewayHandler
from handlers._http.endpoint import endpoint
from handlers._http.pages import send_page
from handlers._submissions import IDEMPOTENCY_KEY, KEY_HEADER, hand_in
from schemas.lens import EventSchema, EventsQuery, EventStatusSchema, PageOfEvents, SignalAccepted, SignalSubmission

_EVENTS = PageOfEvents()


class Signals(GatewayHandler):
    """`/api/v1/signals`"""

    @endpoint(
        "Submit a raw signal",
        body=SignalSubmission(),
        responds=SignalAccepted(),
        status=201,
        errors=(422, 503),
        headers={KEY_HEADER: IDEMPOTENCY_KEY},
    )
    async def post(self, body: Loaded) -> object:
        """Answers once the signal is durable."""
        return await hand_in(self, body)


class Events(GatewayHandler):
    """`/api/v1/events`"""

    @endpoint("List events, newest first", query=EventsQuery(), responds=_EVENTS, errors=(503,))
    async def get(self, query: Loaded) -> None:
        """Every filter that is given must match."""
        paging = {"limit": query.pop("limit"), "offset": query.pop("offset")}
        filters, totals = reads.EventFilters(**query), self.services.totals
        await send_page(self, _EVENTS, filters, paging, lambda conn: reads.list_events(conn, totals, filters, **paging))


class OneEvent(GatewayHandler):
    """`/api/v1/events/{event_id}`"""

    @endpoint("Get an event with its timeline", responds=EventSchema(), errors=(404, 503))
    async def get(self, event_id: str) -> object:
        """`enriched` is null and `decisions` empty until the pipeline has got that far."""
        event = await self.find("Event", event_id, reads.get_event)
        return asdict(event) | {"enriched": None if event.feature_profile is None else _enrichment(event)}


def _enrichment(event: EventDetail) -> Document:
    stored, quote, counts = event.quote, None, None
    if stored is not None:
        prices = {name: float(stored[name]) for name in ("bid", "ask", "mid")}
        quote = {**prices, "at": datetime.fromisoformat(stored["at"]), "source": stored["source"]}
        counts = stored["record_price"]
    return {
        "feature_profile": event.feature_profile,
        "quality_flags": event.quality_flags,
        "record_price": None if counts is None else float(counts),
        "verified": quote is not None,
        "quote": quote,
    }


class StatusOfEvent(GatewayHandler):
    """`/api/v1/events/{event_id}/status`"""

    @endpoint("Get where an event stands", responds=EventStatusSchema(), errors=(404, 503))
    async def get(self, event_id: str) -> object:
        """`duration_ms` of an event that has ended is its timeline's last line minus its first; else it runs to now."""
        row = await self.find("Event", event_id, reads.get_status)
        duration = (row.ended_at or now()) - row.began_at
        return {
            "event_id": row.event_id,
            "status": row.status,
            "current_stage": row.stage,
            "duration_ms": max(0, duration // timedelta(milliseconds=1)),
        }
