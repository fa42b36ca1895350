"""Simulate market data: a plausible market around the signal's entry price, the same in every process.

All of it is a function of asset type, symbol, time bucket and entry price. Those pick, by a hash, one of a few hundred
random *shapes* around 1.0, which all signals that pick it share: whatever the number of symbols, a signal costs
microseconds, and the memory is bounded.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.lens.market import CANDLE_COUNT, MarketRequest
from actors.lens.model import (
    CANDLES_QUERY,
    INTERVAL_SECONDS,
    AssetContext,
    Candles,
    Interval,
    MarketSnapshot,
    OrderBook,
    Quote,
)
from schemas._instruments import spelled_alike
from schemas._vocabulary import AssetType

Array = NDArray[np.float64]

# The standard deviation of an hour's log return, and half a typical spread in basis points, for each type of market.
HOURLY_VOLATILITY: Final[dict[AssetType, float]] = {
    "crypto": 0.009,
    "stock": 0.005,
    "option": 0.03,
    "etf": 0.003,
    "forex": 0.0011,
    "prediction": 0.02,
}
HALF_SPREAD_BPS: Final[dict[AssetType, float]] = {
    "crypto": 0.8,
    "stock": 1.0,
    "option": 40.0,
    "etf": 0.5,
    "forex": 0.4,
    "prediction": 50.0,
}
_BOOK_LEVELS: Final = 10
_BOOK_SECONDS: Final = INTERVAL_SECONDS["15m"]
_TREND_SECONDS: Final = INTERVAL_SECONDS["4h"]  # one trend for all intervals of a symbol, so that they tend to agree
_TRENDS: Final = tuple(0.15 * (level / 3.5 - 1) for level in range(8))  # in standard deviations a candle, −0.15 to 0.15
_VARIANTS: Final = 32  # shapes of each trend, by asset type and interval
_DEGREES_OF_FREEDOM: Final = 5  # of the returns' t distribution: fat tails, finite variance
_LARGEST_RETURN: Final = 8.0  # in standard deviations
_PERSISTENCE: Final = 0.95  # of log volatility from candle to candle: calm spells and wild ones
_DECAY: Final = _PERSISTENCE ** np.arange(CANDLE_COUNT)
QUOTE_VOLUME: Final = 1e6  # an hour's, in units of the quote currency
_VENUES: Final = 64  # by asset type
_CACHED_SHAPES: Final = 1536  # of 12 kB, 18 MB: all 768 of two asset types
_CACHED_PICKS: Final = 8192  # four to a symbol


class SimulatedMarketData:
    """The `MarketData` of development and load tests: it answers every query for every symbol and never fails."""

    async def snapshot(self, request: MarketRequest) -> MarketSnapshot:
        """Return the answers to the queries: the last candles close, and the market is, at the entry price."""
        return _snapshot(request)

    def snapshot_at_once(self, request: MarketRequest) -> MarketSnapshot | None:
        """Return the same as `snapshot`: nothing is ever waited for."""
        return _snapshot(request)

    async def close(self) -> None:
        """Do nothing: no connection is open."""


@dataclass(frozen=True, slots=True)
class SimulatedVenue:
    """A symbol's book and perpetual around a mid of 1.0: `prices` and `notionals` of shape (bids and asks, level)."""

    prices: Array
    notionals: Array
    funding_rate: float
    open_notional: float
    premium: float


def _snapshot(request: MarketRequest) -> MarketSnapshot:
    now_ms = int(request.now.timestamp() * 1000)
    queries = request.queries
    venue = venue_of(request.asset_type, request.symbol, now_ms)
    is_bounded = request.asset_type == "prediction" and request.entry_price < 1
    return MarketSnapshot(
        quote=Quote(request.entry_price, now_ms) if "mid" in queries else None,
        order_book=_order_book(venue, request, now_ms) if "order_book" in queries else None,
        candles={
            interval: (_probabilities if is_bounded else _candles)(request, interval, now_ms)
            for interval, query in CANDLES_QUERY.items()
            if query in queries
        },
        asset_context=context_of(venue, request.entry_price) if "asset_context" in queries else None,
        candle_unit=1.0 if is_bounded else request.entry_price,
    )


