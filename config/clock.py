"""Time: aware UTC datetimes inside, RFC 3339 with milliseconds and `Z` outside."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson


def now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """Format a time as `2024-01-15T10:30:00.123Z`: UTC, milliseconds (cut, not rounded)."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    if type(moment) is not datetime:  # orjson accepts no subclass
        return f"{moment.isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"
    # `"2024-01-15T10:30:00.123456+00:00"`, in half the time of isoformat; strftime writes the year 1 with one digit.
    text = orjson.dumps(moment)
    return f"{text[1:24].decode()}Z" if moment.microsecond else f"{text[1:20].decode()}.000Z"
