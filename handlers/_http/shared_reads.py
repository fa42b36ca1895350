"""Share reads between concurrent requests: one read for all that wait for the same key, or one for many keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar, cast

from config.tasks import spawn

Answer = TypeVar("Answer")
Key = TypeVar("Key", bound=Hashable)
_Waiting = tuple["asyncio.Future[object]", Callable[[], Awaitable[object]]]


class SharedReads:
    """Runs one read at a time for each key. A caller that arrives during a read shares the next with all others.

    So no answer is older than its question: this is not a cache, and nothing is kept. Memory is bounded by the
    requests that are under way. When a read fails, those who wait for the next one fail with it: they have waited long
    enough for an answer.
    """

    def __init__(self) -> None:
        self._busy: dict[Hashable, _Waiting | None] = {}  # None: nobody waits

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return or raise what `read` does, or another caller's read with an equal key that began after this call."""
        if key in self._busy:
            waiting = self._busy[key]
            if waiting is None:
                self._busy[key] = waiting = asyncio.get_running_loop().create_future(), read
            # Shielded: a cancelled caller does not cancel it for the others. An equal key means an equal type.
            return cast("Answer", await asyncio.shield(waiting[0]))
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
            except Exception as error:  # noqa: BLE001 - passed on to those who asked
                future.set_exception(error)
                future.exception()  # perhaps all callers have gone
                self._fail(key, error)
        del self._busy[key]

    def _fail(self, key: Hashable, error: Exception) -> None:
        waiting = self._busy[key]
        if waiting is not None:
            self._busy[key] = None
            waiting[0].set_exception(error)
            waiting[0].exception()


class BatchedReads(Generic[Key, Answer]):
    """Reads single items in batches: `read_many` answers for each of its keys, in their order.

    One batch at a time. A caller that arrives during a batch waits for the next, so no answer predates its question.
    When a batch fails, those who wait for the next one fail with it, as with `SharedReads`.
    """

    def __init__(self, read_many: Callable[[Sequence[Key]], Awaitable[Sequence[Answer]]], *, most: int = 64) -> None:
        self._read_many = read_many
        self._most = most
        self._waiting: dict[Key, asyncio.Future[Answer]] = {}
        self._is_busy = False

    async def get(self, key: Key) -> Answer:
        """Return the item of `key`. Raises what the read raises."""
        if self._is_busy:
            future = self._waiting.get(key)
            if future is None:
                self._waiting[key] = future = asyncio.get_running_loop().create_future()
            return await asyncio.shield(future)  # a cancelled caller does not cancel it for the others
        self._is_busy = True
        try:
            return (await self._read_many([key]))[0]
        except Exception as error:
            self._fail(self._take(len(self._waiting)), error)
            raise
        finally:
            self._is_busy = bool(self._waiting)
            if self._is_busy:
                spawn(self._work_off(), name="batched reads")

    async def _work_off(self) -> None:
        while self._waiting:
            batch = self._take(self._most)
            try:
                answers = await self._read_many(list(batch))
            except Exception as error:  # noqa: BLE001 - passed on to those who asked
                self._fail(batch | self._take(len(self._waiting)), error)
            else:
                for future, answer in zip(batch.values(), answers, strict=True):
                    future.set_result(answer)
        self._is_busy = False

    def _take(self, most: int) -> dict[Key, asyncio.Future[Answer]]:
        return {key: self._waiting.pop(key) for key in list(self._waiting)[:most]}

    @staticmethod
    def _fail(batch: dict[Key, asyncio.Future[Answer]], error: Exception) -> None:
        for future in batch.values():
            future.set_exception(error)
            future.exception()  # perhaps all callers have gone


class KeptReads:
    """Shared reads whose results stay valid for some seconds: for what is expensive and may be that old."""

    def __init__(self, seconds: float, *, most: int = 256) -> None:
        self._seconds = seconds
        self._most = most
        self._reads = SharedReads()
        self._kept: dict[Hashable, tuple[float, object]] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return what `read` returns, or returned less than `seconds` ago. Raises what it raises, which is not kept."""
        kept = self._kept.get(key)
        if kept is not None and kept[0] > time.monotonic():
            return cast("Answer", kept[1])
        answer = await self._reads.get(key, read)
        if len(self._kept) >= self._most:
            self._kept.clear()
        self._kept[key] = time.monotonic() + self._seconds, answer
        return answer
