"""Choose the source of market data by asset type, as configured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from actors.lens.market import NO_SOURCE, MarketData, MarketRequest
from actors.lens.market._guard import CallLimits
from actors.lens.market.hyperliquid import HyperliquidMarketData
from actors.lens.market.simulated import SimulatedMarketData
from actors.lens.model import MarketSnapshot
from config._market import SOURCES
from config.settings import Settings

_OPENERS: Final[Mapping[str, Callable[[Settings], MarketData]]] = {
    "simulated": lambda _: SimulatedMarketData(),
    "hyperliquid": lambda settings: HyperliquidMarketData(
        settings.hyperliquid_base_url,
        CallLimits(weight_per_minute=CallLimits().weight_per_minute // settings.lens_shards),
    ),
}
"""The function that opens each source of `config._market.SOURCES`."""


class MarketByType:
    """The `MarketData` of all asset types: each uses its own source, and a type without one has no data."""

    def __init__(self, sources: Mapping[str, MarketData]) -> None:
        self._sources = sources

    def snapshot_at_once(self, request: MarketRequest) -> MarketSnapshot | None:
        """Return what its source has at hand; `NO_SOURCE` for a type without one."""
        source = self._sources.get(request.asset_type)
        return NO_SOURCE if source is None else source.snapshot_at_once(request)

    async def snapshot(self, request: MarketRequest) -> MarketSnapshot:
        """Return what its source answers; `NO_SOURCE` for a type without one."""
        source = self._sources.get(request.asset_type)
        return NO_SOURCE if source is None else await source.snapshot(request)

    async def close(self) -> None:
        """Close each source, once."""
        each_once = {id(source): source for source in self._sources.values()}
        await asyncio.gather(*(source.close() for source in each_once.values()))


def open_market(settings: Settings) -> MarketData:
    """Open the sources of `settings.market_sources`: one of each, for all the asset types that it serves."""
    names = settings.market_sources
    opened = {name: _OPENERS[name](settings) for name in dict.fromkeys(names.values())}
    for name, source in opened.items():
        if tuple(names) == SOURCES[name]:  # it is the only one, and rejects unknown asset types itself
            return source
    return MarketByType({asset_type: opened[name] for asset_type, name in names.items()})
