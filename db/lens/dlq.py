"""SQL of the dead-letter queue: one open entry per event, stage and model; writes by the stages, lists for the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from config.documents import Document
from db._postgres import Connection
from db._rows import columns, insert, names, row_of, rows_of
from db._where import WHERE, Condition, filtered, given

RESOLVED_BY_RETRY = "Resolved by retry"


@dataclass(frozen=True, slots=True)
class NewDeadLetter:
    """An event, or one model's part, that could not be processed; with all causes (`{at, reason_code, error_message}`).

    `id` is a UUIDv7 of `created_at`. `retry_count` counts the attempts after the first, later also retries by hand.
    """

    id: UUID
    event_id: UUID | None
    stage: str
    model: str | None
    reason_code: str
    error_message: str
    payload: Document
    attempts: list[Document]
    retry_count: int
    created_at: datetime


# A failure after a retry updates the entry it came from: the partial unique index finds it.
INSERT_DEAD_LETTERS = f"""
{insert("lens_dlq", NewDeadLetter)}
ON CONFLICT (event_id, stage, coalesce(model, '')) WHERE resolved_at IS NULL DO UPDATE
SET reason_code = excluded.reason_code, error_message = excluded.error_message,
    attempts = lens_dlq.attempts || excluded.attempts, retrying = false
"""


async def insert_dead_letters(conn: Connection, rows: Sequence[NewDeadLetter]) -> None:
    """Insert entries into the queue, or update those that are being retried."""
    await conn.execute(INSERT_DEAD_LETTERS, *columns(NewDeadLetter, rows))


RESOLVE_CURED = """
UPDATE lens_dlq d SET resolved_at = now(), resolution_note = $2, retrying = false
FROM unnest($3::uuid[], $4::text[]) AS cured (event_id, model)
WHERE d.event_id = cured.event_id AND d.stage = $1 AND d.model IS NOT DISTINCT FROM cured.model
  AND d.resolved_at IS NULL
"""


async def resolve_cured(conn: Connection, stage: str, cured: Sequence[tuple[UUID, str | None]]) -> None:
    """Resolve the open entries of `stage` for these (event, model), after a retry that succeeded."""
    await conn.execute(RESOLVE_CURED, stage, RESOLVED_BY_RETRY, *zip(*cured, strict=True))


END_RETRIES = "UPDATE lens_dlq SET retrying = false WHERE event_id = ANY ($1::uuid[]) AND retrying"


async def end_retries(conn: Connection, event_ids: Sequence[UUID]) -> None:
    """Mark the entries of these events, which have ended, as no longer being retried."""
    await conn.execute(END_RETRIES, event_ids)


COUNT_OPEN = "SELECT stage, count(*) FROM lens_dlq WHERE resolved_at IS NULL GROUP BY stage"


async def count_open(conn: Connection) -> dict[str, int]:
    """Return the number of unresolved entries by stage."""
    return {row[0]: row[1] for row in await conn.fetch(COUNT_OPEN)}


@dataclass(frozen=True, slots=True)
class DeadLetterFilters:
    """Filters on dead letters; every one that is not None must match, `since` and `until` are inclusive."""

    stage: str | None = None
    reason_code: str | None = None
    event_id: UUID | None = None
    resolved: bool | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[Condition]:
        """Return each filter as SQL that an index serves."""
        found = given(
            self,
            stage="stage = {}",
            reason_code="reason_code = {}",
            event_id="event_id = {}",
            since="id >= {}",
            until="id <= {}",
        )
        if self.resolved is not None:
            found.append(("resolved_at IS NOT NULL" if self.resolved else "resolved_at IS NULL", None))
        return found


@dataclass(slots=True)  # not frozen: a frozen one takes four times as long to make, and a page has a hundred
class DeadLetterRow:
    """One entry as lists show it."""

    id: UUID
    event_id: UUID | None
    stage: str
    reason_code: str
    error_message: str
    retry_count: int
    created_at: datetime
    resolved_at: datetime | None


# id is a UUIDv7 of created_at: its order is the order of time, ties included.
LIST_DEAD_LETTERS = f"SELECT {names(DeadLetterRow)} FROM lens_dlq {WHERE} ORDER BY id DESC LIMIT $1 OFFSET $2"
COUNT_DEAD_LETTERS = f"SELECT count(*) FROM lens_dlq {WHERE}"


async def list_dead_letters(
    conn: Connection, filters: DeadLetterFilters, *, limit: int, offset: int
) -> tuple[list[DeadLetterRow], int]:
    """Return the entries that match every given filter, newest first, and their total number."""
    statement, values = filtered(LIST_DEAD_LETTERS, filters.conditions(), first=3)
    rows = await conn.fetch(statement, limit, offset, *values)
    if len(rows) < limit and (rows or offset == 0):
        total = offset + len(rows)
    else:
        statement, values = filtered(COUNT_DEAD_LETTERS, filters.conditions())
        total = await conn.fetchval(statement, *values)
    return rows_of(DeadLetterRow, rows), total


@dataclass(slots=True)
class DeadLetterDetail(DeadLetterRow):
    """One entry in full; `payload` is the original, `edited_payload` its replacement by a retry."""

    model: str | None
    payload: Document
    edited_payload: Document | None
    attempts: list[Document]
    last_retry_at: datetime | None
    resolution_note: str | None


GET_DEAD_LETTER = f"SELECT {names(DeadLetterDetail)} FROM lens_dlq WHERE id = $1"


async def get_dead_letter(conn: Connection, dead_letter_id: UUID) -> DeadLetterDetail | None:
    """Return one entry, or None."""
    return row_of(DeadLetterDetail, await conn.fetchrow(GET_DEAD_LETTER, dead_letter_id))
