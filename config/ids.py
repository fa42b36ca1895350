"""Identifiers: UUIDv7 for rows that are ordered by time."""

from __future__ import annotations

import uuid

import uuid_utils


def uuid7() -> uuid.UUID:
    """A new UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then a counter and randomness; grows within a process."""
    return uuid.UUID(int=uuid_utils.uuid7().int)


def parse_uuid(text: str) -> uuid.UUID | None:
    """The UUID in its canonical 36-character form, or None: a malformed id is an unknown one."""
    if len(text) != 36:
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
