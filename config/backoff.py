"""Waits between failed attempts: longer each time, up to a bound, and different in each process."""

from __future__ import annotations

import random

JITTER = 0.25


class Backoff:
    """Waits that double from `first` to `longest` seconds, each ± 25 %."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._wait = first

    def next(self) -> float:
        """Return the next wait, in seconds."""
        wait, self._wait = self._wait, min(self._wait * 2, self._longest)
        return wait * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, guards nothing

    def reset(self) -> None:
        """Start again at `first`, after a success."""
        self._wait = self._first
