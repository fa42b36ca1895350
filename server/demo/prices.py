"""Prices for the demo: one walk for each symbol through recorded closes, laid out in time so that it ends now.

The recordings are those of the package `backtesting`: GOOG by the day, EUR/USD by the hour, BTC/USD by the month.
Between two closes lies a seeded random walk. Symbols without a recording follow a stretch of another one, scaled to a
price of their own.
"""

from __future__ import annotations

import csv
import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from schemas._vocabulary import AssetType
from server.demo import DemoFailed

Array = NDArray[np.float64]

INSTALL = ".venv/bin/python -m pip install --no-deps --require-hashes -r locks/recordings.txt"
HOURS: Mapping[str, int] = {"EURUSD": 1, "GOOG": 6, "BTCUSD": 96}
"""How long a recorded bar lasts when it is replayed: so that a day moves prices as far as a lively day does."""

_ROUGHNESS = 0.5  # of a walk without any direction between two closes
_WAVES: Array = math.pi * np.arange(1.0, 121.0)  # the shortest wave in an hour lasts a minute


@dataclass(frozen=True, slots=True)
class Instrument:
    """A traded asset: the bars `first` to `last` of a recording; `level` is the price of the last one, None: its own.

    Options and predictions are derived from these prices.
    """

    symbol: str
    asset_type: AssetType
    recording: str
    first: int
    last: int
    level: float | None = None


INSTRUMENTS: Mapping[str, Instrument] = {
    each.symbol: each
    for each in (
        Instrument("BTC", "crypto", "BTCUSD", 112, 149),
        Instrument("ETH", "crypto", "GOOG", 0, 1900, 3240.0),
        Instrument("SOL", "crypto", "GOOG", 400, 2060, 168.0),
        Instrument("GOOG", "stock", "GOOG", 0, 2148),
        Instrument("NVDA", "stock", "GOOG", 120, 2010, 131.0),
        Instrument("TSLA", "stock", "GOOG", 60, 1750, 262.0),
        Instrument("QQQ", "etf", "GOOG", 300, 2120, 445.0),
        Instrument("SPY", "etf", "EURUSD", 2400, 4900, 548.0),
        Instrument("EUR/USD", "forex", "EURUSD", 2000, 5000),
        Instrument("GBP/USD", "forex", "EURUSD", 0, 3000, 1.27),
        Instrument("AAPL options", "option", "GOOG", 200, 2100, 195.0),
        Instrument("GOOG options", "option", "GOOG", 0, 2148),
        Instrument("GOOG predictions", "prediction", "GOOG", 0, 2148),
        Instrument("BTC predictions", "prediction", "GOOG", 500, 2100, 67420.0),
    )
}


class Market:
    """The prices of an instrument by moments: hours from the anchor (0), negative before it.

    After its end the recording is played backwards, and so on to and fro: prices stay in the recorded range.
    """

    def __init__(self, instrument: Instrument, recorded: Array) -> None:
        self.instrument = instrument
        closes = recorded[instrument.first : instrument.last]
        closes = closes if instrument.level is None else closes * (instrument.level / closes[-1])
        hours = HOURS[instrument.recording]
        moves = np.diff(np.log(closes))
        shares = np.arange(1, hours + 1) / hours
        walks = _walks(instrument.symbol, shares, moves.size) * (_ROUGHNESS * float(moves.std()))
        hourly = closes[:-1, None] * np.exp(moves[:, None] * shares + walks)
        self._closes = np.append(closes[0], hourly)
        self._closes[::hours] = closes
        self._deviation = float(np.std(np.diff(np.log(self._closes))))
        self.length = self._closes.size

    def closes(self, moments: Array) -> Array:
        """Return the prices at the moments: at the end of an hour the recorded ones."""
        bars = np.floor(moments)
        last, following = (self._closes[self._place(each)] for each in (bars, bars + 1))
        shares = moments - bars
        strayed = np.zeros_like(moments)
        for bar in np.unique(bars[shares > 0]):
            inside = bars == bar
            seed = f"{self.instrument.symbol} {bar:.0f}"
            strayed[inside] = _walks(seed, shares[inside])[0] * (_ROUGHNESS * self._deviation)
        prices: Array = last * np.exp(np.log(following / last) * shares + strayed)
        return prices

    def close(self, moment: float) -> float:
        """Return the price at a moment."""
        return float(self.closes(np.array([moment]))[0])

    def window(self, moment: float, count: int) -> Array:
        """Return `count` hourly bars up to the moment, of shape (5, count): open, high, low, close, volume.

        Each opens at the last close; the last one closes at the moment. Fewer where the recording begins later.
        """
        last = math.ceil(moment)
        ends = np.arange(last - min(count, last + self.length), last + 1.0)
        ends[-1] = moment
        closes = self.closes(ends)
        volume = 1e6 * (1 + np.abs(np.diff(np.log(closes))) / self._deviation)
        bars = closes[:-1], np.maximum(closes[:-1], closes[1:]), np.minimum(closes[:-1], closes[1:]), closes[1:], volume
        return np.ascontiguousarray(bars)

    def moment_of(self, at: datetime, anchor: datetime) -> float:
        """Return the moment of a time: wall-clock hours since the anchor."""
        return (at - anchor) / timedelta(hours=1)

    def time_of(self, moment: float, anchor: datetime) -> datetime:
        """Return the time of a moment."""
        return anchor + timedelta(hours=moment)

    def _place(self, bars: Array) -> NDArray[np.int64]:
        # 0 1 2 1 0 1 2 …: a period goes to the end and back, each end once.
        period = 2 * (self.length - 1)
        rest = (bars.astype(np.int64) + self.length - 1) % period
        return np.minimum(rest, period - rest)


def _walks(seed: str, shares: Array, count: int = 1) -> Array:
    """Return `count` random walks (Brownian bridges), 0 at both ends, at these shares of their time."""
    walks: Array = _amplitudes(seed, count) @ np.sin(np.outer(_WAVES, shares))
    return walks


@lru_cache(maxsize=256)
def _amplitudes(seed: str, count: int) -> Array:
    drawn: Array = np.random.default_rng(crc32(seed.encode())).standard_normal((count, _WAVES.size))
    return math.sqrt(2) * drawn / _WAVES


def open_markets(folder: Path | None = None) -> dict[str, Market]:
    """Load every market. Raises DemoFailed where the files of recorded prices are missing."""
    folder = folder or _recordings()
    closes = {name: _read(folder / f"{name}.csv") for name in HOURS}
    return {symbol: Market(each, closes[each.recording]) for symbol, each in INSTRUMENTS.items()}


def _recordings() -> Path:
    # The package is never imported: it would need pandas and more.
    found = importlib.util.find_spec("backtesting")
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        if (Path(place) / "test" / "GOOG.csv").is_file():
            return Path(place) / "test"
    raise DemoFailed(f"The recorded prices are not installed: {INSTALL}\n(`make demo` does it)")


def _read(path: Path) -> Array:
    try:
        with path.open(newline="") as file:
            return np.array([float(row[4]) for row in list(csv.reader(file))[1:]])
    except OSError as error:
        raise DemoFailed(f"{path}: {error.strerror}: {INSTALL}") from None
