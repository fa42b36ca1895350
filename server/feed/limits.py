"""How many streams may be open: in this process, for one address, for one user."""

from __future__ import annotations

from collections import Counter

from schemas.errors import Overloaded, RateLimited
from schemas.stream import Viewer

PER_ADDRESS = 20
PER_USER = 5
RETRY_SECONDS = 30  # a stream that is too many does not become one too few within a moment


class StreamLimits:
    """Counts the open streams. The process's own bound always holds, the others only where limits are enabled."""

    def __init__(self, *, max_streams: int, enabled: bool) -> None:
        self._max_streams = max_streams
        self._enabled = enabled
        self.open = 0
        self._by_address: Counter[str] = Counter()
        self._by_user: Counter[str] = Counter()

    def enter(self, viewer: Viewer) -> None:
        """Count one more. Raises Overloaded (503) or RateLimited (429) where that would be too many."""
        if self.open >= self._max_streams:
            raise Overloaded("Too many open streams on this server", retry_after=RETRY_SECONDS)
        if self._enabled and self._by_address[viewer.address] >= PER_ADDRESS:
            raise RateLimited("Too many open streams from this address", retry_after=RETRY_SECONDS)
        if self._enabled and viewer.user_id is not None and self._by_user[viewer.user_id] >= PER_USER:
            raise RateLimited("Too many open streams of this user", retry_after=RETRY_SECONDS)
        self.open += 1
        self._by_address[viewer.address] += 1
        if viewer.user_id is not None:
            self._by_user[viewer.user_id] += 1

    def leave(self, viewer: Viewer) -> None:
        """One of those counted has ended."""
        self.open -= 1
        _decrease(self._by_address, viewer.address)
        if viewer.user_id is not None:
            _decrease(self._by_user, viewer.user_id)


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
