"""SQL of one-time links and OAuth states: each is valid once, and the database decides which use was the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db._postgres import Connection
from db._rows import affected, row_of
from schemas._vocabulary import TokenPurpose


@dataclass(frozen=True, slots=True)
class LinkHolder:
    """The user of a link that was mailed."""

    user_id: UUID
    email: str


FIND_LINK = """
SELECT t.user_id, u.email FROM one_time_tokens t JOIN users u ON u.id = t.user_id
WHERE t.hash = $1 AND t.purpose = $2 AND t.used_at IS NULL AND t.expires_at > now()
"""


async def find_link(conn: Connection, token_hash: bytes, purpose: TokenPurpose) -> LinkHolder | None:
    """Return the holder of a link, if it is still valid."""
    return row_of(LinkHolder, await conn.fetchrow(FIND_LINK, token_hash, purpose))


# A mailed link may be opened twice: by a scanner that runs scripts and then by a person, or by an impatient one.
FIND_VERIFICATION = """
SELECT t.user_id, t.used_at IS NOT NULL FROM one_time_tokens t JOIN users u ON u.id = t.user_id
WHERE t.hash = $1 AND t.purpose = 'verification'
  AND ((t.used_at IS NULL AND t.expires_at > now()) OR (t.used_at IS NOT NULL AND u.email_verified))
"""


async def find_verification(conn: Connection, token_hash: bytes) -> tuple[UUID, bool] | None:
    """Return the user of a verification link that is valid, or (true) was used, with the address verified since."""
    row = await conn.fetchrow(FIND_VERIFICATION, token_hash)
    return None if row is None else (row[0], row[1])


USE_LINKS = """
UPDATE one_time_tokens SET used_at = now()
WHERE hash = ANY ($1::bytea[]) AND used_at IS NULL AND expires_at > now()
"""


async def use_links(conn: Connection, hashes: Sequence[bytes]) -> int:
    """Use up links; return how many of them were still valid."""
    return affected(await conn.execute(USE_LINKS, hashes))


# An unsent e-mail would carry a link of its own.
VOID_RESETS = """
WITH links AS (
    UPDATE one_time_tokens SET used_at = now()
    WHERE user_id = ANY ($1::uuid[]) AND purpose = 'reset' AND used_at IS NULL
)
DELETE FROM mail_outbox USING users
WHERE users.id = ANY ($1::uuid[]) AND mail_outbox.email = users.email AND mail_outbox.purpose = 'reset'
"""


async def void_resets(conn: Connection, user_ids: Sequence[UUID]) -> None:
    """Invalidate every link to reset these users' passwords, sent or not."""
    await conn.execute(VOID_RESETS, user_ids)


USE_STATE = "INSERT INTO oauth_states (hash, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING"


async def use_state(conn: Connection, state_hash: bytes, expires_at: datetime) -> bool:
    """Use up an OAuth state; return whether this was the first time."""
    status: str = await conn.execute(USE_STATE, state_hash, expires_at)
    return status.endswith(" 1")


# In small batches: the next round takes what is left. A revoked session is shown as gone for a month.
EXPIRE = (
    """DELETE FROM refresh_tokens WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM refresh_tokens WHERE issued_at < now() - interval '8 days' LIMIT $1))""",
    """DELETE FROM one_time_tokens WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM one_time_tokens WHERE expires_at < now() - interval '1 day' LIMIT $1))""",
    """DELETE FROM oauth_states WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM oauth_states WHERE expires_at < now() LIMIT $1))""",
    """DELETE FROM sessions WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM sessions WHERE expires_at < now() - interval '30 days' LIMIT $1))""",
)


async def expire(conn: Connection, limit: int) -> int:
    """Delete up to `limit` of each: tokens, links, states and sessions that expired long ago; return how many."""
    removed = 0
    for statement in EXPIRE:
        removed += affected(await conn.execute(statement, limit))
    return removed
