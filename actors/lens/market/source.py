"""Which market-data source runs: the setting, as an object."""

from __future__ import annotations

from actors.lens.market import MarketData
from actors.lens.market.hyperliquid import HyperliquidMarketData
from actors.lens.market.simulated import SimulatedMarketData
from config.settings import Settings


def open_market(settings: Settings) -> MarketData:
    """The source named by `settings.market_data_source`."""
    if settings.market_data_source == "hyperliquid":
        return HyperliquidMarketData(settings.hyperliquid_base_url)
    return SimulatedMarketData()
