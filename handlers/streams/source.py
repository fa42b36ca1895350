"""Read published signals: Redis announces them at once, Postgres has them all.

Redis pub/sub may lose anything at any time. So Postgres is asked whenever Redis may not have announced
everything: at the start, after each (re)subscription, at a gap in the order, after a silence, and all the time while
Redis is unavailable.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from config.backoff import Backoff, jittered
from config.metrics import FEED_FETCHED
from config.tasks import cancel, spawn
from db._postgres import Pool, connection
from db.signals.feed import fetch_after, fetch_latest, last_seq
from handlers.streams.order import FeedOrder
from schemas.errors import DatabaseUnavailable
from schemas.feed import FeedSignal

log = logging.getLogger(__name__)

Begin = Callable[[int, list[FeedSignal]], None]  # the offset before the first, and the signals after it

PAGE = 512  # signals per query
GRACE_SECONDS = 0.01  # two publishers' messages may overtake each other: most gaps fill by themselves
SILENCE_SECONDS = 2.0  # a publisher that dies between its commit and its message announces nothing
POLL_SECONDS = 0.5  # while Redis is unavailable
RETRY_SECONDS = (0.1, 2.0)  # first and longest wait after a failure


class Source:
    """Orders signals and delivers them, each once."""

    def __init__(
        self,
        pool: Pool,
        *,
        deliver: Callable[[list[FeedSignal]], None],
        make_room: Callable[[], Awaitable[None]],
        is_announced: Callable[[], bool],
    ) -> None:
        """`make_room` waits until more can be delivered: Postgres can be faster than ten thousand sockets.

        `is_announced`: whether Redis announces new signals, to `offer`.
        """
        self.loaded = asyncio.Event()
        self._pool = pool
        self._order = FeedOrder()
        self._deliver = deliver
        self._make_room = make_room
        self._is_announced = is_announced
        self._wake = asyncio.Event()
        self._fetching = asyncio.Lock()
        self._heard_at = 0.0
        self._is_distrusted = False
        self._task: asyncio.Task[None] | None = None

    def start(self, preload: int, begin: Begin) -> None:
        """Load the newest `preload` signals once Postgres is available, hand them to `begin`, then follow."""
        self._task = spawn(self._keep_up(preload, begin), name="feed")

    async def stop(self) -> None:
        """Stop following."""
        await cancel(self._task)

    async def sync(self) -> None:
        """Fetch all signals in Postgres that are newer than those delivered. Raises DatabaseUnavailable."""
        async with self._fetching:
            await self._fetch()

    # Postgres

    async def _keep_up(self, preload: int, begin: Begin) -> None:
        backoff = Backoff(*RETRY_SECONDS)
        while True:
            self._wake.clear()
            self._is_distrusted = False
            try:
                if not self.loaded.is_set():
                    await self._load(preload, begin)
                await self.sync()
            except DatabaseUnavailable:
                await asyncio.sleep(backoff.next())
                continue
            except Exception:  # without this task there is no feed
                log.exception("the feed cannot be read")
                await asyncio.sleep(backoff.next())
                continue
            if self._order.is_missing:  # Postgres does not have what Redis has announced
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            await self._until_needed()

    async def _load(self, preload: int, begin: Begin) -> None:
        async with connection(self._pool) as conn:
            last = await last_seq(conn)
            items = [item for item in await fetch_latest(conn, preload) if item.feed_seq <= last]
        floor = items[0].feed_seq - 1 if items else last
        self._order.start(floor)
        begin(floor, self._order.fetched(items))
        self.loaded.set()

    async def _fetch(self) -> None:
        while True:
            async with connection(self._pool) as conn:
                items = await fetch_after(conn, self._order.last, PAGE)
            ready = self._order.fetched(items)
            if ready:
                FEED_FETCHED.inc(len(ready))
                self._deliver(ready)
            if len(items) < PAGE:
                return
            await self._make_room()

    async def _until_needed(self) -> None:
        # Until there is a gap, or a silence long enough to ask what Redis may not have announced.
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        while True:
            is_announced = self._is_announced()
            patience = SILENCE_SECONDS if is_announced else POLL_SECONDS
            ends_at = (max(begun_at, self._heard_at) if is_announced else begun_at) + patience
            try:
                async with asyncio.timeout(jittered(max(0.0, ends_at - loop.time()), 0.1)):
                    await self._wake.wait()
            except TimeoutError:
                if self._is_announced() and self._heard_at + patience > loop.time():
                    continue  # it was no silence after all
                return
            await asyncio.sleep(GRACE_SECONDS)
            if self._order.is_missing or self._is_distrusted:
                return
            self._wake.clear()

    # Redis

    def offer(self, items: list[FeedSignal]) -> None:
        """Take signals that Redis has announced."""
        if not self.loaded.is_set():
            return  # the first fetch brings it
        self._heard_at = asyncio.get_running_loop().time()
        ready = self._order.offer(items)
        if ready:
            self._deliver(ready)
        if self._order.is_missing:
            self._wake.set()

    def distrust(self) -> None:
        """Look in Postgres at once: Redis may not have announced everything."""
        self._is_distrusted = True
        self._wake.set()
