"""Recorded prices, replayed: real bars of three markets, laid out in time so that the recording ends now. Pure but for
the reading of the files.

The files are those that the package `backtesting` brings: GOOG by the day, EUR/USD by the hour, BTC/USD by the month.
They are replayed at one bar an hour (BTC/USD: one in twelve hours). Symbols that no file has follow a stretch of one
that is there, scaled to a price of their own: what moves them has happened, though not to them.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actors.lens.model import AssetType

Array = NDArray[np.float64]

INSTALL = "python -m pip install --no-deps -c constraints.txt backtesting"


class NoRecordings(Exception):
    """The files of recorded prices are not there; the text says how to get them."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """What is traded: the bars `first` to `last` of a recording; `level` is the price of the last one, None: its own.

    An option or a prediction is one on these prices.
    """

    symbol: str
    asset_type: AssetType
    recording: str
    first: int
    last: int
    level: float | None = None
    hours: int = 1  # of a bar


INSTRUMENTS: Mapping[str, Instrument] = {
    each.symbol: each
    for each in (
        Instrument("BTC", "crypto", "BTCUSD", 20, 157, hours=12),
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
    """The prices of an instrument by bar number; bar 0 is the one that ends at the anchor, the past is below it.

    Past the end of the recording it is played backwards, and so on to and fro: prices stay where they were seen.
    """

    def __init__(self, instrument: Instrument, recorded: Array) -> None:
        self.instrument = instrument
        bars = recorded[:, instrument.first : instrument.last]
        scale = 1.0 if instrument.level is None else instrument.level / bars[3, -1]
        self._bars = np.vstack((bars[:4] * scale, bars[4:]))
        self.length = int(self._bars.shape[1])

    def window(self, bar: int, count: int) -> Array:
        """`count` bars up to `bar`, of shape (5, count): open, high, low, close, volume; each opens at the last close.

        Fewer where the recording begins later.
        """
        count = min(count, bar + self.length)
        places = _to_and_fro(np.arange(bar - count + 1, bar + 1) + self.length - 1, self.length)
        taken = self._bars[:, places].copy()
        taken[0, 1:] = taken[3, :-1]
        taken[1] = np.maximum(taken[1], np.maximum(taken[0], taken[3]))
        taken[2] = np.minimum(taken[2], np.minimum(taken[0], taken[3]))
        return np.ascontiguousarray(taken)

    def close(self, bar: int) -> float:
        """The price at the end of a bar."""
        [place] = _to_and_fro(np.array([bar + self.length - 1]), self.length)
        return float(self._bars[3, place])

    def first_bar(self, days: float) -> int:
        """The bar of `days` ago, or the first that there is with 60 before it."""
        oldest: int = 60 - self.length
        return max(oldest, -int(days * 24 / self.instrument.hours))

    def time_of(self, bar: int, anchor: datetime) -> datetime:
        """When a bar of the past ends."""
        return anchor + timedelta(hours=bar * self.instrument.hours)


def _to_and_fro(numbers: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    # 0 1 2 1 0 1 2 …: the period is there and back, each end once.
    period = 2 * (length - 1)
    rest = numbers % period
    return np.minimum(rest, period - rest)


def open_markets(folder: Path | None = None) -> dict[str, Market]:
    """Every market. Raises NoRecordings."""
    folder = folder or recordings()
    return {symbol: Market(each, _read(folder / f"{each.recording}.csv")) for symbol, each in INSTRUMENTS.items()}


def recordings() -> Path:
    """Where the files are. The package is never imported: it would want pandas and more. Raises NoRecordings."""
    found = importlib.util.find_spec("backtesting")
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        if (Path(place) / "test" / "GOOG.csv").is_file():
            return Path(place) / "test"
    raise NoRecordings(f"The recorded prices are not installed: {INSTALL}\n(`make demo` does it)")


@lru_cache(maxsize=8)
def _read(path: Path) -> Array:
    try:
        with path.open(newline="") as file:
            rows = [[float(cell) for cell in row[1:6]] for row in list(csv.reader(file))[1:]]
    except OSError as error:
        raise NoRecordings(f"{path}: {error.strerror}: {INSTALL}") from None
    return np.array(rows).T
