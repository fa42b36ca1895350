"""A board as it was: any earlier state against a copy that was kept of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sortedcontainers import SortedList

from actors.leaderboards import history
from actors.leaderboards.history import BoardHistory

MASK = 15  # the lowest bits of a key say whose it is


class Board:
    """One list of keys, one key for each of up to 16 owners, and a copy of each state that was shown."""

    def __init__(self) -> None:
        self.keys: SortedList[int] = SortedList()
        self.history = BoardHistory(1, 0)
        self.shown: dict[int, list[int]] = {}

    def put(self, owner: int, value: int | None) -> None:
        old = next((key for key in self.keys if key & MASK == owner), None)
        new = None if value is None else (value << 4) + owner
        if old == new:
            return
        if old is not None:
            self.keys.remove(old)
        if new is not None:
            self.keys.add(new)
        self.history.note(0, old, new)

    def show(self) -> None:
        self.shown[self.history.show(0)] = list(self.keys)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 15), st.none() | st.integers(-5, 5)),
        st.tuples(st.just("signal"), st.integers(1, 3), st.none()),
        st.tuples(st.just("show"), st.just(0), st.none()),
    ),
    max_size=60,
)


@given(STEPS)
def test_every_state_that_was_shown_is_read_again(steps: list[tuple[str, int, int | None]]) -> None:
    board = Board()
    for kind, number, value in steps:
        if kind == "put":
            board.put(number, value)
        elif kind == "signal":
            board.history.advance(board.history.as_of + number, at=0.0)
        else:
            board.show()
    for as_of, keys in board.shown.items():
        difference = board.history.difference(0, as_of)
        assert difference is not None
        assert difference.keys(board.keys, 0, 100) == keys
        assert difference.keys(board.keys, 2, 3) == keys[2:5]
        for rank, key in enumerate(keys, start=1):
            present = next((each for each in board.keys if each & MASK == key & MASK), None)
            assert difference.key_of(key & MASK, present, MASK) == key
            assert difference.rank(board.keys, key) == rank
        gone = {owner for owner in range(16) if owner not in {key & MASK for key in keys}}
        for owner in gone:
            present = next((each for each in board.keys if each & MASK == owner), None)
            assert difference.key_of(owner, present, MASK) is None


def test_a_state_between_two_signals_is_that_of_the_earlier_one() -> None:
    board = Board()
    board.put(1, 10)
    board.history.advance(5, at=0.0)
    board.put(1, 20)
    board.history.advance(9, at=1.0)
    board.put(1, 30)
    for as_of, value in ((4, 10), (5, 20), (8, 20), (9, 30), (100, 30)):
        difference = board.history.difference(0, as_of)
        assert difference is not None
        assert difference.keys(board.keys, 0, 1) == [(value << 4) + 1]


def test_states_are_kept_for_five_minutes() -> None:
    board = Board()
    board.put(1, 10)
    board.history.advance(5, at=100.0)  # the state of 0 has ended
    board.history.advance(6, at=399.0)
    assert board.history.difference(0, 4) is not None
    board.history.advance(7, at=401.0)
    assert board.history.difference(0, 4) is None
    assert board.history.difference(0, 5) is not None


def test_states_behind_too_many_changes_are_forgotten() -> None:
    board = Board()
    board.put(1, 0)
    board.show()
    board.history.advance(1, at=0.0)
    for number in range(history.MOST_CHANGES):
        board.put(1, number + 1)
    assert board.history.difference(0, 0) is not None
    board.put(1, -1)
    board.put(2, -1)
    assert board.history.difference(0, 0) is None
    assert board.history.difference(0, 1) is not None
