"""SQL of accounts: profiles, the ways to sign in, referrals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from db._postgres import Connection
from db._rows import columns, insert, names, rows_of, unnest


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
class PersonRow:
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


_PERSON = f"""
SELECT {names(AccountRow, "u.")},
       EXISTS (SELECT FROM providers p WHERE p.user_id = u.id AND NOT p.is_system) AS is_provider
FROM users u
"""


LOAD_ACCOUNTS = f"SELECT {names(AccountRow)} FROM users WHERE id = ANY ($1::uuid[])"


async def load_accounts(conn: Connection, ids: Sequence[UUID]) -> list[AccountRow]:
    """Return the accounts that exist."""
    return rows_of(AccountRow, await conn.fetch(LOAD_ACCOUNTS, ids))


FIND_BY_EMAIL = _PERSON + "WHERE u.email = $1"


async def find_by_email(conn: Connection, email: str) -> PersonRow | None:
    """Return the account with this (normalised) e-mail."""
    return _person(await conn.fetchrow(FIND_BY_EMAIL, email))


FIND_BY_ID = _PERSON + "WHERE u.id = $1"


async def find_by_id(conn: Connection, user_id: UUID) -> PersonRow | None:
    """Return the account with this id."""
    return _person(await conn.fetchrow(FIND_BY_ID, user_id))


FIND_BY_IDENTITY = _PERSON + "JOIN user_identities i ON i.user_id = u.id WHERE i.provider = $1 AND i.subject = $2"


async def find_by_identity(conn: Connection, provider: str, subject: str) -> PersonRow | None:
    """Return the account that the OAuth provider's user signs in to."""
    return _person(await conn.fetchrow(FIND_BY_IDENTITY, provider, subject))


# A conflict is left out instead of raised: the caller sees by the count that there was one, and which.
INSERT_ACCOUNTS = insert("users", AccountRow) + " ON CONFLICT DO NOTHING RETURNING id"


async def insert_accounts(conn: Connection, accounts: Sequence[AccountRow]) -> set[UUID]:
    """Store new accounts; return the ids of those whose id, e-mail and referral code were all free."""
    return {row["id"] for row in await conn.fetch(INSERT_ACCOUNTS, *columns(AccountRow, accounts))}


UPDATE_ACCOUNTS = f"""
UPDATE users u SET
    email_verified = n.email_verified, password_hash = n.password_hash, display_name = n.display_name,
    avatar_url = n.avatar_url, bio = n.bio, referral_code = n.referral_code
FROM {unnest(AccountRow)}
WHERE u.id = n.id
"""


async def update_accounts(conn: Connection, accounts: Sequence[AccountRow]) -> None:
    """Store what an account's owner may change: all but the id, the e-mail and the creation time."""
    await conn.execute(UPDATE_ACCOUNTS, *columns(AccountRow, accounts))


TAKEN_EMAILS = "SELECT email FROM users WHERE email = ANY ($1::text[])"


async def taken_emails(conn: Connection, emails: Sequence[str]) -> set[str]:
    """Return those of the (normalised) e-mails that an account has."""
    return {row["email"] for row in await conn.fetch(TAKEN_EMAILS, emails)}


INSERT_IDENTITIES = insert("user_identities", IdentityRow) + " ON CONFLICT DO NOTHING RETURNING user_id"


async def insert_identities(conn: Connection, identities: Sequence[IdentityRow]) -> int:
    """Link OAuth users to accounts; return how many of them were not linked before."""
    return len(await conn.fetch(INSERT_IDENTITIES, *columns(IdentityRow, identities)))


INSERT_REFERRALS = insert("referrals", ReferralRow) + " ON CONFLICT DO NOTHING"


async def insert_referrals(conn: Connection, referrals: Sequence[ReferralRow]) -> None:
    """Store pending referrals."""
    await conn.execute(INSERT_REFERRALS, *columns(ReferralRow, referrals))


# A referral whose referee has acted belongs to its owners (see 0007).
DELETE_REFERRALS = """
DELETE FROM referrals WHERE referee_id = ANY ($1::uuid[]) AND status = 'pending' AND acted_at IS NULL
"""


async def delete_referrals(conn: Connection, referee_ids: Sequence[UUID]) -> None:
    """Delete the referrals of these users, where they have done nothing yet that counts."""
    await conn.execute(DELETE_REFERRALS, referee_ids)


def _person(record: asyncpg.Record | None) -> PersonRow | None:
    if record is None:
        return None
    *account, is_provider = record
    return PersonRow(AccountRow(*account), is_provider)
