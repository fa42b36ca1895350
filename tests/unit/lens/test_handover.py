"""Accepted events leave at once where it is quiet, and together where there are many."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from actors._runtime.ref import ActorRef
from actors.lens._handover import LINGER_SECONDS, HandOver, linger_after
from actors.lens.messages import Process, Work
from tests.unit.lens.factories import make_signal


class Heard:
    """A reference that records how many events came with each message."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def tell(self, key: str, message: Any) -> bool:
        assert isinstance(message, Process)
        self.batches.append(len(message.work))
        return True


def some(count: int) -> list[Work]:
    return [Work(make_signal()) for _ in range(count)]


def hand_over() -> tuple[HandOver, Heard]:
    heard = Heard()
    return HandOver(cast(ActorRef, heard)), heard


def test_the_wait_grows_with_the_batch_before_and_has_an_end() -> None:
    assert [linger_after(count) for count in (0, 1, 2, 10, 20, 500)] == [0.0, 0.0, 0.01, 0.05, 0.1, 0.1]


async def test_lone_events_leave_at_once() -> None:
    handing, heard = hand_over()
    for _ in range(5):
        handing.add(some(1))
    assert heard.batches == [1] * 5


async def test_events_that_come_after_a_batch_leave_together_when_its_pause_is_over() -> None:
    handing, heard = hand_over()
    handing.add(some(30))
    assert heard.batches == [30]
    for _ in range(4):
        handing.add(some(5))
    assert heard.batches == [30]
    async with asyncio.timeout(LINGER_SECONDS * 20):
        while len(heard.batches) < 2:  # noqa: ASYNC110 - a timer's doing, so there is no event to wait for
            await asyncio.sleep(0.005)
    assert heard.batches == [30, 20]


async def test_the_pause_ends_when_nothing_came() -> None:
    handing, heard = hand_over()
    handing.add(some(2))
    await asyncio.sleep(0.03)
    handing.add(some(1))
    assert heard.batches == [2, 1]


async def test_waiting_events_can_be_sent_before_their_time() -> None:
    handing, heard = hand_over()
    handing.add(some(40))
    handing.add(some(3))
    handing.flush()
    assert heard.batches == [40, 3]
    handing.flush()
    assert heard.batches == [40, 3]
