"""Shape the simulated market: volatilities and spreads by asset type, each symbol's order book and perpetual.

Those pick, by a hash, one of a few dozen random shapes around 1.0: the same in every process, and in bounded memory
whatever the number of symbols.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.lens.model import INTERVAL_SECONDS, AssetContext
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
QUOTE_VOLUME: Final = 1e6  # an hour's, in units of the quote currency
_VENUES: Final = 64  # by asset type
_CACHED_PICKS: Final = 8192  # one to a symbol


@dataclass(frozen=True, slots=True)
class SimulatedVenue:
    """A symbol's book and perpetual around a mid of 1.0: `prices` and `notionals` of shape (bids and asks, level)."""

    prices: Array
    notionals: Array
    funding_rate: float
    open_notional: float
    premium: float


def venue_of(asset_type: AssetType, symbol: str, now_ms: int) -> SimulatedVenue:
    """Return a symbol's book and perpetual, which change by the quarter of an hour."""
    spelled = spelled_alike(symbol, asset_type)
    return _venue(asset_type, _pick(_VENUES, "venue", asset_type, spelled, now_ms // (_BOOK_SECONDS * 1000)))


def context_of(venue: SimulatedVenue, price: float) -> AssetContext:
    """Return the venue's data on the symbol's perpetual at this price."""
    return AssetContext(venue.funding_rate, venue.open_notional / unit_price(price), price * (1 + venue.premium))


def unit_price(price: float) -> float:
    """Return the price within bounds, so that the volume of an absurdly priced asset is finite and above zero."""
    return min(max(price, 1e-12), 1e12)


@functools.lru_cache(maxsize=_CACHED_PICKS)
def _pick(count: int, *parts: str | int) -> int:
    """Pick a number below `count`, by the parts. blake2, as the built-in hash differs from process to process."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) % count


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
