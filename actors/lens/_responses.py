"""Read the responses of other servers: the status and the wait they ask for, and what is not JSON."""

from __future__ import annotations

import email.utils
import json
import math
from http import HTTPStatus
from typing import Final

from config import clock

_LONGEST_TYPE: Final = 60


def unreadable(body: bytes, content_type: str, error: json.JSONDecodeError) -> str:
    """Describe a body that a JSON parser refused with `error`, to follow "… answered 200 with"."""
    if not body.strip():
        return "an empty body"
    named = "".join(each for each in content_type.partition(";")[0].strip().lower() if each.isprintable())
    if named and "json" not in named:
        return f"{named[:_LONGEST_TYPE]} instead of JSON"
    # An incomplete body is refused at its very end; of a body that is not UTF-8 the parser keeps no text.
    if error.doc and error.pos >= len(error.doc.rstrip()):
        return "JSON that is cut off"
    return f"what is not JSON ({len(body)} bytes)"


def returned(status: int) -> str:
    """Return the text for a status, to follow a server's name: "returned 503 Service Unavailable"."""
    try:
        return f"returned {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"returned {status}"


def retry_after_seconds(header: str) -> float | None:
    """Parse RFC 9110 § 10.2.3: seconds or a date; None for an absent, invalid or past one."""
    if (seconds := positive(header)) is not None:
        return seconds
    try:
        return positive(email.utils.parsedate_to_datetime(header).timestamp() - clock.now().timestamp())
    except (ValueError, TypeError, LookupError, OverflowError):  # the exceptions of email.utils for invalid dates
        return None


def positive(text: str | float) -> float | None:
    """Return the number in a server's text; None where there is none that can be waited for."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None
