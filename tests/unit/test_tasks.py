"""Background tasks: kept, named, logged, and ended even when a cancellation gets lost."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from config import tasks


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 1:
                    raise

    task = tasks.spawn(stubborn(), name="stubborn")
    await asyncio.sleep(0)
    await asyncio.wait_for(tasks.cancel(task, None), 5)
    assert task.cancelled()


async def test_the_failure_of_a_task_that_nobody_awaits_is_logged_under_its_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails() -> None:
        raise ValueError("the reason")

    with caplog.at_level(logging.ERROR):
        tasks.spawn(fails(), name="doomed")
        gc.collect()
        await asyncio.sleep(0.01)
    assert "doomed" in caplog.text
    assert "the reason" in caplog.text
