"""Background tasks: named, kept until done, their failures logged. The only use of asyncio's own task factory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TypeVar

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_CANCEL_AGAIN_SECONDS = 0.5

_running: set[asyncio.Task[object]] = set()


def spawn(coroutine: Coroutine[object, None, Result], *, name: str) -> asyncio.Task[Result]:
    """Start `coroutine` in the background; an exception that is not awaited is logged under `name`."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    _running.add(task)  # the loop holds tasks weakly: without this reference one could be collected while it waits
    task.add_done_callback(_finished)
    return task


async def cancel(*tasks: asyncio.Task[object] | None) -> None:
    """Cancel the tasks and wait until they have ended.

    A cancellation can get lost: Python 3.11's `asyncio.wait_for`, which drivers use, swallows one that comes together
    with its result. A loop that goes on after it would be waited for in vain, so it is cancelled again.
    """
    alive = {task for task in tasks if task is not None and not task.done()}
    while alive:
        for task in alive:
            task.cancel()
        _, alive = await asyncio.wait(alive, timeout=_CANCEL_AGAIN_SECONDS)


def _finished(task: asyncio.Task[object]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background task %s failed", task.get_name(), exc_info=error)
