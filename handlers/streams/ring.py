"""Keep the newest signals of the feed, in order and already encoded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from operator import attrgetter

from schemas.feed import RETRACTION, SIGNAL, FeedSignal

_SEQ = attrgetter("feed_seq")
_NAMES = {event: event.encode() for event in (SIGNAL, RETRACTION)}


class Payload:
    """An event's data, encoded once for all receivers; what is put before it names the event and its id."""

    __slots__ = ("_message", "event")

    def __init__(self, data: bytes) -> None:
        # A line break would end the event's data early. In JSON it can only be white space between tokens.
        if b"\n" in data or b"\r" in data:
            data = data.replace(b"\n", b" ").replace(b"\r", b" ")
        self.event = b"\ndata: %b\n\n" % data
        self._message: bytes | None = None

    @property
    def message(self) -> bytes:
        """The end of a socket's JSON message; made when the first socket needs it."""
        if self._message is None:
            self._message = b'","data":%b}' % self.event[7:-2]
        return self._message


class EncodedSignal(Payload):
    """A published signal, or its retraction, ready to be sent: its offset, the fields that filters read, its payload.

    `name` is its event's.
    """

    __slots__ = ("asset_category", "asset_type", "feed_seq", "name", "provider_id", "score")

    def __init__(self, item: FeedSignal) -> None:
        super().__init__(item.data)
        self.name = _NAMES.get(item.event) or item.event.encode()
        self.feed_seq = item.feed_seq
        self.asset_category = item.asset_category
        self.asset_type = item.asset_type
        self.score = item.score
        self.provider_id = item.provider_id


class Ring:
    """The signals after `floor` up to `last`; the oldest are dropped past `capacity` or `capacity_bytes`."""

    def __init__(self, *, capacity: int = 4096, capacity_bytes: int = 16 << 20) -> None:
        self.floor = 0
        self.last = 0
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._bytes = 0
        self._signals: list[EncodedSignal] = []

    def __len__(self) -> int:
        return len(self._signals)

    def start(self, last: int) -> None:
        """Begin, empty, at an offset of the feed's order."""
        self.floor = self.last = last
        self._signals.clear()
        self._bytes = 0

    def append(self, signals: Iterable[EncodedSignal]) -> None:
        """Add the signals that follow `last`."""
        for signal in signals:
            assert signal.feed_seq > self.last
            self._signals.append(signal)
            self._bytes += len(signal.event)
            self.last = signal.feed_seq
        excess = len(self._signals) - self._capacity
        # An eighth at a time: dropping from the front of a list moves the rest of it.
        if excess > self._capacity // 8 or self._bytes > self._capacity_bytes:
            self._drop(max(excess, 0))

    def covers(self, seq: int) -> bool:
        """Return whether the ring holds everything after `seq`."""
        return seq >= self.floor

    def after(self, seq: int, *, upto: int, count: int, size_bytes: int) -> list[EncodedSignal]:
        """Return the signals that follow `seq`, none past `upto`; at most `count` and, past the first, `size_bytes`."""
        first = bisect_right(self._signals, seq, key=_SEQ)
        found: list[EncodedSignal] = []
        for signal in self._signals[first : first + count]:
            size_bytes -= len(signal.event)
            if signal.feed_seq > upto or (found and size_bytes < 0):
                break
            found.append(signal)
        return found

    def _drop(self, number: int) -> None:
        kept = self._bytes - sum(len(signal.event) for signal in self._signals[:number])
        while kept > self._capacity_bytes:
            kept -= len(self._signals[number].event)
            number += 1
        self.floor = self._signals[number - 1].feed_seq
        del self._signals[:number]
        self._bytes = kept
