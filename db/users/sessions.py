"""SQL of sessions and their refresh tokens: live, rotated out, revoked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db._postgres import Connection
from db._rows import columns, insert, names, row_of, rows_of, upsert


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A login that is neither revoked nor expired."""

    id: UUID
    user_id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    user_agent: str | None
    ip: str
    current_hash: bytes
    previous_hash: bytes | None
    rotated_at: datetime | None


@dataclass(frozen=True, slots=True)
class RefreshRow:
    """A refresh token that was issued."""

    hash: bytes
    session_id: UUID
    user_id: UUID
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class Holder:
    """The user and session of a refresh token, current or past."""

    user_id: UUID
    session_id: UUID
    is_provider: bool


LOAD_SESSIONS = f"""
SELECT {names(SessionRow)} FROM sessions
WHERE user_id = ANY ($1::uuid[]) AND revoked_at IS NULL AND expires_at > now()
ORDER BY last_used_at, id
"""


async def load_sessions(conn: Connection, user_ids: Sequence[UUID]) -> list[SessionRow]:
    """Return the live sessions of these users, the last used at the end."""
    return rows_of(SessionRow, await conn.fetch(LOAD_SESSIONS, user_ids))


UPSERT_SESSIONS = upsert("sessions", SessionRow, key=("id",), keep=("user_id", "created_at"))


async def upsert_sessions(conn: Connection, sessions: Sequence[SessionRow]) -> None:
    """Store sessions that began or were used."""
    await conn.execute(UPSERT_SESSIONS, *columns(SessionRow, sessions))


REVOKE_SESSIONS = "UPDATE sessions SET revoked_at = now() WHERE id = ANY ($1::uuid[]) AND revoked_at IS NULL"


async def revoke_sessions(conn: Connection, ids: Sequence[UUID]) -> None:
    """End sessions, at the database's time: gateways poll by it, and their own clocks differ."""
    await conn.execute(REVOKE_SESSIONS, ids)


INSERT_REFRESH_TOKENS = insert("refresh_tokens", RefreshRow) + " ON CONFLICT DO NOTHING"


async def insert_refresh_tokens(conn: Connection, tokens: Sequence[RefreshRow]) -> None:
    """Store issued tokens."""
    await conn.execute(INSERT_REFRESH_TOKENS, *columns(RefreshRow, tokens))


FIND_HOLDER = """
SELECT t.user_id, t.session_id,
       EXISTS (SELECT FROM providers p WHERE p.user_id = t.user_id AND NOT p.is_system) AS is_provider
FROM refresh_tokens t WHERE t.hash = $1
"""


async def find_holder(conn: Connection, refresh_hash: bytes) -> Holder | None:
    """Return the holder of a token, whether or not it may still be used; None for one that was never issued."""
    return row_of(Holder, await conn.fetchrow(FIND_HOLDER, refresh_hash))


@dataclass(frozen=True, slots=True)
class Device:
    """A device that a user has been signed in on; `has_cookie`: it is the one whose refresh token is presented."""

    ip: str
    user_agent: str | None
    has_cookie: bool


# The latest ones, ended or not. An address without an account has none, found at the same cost.
FIND_DEVICES = """
SELECT s.ip, s.user_agent, s.id = ANY (ARRAY(SELECT session_id FROM refresh_tokens WHERE hash = ANY ($2::bytea[])))
FROM sessions s JOIN users u ON u.id = s.user_id
WHERE u.email = $1
ORDER BY s.last_used_at DESC LIMIT 200
"""


async def find_devices(conn: Connection, email: str, presented: Sequence[bytes]) -> list[Device]:
    """Return where an address's user was signed in within the last weeks; `presented` are hashes of refresh tokens."""
    return rows_of(Device, await conn.fetch(FIND_DEVICES, email, presented))


HAD_SESSION = "SELECT true FROM sessions WHERE id = $1 AND user_id = $2"


async def had_session(conn: Connection, session_id: UUID, user_id: UUID) -> bool:
    """Return whether this is or was a session of the user."""
    return await conn.fetchval(HAD_SESSION, session_id, user_id) is not None


# now() is the start of a transaction: a long one becomes visible after others that began later.
MARGIN_SECONDS = 15
REVOKED_SINCE = f"""
SELECT id, revoked_at FROM sessions WHERE revoked_at > $1::timestamptz - interval '{MARGIN_SECONDS} seconds'
"""


async def revoked_since(conn: Connection, moment: datetime) -> list[tuple[UUID, datetime]]:
    """Return the sessions that were revoked after `moment`, or up to MARGIN_SECONDS before."""
    return [(row["id"], row["revoked_at"]) for row in await conn.fetch(REVOKED_SINCE, moment)]
