"""Merge signals from Redis and from Postgres into the feed's one order: none lost, none twice."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from schemas.feed import FeedSignal

log = logging.getLogger(__name__)


class FeedOrder:
    """The offset reached, and the signals held back because one before them is missing.

    At most `capacity` are held; those past it are dropped, and fetched once the gap is filled.
    """

    def __init__(self, *, capacity: int = 4096) -> None:
        self.last = 0
        self._capacity = capacity
        self._held: dict[int, FeedSignal] = {}
        self._newest = 0

    @property
    def is_missing(self) -> bool:
        """Whether something newer than `last` is known, so that what lies between has to be fetched."""
        return self._newest > self.last

    def start(self, last: int) -> None:
        """Begin after an offset of the feed's order."""
        self.last = last
        self._held.clear()

    def offer(self, items: Iterable[FeedSignal]) -> list[FeedSignal]:
        """Take what Redis brought, in any order; returns the signals that are next, in order."""
        for item in items:
            if item.feed_seq > self.last:
                self._newest = max(self._newest, item.feed_seq)
                if len(self._held) < self._capacity or item.feed_seq == self.last + 1:
                    self._held[item.feed_seq] = item
        return self._release()

    def fetched(self, items: Iterable[FeedSignal]) -> list[FeedSignal]:
        """Take what Postgres holds after an offset that was reached; returns the signals that are next, in order.

        What Postgres does not have between two of its signals will never be there (see `db.signals.feed.fetch_after`).
        """
        ready: list[FeedSignal] = []
        for item in items:
            if item.feed_seq <= self.last:
                continue
            if item.feed_seq != self.last + 1:
                log.error("the feed has no signal at the places %d to %d", self.last + 1, item.feed_seq - 1)
            ready.append(item)
            self.last = item.feed_seq
        self._newest = max(self._newest, self.last)
        if ready:
            for seq in [seq for seq in self._held if seq <= self.last]:
                del self._held[seq]
        return ready + self._release()

    def _release(self) -> list[FeedSignal]:
        ready: list[FeedSignal] = []
        while (item := self._held.pop(self.last + 1, None)) is not None:
            ready.append(item)
            self.last = item.feed_seq
        return ready
