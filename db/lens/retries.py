"""SQL of retrying dead letters: what a retry must know, how events are requeued, entries marked and resolved.

Rows are locked in one order, the events' progress before the entries, as the stages' transactions do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import orjson

from config.documents import Document
from db._postgres import Connection
from db._rows import ExactJson, columns, rows_of, unnest
from db._where import WHERE, filtered
from db.lens.dlq import DeadLetterFilters

_DEAD_LETTER = (
    "id, event_id, stage, model, retry_count, retrying, resolved_at, payload::text, edited_payload::text, way"
)


@dataclass(frozen=True, slots=True)
class OpenDeadLetter:
    """An entry as a retry sees it; the payloads are JSON texts: numbers keep their digits."""

    id: UUID
    event_id: UUID | None
    stage: str
    model: str | None
    retry_count: int
    retrying: bool
    resolved_at: datetime | None
    payload: str
    edited_payload: str | None
    way: str | None  # the source of a scored signal that came in by itself; it never has an event


FIND_EVENTS = "SELECT DISTINCT event_id FROM lens_dlq WHERE id = ANY ($1::uuid[]) AND event_id IS NOT NULL"
LOCK_EVENTS = "SELECT event_id FROM lens_progress WHERE event_id = ANY ($1::uuid[]) ORDER BY event_id FOR UPDATE"
LOCK_IDLE_EVENTS = """
SELECT event_id FROM lens_progress WHERE event_id = ANY ($1::uuid[]) AND finished_at IS NOT NULL
ORDER BY event_id FOR UPDATE SKIP LOCKED
"""
LOCK_DEAD_LETTERS = f"""
SELECT {_DEAD_LETTER} FROM lens_dlq
WHERE (id = ANY ($1::uuid[]) AND (event_id IS NULL OR event_id = ANY ($2::uuid[])))
   OR (event_id = ANY ($2::uuid[]) AND retrying)
ORDER BY id FOR UPDATE
"""


async def lock_dead_letters(
    conn: Connection, ids: Sequence[UUID], *, idle_only: bool
) -> tuple[dict[UUID, OpenDeadLetter], list[UUID]]:
    """Lock the entries `ids`, those of the same events that are being retried, and the events; return all of them.

    With `idle_only` events that are under way, or that a stage is just moving, are left out, so this never waits.
    """
    event_ids = [row[0] for row in await conn.fetch(FIND_EVENTS, ids)]
    if event_ids:
        locked = await conn.fetch(LOCK_IDLE_EVENTS if idle_only else LOCK_EVENTS, event_ids)
        event_ids = [row[0] for row in locked]
    dead_letters = rows_of(OpenDeadLetter, await conn.fetch(LOCK_DEAD_LETTERS, ids, event_ids))
    return {each.id: each for each in dead_letters}, event_ids


@dataclass(frozen=True, slots=True)
class RetriedEvent:
    """An event as a retry sees it: its status, and the signal as the next attempt would process it."""

    event_id: UUID
    status: str
    stage: str
    is_open: bool
    asked: list[str] | None
    announced: list[str] | None
    has_document: bool
    models: list[str]  # that have decided
    edited: str | None  # the signal as JSON text, if an earlier retry changed it; else the facts:
    event_type: str
    symbol: str
    signal_direction: str
    entry_price: Decimal
    size: Decimal
    liquidation_price: Decimal | None
    ts_utc: datetime
    source: str
    asset_type: str
    asset_data: str | None  # JSON text
    commentary: str | None
    order_type: str | None
    take_profit: str | None  # JSON text
    stop_loss: Decimal | None
    valid_until: datetime | None
    close_fraction: Decimal | None


GET_EVENTS = """
SELECT p.event_id, p.status, p.stage, p.finished_at IS NULL, p.asked, p.announced,
       EXISTS (SELECT FROM lens_enriched n WHERE n.event_id = p.event_id AND n.document IS NOT NULL),
       ARRAY(SELECT d.model FROM lens_decisions d WHERE d.event_id = p.event_id ORDER BY d.model), p.edited::text,
       e.event_type, e.symbol, e.signal_direction, e.entry_price, e.size, e.liquidation_price, e.ts_utc, e.source,
       e.asset_type, e.asset_data::text, e.commentary, e.order_type, e.take_profit::text, e.stop_loss, e.valid_until,
       e.close_fraction
FROM lens_progress p JOIN lens_events e USING (event_id)
WHERE p.event_id = ANY ($1::uuid[])
"""


async def get_events(conn: Connection, event_ids: Sequence[UUID]) -> dict[UUID, RetriedEvent]:
    """Return the events, which the caller has locked, so what other tables hold of them is fixed too."""
    found = rows_of(RetriedEvent, await conn.fetch(GET_EVENTS, event_ids)) if event_ids else []
    return {each.event_id: each for each in found}


@dataclass(frozen=True, slots=True)
class Requeued:
    """Where an event continues, in a new round; `edited` is the signal from now on, None: as before."""

    event_id: UUID
    stage: str
    status: str
    asked: Sequence[str] | None
    announced: Sequence[str] | None
    edited: ExactJson | None
    delay_seconds: float
    timeline: list[Document]


# The lease ends when the event is due, so the stage's next sweep takes it. The new round invalidates what a stage still
# holds of an older one.
REQUEUE = f"""
UPDATE lens_progress p
SET round = p.round + 1, stage = r.stage, status = r.status, attempt = 0, failures = '[]', finished_at = NULL,
    due_at = now() + r.delay_seconds * interval '1 second', lease_until = now() + r.delay_seconds * interval '1 second',
    asked = r.asked, announced = r.announced, edited = coalesce(r.edited, p.edited),
    timeline = p.timeline || r.timeline
