"""SQL of the Lens archive: models' runs with their prompts and answers, and the queue of events to copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from config.documents import Document
from db._postgres import Connection
from db._rows import affected, columns, insert

MAX_RUNS = 64
"""Most runs kept of one event, the latest: 3 texts of 64 KiB in each are 12 MiB; a MongoDB document has 16 at most."""


@dataclass(frozen=True, slots=True)
class PromptRow:
    """The prompt for the models of one event; `digest` tells it from the event's other prompts."""

    event_id: UUID
    digest: bytes
    name: str
    system: str
    question: str


@dataclass(frozen=True, slots=True)
class RunRow:
    """One judgement by a model, with its prompt and its answer (None: nothing)."""

    event_id: UUID
    id: UUID
    model: str
    model_version: str
    status: str
    reason_code: str | None
    error: str | None
    latency_ms: int
    tokens_used: int | None
    prompt_hash: str | None
    prompt_digest: bytes | None
    answer: str | None
    stop_reason: str | None
    truncated: bool
    at: datetime
    prompt: PromptRow | None = field(kw_only=True)


INSERT_PROMPTS = insert("lens_archive_prompts", PromptRow) + " ON CONFLICT DO NOTHING"
INSERT_RUNS = insert("lens_archive_runs", RunRow) + " ON CONFLICT DO NOTHING"

TRIM_RUNS = """
WITH ranked AS (
    SELECT event_id, id, row_number() OVER (PARTITION BY event_id ORDER BY id DESC) AS place
    FROM lens_archive_runs WHERE event_id = ANY ($1::uuid[])
)
DELETE FROM lens_archive_runs r USING ranked
WHERE ranked.place > $2 AND r.event_id = ranked.event_id AND r.id = ranked.id
"""


async def insert_runs(conn: Connection, rows: Sequence[RunRow]) -> None:
    """Store runs, each prompt of an event once; of an event's runs the latest MAX_RUNS are kept."""
    prompts = {(r.event_id, r.prompt_digest): r.prompt for r in rows if r.prompt is not None}
    await conn.execute(INSERT_PROMPTS, *columns(PromptRow, prompts.values()))
    await conn.execute(INSERT_RUNS, *columns(RunRow, rows))
    await conn.execute(TRIM_RUNS, list({r.event_id for r in rows}), MAX_RUNS)


EVENTS = """
SELECT e.event_id, e.event_type, e.signal_direction, e.symbol, e.entry_price, e.size, e.liquidation_price, e.ts_utc,
       e.source, e.asset_type, e.received_at, e.order_type AS "order", e.take_profit, e.stop_loss, e.valid_until,
       e.close_fraction, n.enriched_at, n.document
FROM lens_events e LEFT JOIN lens_enriched n USING (event_id)
WHERE e.event_id = ANY ($1::uuid[])
"""

RUNS = """
SELECT r.*, p.name, p.system, p.question
FROM lens_archive_runs r
LEFT JOIN lens_archive_prompts p ON p.event_id = r.event_id AND p.digest = r.prompt_digest
WHERE r.event_id = ANY ($1::uuid[])
ORDER BY r.event_id, r.id
"""

DECISIONS = "SELECT * FROM lens_decisions WHERE event_id = ANY ($1::uuid[]) ORDER BY event_id, id"


@dataclass(frozen=True, slots=True)
class Parts:
    """The stored parts of one event's document; `event` and `runs` are the rows of EVENTS and RUNS."""

    event: Document
    runs: list[Document]
    decisions: list[Document]


async def read_parts(conn: Connection, event_ids: Sequence[UUID]) -> dict[UUID, Parts]:
    """Return the parts of those events that exist."""
    events = await conn.fetch(EVENTS, event_ids)
    parts = {row["event_id"]: Parts(dict(row.items()), [], []) for row in events}
    for row in await conn.fetch(RUNS, event_ids):
        if row["event_id"] in parts:
            parts[row["event_id"]].runs.append(dict(row.items()))
    for row in await conn.fetch(DECISIONS, event_ids):
        if row["event_id"] in parts:
            parts[row["event_id"]].decisions.append(dict(row.items()))
    return parts


