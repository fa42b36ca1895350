"""Parse the setting MARKET_DATA: the source of market data by asset type."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

ASSET_TYPES: Final = ("crypto", "stock", "option", "etf", "forex", "prediction")

SOURCES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "simulated": ASSET_TYPES,
        "hyperliquid": ("crypto",),
        "binance": ("crypto",),
        "alpaca": ("stock", "option", "etf"),
        "oanda": ("forex",),
        "polymarket": ("prediction",),
        "kalshi": ("prediction",),
    }
)
"""The asset types that each source supports."""

SOURCE_KEYS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"alpaca": ("alpaca_key_id", "alpaca_secret_key"), "oanda": ("oanda_account", "oanda_token")}
)
"""The settings without which a source cannot be used."""


def market_sources(text: str) -> Mapping[str, str]:
    """Return the source of each asset type that has one, from `crypto:hyperliquid,stock:simulated`.

    A name without a type is for all types that it supports, except those that are named. Raises ValueError.
    """
    named: dict[str, str] = {}
    others: dict[str, str] = {}
    for item in filter(None, (each.strip() for each in text.split(","))):
        asset_type, has_type, source = (part.strip() for part in item.rpartition(":"))
        if source not in SOURCES:
            raise ValueError(f"{source[:60]!r} is not one of {', '.join(SOURCES)}, or nothing")
        if has_type and asset_type not in ASSET_TYPES:
            raise ValueError(f"{asset_type[:60]!r} is not an asset type: {', '.join(ASSET_TYPES)}")
        if has_type and asset_type not in SOURCES[source]:
            raise ValueError(f"{source} has no market data of {asset_type}, only of {', '.join(SOURCES[source])}")
        chosen = named if has_type else others
        for each in (asset_type,) if has_type else SOURCES[source]:
            if chosen.setdefault(each, source) != source:
                raise ValueError(f"{each} has two sources: {chosen[each]} and {source}")
    sources = others | named
    if not sources:
        raise ValueError("names no source")
    return {each: sources[each] for each in ASSET_TYPES if each in sources}
