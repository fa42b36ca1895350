"""Waits between attempts: longer after each failure, up to a ceiling, and different in each process."""

from __future__ import annotations

import random

JITTER = 0.25
_MOST_DOUBLINGS = 60  # beyond any ceiling; with about a thousand a float overflows


def jittered(seconds: float, jitter: float = JITTER) -> float:
    """Return a wait of about `seconds`, so that processes that began together do not go on together."""
    return seconds * random.uniform(1 - jitter, 1 + jitter)  # noqa: S311 - spreads load, guards nothing


def doubled(failures: int, first: float, ceiling: float) -> float:
    """Return `first` after one failure, twice as much after each further one in a row, `ceiling` at most."""
    return min(first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), ceiling)


def backoff_seconds(failures: int, first: float, ceiling: float) -> float:
    """Return the wait after so many failures in a row (1, 2, …): `first`, doubled each time up to `ceiling`, ± 25 %."""
    return jittered(doubled(failures, first, ceiling))


class Backoff:
    """Waits that double from `first` to `ceiling` seconds, each ± 25 %."""

    def __init__(self, first: float, ceiling: float) -> None:
        self._first = first
        self._ceiling = ceiling
        self._failures = 0

    def next(self) -> float:
        """Return the next wait, in seconds."""
        self._failures += 1
        return backoff_seconds(self._failures, self._first, self._ceiling)

    def reset(self) -> None:
        """Start again at `first`, after a success."""
        self._failures = 0
