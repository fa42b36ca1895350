"""JSON as it goes out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson


def encode(document: Any) -> bytes:
    """JSON. A Decimal becomes a number with all of its digits."""
    return orjson.dumps(document, default=_exact)


def _exact(value: object) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:f}")
    raise TypeError(f"{type(value).__name__} is not JSON")
