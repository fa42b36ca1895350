"""Signals that arrive out of order, twice or never leave in the feed's order, once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.streams.order import FeedOrder
from schemas.feed import FeedSignal


def item(seq: int) -> FeedSignal:
    return FeedSignal(seq, "crypto", "crypto", 50, "p", b"{}")


def items(*seqs: int) -> list[FeedSignal]:
    return [item(seq) for seq in seqs]


def places(found: list[FeedSignal]) -> list[int]:
    return [each.feed_seq for each in found]


def started(last: int, *, capacity: int = 4096) -> FeedOrder:
    order = FeedOrder(capacity=capacity)
    order.start(last)
    return order


def test_the_next_message_passes_at_once() -> None:
    order = started(4)
    assert places(order.offer(items(5, 6))) == [5, 6]
    assert not order.is_missing


def test_messages_after_a_gap_wait_for_it() -> None:
    order = started(0)
    assert order.offer(items(3, 4)) == []
    assert order.is_missing
    assert places(order.offer(items(1))) == [1]
    assert places(order.fetched(items(2, 3))) == [2, 3, 4]
    assert not order.is_missing


def test_a_message_that_has_passed_does_not_pass_again() -> None:
    order = started(0)
    order.offer(items(1, 2, 3))
    assert order.offer(items(2, 1)) == []
    assert order.fetched(items(1, 2, 3)) == []


def test_past_its_capacity_it_forgets_what_it_can_fetch() -> None:
    order = started(0, capacity=3)
    assert order.offer(items(*range(2, 50))) == []
    assert places(order.offer(items(1))) == [1, 2, 3, 4]
    assert order.is_missing
    assert places(order.fetched(items(*range(5, 50)))) == list(range(5, 50))
    assert not order.is_missing


def test_a_place_that_postgres_does_not_have_is_passed_over_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    order = started(0)
    order.offer(items(6))
    assert places(order.fetched(items(1, 2, 5))) == [1, 2, 5, 6]
    assert [each.getMessage() for each in caplog.records] == ["the feed has no signal at the places 3 to 4"]


def test_a_fetch_that_begins_before_the_place_reached_goes_on_from_there() -> None:
    order = started(2)
    assert places(order.fetched(items(1, 2, 3))) == [3]


def test_fetched_signals_take_no_room_from_those_held_back() -> None:
    order = started(0, capacity=1)
    order.offer(items(2))
    assert places(order.fetched(items(1, 2))) == [1, 2]
    order.offer(items(4))
    assert places(order.offer(items(3))) == [3, 4]


def test_an_order_that_has_not_started_misses_nothing() -> None:
    order = FeedOrder()
    assert (order.last, order.is_missing) == (0, False)


@given(st.data())
def test_any_mixture_of_messages_and_fetches_yields_the_whole_feed_once(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 60))
    order = started(0, capacity=data.draw(st.integers(1, 60)))
    passed: list[FeedSignal] = []
    for _ in range(data.draw(st.integers(0, 30))):
        if data.draw(st.booleans()):
            passed += order.offer(items(*data.draw(st.lists(st.integers(1, total), max_size=8))))
        else:
            page = data.draw(st.integers(1, 10))
            passed += order.fetched(items(*range(order.last + 1, min(order.last + page, total) + 1)))
        assert places(passed) == list(range(1, order.last + 1))
    passed += order.fetched(items(*range(order.last + 1, total + 1)))
    assert places(passed) == list(range(1, total + 1))
    assert not order.is_missing
