"""SQL of the sessions of open streams, kept here while Redis is unavailable."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from db._postgres import Connection
from db._rows import transposed

# Rows are locked in one order, so that gateways which write the same sessions do not deadlock.
SAVE_SESSIONS = """
WITH given AS (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[]) AS g (session, epoch, n, record)
), stored AS (
    INSERT INTO stream_sessions AS old (session, epoch, n, record, expires_at)
    SELECT session, epoch, n, record, now() + $5::interval FROM given ORDER BY session
    ON CONFLICT (session) DO UPDATE SET
        epoch = excluded.epoch, n = excluded.n, record = excluded.record, expires_at = excluded.expires_at
    WHERE old.epoch < excluded.epoch OR (NOT $6 AND old.epoch = excluded.epoch AND old.n <= excluded.n)
    RETURNING session
)
SELECT session FROM given
WHERE session NOT IN (SELECT session FROM stored)
  AND ($6 OR EXISTS (SELECT FROM stream_sessions s WHERE s.session = given.session AND s.epoch > given.epoch))
"""


async def save_sessions(
    conn: Connection, rows: Sequence[tuple[str, int, int, bytes]], ttl: timedelta, *, take_over: bool
) -> set[str]:
    """Store `(session, epoch, n, record)`; return the sessions that have a newer epoch.

    A take-over needs a higher epoch than the stored one.
    """
    return {row["session"] for row in await conn.fetch(SAVE_SESSIONS, *transposed(rows, 4), ttl, take_over)}


LOAD_SESSION = "SELECT record, expires_at - now() FROM stream_sessions WHERE session = $1 AND expires_at > now()"


async def load_session(conn: Connection, session: str) -> tuple[bytes, timedelta] | None:
    """Return the record of a session and how long it is still kept, if it is here."""
    row = await conn.fetchrow(LOAD_SESSION, session)
    return None if row is None else (row[0], row[1])


FORGET_SESSIONS = """
DELETE FROM stream_sessions s
WHERE s.expires_at < now() OR EXISTS (
    SELECT FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS g (session, epoch, n)
    WHERE s.session = g.session AND (s.epoch, s.n) <= (g.epoch, g.n)
)
"""


async def forget_sessions(conn: Connection, versions: Sequence[tuple[str, int, int]]) -> None:
    """Delete the rows that Redis has again, unless newer than `(session, epoch, n)`, and those that expired."""
    await conn.execute(FORGET_SESSIONS, *transposed(versions, 3))
