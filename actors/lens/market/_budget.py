"""Limit the calls to a provider by their weight within a sliding minute."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

_WINDOW_SECONDS: Final = 60.0


class Budget:
    """Allow at most `weight_per_minute` in any 60 seconds, so that the provider has no reason to answer 429."""

    def __init__(self, weight_per_minute: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._limit = weight_per_minute
        self._now = now
        self._spent: deque[tuple[float, int]] = deque()  # at most `weight_per_minute` entries: each weighs one or more
        self._sum = 0

    def take(self, weight: int, share: float = 1.0) -> bool:
        """Spend `weight` (≥ 1) if it fits into `share` (0–1) of the limit; return False if it does not.

        Calls that are dispensable take a smaller share, and so leave the rest to those that are not.
        """
        now = self._now()
        while self._spent and self._spent[0][0] <= now - _WINDOW_SECONDS:
            self._sum -= self._spent.popleft()[1]
        if self._sum + weight > self._limit * share:
            return False
        self._spent.append((now, weight))
        self._sum += weight
        return True
