"""Describe a response that is not JSON, for an error message."""

from __future__ import annotations

import json
from typing import Final

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
