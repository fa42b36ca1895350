"""Reads that many ask for at once: made once for all who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from config.tasks import spawn

Answer = TypeVar("Answer")
_Waiting = tuple["asyncio.Future[Any]", Callable[[], Awaitable[Any]]]


class SharedReads:
    """For each key one read at a time. Who asks while one is under way waits for the next, together with all others.

    So no answer is older than its question: this is not a cache, and nothing is kept. What is held is bounded by the
    requests that are under way. When a read fails, those who wait for the next one fail with it: they have waited long
    enough to be told.
    """

    def __init__(self) -> None:
        self._busy: dict[Hashable, _Waiting | None] = {}  # None: nobody waits

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Answer]]) -> Answer:
        """What `read` answers or raises, or another caller's with an equal key that began after this call."""
        if key in self._busy:
            waiting = self._busy[key]
            if waiting is None:
                self._busy[key] = waiting = asyncio.get_running_loop().create_future(), read
            answer: Answer = await asyncio.shield(waiting[0])  # one who goes away takes nothing from the others
            return answer
        self._busy[key] = None
        try:
            return await read()
        except Exception as error:
            self._fail(key, error)
            raise
        finally:
            if self._busy[key] is None:
                del self._busy[key]
            else:
                spawn(self._work_off(key), name="shared reads")

    async def _work_off(self, key: Hashable) -> None:
        while (waiting := self._busy[key]) is not None:
            future, read = waiting
            self._busy[key] = None
            try:
                future.set_result(await read())
            except Exception as error:  # noqa: BLE001 - theirs, who asked
                future.set_exception(error)
                future.exception()  # perhaps nobody is there any more
                self._fail(key, error)
        del self._busy[key]

    def _fail(self, key: Hashable, error: Exception) -> None:
        waiting = self._busy[key]
        if waiting is not None:
            self._busy[key] = None
            waiting[0].set_exception(error)
            waiting[0].exception()
