"""Where market data comes from, by asset type: the setting MARKET_DATA as a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

ASSET_TYPES: Final = ("crypto", "stock", "option", "etf", "forex", "prediction")

SOURCES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({"simulated": ASSET_TYPES, "hyperliquid": ("crypto",)})
"""The asset types that each source knows."""


def market_sources(text: str) -> Mapping[str, str]:
    """The source of each asset type that has one: `crypto:hyperliquid,stock:simulated`.

    A name without a type is for all that it knows, but for the types that are named. Raises ValueError: what is wrong.
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
