"""Identifiers: UUIDv7 for rows that are ordered by time; a stable hash of keys, for shards."""

from __future__ import annotations

import hashlib
import re
import uuid
import zlib
from datetime import UTC, datetime, timedelta

import uuid_utils

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# uuid.UUID also takes braces, a URN, and whatever int() takes: underscores, blanks, the digits of other scripts.
_CANONICAL = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_UNKNOWN = uuid.SafeUUID.unknown

_new, _set = object.__new__, object.__setattr__  # a UUID's own __setattr__ refuses


def uuid7() -> uuid.UUID:
    """Make a UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, a counter, randomness; it grows within a process."""
    # As UUID's constructor does with a valid number, in half its time.
    made = _new(uuid.UUID)
    _set(made, "int", uuid_utils.uuid7().int)
    _set(made, "is_safe", _UNKNOWN)
    return made


def derived_uuid7(milliseconds: int, seed: bytes) -> uuid.UUID:
    """Make the UUIDv7 of a Unix time whose other bits come from `seed`: deterministic, in any process."""
    bits = int.from_bytes(hashlib.blake2b(seed, digest_size=10).digest(), "big")
    high = (milliseconds << 16) | 0x7000 | ((bits >> 68) & 0xFFF)
    return uuid.UUID(int=(high << 64) | (0b10 << 62) | (bits & ((1 << 62) - 1)))


def milliseconds_of(moment: datetime) -> int:
    """Convert a time to Unix milliseconds, cut as everywhere; exact."""
    return (moment - _EPOCH) // _MILLISECOND


def time_of(identifier: uuid.UUID) -> datetime:
    """Return the time at which a UUIDv7 was made, to the millisecond."""
    return _EPOCH + (identifier.int >> 80) * _MILLISECOND


def first_id(since: datetime) -> uuid.UUID:
    """Return the least UUIDv7 whose `time_of` is `since` or later, to find rows by time through their key."""
    rounded_up = -((_EPOCH - since) // _MILLISECOND)
    return uuid.UUID(int=max(rounded_up, 0) << 80)


def last_id(until: datetime) -> uuid.UUID:
    """Return the greatest UUIDv7 whose `time_of` is `until` or earlier."""
    rounded_down = (until - _EPOCH) // _MILLISECOND
    return uuid.UUID(int=max((rounded_down + 1 << 80) - 1, 0))


def parse_uuid(text: str) -> uuid.UUID | None:
    """Parse a UUID in its canonical 36-character form; None for others: a malformed id is an unknown one."""
    return uuid.UUID(text) if len(text) == 36 and _CANONICAL.fullmatch(text) else None


def key_hash(key: str) -> int:
    """Return the CRC-32 of a key: stable across processes, machines and versions of Python, unlike `hash`."""
    return zlib.crc32(key.encode())
