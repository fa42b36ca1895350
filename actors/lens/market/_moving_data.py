"""Serve the simulated market that moves by itself to indicators: the prices of its quotes and candles, in floats."""

from __future__ import annotations

import functools
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.lens.market import CANDLE_COUNT, NO_SOURCE, MarketRequest, _walk
from actors.lens.market._moving import SimulatedPrices, Way, candles, price_at, quote_at, seed_of
from actors.lens.market.quotes import Declaration, PricedInstrument
from actors.lens.market.simulated import QUOTE_VOLUME, SimulatedVenue, context_of, unit_price, venue_of
from actors.lens.model import CANDLES_QUERY, INTERVAL_SECONDS, Candles, Interval, MarketSnapshot, OrderBook, Quote
from actors.lens.quote import VenueQuote
from schemas._vocabulary import AssetType

_CACHED: Final = 1536  # of 12 kB
_LEAST_PRICE: Final = 1e-9  # of a worthless option: indicators divide by prices
_REFRESHES: Final = 60  # of a forming candle: as of a venue's, a sixtieth of its interval moves no indicator by much

Array = NDArray[np.float64]


class MovingMarketData:
    """The `MarketData` of the moving market. A symbol that was never priced starts at the signal's entry price."""

    def __init__(self, prices: SimulatedPrices) -> None:
        self._prices = prices

    def snapshot_at_once(self, request: MarketRequest) -> MarketSnapshot | None:
        """Return the snapshot of a symbol that this process has priced before."""
        way = self._prices.known_way(_instrument_of(request))
        return None if way is None else snapshot_of(way, request)

    async def snapshot(self, request: MarketRequest) -> MarketSnapshot:
        """Return the answers to the queries."""
        at_once = self.snapshot_at_once(request)
        if at_once is not None:
            return at_once
        instrument = _instrument_of(request)
        await self._prices.declare_all([Declaration(instrument, Decimal(repr(request.entry_price)), request.now)])
        way = await self._prices.way(instrument)
        return NO_SOURCE if way is None else snapshot_of(way, request)  # an option of another form than ours

    async def close(self) -> None:
        """Do nothing: no connection is open."""


def snapshot_of(way: Way, request: MarketRequest) -> MarketSnapshot:
    """Return the answers to a request's queries at its time."""
    seconds = request.now.timestamp()
    now_ms, queries = int(seconds * 1000), request.queries
    venue = venue_of(request.asset_type, request.symbol, now_ms)
    exact = quote_at(way, request.asset_type, request.now)
    price = max(price_at(way, seconds) if exact is None else float(exact.mid), _LEAST_PRICE)
    return MarketSnapshot(
        quote=Quote(price, now_ms) if "mid" in queries else None,
        order_book=_order_book(exact, venue, request, now_ms) if exact and "order_book" in queries else None,
        candles={
            interval: candles_of(way, request.asset_type, interval, int(seconds))
            for interval, query in CANDLES_QUERY.items()
            if query in queries
        },
        asset_context=context_of(venue, price) if "asset_context" in queries else None,
        venue_quote=exact,
    )


def candles_of(way: Way, asset_type: AssetType, interval: Interval, seconds: int) -> Candles:
    """Return the candles up to a Unix time: the last one forms, as of the last of its refreshes."""
    refresh = max(60, INTERVAL_SECONDS[interval] // _REFRESHES)
    return _candles_at(way, interval, seconds // refresh * refresh // 60)


@functools.lru_cache(maxsize=_CACHED)
def _candles_at(way: Way, interval: Interval, minute: int) -> Candles:
    """Return the candles of the minutes before this one; each process has one object of them."""
    minutes = INTERVAL_SECONDS[interval] // 60
    opened = minute // minutes * minutes
    ohlcv = np.empty((5, CANDLE_COUNT))
    ohlcv[:, :-1] = _complete(way, minutes, opened)
    begun = minute - opened
    if begun:
        ohlcv[:4, -1:] = candles(way, opened, 1, begun)
    else:
        ohlcv[:4, -1] = ohlcv[3, -2]  # nothing has happened in it yet
    ohlcv[:4] = np.maximum(ohlcv[:4], _LEAST_PRICE)
    ohlcv[4, -1] = _volumes(way, minutes, opened, ohlcv[:4, -1:])[0] * max(begun, 1) / minutes
    ohlcv.setflags(write=False)  # shared by all callers
    return Candles(interval, opened * 60_000, ohlcv)


@functools.lru_cache(maxsize=_CACHED)
def _complete(way: Way, minutes: int, end: int) -> Array:
    """Return all candles but the forming one, up to the Unix minute `end`."""
    count = CANDLE_COUNT - 1
    first = end - count * minutes
    prices = np.maximum(candles(way, first, count, minutes), _LEAST_PRICE)
    return np.vstack((prices, _volumes(way, minutes, first, prices)))


def _volumes(way: Way, minutes: int, first: int, prices: Array) -> Array:
    """Return volumes in units of the instrument: higher where the price has moved, and by chance."""
    count = prices.shape[1]
    chance = np.exp(0.35 * _walk.normals(seed_of(way), minutes, first // minutes, count))
    moved = np.abs(np.log(prices[3] / prices[0]))
    typical = float(np.median(moved)) or 1.0
    volumes: Array = QUOTE_VOLUME * minutes / 60 * chance * (0.6 + 0.5 * np.minimum(moved / typical, 6.0))
    return volumes / unit_price(float(prices[3, -1]))


def _order_book(quote: VenueQuote, venue: SimulatedVenue, request: MarketRequest, now_ms: int) -> OrderBook:
    mid, half = float(quote.mid), float(quote.ask - quote.mid)
    # In half spreads from the middle; the first levels are the quote's.
    distances = np.abs(venue.prices - 1) / np.abs(venue.prices[:, :1] - 1)
    sizes = venue.notionals / unit_price(mid)
    most = 1.0 if request.asset_type == "prediction" else np.inf
    sides = []
    for place, (sign, best) in enumerate(((-1, quote.bid), (1, quote.ask))):
        prices = mid + sign * half * distances[place]
        prices[0] = float(best)
        rows = zip(prices.tolist(), sizes[place].tolist(), strict=True)
        sides.append(tuple((price, size) for price, size in rows if 0 < price < most))
    return OrderBook(sides[0], sides[1], now_ms)


def _instrument_of(request: MarketRequest) -> PricedInstrument:
    return PricedInstrument.of(request.symbol, request.asset_type, request.asset_data, request.now)
