"""Parse the setting RECORD_COSTS_BPS: what one side of a trade costs, by asset type."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Final

from config._market import ASSET_TYPES

DEFAULT_COSTS_BPS: Final = "crypto:10,stock:5,option:100,etf:5,forex:2,prediction:100"
_MOST_BPS: Final = 10_000


def costs_bps(text: str) -> Mapping[str, Decimal]:
    """Return the basis points of each asset type, from `crypto:10,stock:5,…`. Raises ValueError."""
    found: dict[str, Decimal] = {}
    for item in filter(None, (each.strip() for each in text.split(","))):
        asset_type, _, number = (part.strip() for part in item.partition(":"))
        if asset_type not in ASSET_TYPES:
            raise ValueError(f"{asset_type[:60]!r} is not an asset type: {', '.join(ASSET_TYPES)}")
        try:
            points = Decimal(number)
        except InvalidOperation:
            points = Decimal(-1)
        if not points.is_finite() or not 0 <= points <= _MOST_BPS:
            raise ValueError(f"{number[:60]!r} is not a number of basis points from 0 to {_MOST_BPS}")
        if asset_type in found:
            raise ValueError(f"{asset_type} has two costs")
        found[asset_type] = points
    if missing := [each for each in ASSET_TYPES if each not in found]:
        raise ValueError(f"names no costs of {', '.join(missing)}")
    return found
