"""SQL that removes Lens pipeline data older than LENS_ARCHIVE_DAYS, a bounded batch at a time.

| Removed | Kept for ever |
|---|---|
| the enriched document of an event: indicators, market data | which profile it was enriched by, its quality flags |
| dead letters that were resolved | dead letters that were not: an operator still has to look at them |
|  | events, their timelines, decisions: the facts that published signals, outcomes and statistics rest on |

A document is 1.9 of the 6.2 kB that a signal leaves in these tables, and nothing but a look back needs it: an event
that is retried without one is enriched again. Idempotency keys go after 24 hours (`db.lens.intake`), prompts and
answers with the rest of the archive (`db.archive`).
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from config.ids import last_id
from db._postgres import Connection
from db._rows import affected

# In the order of the key, from where the last batch ended: rows whose document is gone stay, and must not be read over
# and over again. What is still under way keeps its document whatever its age.
FORGET_DOCUMENTS = """
WITH old AS (
    SELECT event_id FROM lens_enriched WHERE event_id > $1 AND event_id <= $2 ORDER BY event_id LIMIT $3
), forgotten AS (
    UPDATE lens_enriched n SET document = NULL
    FROM old JOIN lens_progress p USING (event_id)
    WHERE n.event_id = old.event_id AND n.document IS NOT NULL AND n.enriched_at < $4 AND p.finished_at IS NOT NULL
)
SELECT event_id FROM old ORDER BY event_id DESC LIMIT 1
"""


async def forget_documents(conn: Connection, before: datetime, limit: int, *, after: UUID) -> UUID | None:
    """Remove documents of at most `limit` events after `after`; return the last event, None at the end."""
    last: UUID | None = await conn.fetchval(FORGET_DOCUMENTS, after, last_id(before), limit, before)
    return last


FORGET_RESOLVED = """
DELETE FROM lens_dlq WHERE id = ANY (ARRAY(
    SELECT id FROM lens_dlq WHERE resolved_at < $1 AND resolved_at IS NOT NULL AND id <= $2 ORDER BY id LIMIT $3))
"""


async def forget_resolved(conn: Connection, before: datetime, limit: int) -> int:
    """Remove at most `limit` entries that were resolved `before`; return how many."""
    return affected(await conn.execute(FORGET_RESOLVED, before, last_id(before), limit))
