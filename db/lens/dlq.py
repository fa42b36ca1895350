"""The dead-letter queue's writes: one open entry per event, stage and model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from db._json import json_texts
from db._postgres import Connection

RESOLVED_BY_RETRY = "Resolved by retry"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be processed, and every attempt's cause (`{at, reason_code, error_message}`)."""

    id: UUID
    event_id: UUID | None
    stage: str
    model: str | None
    reason_code: str
    error_message: str
    payload: dict[str, Any]
    attempts: list[dict[str, Any]]
    retry_count: int
    created_at: datetime


# A failure after a retry updates the entry it came from: the partial unique index finds it.
INSERT_DEAD_LETTERS = """
INSERT INTO lens_dlq (id, event_id, stage, model, reason_code, error_message, payload, attempts, retry_count,
                      created_at)
SELECT d.id, d.event_id, d.stage, d.model, d.reason_code, d.error_message, d.payload, d.attempts::jsonb, d.retry_count,
       d.created_at
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::text[], $9::int[],
            $10::timestamptz[])
     AS d (id, event_id, stage, model, reason_code, error_message, payload, attempts, retry_count, created_at)
ON CONFLICT (event_id, stage, coalesce(model, '')) WHERE resolved_at IS NULL DO UPDATE
SET reason_code = excluded.reason_code, error_message = excluded.error_message,
    attempts = lens_dlq.attempts || excluded.attempts, retrying = false
"""


async def insert_dead_letters(conn: Connection, rows: Sequence[DeadLetter]) -> None:
    """Put entries into the queue, or update those that are being retried."""
    await conn.execute(
        INSERT_DEAD_LETTERS,
        [r.id for r in rows],
        [r.event_id for r in rows],
        [r.stage for r in rows],
        [r.model for r in rows],
        [r.reason_code for r in rows],
        [r.error_message for r in rows],
        [r.payload for r in rows],
        json_texts(r.attempts for r in rows),
        [r.retry_count for r in rows],
        [r.created_at for r in rows],
    )


RESOLVE_RETRIED = """
UPDATE lens_dlq SET resolved_at = now(), resolution_note = $2, retrying = false
WHERE event_id = ANY ($1::uuid[]) AND retrying AND resolved_at IS NULL
"""


async def resolve_retried(conn: Connection, event_ids: Sequence[UUID]) -> None:
    """Resolve the entries whose retry led to a published event."""
    await conn.execute(RESOLVE_RETRIED, event_ids, RESOLVED_BY_RETRY)


COUNT_OPEN = "SELECT stage, count(*) FROM lens_dlq WHERE resolved_at IS NULL GROUP BY stage"


async def count_open(conn: Connection) -> dict[str, int]:
    """The number of unresolved entries by stage."""
    return {row[0]: row[1] for row in await conn.fetch(COUNT_OPEN)}
