"""List, retry and resolve dead letters, one or many at once."""

from __future__ import annotations

from typing import TypeVar

from actors._runtime.messages import Message
from actors.lens.messages import (
    INTAKE,
    Counts,
    ResolveDeadLetter,
    ResolveDeadLetters,
    RetryDeadLetter,
    RetryDeadLetters,
)
from config.documents import Document, Loaded
from db._postgres import connection
from db.lens.dlq import DeadLetterFilters, get_dead_letter, list_dead_letters
from handlers._http.base import GatewayHandler, known_id
from handlers._http.endpoint import endpoint
from schemas.dlq import (
    DeadLetterSchema,
    DeadLettersQuery,
    PageOfDeadLetters,
    Resolution,
    Resolved,
    ResolvedMany,
    ResolveMany,
    RetriedMany,
    RetryAccepted,
    RetryMany,
    RetryManyQuery,
    RetryRequest,
    SelectionQuery,
    select,
)
from schemas.errors import NotFound

Reply = TypeVar("Reply")

_FILTERS = DeadLetterFilters.__match_args__


class _Queue(GatewayHandler):
    async def ask(self, message: Message[Reply]) -> Reply:
        """Ask the queue's owner."""
        return await self.services.actors.ref(INTAKE, "").ask("", message)


class DeadLetters(GatewayHandler):
    """`/api/v1/dlq`"""

    @endpoint("List dead letters, newest first", query=DeadLettersQuery(), responds=PageOfDeadLetters(), errors=(503,))
    async def get(self, query: Loaded) -> object:
        """Every filter that is given must match."""
        paging = {"limit": query["limit"], "offset": query["offset"]}
        async with connection(self.services.pool) as conn:
            items, total = await list_dead_letters(conn, _filters(query), **paging)
        return {"items": items, "total": total, **paging}


class OneDeadLetter(GatewayHandler):
    """`/api/v1/dlq/{dlq_id}`"""

    @endpoint("Get a dead letter with its payload and every attempt", responds=DeadLetterSchema(), errors=(404, 503))
    async def get(self, dlq_id: str) -> object:
        """`retry_count` counts the attempts after the first, and retries by hand."""
        async with connection(self.services.pool) as conn:
            row = await get_dead_letter(conn, known_id(dlq_id, "DLQ entry"))
        if row is None:
            raise NotFound("DLQ entry not found")
        return row


class RetryOne(_Queue):
    """`/api/v1/dlq/{dlq_id}/retry`"""

    @endpoint(
        "Retry a dead letter",
        body=RetryRequest(),
        body_required=False,
        responds=RetryAccepted(),
        errors=(400, 404, 503),
    )
    async def post(self, dlq_id: str, body: Loaded) -> object:
        """Retries from its stage on, past the gates of age and drift. Success resolves it; another failure is added."""
        retrying = await self.ask(RetryDeadLetter(known_id(dlq_id, "DLQ entry"), body["payload"]))
        return {
            "id": str(retrying.id),
            "status": "retrying",
            "message": f"Entry re-enqueued for {retrying.stage} processing",
            "retry_count": retrying.retry_count,
        }


class ResolveOne(_Queue):
    """`/api/v1/dlq/{dlq_id}/resolve`"""

    @endpoint("Resolve a dead letter by hand", body=Resolution(), responds=Resolved(), errors=(404, 503))
    async def post(self, dlq_id: str, body: Loaded) -> object:
        """A resolved dead letter can be neither retried nor resolved again."""
        dead_letter_id = known_id(dlq_id, "DLQ entry")
        resolved_at = await self.ask(ResolveDeadLetter(dead_letter_id, body["resolution_note"]))
        return {"id": str(dead_letter_id), "status": "resolved", "resolved_at": resolved_at}


class RetryAll(_Queue):
    """`/api/v1/dlq/retry`"""

    @endpoint(
        "Retry many dead letters",
        query=RetryManyQuery(),
        body=RetryMany(),
        body_required=False,
        responds=RetriedMany(),
        errors=(503,),
    )
    async def post(self, query: Loaded, body: Loaded) -> object:
        """Starts with those not retried yet, oldest first. Repeat until nothing matches, for more than `max`.

        The filter may be given in the query, in the body, or in both alike; an unknown parameter is refused.
        """
        wanted = select(query, body)
        message = RetryDeadLetters(_filters(wanted), wanted["max"], wanted["per_second"], wanted["dry_run"])
        counts = await self.ask(message)
        return {**_counted(counts, wanted), "retried": counts.done, "skipped": counts.skipped}


class ResolveAll(_Queue):
    """`/api/v1/dlq/resolve`"""

    @endpoint(
        "Resolve many dead letters by hand",
        query=SelectionQuery(),
        body=ResolveMany(),
        responds=ResolvedMany(),
        errors=(503,),
    )
    async def post(self, query: Loaded, body: Loaded) -> object:
        """Resolves all with the same note. Repeat until nothing matches, for more than `max`.

        The filter may be given in the query, in the body, or in both alike; an unknown parameter is refused.
        """
        wanted = select(query, body)
        message = ResolveDeadLetters(_filters(wanted), wanted["resolution_note"], wanted["max"], wanted["dry_run"])
        counts = await self.ask(message)
        return {**_counted(counts, wanted), "resolved": counts.done}


def _counted(counts: Counts, wanted: Loaded) -> Document:
    selected = min(counts.matched, wanted["max"])
    return {"matched": counts.matched, "selected": selected, "dry_run": wanted["dry_run"]}


def _filters(given: Loaded) -> DeadLetterFilters:
    return DeadLetterFilters(**{name: given[name] for name in _FILTERS})
