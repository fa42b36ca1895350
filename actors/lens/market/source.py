"""Choose the source of market data and of prices by asset type, as configured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from actors.lens.market import NO_SOURCE, MarketData, MarketRequest
from actors.lens.market._anchors import StoredAnchors
from actors.lens.market._guard import CallLimits
from actors.lens.market._moving import SimulatedPrices
from actors.lens.market._moving_data import MovingMarketData
from actors.lens.market._venue import GuardedVenue, Vendor
from actors.lens.market.alpaca import Alpaca
from actors.lens.market.binance import Binance
from actors.lens.market.hyperliquid import HyperliquidMarketData
from actors.lens.market.kalshi import Kalshi
from actors.lens.market.oanda import Oanda
from actors.lens.market.polymarket import Polymarket
from actors.lens.market.quotes import Bar, Declaration, PricedInstrument, PriceSource, Resolution
from actors.lens.model import MarketSnapshot
from actors.lens.quote import VenueQuote
from config._market import SOURCES
from config.settings import Settings
from db._postgres import Pool
from schemas._vocabulary import AssetType

_QUOTE_TIMEOUT: Final = 5.0  # a later answer is of no use to a signal
_PARTS_BESIDE: Final = 8  # two or three take it beside `lens/enrich`, whose refreshes leave a quarter (`CallGuard`)


def _hyperliquid(settings: Settings, parts: int) -> HyperliquidMarketData:
    limits = CallLimits(weight_per_minute=CallLimits().weight_per_minute // parts)
    return HyperliquidMarketData(settings.hyperliquid_base_url, limits)


def _guarded(vendor: Vendor, per_minute: int, parts: int) -> GuardedVenue:
    limits = CallLimits(timeout_seconds=_QUOTE_TIMEOUT, weight_per_minute=max(1, per_minute // parts))
    return GuardedVenue(vendor, limits)


def _alpaca(settings: Settings, parts: int) -> GuardedVenue:
    vendor = Alpaca(
        settings.alpaca_base_url,
        settings.alpaca_key_id or "",
        settings.alpaca_secret_key or "",
        stock_feed=settings.alpaca_stock_feed,
        option_feed=settings.alpaca_option_feed,
    )
    return _guarded(vendor, settings.alpaca_calls_per_minute, parts)


def _oanda(settings: Settings, parts: int) -> GuardedVenue:
    vendor = Oanda(settings.oanda_base_url, settings.oanda_account or "", settings.oanda_token or "")
    return _guarded(vendor, 3600, parts)  # of 7 200


def _polymarket(settings: Settings, parts: int) -> GuardedVenue:
    vendor = Polymarket(settings.polymarket_base_url, settings.polymarket_gamma_url)
    return _guarded(vendor, 3000, parts)  # of 9 000: a book may be preceded by a look-up


# What opens each source of `config._market.SOURCES` that asks a venue, within a part of what that allows an address.
_VENUES: Final[Mapping[str, Callable[[Settings, int], HyperliquidMarketData | GuardedVenue]]] = {
    "hyperliquid": _hyperliquid,
    "binance": lambda settings, parts: _guarded(Binance(settings.binance_base_url), 4800, parts),  # of 6 000
    "alpaca": _alpaca,
    "oanda": _oanda,
    "polymarket": _polymarket,
    "kalshi": lambda settings, parts: _guarded(Kalshi(settings.kalshi_base_url), 900, parts),  # of 1 200
}


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
        await _close_each(self._sources.values())


class PricesByType:
    """The `PriceSource` of all asset types: each uses its own source, and a type without one has no prices."""

    def __init__(self, sources: Mapping[str, PriceSource]) -> None:
        self._sources = sources
        self._simulated = next((each for each in sources.values() if isinstance(each, SimulatedPrices)), None)

    def has_source(self, asset_type: AssetType) -> bool:
        """Return whether any source serves an asset type."""
        return asset_type in self._sources

    async def declare(self, declarations: Sequence[Declaration]) -> None:
        """Tell of declared prices before asking for quotes: simulated instruments may start with them."""
        if (source := self._simulated) is not None:
            await source.declare_all([each for each in declarations if self._of(each.instrument) is source])

    async def past_quote(self, instrument: PricedInstrument, at: datetime) -> VenueQuote | None:
        """Return the quote of a time that may be long past, which the simulated market alone has."""
        source = self._of(instrument)
        return await source.quote_at(instrument, at) if isinstance(source, SimulatedPrices) else None

    async def quote(self, instrument: PricedInstrument) -> VenueQuote | None:
        """Return its source's quote."""
        source = self._of(instrument)
        return None if source is None else await source.quote(instrument)

    async def minutes(self, instrument: PricedInstrument, since: datetime) -> Sequence[Bar]:
        """Return its source's minute candles."""
        source = self._of(instrument)
        return () if source is None else await source.minutes(instrument, since)

    async def hours(self, instrument: PricedInstrument, since: datetime) -> Sequence[Bar] | None:
        """Return its source's candles of hours; None where it has none."""
        source = self._of(instrument)
        return await source.hours(instrument, since) if isinstance(source, SimulatedPrices) else None

    async def resolution(self, instrument: PricedInstrument) -> Resolution | None:
        """Return how its source says that a prediction ended."""
        source = self._of(instrument)
        return None if source is None else await source.resolution(instrument)

    async def close(self) -> None:
        """Close each source, once."""
        await _close_each(self._sources.values())

    def _of(self, instrument: PricedInstrument) -> PriceSource | None:
        return self._sources.get(instrument.asset_type)


Opened = SimulatedPrices | HyperliquidMarketData | GuardedVenue


def open_market(settings: Settings, pool: Pool) -> tuple[MarketData, PricesByType]:
    """Open the sources of `settings.market_sources`, one of each: as market data, and as prices.

    They share what they have asked. To close the one closes the other; `pool` has the simulated market's anchors.
    """
    names = settings.market_sources
    opened = _open_each(settings, pool, settings.lens_shards)
    prices = PricesByType({asset_type: opened[name] for asset_type, name in names.items()})
    data: dict[str, MarketData] = {
        name: MovingMarketData(source) if isinstance(source, SimulatedPrices) else source
        for name, source in opened.items()
    }
    for name, source in data.items():
        if tuple(names) == SOURCES[name]:  # it is the only one, and rejects unknown asset types itself
            return source, prices
    return MarketByType({asset_type: data[name] for asset_type, name in names.items()}), prices


def open_prices(settings: Settings, pool: Pool) -> PricesByType:
    """Open the same as prices alone, for whoever asks less than `lens/enrich`, and beside it."""
    opened = _open_each(settings, pool, _PARTS_BESIDE)
    return PricesByType({asset_type: opened[name] for asset_type, name in settings.market_sources.items()})


def _open_each(settings: Settings, pool: Pool, parts: int) -> dict[str, Opened]:
    return {
        name: SimulatedPrices(StoredAnchors(pool)) if name == "simulated" else _VENUES[name](settings, parts)
        for name in dict.fromkeys(settings.market_sources.values())
    }


async def _close_each(sources: Iterable[MarketData | PriceSource]) -> None:
    each_once = {id(source): source for source in sources}
    await asyncio.gather(*(source.close() for source in each_once.values()))