FROM {unnest(Requeued, alias="r")}
WHERE p.event_id = r.event_id
"""


async def requeue(conn: Connection, rows: Sequence[Requeued]) -> None:
    """Queue locked events for their stages again."""
    if rows:
        await conn.execute(REQUEUE, *columns(Requeued, rows))


@dataclass(frozen=True, slots=True)
class Marked:
    """An entry that is retried, with its new count; `event_id` if it became an event, which ends it (`is_done`)."""

    id: UUID
    retry_count: int
    edited: ExactJson | None
    event_id: UUID | None = None
    is_done: bool = False


MARK_RETRIED = f"""
UPDATE lens_dlq d
SET retry_count = m.retry_count, last_retry_at = now(), retrying = NOT m.is_done,
    edited_payload = coalesce(m.edited, d.edited_payload), event_id = coalesce(d.event_id, m.event_id),
    resolved_at = CASE WHEN m.is_done THEN now() END, resolution_note = CASE WHEN m.is_done THEN $1 END
FROM {unnest(Marked, alias="m", first=2)}
WHERE d.id = m.id
"""


async def mark_retried(conn: Connection, rows: Sequence[Marked], *, resolution_note: str) -> None:
    """Store that locked entries are retried; those that are done are resolved with the note."""
    if rows:
        await conn.execute(MARK_RETRIED, resolution_note, *columns(Marked, rows))


MARK_FAILED = """
UPDATE lens_dlq d
SET retry_count = d.retry_count + 1, last_retry_at = now(), attempts = d.attempts || f.attempt::jsonb,
    reason_code = f.attempt::jsonb->>'reason_code', error_message = f.attempt::jsonb->>'error_message'
FROM unnest($1::uuid[], $2::text[]) AS f (id, attempt) WHERE d.id = f.id
"""


async def mark_failed(conn: Connection, failed: dict[UUID, Document]) -> None:
    """Add an attempt that failed at once (`{at, reason_code, error_message}`) to locked entries."""
    if failed:
        await conn.execute(MARK_FAILED, list(failed), [orjson.dumps(each).decode() for each in failed.values()])


UNGATE = """
UPDATE lens_progress p
SET round = 1, due_at = now() + u.delay_seconds * interval '1 second',
    lease_until = now() + u.delay_seconds * interval '1 second'
FROM unnest($1::uuid[], $2::float8[]) AS u (event_id, delay_seconds) WHERE p.event_id = u.event_id
"""


async def ungate(conn: Connection, delays: dict[UUID, float]) -> None:
    """Let events that were just accepted skip the gates, and begin after a delay in seconds."""
    if delays:
        await conn.execute(UNGATE, list(delays), list(delays.values()))


# The last retried come last: an entry that keeps failing does not hold up the others.
MATCH_DEAD_LETTERS = f"""
WITH matching AS (SELECT id, last_retry_at FROM lens_dlq {WHERE})
SELECT (SELECT count(*) FROM matching),
       ARRAY(SELECT id FROM matching ORDER BY last_retry_at NULLS FIRST, id LIMIT $1)
"""


async def match_dead_letters(
    conn: Connection, filters: DeadLetterFilters, most: int, *, under_way: bool
) -> tuple[int, list[UUID]]:
    """Return how many unresolved entries match, with or without those `under_way`, and the first `most` of them."""
    conditions = replace(filters, resolved=False).conditions()
    if not under_way:
        conditions.append(("NOT retrying", None))
    statement, values = filtered(MATCH_DEAD_LETTERS, conditions, first=2)
    row = await conn.fetchrow(statement, most, *values)
    assert row is not None
    return row[0], row[1]


RESOLVE = """
UPDATE lens_dlq SET resolved_at = now(), resolution_note = $2, retrying = false
WHERE id = ANY ($1::uuid[]) AND resolved_at IS NULL
RETURNING id, resolved_at
"""


async def resolve(conn: Connection, ids: Sequence[UUID], note: str) -> dict[UUID, datetime]:
    """Mark entries as resolved; return when, for each that was still open."""
    return {row[0]: row[1] for row in await conn.fetch(RESOLVE, ids, note)}


EXISTS = "SELECT EXISTS (SELECT FROM lens_dlq WHERE id = $1)"


async def exists(conn: Connection, dead_letter_id: UUID) -> bool:
    """Return whether such an entry exists or existed."""
    return bool(await conn.fetchval(EXISTS, dead_letter_id))
