"""Retry dead letters: decide where each entry's event resumes, and store that a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from actors.lens._edits import Edit, edit_signal, new_submission, scored_message, to_json
from actors.lens._results import StageFailure, cause, entry
from actors.lens.messages import Retrying, Submit
from config import clock
from config.documents import Document
from config.ids import uuid7
from db._postgres import Connection
from db._rows import exact_json
from db.lens import retries as sql
from db.lens.dlq import RESOLVED_BY_RETRY
from db.lens.retries import Marked, OpenDeadLetter, Requeued, RetriedEvent
from schemas.errors import AppError, NotFound, ValidationFailed

UNKNOWN = "DLQ entry not found"
CANNOT_RETRY = "Cannot retry a resolved DLQ entry"

_ORDER = ("ENRICH", "EVALUATE", "PUBLISH")
_STATUS_BEFORE = {"ENRICH": "ENQUEUED", "EVALUATE": "ENRICHED", "PUBLISH": "MODEL_DONE"}


@dataclass(frozen=True, slots=True)
class RetryOrder:
    """Order the retry of one entry, with `patch` applied to its signal, not before `delay_seconds`."""

    dead_letter_id: UUID
    patch: Document | None = None
    delay_seconds: float = 0.0


@dataclass(slots=True)
class Results:
    """A reply to each order; how many entries are newly retried; the submissions that must become events."""

    replies: list[Retrying | AppError]
    begun: int = 0
    accepted: list[tuple[Submit, float]] = field(default_factory=list)  # with the delay in seconds


async def retry(conn: Connection, orders: Sequence[RetryOrder], *, in_bulk: bool) -> Results:
    """Return the entries' events to their stages. The caller accepts the `accepted` ones, in the transaction.

    In bulk, events in progress are left alone, and a payload that is still invalid is one more failed attempt.
    """
    dead_letters, event_ids = await sql.lock_dead_letters(
        conn, [each.dead_letter_id for each in orders], idle_only=in_bulk
    )
    batch = _Batch(dead_letters, await sql.get_events(conn, event_ids), clock.now())
    failed: dict[UUID, Document] = {}
    for order in orders:
        reply = batch.take(order)
        if in_bulk and isinstance(reply, ValidationFailed) and reply.details:
            failure = StageFailure("VALIDATION_ERROR", "; ".join(f"{e.field}: {e.message}" for e in reply.details))
            failed[order.dead_letter_id] = cause(failure, batch.at)
        batch.results.replies.append(reply)
    await sql.requeue(conn, batch.requeued())
    await sql.mark_retried(conn, list(batch.marked.values()), resolution_note=RESOLVED_BY_RETRY)
    await sql.mark_failed(conn, failed)
    return batch.results


@dataclass(slots=True)
class _EventPlan:
    """Collect what happens to one event: the entries that are now retried, and those that were already."""

    event: RetriedEvent
    under_way: list[OpenDeadLetter]
    begun: dict[UUID, OpenDeadLetter] = field(default_factory=dict)
    edit: Edit | None = None
    edited_by: set[UUID] = field(default_factory=set)  # the entries whose retry changed the signal
    delay_seconds: float = 0.0

    @property
    def dead_letters(self) -> list[OpenDeadLetter]:
        return [*self.begun.values(), *(each for each in self.under_way if each.id not in self.begun)]

    @property
    def stage(self) -> str:
        """Return the earliest stage that any of its entries needs; an event in progress is never moved past its own."""
        event = self.event
        stages = [dead_letter.stage.upper() for dead_letter in self.dead_letters]
        if (self.edit is not None and self.edit.is_anew) or not event.has_document:
            stages.append("ENRICH")
        if event.is_open and event.stage in _ORDER:
            stages.append(event.stage)
        return min(stages, key=_ORDER.index)

    @property
    def asked(self) -> list[str] | None:
        """Return the models that must answer; None: all, as for a signal that no model has seen."""
        event, dead_letters = self.event, self.dead_letters
        if (self.edit is not None and self.edit.is_anew) or any(each.stage == "enrich" for each in dead_letters):
            return None
        if event.is_open and event.asked is None and event.stage != "PUBLISH":
            return None
        models = [each.model for each in dead_letters if each.stage == "evaluate"]
        return None if None in models else sorted(each for each in models if each is not None)

    def requeued(self, at: datetime) -> Requeued:
        event, stage = self.event, self.stage
        announced = event.announced if event.is_open else event.models
        lines = [entry("ENQUEUED", at, self._details(each)) for each in self.begun.values()]
        is_published = event.status == "PUBLISHED"
        return Requeued(
            event_id=event.event_id,
            stage=stage,
            status="PUBLISHED" if is_published else _STATUS_BEFORE[stage],
            asked=self.asked,
            announced=announced if is_published else None,
            edited=None if self.edit is None else self.edit.signal,
            delay_seconds=self.delay_seconds,
            timeline=lines,
        )

    def _details(self, dead_letter: OpenDeadLetter) -> Document:
        details: Document = {"dlq_id": str(dead_letter.id), "stage": dead_letter.stage}
        return details | {"edited": True} if dead_letter.id in self.edited_by else details


class _Batch:
    """Apply orders in turn to the locked rows; a later one sees what an earlier one did."""

    def __init__(
        self, dead_letters: dict[UUID, OpenDeadLetter], events: dict[UUID, RetriedEvent], at: datetime
    ) -> None:
        self.at = at
        self.results = Results([])
        self.marked: dict[UUID, Marked] = {}
        self._dead_letters = dead_letters
        self._plans = {
            event_id: _EventPlan(
                event, [each for each in dead_letters.values() if each.event_id == event_id and each.retrying]
            )
            if event.is_open
            else _EventPlan(event, [])
            for event_id, event in events.items()
        }

    def take(self, order: RetryOrder) -> Retrying | AppError:
        dead_letter = self._dead_letters.get(order.dead_letter_id)
        if dead_letter is None:
            return NotFound(UNKNOWN)
        if dead_letter.resolved_at is not None:
            return ValidationFailed(CANNOT_RETRY)
        try:
            if dead_letter.way is not None:
                return self._resend(dead_letter, order)
            return (
                self._accept(dead_letter, order) if dead_letter.event_id is None else self._requeue(dead_letter, order)
            )
        except ValidationFailed as error:
            return error

    def requeued(self) -> list[Requeued]:
        return [plan.requeued(self.at) for plan in self._plans.values() if plan.begun]

    def _requeue(self, dead_letter: OpenDeadLetter, order: RetryOrder) -> Retrying:
        assert dead_letter.event_id is not None
        plan = self._plans[dead_letter.event_id]
        edit = None if order.patch is None else edit_signal(plan.event, dead_letter, order.patch)
        if edit is None and (dead_letter.id in plan.begun or dead_letter.id in {each.id for each in plan.under_way}):
            return Retrying(dead_letter.id, plan.stage.lower(), dead_letter.retry_count)
        if edit is not None:
            is_anew = edit.is_anew or (plan.edit is not None and plan.edit.is_anew)
            plan.edit = replace(edit, is_anew=is_anew)
            plan.edited_by.add(dead_letter.id)
            plan.event = replace(plan.event, edited=exact_json(edit.signal))
        plan.delay_seconds = min(plan.delay_seconds, order.delay_seconds) if plan.begun else order.delay_seconds
        dead_letter = self._count(dead_letter)
        plan.begun[dead_letter.id] = dead_letter
        self.marked[dead_letter.id] = Marked(
            dead_letter.id, dead_letter.retry_count, None if plan.edit is None else plan.edit.signal
        )
        return Retrying(dead_letter.id, plan.stage.lower(), dead_letter.retry_count)

    def _accept(self, dead_letter: OpenDeadLetter, order: RetryOrder) -> Retrying:
        fields = new_submission(dead_letter, order.patch)
        submit = Submit(event_id=uuid7(), idempotency_key=None, **fields)
        edited = None if order.patch is None else to_json(fields)
        dead_letter = self._count(replace(dead_letter, resolved_at=self.at))
        self.marked[dead_letter.id] = Marked(
            dead_letter.id, dead_letter.retry_count, edited, submit.event_id, is_done=True
        )
        self.results.accepted.append((submit, order.delay_seconds))
        return Retrying(dead_letter.id, dead_letter.stage, dead_letter.retry_count)

    def _resend(self, dead_letter: OpenDeadLetter, order: RetryOrder) -> Retrying:
        """Have `ingest` take it up and resolve it. At once, even in bulk: it asks no market and no model."""
        if dead_letter.retrying and order.patch is None:
            return Retrying(dead_letter.id, dead_letter.stage, dead_letter.retry_count)
        message = scored_message(dead_letter, order.patch)
        edited = None if order.patch is None else message
        dead_letter = self._count(replace(dead_letter, retrying=True, edited_payload=exact_json(message)))
        self.marked[dead_letter.id] = Marked(dead_letter.id, dead_letter.retry_count, edited)
        return Retrying(dead_letter.id, dead_letter.stage, dead_letter.retry_count)

    def _count(self, dead_letter: OpenDeadLetter) -> OpenDeadLetter:
        self.results.begun += 1
        counted = replace(dead_letter, retry_count=dead_letter.retry_count + 1)
        self._dead_letters[dead_letter.id] = counted
        return counted
