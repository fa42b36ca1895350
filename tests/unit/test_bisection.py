"""Items at fault in a batch are found by halves; errors that are no item's fault end the search."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from config.bisection import bisect_failures


class Store:
    """Stores numbers a batch at a time; refuses a batch with a bad one."""

    def __init__(self, *bad: int, lost_at: int | None = None) -> None:
        self.stored: list[int] = []
        self.attempts: list[list[int]] = []
        self._bad = set(bad)
        self._lost_at = lost_at

    async def __call__(self, batch: Sequence[int]) -> None:
        self.attempts.append(list(batch))
        if len(batch) == 1 and batch[0] == self._lost_at:
            raise ConnectionError("the server is gone")
        if self._bad & set(batch) or self._lost_at in batch:
            raise ValueError(f"refused {sorted(self._bad & set(batch))}")
        self.stored += batch


async def test_a_batch_without_faults_is_attempted_once() -> None:
    store = Store()
    assert await bisect_failures(range(100), store) == []
    assert store.stored == list(range(100))
    assert len(store.attempts) == 1


async def test_an_empty_batch_is_not_attempted() -> None:
    store = Store()
    assert await bisect_failures([], store) == []
    assert store.attempts == []


@pytest.mark.parametrize("bad", [(0,), (99,), (41,), (3, 4, 97), tuple(range(100))])
async def test_items_that_fail_alone_are_returned_in_order_and_all_others_are_done_once(bad: tuple[int, ...]) -> None:
    store = Store(*bad)
    failed = await bisect_failures(range(100), store)
    assert [item for item, _ in failed] == list(bad)
    assert [str(error) for _, error in failed] == [f"refused [{each}]" for each in bad]
    assert store.stored == [each for each in range(100) if each not in bad]


async def test_one_item_at_fault_takes_two_attempts_for_each_halving() -> None:
    store = Store(41)
    await bisect_failures(range(128), store)
    assert len(store.attempts) == 1 + 2 * 7


async def test_an_error_that_is_no_items_fault_is_raised_at_once_and_what_came_before_it_stays() -> None:
    store = Store(lost_at=5)
    with pytest.raises(ConnectionError):
        await bisect_failures(range(8), store, passing=(ConnectionError,))
    assert store.stored == [0, 1, 2, 3, 4]
    assert store.attempts[-1] == [5]
