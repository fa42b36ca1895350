"""SQL of the pipeline's transitions: compare-and-set on stage, round and attempt, a whole batch in one statement.

A transition returns the ids that it moved. An id that is missing had moved already (a stage that ran twice counts
once), and none of its results may be stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from config.documents import Document, Loaded
from config.values import Value
from db._postgres import Connection
from db._rows import columns, insert, unnest, upsert


class Move(Value):
    """One event's transition: from (`stage`, `round`, `attempt`) to a retry, a next stage or an end.

    `from_stage` is where Postgres has the event, if that is not the stage which moves it.
    """

    event_id: UUID
    round: int
    attempt: int
    status: str | None  # None keeps the status: a retry
    stage: str
    next_attempt: int
    delay_seconds: float
    timeline: list[Document]
    failures: list[Document]
    ended: bool = False
    from_stage: str | None = None


MOVE = f"""
UPDATE lens_progress p
SET status = coalesce(m.status, p.status),
    stage = m.stage,
    attempt = m.next_attempt,
    due_at = now() + m.delay_seconds * interval '1 second',
    lease_until = now() + CASE WHEN m.stage = $1 THEN m.delay_seconds ELSE $2 END * interval '1 second',
    timeline = p.timeline || m.timeline,
    failures = m.failures,
    finished_at = CASE WHEN m.ended THEN now() END
FROM {unnest(Move, alias="m", first=3)}
WHERE p.event_id = m.event_id AND p.stage = coalesce(m.from_stage, $1) AND p.attempt = m.attempt AND p.round = m.round
  AND p.finished_at IS NULL
RETURNING p.event_id
"""


async def move(conn: Connection, stage: str, moves: Sequence[Move], *, lease_seconds: float) -> set[UUID]:
    """Apply the transitions out of `stage` (or `from_stage`); return the ids of those that could still be moved.

    An event that moves on is leased to the next stage for `lease_seconds`; one that stays, to be retried, is not
    leased.
    """
    rows = await conn.fetch(MOVE, stage, lease_seconds, *columns(Move, moves))
    return {row[0] for row in rows}


class Enriched(Value):
    """The enriched document of one event."""

    event_id: UUID
    feature_profile: str
    quality_flags: Document
    document: Document
    enriched_at: datetime


INSERT_ENRICHED = upsert("lens_enriched", Enriched, key=("event_id",))


async def insert_enriched(conn: Connection, rows: Sequence[Enriched]) -> None:
    """Store enriched documents; a retry through the dead-letter queue replaces the earlier one."""
    await conn.execute(INSERT_ENRICHED, *columns(Enriched, rows))


class NewDecision(Value):
    """One model's decision on one event."""

    id: UUID
    event_id: UUID
    model: str
    symbol: str
    event_type: str
    decision: str
    confidence: float
    entry_plan: Document | None
    risk_plan: Document | None
    size_pct: float
    reasons: list[str]
    model_version: str
    latency_ms: int
    tokens_used: int
    prompt_hash: str | None
    evaluated_at: datetime


INSERT_DECISIONS = f"""
{insert("lens_decisions", NewDecision)}
ON CONFLICT (event_id, model) DO NOTHING
RETURNING event_id, model
"""


async def insert_decisions(conn: Connection, rows: Sequence[NewDecision]) -> set[tuple[UUID, str]]:
    """Store decisions, one per (event, model) for ever; return which of them are new."""
    stored = await conn.fetch(INSERT_DECISIONS, *columns(NewDecision, rows))
    return {(row[0], row[1]) for row in stored}


class _Note(NamedTuple):
    event_id: UUID
    attempt: int
    status: str | None
    round: int
    timeline: list[Document]


NOTE_STATUS = f"""
UPDATE lens_progress p
SET status = m.status, timeline = p.timeline || m.timeline
FROM {unnest(_Note, alias="m", first=2)}
WHERE p.event_id = m.event_id AND p.stage = $1 AND p.attempt = m.attempt AND p.round = m.round
  AND p.finished_at IS NULL
RETURNING p.event_id
"""


async def note_status(conn: Connection, stage: str, moves: Sequence[Move]) -> set[UUID]:
    """Add to the timeline of events that stay in `stage` (one model of several is done); return the ids still there."""
    # Two models of one event may be done in the same batch: an UPDATE takes only one of several rows that match.
    timelines: dict[tuple[UUID, int, str | None, int], list[Document]] = {}
    for m in moves:
        timelines.setdefault((m.event_id, m.attempt, m.status, m.round), []).extend(m.timeline)
    notes = [_Note(*key, timeline) for key, timeline in timelines.items()]
    rows = await conn.fetch(NOTE_STATUS, stage, *columns(_Note, notes))
    return {row[0] for row in rows}


# What a stage works on, as the sweeper reads it back after a crash, a lost hand-over or a due retry. SKIP LOCKED leaves
# alone what another transaction is just moving.
CLAIM = """
WITH due AS (
    SELECT event_id FROM lens_progress
    WHERE stage = $1 AND finished_at IS NULL AND due_at <= now() AND (lease_until <= now() OR $2)
      AND NOT event_id = ANY ($3::uuid[]) AND source_hash % $6 = $7
    ORDER BY due_at LIMIT $4
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE lens_progress p SET lease_until = now() + $5 * interval '1 second'
    FROM due WHERE p.event_id = due.event_id
    RETURNING p.event_id, p.attempt, p.round, p.failures, p.edited, p.asked, p.announced
)
SELECT c.attempt, c.round, c.failures, c.edited, c.asked, c.announced,
       c.edited::text AS edited_exactly,
       e.*, n.document,
       (SELECT coalesce(jsonb_agg(to_jsonb(d)), '[]') FROM lens_decisions d WHERE d.event_id = c.event_id) AS decisions
FROM claimed c
JOIN lens_events e USING (event_id)
LEFT JOIN lens_enriched n USING (event_id)
ORDER BY e.event_id
"""


async def claim(
    conn: Connection,
    stage: str,
    shard: tuple[int, int],
    *,
    busy: Sequence[UUID],
    limit: int,
    lease_seconds: float,
    regardless: bool,
) -> list[Loaded]:
    """Claim up to `limit` due events of `stage` without a lease (`regardless` of leases: a stage that just started).

    `shard` is the stage's own and their number: only events of its sources are claimed. `busy` are those that the
    caller is processing. The rows carry the event, its enriched document and its decisions.
    """
    number, shards = shard
    rows = await conn.fetch(CLAIM, stage, regardless, busy, limit, lease_seconds, shards, number)
    return [dict(row) for row in rows]


FREE = """
UPDATE lens_progress SET lease_until = now()
WHERE event_id = ANY ($1::uuid[]) AND finished_at IS NULL AND due_at <= now() AND lease_until > now()
"""


async def free(conn: Connection, event_ids: Sequence[UUID]) -> None:
    """Release events that are due: the sweep of the stage which they wait for takes them, unless it holds them."""
    await conn.execute(FREE, event_ids)


OPEN_BY_STAGE = "SELECT stage, count(*) FROM lens_progress WHERE finished_at IS NULL GROUP BY stage"


async def open_by_stage(conn: Connection) -> dict[str, int]:
    """Return how many events wait for each stage."""
    return {row[0]: row[1] for row in await conn.fetch(OPEN_BY_STAGE)}
