"""The ring: the signals that it holds, returns and evicts."""

from __future__ import annotations

import orjson

from handlers.streams.ring import EncodedSignal, Payload, Ring
from schemas.feed import FeedSignal


def signals(first: int, last: int, size: int = 10) -> list[EncodedSignal]:
    return [EncodedSignal(FeedSignal(seq, "crypto", "crypto", 50, "p", b"x" * size)) for seq in range(first, last + 1)]


def after(ring: Ring, seq: int, *, upto: int = 10**9, count: int = 10**9, size_bytes: int = 10**9) -> list[int]:
    return [signal.feed_seq for signal in ring.after(seq, upto=upto, count=count, size_bytes=size_bytes)]


def test_the_ring_gives_what_follows_a_place_within_each_bound() -> None:
    ring = Ring()
    ring.start(10)
    ring.append(signals(11, 20))
    assert after(ring, 10) == list(range(11, 21))
    assert after(ring, 15, upto=18) == [16, 17, 18]
    assert after(ring, 15, count=2) == [16, 17]
    assert after(ring, 15, size_bytes=2 * len(signals(1, 1)[0].event)) == [16, 17]
    assert after(ring, 15, size_bytes=1) == [16], "one is always given, however large"
    assert after(ring, 20) == []


def test_the_ring_forgets_the_oldest_and_says_so() -> None:
    ring = Ring(capacity=80)
    ring.start(0)
    for first in range(1, 1001, 10):
        ring.append(signals(first, first + 9))
        assert len(ring) <= 100
        assert after(ring, ring.floor) == list(range(ring.floor + 1, ring.last + 1))
        assert ring.covers(ring.floor)
        assert not ring.covers(ring.floor - 1)
    assert ring.last == 1000
    assert len(ring) >= 80


def test_the_ring_is_bounded_in_bytes_too() -> None:
    ring = Ring(capacity=1000, capacity_bytes=10_000)
    ring.start(0)
    ring.append(signals(1, 100, size=1000))
    assert len(ring) < 11
    assert after(ring, ring.floor)[-1] == 100
    ring.append(signals(101, 101, size=50_000))
    assert (len(ring), ring.floor, ring.last) == (0, 101, 101)
    ring.append(signals(102, 103))
    assert after(ring, 101) == [102, 103]


def test_places_that_are_not_there_are_skipped() -> None:
    ring = Ring()
    ring.start(0)
    ring.append([*signals(1, 3), *signals(7, 9)])
    assert after(ring, 2) == [3, 7, 8, 9]
    assert after(ring, 5, upto=7) == [7]


def test_a_line_break_in_the_json_does_not_end_the_event() -> None:
    payload = Payload(b'{"a":\r\n1,\n"b":"\\n"}')
    lines = payload.event.decode().split("\n")
    assert lines[0] == ""
    assert lines[1].startswith("data: ")
    assert lines[2:] == ["", ""]
    assert orjson.loads(lines[1][6:]) == {"a": 1, "b": "\n"}
    assert orjson.loads(b'{"event":"signal","id":"s:1' + payload.message)["data"] == {"a": 1, "b": "\n"}
