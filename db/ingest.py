"""SQL of messages that never became a signal: dead-lettered once each, and processed again when they are retried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from config.documents import Document
from db._postgres import Connection
from db._rows import columns, insert, rows_of
from db.lens.dlq import RESOLVED_BY_RETRY


@dataclass(frozen=True, slots=True)
class LostMessage:
    """A message received by the source `redis` or `kafka`; `payload` is a JSON text, its numbers as they were written.

    `id` is a UUIDv7 of `created_at`, the same for a message that is delivered again.
    """

    id: UUID
    way: str
    payload: str
    attempts: list[Document]  # [{at, reason_code, error_message}], the one that failed
    created_at: datetime


KEEP_MESSAGES = f"""
{
    insert(
        "lens_dlq",
        LostMessage,
        stage="'enqueue'",
        payload="n.payload::jsonb",
        reason_code="n.attempts->0->>'reason_code'",
        error_message="n.attempts->0->>'error_message'",
        retry_count="0",
    )
}
ON CONFLICT (id) DO NOTHING
"""


async def keep_messages(conn: Connection, rows: Sequence[LostMessage]) -> None:
    """Dead-letter messages; existing entries stay as they are."""
    await conn.execute(KEEP_MESSAGES, *columns(LostMessage, rows))


@dataclass(frozen=True, slots=True)
class Resent:
    """A dead letter that is retried, for the `retry_count`-th time; `payload` is a JSON text."""

    id: UUID
    way: str
    retry_count: int
    payload: str
    created_at: datetime


FIND_RESENT = """
SELECT id, way, retry_count, coalesce(edited_payload, payload)::text, created_at FROM lens_dlq
WHERE way IS NOT NULL AND retrying AND resolved_at IS NULL
ORDER BY id LIMIT $1
"""


async def find_resent(conn: Connection, limit: int) -> list[Resent]:
    """Return messages that are being retried, at most `limit`, oldest first."""
    return rows_of(Resent, await conn.fetch(FIND_RESENT, limit))


# One that was edited and retried again meanwhile has another count: it is processed once more.
FINISH_RESENT = f"""
UPDATE lens_dlq d
SET retrying = false, resolved_at = CASE WHEN s.failure IS NULL THEN now() END,
    resolution_note = CASE WHEN s.failure IS NULL THEN '{RESOLVED_BY_RETRY}' END,
    attempts = CASE WHEN s.failure IS NULL THEN d.attempts ELSE d.attempts || s.failure::jsonb END,
    reason_code = coalesce(s.failure::jsonb->>'reason_code', d.reason_code),
    error_message = coalesce(s.failure::jsonb->>'error_message', d.error_message)
FROM unnest($1::uuid[], $2::int[], $3::text[]) AS s (id, retry_count, failure)
WHERE d.id = s.id AND d.retry_count = s.retry_count AND d.retrying AND d.resolved_at IS NULL
"""


async def finish_resent(conn: Connection, rows: Sequence[tuple[Resent, str | None]]) -> None:
    """Resolve what has been published; return what failed to the queue, with the attempt `{at, …}` as JSON text."""
    await conn.execute(
        FINISH_RESENT, [r.id for r, _ in rows], [r.retry_count for r, _ in rows], [failure for _, failure in rows]
    )
