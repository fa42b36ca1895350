"""Real recorded prices: the files that the package `backtesting` ships, read without its many dependencies."""

from __future__ import annotations

import csv
import functools
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@functools.cache
def recorded(name: str) -> Array:
    """Return OHLCV, shape (5, n), oldest first: `EURUSD` (5 000 hours), `GOOG` (2 148 days), `BTCUSD` (156 months)."""
    package = importlib.util.find_spec("backtesting")
    assert package is not None, "the development requirements are not installed"
    assert package.submodule_search_locations
    with (Path(package.submodule_search_locations[0]) / "test" / f"{name}.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    series = np.array([row[1:] for row in rows], dtype=np.float64).T
    series.setflags(write=False)
    return series


def quarters_of(hours: Array) -> Array:
    """Return four quarters an hour, of shape (5, 4n), which aggregate to exactly that hour.

    The price goes from the open to one extreme, to the other, to the close: a rising hour is taken to have fallen
    first, a falling one to have risen first.
    """
    opened, high, low, close, volume = hours
    is_rising = close >= opened
    first, second = np.where(is_rising, low, high), np.where(is_rising, high, low)
    middle = (first + second) / 2
    path = np.stack((opened, first, middle, second, close))  # the price at 0, 15, 30, 45 and 60 minutes
    begin, end = path[:-1], path[1:]
    candles = np.stack((begin, np.maximum(begin, end), np.minimum(begin, end), end, np.stack([volume / 4] * 4)))
    return candles.transpose(0, 2, 1).reshape(5, -1)
