"""List, retry and resolve dead letters, one or many at once."""

from __future__ import annotations

from actors.lens.messages import (
    INTAKE,
    Counts,
    ResolveDeadLetter,
    ResolveDeadLetters,
    RetryDeadLetter,
    RetryDeadLetters,
)
from config.documents import Document, Loaded
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

_FILTERS = DeadLetterFilters.__match_args__


class DeadLetters(GatewayHandler):
    """`/api/v1/dlq`"""

    @endpoint("List dead letters, newest first", query=DeadLettersQuery(), responds=PageOfDeadLetters(), errors=(503,))
    async def get(self, query: Loaded) -> object:
        """Every filter that is given must match."""
        paging = {"limit": query["limit"], "offset": query["offset"]}
        items, total = await self.load(list_dead_letters, _filters(query), **paging)
        return {"items": items, "total": total, **paging}


class OneDeadLetter(GatewayHandler):
    """`/api/v1/dlq/{dlq_id}`"""

    @endpoint("Get a dead letter with its payload and every attempt", responds=DeadLetterSchema(), errors=(404, 503))
    async def get(self, dlq_id: str) -> object:
        """`retry_count` counts the attempts after the first, and retries by hand."""
        return await self.find("DLQ entry", dlq_id, get_dead_letter)


class RetryOne(GatewayHandler):
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
        retrying = await self.ask(INTAKE, "", RetryDeadLetter(known_id(dlq_id, "DLQ entry"), body["payload"]))
        return {
            "id": str(retrying.id),
            "status": "retrying",
            "message": f"Entry re-enqueued for {retrying.stage} processing",
            "retry_count": retrying.retry_count,
        }


class ResolveOne(GatewayHandler):
    """`/api/v1/dlq/{dlq_id}/resolve`"""

    @endpoint("Resolve a dead letter by hand", body=Resolution(), responds=Resolved(), errors=(404, 503))
    async def post(self, dlq_id: str, body: Loaded) -> object:
        """A resolved dead letter can be neither retried nor resolved again."""
        dead_letter_id = known_id(dlq_id, "DLQ entry")
        resolved_at = await self.ask(INTAKE, "", ResolveDeadLetter(dead_letter_id, body["resolution_note"]))
        return {"id": str(dead_letter_id), "status": "resolved", "resolved_at": resolved_at}


class RetryAll(GatewayHandler):
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
        counts = await self.ask(INTAKE, "", message)
        return {**_counted(counts, wanted), "retried": counts.done, "skipped": counts.skipped}


class ResolveAll(GatewayHandler):
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
        counts = await self.ask(INTAKE, "", message)
        return {**_counted(counts, wanted), "resolved": counts.done}


def _counted(counts: Counts, wanted: Loaded) -> Document:
    selected = min(counts.matched, wanted["max"])
    return {"matched": counts.matched, "selected": selected, "dry_run": wanted["dry_run"]}


def _filters(given: Loaded) -> DeadLetterFilters:
    return DeadLetterFilters(**{name: given[name] for name in _FILTERS})
