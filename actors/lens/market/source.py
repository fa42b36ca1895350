"""Where market data comes from: by asset type, as the setting says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from actors.lens.market import NO_SOURCE, MarketData, MarketRequest
from actors.lens.market.hyperliquid import HyperliquidMarketData
from actors.lens.market.simulated import SimulatedMarketData
from actors.lens.model import MarketSnapshot
from config._market import SOURCES
from config.settings import Settings

_OPENERS: Final[Mapping[str, Callable[[Settings], MarketData]]] = {
    "simulated": lambda _: SimulatedMarketData(),
    "hyperliquid": lambda settings: HyperliquidMarketData(settings.hyperliquid_base_url),
}
"""How each source of `config._market.SOURCES` is opened."""


class MarketByType:
    """The `MarketData` of all asset types: each asks its own source, and a type without one has no data."""

    def __init__(self, sources: Mapping[str, MarketData]) -> None:
        self._sources = sources

    def snapshot_at_once(self, request: MarketRequest) -> MarketSnapshot | None:
        """What its source has at hand; of a type without one, that there is none."""
        source = self._sources.get(request.asset_type)
        return NO_SOURCE if source is None else source.snapshot_at_once(request)

    async def snapshot(self, request: MarketRequest) -> MarketSnapshot:
        """What its source answers; of a type without one, that there is none."""
        source = self._sources.get(request.asset_type)
        return NO_SOURCE if source is None else await source.snapshot(request)

    async def close(self) -> None:
        """Close each source, once."""
        each_once = {id(source): source for source in self._sources.values()}
        await asyncio.gather(*(source.close() for source in each_once.values()))


def open_market(settings: Settings) -> MarketData:
    """The sources of `settings.market_sources`: one of each, for all the asset types that it is for."""
    names = settings.market_sources
    opened = {name: _OPENERS[name](settings) for name in dict.fromkeys(names.values())}
    for name, source in opened.items():
        if tuple(names) == SOURCES[name]:  # it is alone, and knows itself what it does not know
            return source
    return MarketByType({asset_type: opened[name] for asset_type, name in names.items()})
