"""Read published signals: Redis announces them at once, Postgres has them all.

Redis pub/sub may lose anything at any time. So Postgres is asked whenever Redis cannot be trusted to have told
everything: at the start, after each (re)subscription, at a gap in the order, after a silence, and all the time while
Redis is unavailable.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from config.metrics import FEED_FETCHED
from config.tasks import cancel, spawn
from db._postgres import Pool, connection
from db._redis import REDIS_ERRORS
from db.signals.feed import fetch_after, fetch_latest, last_seq
from handlers.streams.order import Order
from schemas.errors import DatabaseUnavailable
from schemas.feed import (
    DECISIONS_CHANNEL,
    FEED_CHANNEL,
    DecisionItem,
    FeedItem,
    decode_batch,
    decode_decisions,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
Begin = Callable[[int, list[FeedItem]], None]  # the offset before the first, and the signals after it

PAGE = 512  # signals per query
GRACE_SECONDS = 0.01  # two publishers' messages may overtake each other: most gaps fill by themselves
SILENCE_SECONDS = 2.0  # a publisher that dies between its commit and its message announces nothing
POLL_SECONDS = 0.5  # while Redis is unavailable
RETRY_SECONDS = (0.1, 2.0)  # first and longest wait after a failure
PING_SECONDS = 5.0  # a subscription silent for so long is pinged, and is dead after as long again


class Source:
    """Orders signals and delivers them, each once. `is_connected`: Redis announces new ones."""

    def __init__(
        self,
        redis: Redis,
        pool: Pool,
        *,
        deliver: Callable[[list[FeedItem]], None],
        decide: Callable[[list[DecisionItem]], None],
        on_subscribed: Callable[[], None],
        on_lost: Callable[[], None],
        make_room: Callable[[], Awaitable[None]],
        letters: tuple[str, Callable[[bytes], None]],
    ) -> None:
        """`make_room` waits until more can be delivered: Postgres can be faster than ten thousand sockets.

        `letters`: this gateway's own channel, and the receiver of its messages. `on_subscribed` and `on_lost`:
        called when the subscription was made, anew perhaps, or lost.
        """
        self.is_connected = False
        self.loaded = asyncio.Event()
        self._redis = redis
        self._pool = pool
        self._order = Order()
        self._deliver = deliver
        self._decide = decide
        self._on_subscribed = on_subscribed
        self._on_lost = on_lost
        self._make_room = make_room
        self._own_channel, self._read_letter = letters
        self._wake = asyncio.Event()
        self._fetching = asyncio.Lock()
        self._heard_at = 0.0
        self._is_distrusted = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, preload: int, begin: Begin) -> None:
        """Load the newest `preload` signals once Postgres is available, hand them to `begin`, then follow."""
        self._tasks = [
            spawn(self._listen(), name="feed subscription"),
            spawn(self._keep_up(preload, begin), name="feed"),
        ]

    async def stop(self) -> None:
        """Stop both tasks."""
        await cancel(*self._tasks)

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
            patience = SILENCE_SECONDS if self.is_connected else POLL_SECONDS
            ends_at = (max(begun_at, self._heard_at) if self.is_connected else begun_at) + patience
            try:
                async with asyncio.timeout(max(0.0, ends_at - loop.time()) * random.uniform(0.9, 1.1)):  # noqa: S311
                    await self._wake.wait()
            except TimeoutError:
                if self.is_connected and self._heard_at + patience > loop.time():
                    continue  # it was no silence after all
                return
            await asyncio.sleep(GRACE_SECONDS)
            if self._order.is_missing or self._is_distrusted:
                return
            self._wake.clear()

    # Redis

    async def _listen(self) -> None:
        backoff = Backoff(*RETRY_SECONDS)
        while True:
            try:
                await self._follow(backoff)
            except REDIS_ERRORS as error:
                if self.is_connected:
                    log.warning("Redis is away, the feed is polled from Postgres: %s", error)
            except Exception:  # without this task the feed is slow
                log.exception("a message on the feed's channels could not be taken")
            if self.is_connected:
                self._on_lost()
            self.is_connected = False
            self._distrust()
            await asyncio.sleep(backoff.next())

    async def _follow(self, backoff: Backoff) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(FEED_CHANNEL, DECISIONS_CHANNEL, self._own_channel)
            is_silent = False
            while True:
                message = await pubsub.get_message(timeout=PING_SECONDS)
                if message is None:
                    if is_silent:
                        raise RedisConnectionError("the subscription is dead")
                    is_silent = True
                    await pubsub.ping()
                    continue
                is_silent = False
                backoff.reset()
                self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        channel = message["channel"]
        if message["type"] == "subscribe" and channel == FEED_CHANNEL.encode():
            # Also after redis-py has reconnected by itself: it subscribes again, and does not report that otherwise.
            if not self.is_connected:
                log.info("the feed follows Redis")
            self.is_connected = True
            self._distrust()
            self._on_subscribed()
        elif message["type"] != "message":
            return
        elif channel == FEED_CHANNEL.encode():
            self._take(message["data"])
        elif channel == self._own_channel.encode():
            self._read_letter(message["data"])
        else:
            self._decide(_decode(decode_decisions, message["data"]))

    def _take(self, data: bytes) -> None:
        if not self.loaded.is_set():
            return  # the first fetch brings it
        self._heard_at = asyncio.get_running_loop().time()
        ready = self._order.offer(_decode(decode_batch, data))
        if ready:
            self._deliver(ready)
        if self._order.is_missing:
            self._wake.set()

    def _distrust(self) -> None:
        self._is_distrusted = True
        self._wake.set()


class Backoff:
    """Waits that double from `first` to `longest` seconds, each with ± 25 % jitter."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._wait = first

    def next(self) -> float:
        """Return how long to wait now, in seconds."""
        wait, self._wait = self._wait, min(self._wait * 2, self._longest)
        return wait * random.uniform(0.75, 1.25)  # noqa: S311

    def reset(self) -> None:
        """Start again from the shortest wait."""
        self._wait = self._first


def _decode(decode: Callable[[bytes], list[T]], data: bytes) -> list[T]:
    try:
        return decode(data)
    except ValueError:
        log.exception("a message on the feed's channels cannot be read")
        return []
