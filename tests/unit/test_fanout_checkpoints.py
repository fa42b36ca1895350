"""The arithmetic of resuming: each event number of a session maps back to its feed_seq."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handlers.streams.checkpoints import (
    Checkpoint,
    Seeker,
    append_checkpoint,
    floor_checkpoint,
    pack_checkpoints,
    trim_checkpoints,
    unpack_checkpoints,
)


@dataclass
class Published:
    """A signal, as far as a filter that looks at the score needs it."""

    feed_seq: int
    score: int
    asset_category: str = "crypto"
    asset_type: str = "crypto"
    provider_id: str = ""


@dataclass
class Session:
    """A session that follows the fan-out's rules, and records what its client has seen at each number."""

    feed: list[Published]
    checkpoints: list[Checkpoint] = field(default_factory=list)
    n: int = 0
    cursor: int = 0
    seen: dict[int, int] = field(default_factory=dict)  # number → how many matching signals had been seen by then

    def event(self) -> None:
        """Send an event that is no signal: its checkpoint first, then its number."""
        self.checkpoints.append((self.n + 1, self.cursor))
        self._number()

    def deliver(self, upto: int) -> None:
        """Deliver the matching signals up to a feed_seq."""
        for signal in self.feed:
            if self.cursor < signal.feed_seq <= upto and matches(signal):
                self.cursor = signal.feed_seq
                self._number()
        self.cursor = max(self.cursor, upto)

    def place_recorded(self) -> None:
        """Record a checkpoint without an event, as for a client that is behind."""
        self.checkpoints.append((self.n, self.cursor))

    def _number(self) -> None:
        self.n += 1
        self.seen[self.n] = sum(matches(signal) for signal in self.feed if signal.feed_seq <= self.cursor)


def matches(signal: object) -> bool:
    """Return whether a signal passes the filter of these tests."""
    assert isinstance(signal, Published)
    return signal.score >= 50


def locate(checkpoints: list[Checkpoint], n: int, feed: list[Published], *, chunk: int) -> int | None:
    """Locate as `Resumer._locate` does, over a list."""
    checkpoint = floor_checkpoint(checkpoints, n)
    if checkpoint is None:
        return None
    if checkpoint[0] == n:
        return checkpoint[1]
    seeker = Seeker(n - checkpoint[0], matches)
    later = [signal for signal in feed if signal.feed_seq > checkpoint[1]]
    for start in range(0, len(later), chunk):
        found = seeker.feed(later[start : start + chunk])
        if found is not None:
            return found
    return None


STEPS = st.lists(st.one_of(st.just("event"), st.just("record"), st.integers(1, 40)), max_size=40)


@given(
    scores=st.lists(st.integers(0, 99), max_size=200), steps=STEPS, chunk=st.integers(1, 9), begin=st.integers(0, 50)
)
@example(scores=[99, 0, 99], steps=["event", 3, "event", "event", "record", "event"], chunk=1, begin=0)
def test_every_number_leads_to_a_place_where_exactly_the_unseen_signals_follow(
    scores: list[int], steps: list[str | int], chunk: int, begin: int
) -> None:
    feed = [Published(seq, score) for seq, score in enumerate(scores, 1)]
    session = Session(feed, cursor=min(begin, len(feed)))
    session.event()  # session_start
    for step in steps:
        if step == "event":
            session.event()
        elif step == "record":
            session.place_recorded()
        elif isinstance(step, int):
            session.deliver(min(session.cursor + step, len(feed)))
    # The stored checkpoints are packed step by step, and unpacked by another gateway.
    packed, last = b"", (0, 0)
    for checkpoint in session.checkpoints:
        packed, last = append_checkpoint(packed, last, checkpoint), checkpoint
    checkpoints = unpack_checkpoints(packed)
    assert checkpoints == session.checkpoints
    for n, seen in session.seen.items():
        place = locate(checkpoints, n, feed, chunk=chunk)
        assert place is not None
        assert sum(matches(signal) for signal in feed if signal.feed_seq <= place) == seen
    # Numbers before the first checkpoint, or past the feed's end, are not found.
    assert locate(checkpoints, 0, feed, chunk=chunk) is None
    assert locate(checkpoints, session.n + len(feed) + 1, feed, chunk=chunk) is None


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**62)), max_size=30), st.integers(1, 40))
def test_marks_survive_being_packed_and_trimmed(steps: list[Checkpoint], keep: int) -> None:
    checkpoints: list[Checkpoint] = []
    n = seq = 0
    for dn, dseq in steps:
        n, seq = n + dn, seq + dseq
        checkpoints.append((n, seq))
    assert unpack_checkpoints(pack_checkpoints(checkpoints)) == checkpoints
    assert unpack_checkpoints(trim_checkpoints(pack_checkpoints(checkpoints), keep)) == checkpoints[-keep:]


@pytest.mark.parametrize("step", [0, 1, 0x7F, 0x80, 0x81, 0x3FFF, 0x4000, 0x4001, 2**62])
def test_steps_at_the_borders_of_their_encoding_survive_it(step: int) -> None:
    assert unpack_checkpoints(pack_checkpoints([(step, 1), (2 * step, step + 1)])) == [(step, 1), (2 * step, step + 1)]


def test_an_idle_session_costs_two_bytes_a_heartbeat() -> None:
    checkpoints = [(n, 5_000_000) for n in range(1, 64)]
    assert len(pack_checkpoints(checkpoints)) == 2 * len(checkpoints) + 3


@pytest.mark.parametrize("packed", [b"\x80", b"\x01", b"\x01\x01\x01", b"\x01\x80"])
def test_text_that_is_no_checkpoints_is_a_value_error(packed: bytes) -> None:
    with pytest.raises(ValueError, match="not checkpoints"):
        unpack_checkpoints(packed)


def test_the_newest_of_the_marks_at_a_number_counts() -> None:
    checkpoints = [(1, 10), (4, 20), (4, 25), (9, 30)]
    assert [floor_checkpoint(checkpoints, n) for n in (0, 1, 3, 4, 8, 9, 99)] == [
        None, (1, 10), (1, 10), (4, 25), (4, 25), (9, 30), (9, 30),
    ]  # fmt: skip