ENQUEUE = """
INSERT INTO lens_archive_outbox (event_id, due_at)
SELECT event_id, now() + $2 * interval '1 second' FROM unnest($1::uuid[]) AS e (event_id)
ON CONFLICT (event_id) DO UPDATE SET version = lens_archive_outbox.version + 1, due_at = excluded.due_at
"""


async def enqueue(conn: Connection, event_ids: set[UUID], *, delay_seconds: float) -> None:
    """Queue these events to be copied `delay_seconds` from now.

    To be called before the runs are stored, in the same transaction: `finish` relies on the row that it locks.
    """
    # In order, so that two transactions never deadlock.
    await conn.execute(ENQUEUE, sorted(event_ids), delay_seconds)


DUE = "SELECT event_id, version FROM lens_archive_outbox WHERE due_at <= now() ORDER BY due_at LIMIT $1"


async def due(conn: Connection, limit: int) -> dict[UUID, int]:
    """Return the versions of up to `limit` events to copy, longest waiting first."""
    return {row[0]: row[1] for row in await conn.fetch(DUE, limit)}


# A row that the pipeline holds is left for the next round: the copier never waits for it, and never deadlocks with it.
FINISH = """
WITH same AS (
    SELECT o.event_id FROM lens_archive_outbox o
    JOIN unnest($1::uuid[], $2::int[]) AS copied (event_id, version) USING (event_id, version)
    FOR UPDATE OF o SKIP LOCKED
)
DELETE FROM lens_archive_outbox o USING same WHERE o.event_id = same.event_id
RETURNING o.event_id
"""
DELETE_RUNS = "DELETE FROM lens_archive_runs WHERE event_id = ANY ($1::uuid[])"
DELETE_PROMPTS = "DELETE FROM lens_archive_prompts WHERE event_id = ANY ($1::uuid[])"


async def finish(conn: Connection, copied: dict[UUID, int]) -> int:
    """Delete what was copied at these versions, in one transaction with the queue's row; return how many events.

    An event that got another run in the meantime has another version, and stays whole. A run that is being stored waits
    for this transaction at its `enqueue`, and stores its prompt again.
    """
    rows = await conn.fetch(FINISH, list(copied), list(copied.values()))
    finished = [row[0] for row in rows]
    await conn.execute(DELETE_RUNS, finished)
    await conn.execute(DELETE_PROMPTS, finished)
    return len(finished)


POSTPONE = """
UPDATE lens_archive_outbox SET due_at = now() + $2 * interval '1 second' WHERE event_id = ANY ($1::uuid[])
"""


async def postpone(conn: Connection, event_ids: Sequence[UUID], *, delay_seconds: float) -> None:
    """Defer these events, so that those behind them are copied."""
    await conn.execute(POSTPONE, event_ids, delay_seconds)


LAG = "SELECT coalesce(greatest(extract(epoch FROM now() - min(due_at)), 0), 0)::float8 FROM lens_archive_outbox"


async def lag_seconds(conn: Connection) -> float:
    """Return how many seconds the longest waiting event is overdue."""
    return float(await conn.fetchval(LAG))


EXPIRE_RUNS = """
DELETE FROM lens_archive_runs WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM lens_archive_runs WHERE event_id < $1 ORDER BY event_id LIMIT $2))
"""
EXPIRE_PROMPTS = """
DELETE FROM lens_archive_prompts WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM lens_archive_prompts WHERE event_id < $1 ORDER BY event_id LIMIT $2))
"""
EXPIRE_OUTBOX = """
DELETE FROM lens_archive_outbox WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM lens_archive_outbox WHERE event_id < $1 ORDER BY event_id LIMIT $2))
"""


async def expire(conn: Connection, before: UUID, limit: int) -> int:
    """Delete up to `limit` rows of each table whose event is older than `before`; return the largest number of one."""
    tags = [await conn.execute(each, before, limit) for each in (EXPIRE_RUNS, EXPIRE_PROMPTS, EXPIRE_OUTBOX)]
    return max(affected(tag) for tag in tags)