def venue_of(asset_type: AssetType, symbol: str, now_ms: int) -> SimulatedVenue:
    """Return a symbol's book and perpetual, which change by the quarter of an hour."""
    spelled = spelled_alike(symbol, asset_type)
    return _venue(asset_type, _pick(_VENUES, "venue", asset_type, spelled, now_ms // (_BOOK_SECONDS * 1000)))


def _candles(request: MarketRequest, interval: Interval, now_ms: int) -> Candles:
    interval_ms = INTERVAL_SECONDS[interval] * 1000
    bucket = now_ms // interval_ms
    symbol = spelled_alike(request.symbol, request.asset_type)
    trend = _pick(len(_TRENDS), "trend", symbol, now_ms // (_TREND_SECONDS * 1000))
    variant = _pick(_VARIANTS, request.asset_type, symbol, interval, bucket)
    return _run(request.asset_type, interval, trend, variant, bucket * interval_ms)


def _probabilities(request: MarketRequest, interval: Interval, now_ms: int) -> Candles:
    """Make the candles of a prediction: they cannot be shared, as a probability does not scale like a price."""
    shape = _candles(request, interval, now_ms)
    ohlcv = shape.ohlcv.copy()
    ohlcv[:4] = _at_price(shape.ohlcv[:4], request.asset_type, request.entry_price)
    return Candles(interval, shape.last_open_ms, ohlcv)


def _order_book(venue: SimulatedVenue, request: MarketRequest, now_ms: int) -> OrderBook:
    bids, asks = _at_price(venue.prices, request.asset_type, request.entry_price).tolist()
    bid_sizes, ask_sizes = (venue.notionals / unit_price(request.entry_price)).tolist()
    return OrderBook(tuple(zip(bids, bid_sizes, strict=True)), tuple(zip(asks, ask_sizes, strict=True)), now_ms)


def context_of(venue: SimulatedVenue, price: float) -> AssetContext:
    """Return the venue's data on the symbol's perpetual at this price."""
    return AssetContext(venue.funding_rate, venue.open_notional / unit_price(price), price * (1 + venue.premium))


def _at_price(shape: Array, asset_type: AssetType, price: float) -> Array:
    """Return the shape with its 1.0 at `price`. A probability is scaled by its odds, and so stays between 0 and 1."""
    if asset_type == "prediction" and price < 1:
        return price / (price + (1 - price) / shape)
    return shape * price


def unit_price(price: float) -> float:
    """Return the price within bounds, so that the volume of an absurdly priced asset is finite and above zero."""
    return min(max(price, 1e-12), 1e12)


@functools.lru_cache(maxsize=_CACHED_PICKS)
def _pick(count: int, *parts: str | int) -> int:
    """Pick a number below `count`, by the parts. blake2, as the built-in hash differs from process to process."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) % count


@functools.lru_cache(maxsize=_CACHED_SHAPES)
def _run(asset_type: AssetType, interval: Interval, trend: int, variant: int, last_open_ms: int) -> Candles:
    return Candles(interval, last_open_ms, _shape(asset_type, interval, trend, variant))


@functools.lru_cache(maxsize=_CACHED_SHAPES)
def _shape(asset_type: AssetType, interval: Interval, trend: int, variant: int) -> Array:
    """Make candles of shape (5, n) whose last close is 1.0: a random walk with a trend and clustered volatility."""
    random = _random(asset_type, interval, trend, variant)
    seconds = INTERVAL_SECONDS[interval]
    deviation = HOURLY_VOLATILITY[asset_type] * math.sqrt(seconds / 3600)
    # x[t] = persistence·x[t−1] + noise[t], written without a loop.
    log_volatility = _DECAY * np.cumsum(random.normal(0.0, 0.12, CANDLE_COUNT) / _DECAY)
    noise = random.standard_t(_DEGREES_OF_FREEDOM, CANDLE_COUNT) / math.sqrt(5 / 3)
    steps = np.clip(noise * np.exp(log_volatility) + _TRENDS[trend], -_LARGEST_RETURN, _LARGEST_RETURN)
    path = np.cumsum(steps)
    wicks = random.exponential(0.35 * deviation, (2, CANDLE_COUNT))
    shape = np.empty((5, CANDLE_COUNT))
    shape[3] = np.exp((path - path[-1]) * deviation)
    shape[0] = np.exp((path - steps - path[-1]) * deviation)
    shape[1] = np.maximum(shape[0], shape[3]) * np.exp(wicks[0])
    shape[2] = np.minimum(shape[0], shape[3]) * np.exp(-wicks[1])
    shape[4] = QUOTE_VOLUME * seconds / 3600 * random.lognormal(0.0, 0.35, CANDLE_COUNT) * (0.6 + 0.5 * np.abs(steps))
    shape.setflags(write=False)  # shared by all callers
    return shape


@functools.lru_cache(maxsize=_VENUES * len(HALF_SPREAD_BPS))
def _venue(asset_type: AssetType, number: int) -> SimulatedVenue:
    random = _random("venue", asset_type, number)
    half_spread = HALF_SPREAD_BPS[asset_type] * 1e-4 * random.uniform(0.5, 1.5)
    # The first levels are exactly around 1.0: the mid of the book is the quote. Ten levels reach 15 half spreads.
    steps = np.concatenate((np.ones((2, 1)), random.uniform(0.5, 1.5, (2, _BOOK_LEVELS - 1))), axis=1)
    distances = half_spread * np.cumsum(steps, axis=1)
    lean = 1 + random.uniform(-0.6, 0.6) * np.array([[1.0], [-1.0]])
    return SimulatedVenue(
        prices=1 + distances * np.array([[-1.0], [1.0]]),
        notionals=lean * (1000.0 + random.gamma(2.0, 40_000.0, (2, _BOOK_LEVELS))),
        funding_rate=round(float(np.clip(random.normal(1e-5, 3e-5), -5e-4, 5e-4)), 8),
        open_notional=float(random.lognormal(17.0, 1.0)),
        premium=float(np.clip(random.normal(0.0, 1.5e-4), -1e-3, 1e-3)),
    )


def _random(*parts: str | int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(_pick(1 << 63, *parts)))
