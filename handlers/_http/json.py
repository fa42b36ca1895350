"""Encode JSON for responses."""

from __future__ import annotations

from decimal import Decimal

import orjson


def encode(document: object) -> bytes:
    """Encode as JSON; a Decimal becomes a number with all of its digits."""
    return orjson.dumps(document, default=_exact)


def _exact(value: object) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:f}")
    raise TypeError(f"{type(value).__name__} is not JSON")
