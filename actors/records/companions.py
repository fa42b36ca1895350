"""Find providers whose days move together: Pearson's correlation of daily returns, in blocks of a matrix."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)

WINDOW_DAYS: Final = 90
LEAST_DAYS: Final = 30
"""Of both providers together: fewer days say nothing."""
LEAST_CORRELATION: Final = 0.9
MOST_COMPARED: Final = 20_000
"""Providers: 12 s of a core; of more, those with the most days."""
MOST_SHOWN: Final = 10
"""Companions of one provider: the closest."""

_BLOCK: Final = 1_000


class Days(Generic[Key]):
    """The daily returns of providers in a window: a row each, without those that have too few."""

    def __init__(self, results: Iterable[tuple[Key, int, float]]) -> None:
        rows: dict[Key, list[tuple[int, float]]] = {}
        for key, age, result in results:
            rows.setdefault(key, []).append((age, result))
        chosen = [key for key, days in rows.items() if len(days) >= LEAST_DAYS]
        self.keys = heapq.nlargest(MOST_COMPARED, chosen, key=lambda each: len(rows[each]))
        self.values: Floats = np.zeros((len(self.keys), WINDOW_DAYS))
        self.known: Floats = np.zeros((len(self.keys), WINDOW_DAYS))
        for place, key in enumerate(self.keys):
            for age, result in rows[key]:
                self.values[place, age] = result
                self.known[place, age] = 1.0


def companions(days: Days[Key]) -> list[tuple[Key, Key, float]]:
    """Return pairs, each in both orders, whose correlation is above 0.9 or below −0.9, over the days they share."""
    found: dict[int, list[tuple[float, float, int]]] = {}
    starts = range(0, len(days.keys), _BLOCK)
    for first in starts:
        for second in starts:
            if second < first:
                continue
            block = _correlations(days, first, second)
            for a, b in np.argwhere(np.abs(block) > LEAST_CORRELATION):
                left, right, value = first + int(a), second + int(b), float(block[a, b])
                if left < right:
                    _keep(found.setdefault(left, []), value, right)
                    _keep(found.setdefault(right, []), value, left)
    return [(days.keys[one], days.keys[other], value) for one, kept in found.items() for _, value, other in kept]


def _keep(kept: list[tuple[float, float, int]], value: float, other: int) -> None:
    item = (abs(value), value, other)
    if len(kept) < MOST_SHOWN:
        heapq.heappush(kept, item)
    else:
        heapq.heappushpop(kept, item)


def _correlations(days: Days[Key], first: int, second: int) -> Floats:
    """Return the correlations of two blocks over the days that each pair shares; 0 where there are too few."""
    x, known_x = days.values[first : first + _BLOCK], days.known[first : first + _BLOCK]
    y, known_y = days.values[second : second + _BLOCK], days.known[second : second + _BLOCK]
    count = known_x @ known_y.T
    sum_x, sum_y = x @ known_y.T, known_x @ y.T
    spread_x = count * (x**2 @ known_y.T) - sum_x**2
    spread_y = count * (known_x @ (y**2).T) - sum_y**2
    together = count * (x @ y.T) - sum_x * sum_y
    # Rounding alone leaves this much of a spread between equal numbers.
    is_known = (count >= LEAST_DAYS) & (spread_x > 1e-18) & (spread_y > 1e-18)
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = np.where(is_known, together / np.sqrt(spread_x * spread_y), 0.0)
    return np.clip(result, -1.0, 1.0)
