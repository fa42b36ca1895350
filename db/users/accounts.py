"""SQL of accounts: profiles, the ways to sign in, referrals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db._postgres import Connection


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account as it is stored; `password_hash` never leaves the owner and the login."""

    id: UUID
    email: str
    email_verified: bool
    password_hash: str | None
    display_name: str
    avatar_url: str | None
    bio: str | None
    referral_code: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Person:
    """An account as a login or a profile needs it; `is_provider` is the providers' row, at this moment."""

    account: AccountRow
    is_provider: bool


@dataclass(frozen=True, slots=True)
class IdentityRow:
    """A user of an OAuth provider who signs in to an account of ours."""

    provider: str
    subject: str
    user_id: UUID
    linked_at: datetime


@dataclass(frozen=True, slots=True)
class ReferralRow:
    """A pending referral: referrer and referee."""

    referee_id: UUID
    referrer_id: UUID
    created_at: datetime


_COLUMNS = "id, email, email_verified, password_hash, display_name, avatar_url, bio, referral_code, created_at"
_OF_USER = ", ".join(f"u.{name}" for name in _COLUMNS.split(", "))
_WIDTH = _COLUMNS.count(",") + 1
_PERSON = f"""
SELECT {_OF_USER}, EXISTS (SELECT FROM providers p WHERE p.user_id = u.id AND NOT p.is_system) AS is_provider
FROM users u
"""


LOAD_ACCOUNTS = f"SELECT {_COLUMNS} FROM users WHERE id = ANY ($1::uuid[])"


async def load_accounts(conn: Connection, ids: Sequence[UUID]) -> list[AccountRow]:
    """Return the accounts that exist."""
    return [AccountRow(*row) for row in await conn.fetch(LOAD_ACCOUNTS, ids)]


FIND_BY_EMAIL = _PERSON + "WHERE u.email = $1"


async def find_by_email(conn: Connection, email: str) -> Person | None:
    """Return the account with this (normalised) e-mail."""
    row = await conn.fetchrow(FIND_BY_EMAIL, email)
    return None if row is None else Person(AccountRow(*row[:_WIDTH]), row["is_provider"])


FIND_BY_ID = _PERSON + "WHERE u.id = $1"


async def find_by_id(conn: Connection, user_id: UUID) -> Person | None:
    """Return the account with this id."""
    row = await conn.fetchrow(FIND_BY_ID, user_id)
    return None if row is None else Person(AccountRow(*row[:_WIDTH]), row["is_provider"])


FIND_BY_IDENTITY = _PERSON + "JOIN user_identities i ON i.user_id = u.id WHERE i.provider = $1 AND i.subject = $2"


async def find_by_identity(conn: Connection, provider: str, subject: str) -> Person | None:
    """Return the account that the OAuth provider's user signs in to."""
    row = await conn.fetchrow(FIND_BY_IDENTITY, provider, subject)
    return None if row is None else Person(AccountRow(*row[:_WIDTH]), row["is_provider"])


# A conflict is left out instead of raised: the caller sees by the count that there was one, and which.
INSERT_ACCOUNTS = f"""
INSERT INTO users ({_COLUMNS})
SELECT * FROM unnest($1::uuid[], $2::text[], $3::bool[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::timestamptz[])
ON CONFLICT DO NOTHING
RETURNING id
"""


async def insert_accounts(conn: Connection, accounts: Sequence[AccountRow]) -> set[UUID]:
    """Store new accounts; return the ids of those whose id, e-mail and referral code were all free."""
    return {row["id"] for row in await conn.fetch(INSERT_ACCOUNTS, *_columns(accounts))}


UPDATE_ACCOUNTS = """
UPDATE users u SET
    email_verified = n.email_verified, password_hash = n.password_hash, display_name = n.display_name,
    avatar_url = n.avatar_url, bio = n.bio, referral_code = n.referral_code
FROM unnest($1::uuid[], $2::text[], $3::bool[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::timestamptz[])
    AS n (id, email, email_verified, password_hash, display_name, avatar_url, bio, referral_code, created_at)
WHERE u.id = n.id
"""


async def update_accounts(conn: Connection, accounts: Sequence[AccountRow]) -> None:
    """Store what an account's owner may change: all but the id, the e-mail and the creation time."""
    await conn.execute(UPDATE_ACCOUNTS, *_columns(accounts))


TAKEN_EMAILS = "SELECT email FROM users WHERE email = ANY ($1::text[])"


async def taken_emails(conn: Connection, emails: Sequence[str]) -> set[str]:
    """Return those of the (normalised) e-mails that an account has."""
    return {row["email"] for row in await conn.fetch(TAKEN_EMAILS, emails)}


INSERT_IDENTITIES = """
INSERT INTO user_identities (provider, subject, user_id, linked_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::timestamptz[])
ON CONFLICT DO NOTHING
RETURNING user_id
"""


async def insert_identities(conn: Connection, identities: Sequence[IdentityRow]) -> int:
    """Link OAuth users to accounts; return how many of them were not linked before."""
    rows = await conn.fetch(
        INSERT_IDENTITIES,
        [each.provider for each in identities],
        [each.subject for each in identities],
        [each.user_id for each in identities],
        [each.linked_at for each in identities],
    )
    return len(rows)


INSERT_REFERRALS = """
INSERT INTO referrals (referee_id, referrer_id, created_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[])
ON CONFLICT DO NOTHING
"""


async def insert_referrals(conn: Connection, referrals: Sequence[ReferralRow]) -> None:
    """Store pending referrals."""
    await conn.execute(
        INSERT_REFERRALS,
        [each.referee_id for each in referrals],
        [each.referrer_id for each in referrals],
        [each.created_at for each in referrals],
    )


# A referral whose referee has acted belongs to its owners (see 0007).
DELETE_REFERRALS = """
DELETE FROM referrals WHERE referee_id = ANY ($1::uuid[]) AND status = 'pending' AND acted_at IS NULL
"""


async def delete_referrals(conn: Connection, referee_ids: Sequence[UUID]) -> None:
    """Delete the referrals of these users, where they have done nothing yet that counts."""
    await conn.execute(DELETE_REFERRALS, referee_ids)


def _columns(accounts: Sequence[AccountRow]) -> list[list[object]]:
    return [[getattr(each, name) for each in accounts] for name in AccountRow.__match_args__]
