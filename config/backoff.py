"""Waits between attempts that fail: longer each time, up to a bound, and never the same for two processes."""

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
        """How long to wait now, in seconds."""
        wait, self._wait = self._wait, min(self._wait * 2, self._longest)
        return wait * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, guards nothing

    def reset(self) -> None:
        """All is well again."""
        self._wait = self._first
