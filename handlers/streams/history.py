"""Read the feed from any offset: from the ring as far back as it goes, else from Postgres, page by page."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from config.tasks import spawn
from db._postgres import Pool, connection
from db.signals.feed import fetch_after
from handlers.streams.ring import EncodedSignal, Ring
from schemas.errors import DatabaseUnavailable

PAGE = 256  # offsets per page; pages begin at its multiples, so that readers of the same stretch share them
KEPT_PAGES = 8
FETCHES = 2  # pages fetched at once: replays must leave the pool's other connections to requests
CHUNK_SIGNALS = 256
CHUNK_BYTES = 256 << 10


class History:
    """The feed up to the ring's end, readable from any offset."""

    def __init__(self, pool: Pool, ring: Ring) -> None:
        self._pool = pool
        self._ring = ring
        self._pages: OrderedDict[int, list[EncodedSignal]] = OrderedDict()
        self._under_way: dict[int, asyncio.Task[list[EncodedSignal] | DatabaseUnavailable]] = {}
        self._turns = asyncio.Semaphore(FETCHES)

    async def after(
        self, seq: int, *, upto: int, count: int = CHUNK_SIGNALS, size_bytes: int = CHUNK_BYTES
    ) -> list[EncodedSignal]:
        """Return the signals that follow `seq`, at least one if there is any up to `upto`, bounded as in `Ring.after`.

        Raises DatabaseUnavailable.
        """
        while not self._ring.covers(seq) and seq < upto:
            found = _cut(await self._page(seq // PAGE), seq, upto, count, size_bytes)
            if found:
                return found
            seq = (seq // PAGE + 1) * PAGE
        return self._ring.after(seq, upto=upto, count=count, size_bytes=size_bytes)

    async def _page(self, number: int) -> list[EncodedSignal]:
        if number in self._pages:
            self._pages.move_to_end(number)
            return self._pages[number]
        task = self._under_way.get(number)
        if task is None:
            task = self._under_way[number] = spawn(self._fetch(number), name=f"feed page {number}")
            task.add_done_callback(lambda _: self._under_way.pop(number))
        page = await asyncio.shield(task)  # a cancelled reader does not cancel it for the others
        if isinstance(page, DatabaseUnavailable):
            raise page
        return page

    async def _fetch(self, number: int) -> list[EncodedSignal] | DatabaseUnavailable:
        end = (number + 1) * PAGE
        is_complete = end <= self._ring.last
        try:
            async with self._turns, connection(self._pool) as conn:
                items = await fetch_after(conn, number * PAGE, PAGE)
        except DatabaseUnavailable as error:
            return error
        page = [EncodedSignal(item) for item in items if item.feed_seq <= end]
        if is_complete:
            self._pages[number] = page
            if len(self._pages) > KEPT_PAGES:
                self._pages.popitem(last=False)
        return page


def _cut(page: list[EncodedSignal], seq: int, upto: int, count: int, size_bytes: int) -> list[EncodedSignal]:
    found: list[EncodedSignal] = []
    for signal in page:
        if signal.feed_seq <= seq:
            continue
        size_bytes -= len(signal.event)
        if signal.feed_seq > upto or len(found) == count or (found and size_bytes < 0):
            break
        found.append(signal)
    return found
