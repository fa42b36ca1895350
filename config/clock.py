"""Time: aware UTC datetimes inside, RFC 3339 with milliseconds and `Z` outside."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """`2024-01-15T10:30:00.123Z`: UTC, milliseconds (cut, not rounded)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
