"""Accounts, sessions and messages for tests; each call makes one of its own unless it is told otherwise."""

from __future__ import annotations

import hashlib
import itertools
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from actors._runtime.virtual import Effect
from actors.users.account import AccountState
from actors.users.messages import Refresh, Register, SignIn
from config.ids import uuid7
from db.users.accounts import AccountRow

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
_numbers = itertools.count(1)


def digest(text: str) -> bytes:
    """Return the SHA-256, as tokens are stored."""
    return hashlib.sha256(text.encode()).digest()


def account_row(**changes: Any) -> AccountRow:
    """Return the row of a verified account with a password hash that no password has."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "id": uuid7(),
        "email": f"trader{number}@example.com",
        "email_verified": True,
        "password_hash": f"hash {number}",
        "display_name": f"Trader {number}",
        "avatar_url": None,
        "bio": None,
        "referral_code": "".join(secrets.choice(ALPHABET) for _ in range(6)),
        "created_at": NOON,
    }
    return AccountRow(**values | changes)


def an_account(**changes: Any) -> AccountState:
    """Return an account without sessions."""
    return AccountState(account_row(**changes), {})


def register(row: AccountRow, **changes: Any) -> Register:
    """Return the registration that makes this account."""
    email = None if row.email_verified else uuid7()
    return Register(**{"account": row, "email_id": email} | changes)


def sign_in(token: str, *, session_id: UUID | None = None, seconds: float = 0, checked: str | None = None) -> SignIn:
    """Return a login that gets this refresh token, so long after noon."""
    return SignIn(
        session_id or uuid7(), checked, digest(token), "Firefox", "192.0.2.1", NOON + timedelta(seconds=seconds)
    )


def refresh(session_id: UUID, presented: str, successor: str, *, seconds: float) -> Refresh:
    """Return a refresh with these tokens, so long after noon."""
    at = NOON + timedelta(seconds=seconds)
    return Refresh(session_id, digest(presented), digest(successor), "Firefox", "192.0.2.1", at)


def unchanged(before: object, effect: Effect[Any, Any]) -> bool:
    """Return whether the message has nothing to save."""
    return effect.state == before and effect.events == ()
