"""SQL of the outbox: e-mails are kept here until they are sent, across crashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from db._postgres import Connection
from db._rows import columns, insert, rows_of
from schemas._vocabulary import TokenPurpose


@dataclass(frozen=True, slots=True)
class EmailRow:
    """An e-mail to be sent to an address, if an account has it."""

    id: UUID
    purpose: TokenPurpose
    email: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ClaimedEmail:
    """An e-mail that the caller alone may send now; `user_id` is None when no account has the address."""

    id: UUID
    purpose: TokenPurpose
    email: str
    created_at: datetime
    attempts: int  # this one included
    user_id: UUID | None
    display_name: str | None


class LinkRow(NamedTuple):
    """A link that an e-mail holds: the SHA-256 of its token, and how long it is valid from now on."""

    hash: bytes
    user_id: UUID
    purpose: TokenPurpose
    seconds: float


INSERT_EMAILS = insert("mail_outbox", EmailRow, due_at="n.created_at") + " ON CONFLICT DO NOTHING"


async def insert_emails(conn: Connection, emails: Sequence[EmailRow]) -> None:
    """Queue e-mails; one whose id exists already is the same e-mail."""
    await conn.execute(INSERT_EMAILS, *columns(EmailRow, emails))


# Several senders take different e-mails: what one has locked, the others skip. A verified address gets no e-mail to
# verify it, and one that is not gets none about an account that its owner may know nothing of.
CLAIM_EMAILS = """
WITH claimed AS (
    UPDATE mail_outbox SET attempts = attempts + 1, due_at = now() + make_interval(secs => $2)
    WHERE id IN (
        SELECT id FROM mail_outbox WHERE due_at <= now() ORDER BY due_at, id LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    RETURNING id, purpose, email, created_at, attempts
)
SELECT c.id, c.purpose, c.email, c.created_at, c.attempts, u.id, u.display_name
FROM claimed c
LEFT JOIN users u ON u.email = c.email AND NOT (c.purpose = 'verification' AND u.email_verified)
    AND NOT (c.purpose = 'attempts' AND NOT u.email_verified)
ORDER BY c.created_at, c.id
"""


async def claim_emails(conn: Connection, limit: int, hold_seconds: float) -> list[ClaimedEmail]:
    """Claim up to `limit` e-mails that are due; no other sender gets them for `hold_seconds`."""
    return rows_of(ClaimedEmail, await conn.fetch(CLAIM_EMAILS, limit, hold_seconds))


# An e-mail that is retried carries the same link, which is valid for its whole time from now on.
UPSERT_LINKS = f"""
{insert("one_time_tokens", LinkRow, skip=("seconds",), expires_at="now() + make_interval(secs => n.seconds)")}
ON CONFLICT (hash) DO UPDATE SET expires_at = excluded.expires_at WHERE one_time_tokens.used_at IS NULL
"""


async def upsert_links(conn: Connection, links: Sequence[LinkRow]) -> None:
    """Make links valid."""
    await conn.execute(UPSERT_LINKS, *columns(LinkRow, links))


MEASURE_OUTBOX = """
SELECT purpose, count(*), extract(epoch FROM now() - min(created_at))::float8 FROM mail_outbox GROUP BY purpose
"""


async def measure_outbox(conn: Connection) -> dict[TokenPurpose, tuple[int, float]]:
    """Return how many e-mails of each purpose wait, and for how many seconds the oldest has."""
    return {row[0]: (row[1], row[2]) for row in await conn.fetch(MEASURE_OUTBOX)}


DELETE_EMAILS = "DELETE FROM mail_outbox WHERE id = ANY ($1::uuid[])"


async def delete_emails(conn: Connection, ids: Sequence[UUID]) -> None:
    """Delete e-mails: sent, given up, or without a recipient."""
    await conn.execute(DELETE_EMAILS, ids)


POSTPONE_EMAIL = """
UPDATE mail_outbox SET due_at = now() + make_interval(secs => $2), last_error = $3 WHERE id = $1
"""


async def postpone_email(conn: Connection, email_id: UUID, seconds: float, error: str) -> None:
    """Defer an e-mail to a later attempt."""
    await conn.execute(POSTPONE_EMAIL, email_id, seconds, error)
