"""The demo's markets: instruments of the simulated market, priced by the same functions as the server's.

An instrument starts at its level at the beginning of the demo's history. The server takes the first declared price for
the start: so the first signal of each instrument is honest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from actors.lens.market._moving import Anchor, SimulatedPath, candles, path_of, price_at
from schemas._vocabulary import AssetType

Array = NDArray[np.float64]

HISTORY_DAYS = 100.0  # from the instruments' beginning to moment 0; more than any backfill
BEFORE_HOURS = 500  # of prices before that, for indicators
_HOURS_AHEAD = 24 * 30  # of bars that are computed at once
_VOLUME = 1e6


@dataclass(frozen=True, slots=True)
class Instrument:
    """A traded asset and its price at the beginning. Options have the stock of the name as their underlying.

    A prediction ends `days` after moment 0, its last price decides how.
    """

    symbol: str
    asset_type: AssetType
    level: float
    days: int | None = None

    @property
    def underlying(self) -> str:
        """Return the symbol whose path it follows."""
        return self.symbol.removesuffix(" options")


INSTRUMENTS: Mapping[str, Instrument] = {
    each.symbol: each
    for each in (
        Instrument("BTC", "crypto", 67420.0),
        Instrument("ETH", "crypto", 3240.0),
        Instrument("SOL", "crypto", 168.0),
        Instrument("AAPL", "stock", 195.0),
        Instrument("GOOG", "stock", 171.0),
        Instrument("NVDA", "stock", 131.0),
        Instrument("TSLA", "stock", 262.0),
        Instrument("QQQ", "etf", 445.0),
        Instrument("SPY", "etf", 548.0),
        Instrument("EUR/USD", "forex", 1.0842),
        Instrument("GBP/USD", "forex", 1.27),
        Instrument("Will rates be cut this winter?", "prediction", 0.45, days=40),
        Instrument("Will BTC close above 70000 this week?", "prediction", 0.55, days=-3),
        Instrument("AAPL options", "option", 195.0),
        Instrument("GOOG options", "option", 171.0),
    )
}


class Market:
    """The prices of an instrument, or of an option's underlying, by moments: hours from `anchor` (0), a full hour."""

    def __init__(self, instrument: Instrument, anchor: datetime) -> None:
        self.instrument = instrument
        self.anchor = anchor
        begun = Anchor(instrument.level, (anchor - timedelta(days=HISTORY_DAYS)).timestamp())
        asset_type = "stock" if instrument.asset_type == "option" else instrument.asset_type
        self.path: SimulatedPath = path_of(asset_type, instrument.underlying, begun)
        self._first = -int(HISTORY_DAYS * 24) - BEFORE_HOURS
        hours = _HOURS_AHEAD - self._first
        minute = int(anchor.timestamp()) // 60 + 60 * self._first
        self._bars = candles(self.path, minute, hours, 60)

    @property
    def ends(self) -> float:
        """Return the moment after which it is not traded any more."""
        return math.inf if self.instrument.days is None else 24.0 * self.instrument.days

    @property
    def resolution_date(self) -> str | None:
        """Return the day with whose end a prediction is resolved, one after its last trades."""
        days = self.instrument.days
        return None if days is None else f"{(self.anchor.astimezone(UTC) + timedelta(days=days)).date()}"

    def close(self, moment: float) -> float:
        """Return the price at a moment."""
        return price_at(self.path, self.time_of(moment).timestamp())

    def closes(self, moments: Array) -> Array:
        """Return the prices at the moments."""
        return np.array([self.close(each) for each in moments.tolist()])

    def bars(self, first: int, last: int) -> Array:
        """Return the hourly bars that end at the moments from `first` to `last`: open, high, low, close, volume."""
        prices = self._bars[:, first - self._first - 1 : last - self._first]
        moved = np.abs(np.log(prices[3] / prices[0]))
        return np.ascontiguousarray((*prices, _VOLUME * (1 + moved / max(float(moved.std()), 1e-9))))

    def moment_of(self, at: datetime) -> float:
        """Return the moment of a time."""
        return (at - self.anchor) / timedelta(hours=1)

    def time_of(self, moment: float) -> datetime:
        """Return the time of a moment."""
        return self.anchor + timedelta(hours=moment)


def full_hour(at: datetime) -> datetime:
    """Return the last full hour."""
    return at.replace(minute=0, second=0, microsecond=0)


def open_markets(anchor: datetime) -> dict[str, Market]:
    """Return every market, with moment 0 at `anchor`."""
    return {symbol: Market(each, anchor) for symbol, each in INSTRUMENTS.items()}
