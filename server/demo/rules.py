"""The demo's trading rules, which decide from bars when to open and close positions. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import talib
from numpy.typing import NDArray

from server.demo.prices import Array

WINDOW = 120  # bars that are enough for every rule

Scalar = TypeVar("Scalar", bound=np.generic)
Wishes = NDArray[np.int8]
"""A rule's result for each bar: 1 to be long from its end on, −1 short, 0 neither."""


def momentum(bars: Array) -> Wishes:
    """Trade with the direction of ten bars, when it is more than a deviation and a half."""
    moved = np.log(bars[3] / _before(bars[3], 10))
    return _signs(moved / (_deviation(bars[3]) * np.sqrt(10)), 1.5)


def deeply_oversold(bars: Array) -> Wishes:
    """Trade against an RSI of two bars below 12 or above 88, with the trend of fifty."""
    fast = _signs(50 - np.nan_to_num(talib.RSI(bars[3], 2), nan=50.0), 38)
    trend = np.sign(bars[3] - np.nan_to_num(talib.SMA(bars[3], 50), nan=np.inf))
    return np.where(fast == trend, fast, 0).astype(np.int8)


def breakout(bars: Array) -> Wishes:
    """Trade with a close outside the range of the twenty bars before."""
    high = _before(np.nan_to_num(talib.MAX(bars[1], 20), nan=np.inf), 1)
    low = _before(np.nan_to_num(talib.MIN(bars[2], 20), nan=-np.inf), 1)
    return np.where(bars[3] > high, 1, np.where(bars[3] < low, -1, 0)).astype(np.int8)


def reversion(bars: Array) -> Wishes:
    """Trade back into the band of two deviations around twenty bars."""
    upper, _, lower = talib.BBANDS(bars[3], 20, 2, 2)
    return np.where(bars[3] < lower, 1, np.where(bars[3] > upper, -1, 0)).astype(np.int8)


RULES: Mapping[str, Callable[[Array], Wishes]] = MappingProxyType(
    {each.__name__: each for each in (momentum, deeply_oversold, breakout, reversion)}
)


@dataclass(frozen=True, slots=True)
class Style:
    """A rule, and its exits: at a gain or a loss in deviations of a bar, or after `patience` bars.

    After a position `rest` bars pass without one.
    """

    rule: str
    gain: float
    loss: float
    patience: int
    rest: int = 0

    def wishes(self, bars: Array) -> Wishes:
        """Return the rule's result at each bar."""
        return RULES[self.rule](bars)

    def is_over(self, moved: float, deviation: float, held: int) -> bool:
        """Return whether to close a position that has `moved` (a fraction, above 0 is a gain) in `held` bars."""
        return held > 0 and (moved >= self.gain * deviation or moved <= -self.loss * deviation or held >= self.patience)


def deviation_of(bars: Array) -> float:
    """Return the deviation of a bar's move, as a fraction."""
    return max(float(np.std(np.diff(np.log(bars[3, -60:])))), 1e-5)


def _before(values: NDArray[Scalar], count: int) -> NDArray[Scalar]:
    return np.concatenate((np.full(count, values[0]), values[:-count]))


def _deviation(close: Array) -> Array:
    moves = np.diff(np.log(close), prepend=np.log(close[0]))
    deviations: Array = np.maximum(np.nan_to_num(talib.STDDEV(moves, 60), nan=np.inf), 1e-6)
    return deviations


def _signs(values: Array, threshold: float) -> Wishes:
    return np.where(values > threshold, 1, np.where(values < -threshold, -1, 0)).astype(np.int8)
