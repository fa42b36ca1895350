"""Receive scored signals from a Redis channel, and hold the messages until they are durable.

Redis keeps nothing: messages published while nothing is subscribed are lost, and so are those that this process holds
when it is killed. The Kafka topic is for producers that need more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

from redis.exceptions import ConnectionError as RedisConnectionError

from actors._runtime.context import ActorContext
from actors.ingest.acceptance import MOST_BYTES, MOST_MESSAGES, Acceptance
from actors.ingest.received import Received
from config import metrics
from config.backoff import Backoff
from config.tasks import cancel, spawn
from db._redis import REDIS_ERRORS
from schemas.ingest import SCORED_SIGNALS

log = logging.getLogger(__name__)

# While Postgres is unavailable. Past either bound the oldest are dropped: the newest of the waiting are worth most.
BUFFER_MESSAGES = 10_000
BUFFER_BYTES = 32 << 20

RETRY_SECONDS = (0.1, 5.0)
PING_SECONDS = 5.0  # a subscription silent for so long is pinged, and is dead after as long again
LAST_SECONDS = 3.0  # at the stop, for the messages held
_LOG_SECONDS = 5.0


class Buffer:
    """Queue messages, oldest first; bounded in number and bytes. Counts what it drops."""

    def __init__(self, most_messages: int = BUFFER_MESSAGES, most_bytes: int = BUFFER_BYTES) -> None:
        self.dropped = 0
        self._most_messages = most_messages
        self._most_bytes = most_bytes
        self._messages: deque[Received] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Received) -> None:
        """Add the newest message; drop the oldest past the bounds."""
        self._messages.append(message)
        self._bytes += len(message.data)
        while len(self._messages) > self._most_messages or (self._bytes > self._most_bytes and len(self) > 1):
            self._bytes -= len(self._messages.popleft().data)
            self.dropped += 1

    def take(self) -> list[Received]:
        """Return the oldest messages, as many as are handed on at once."""
        batch: list[Received] = []
        size = 0
        while self._messages and len(batch) < MOST_MESSAGES and size < MOST_BYTES:
            message = self._messages.popleft()
            size += len(message.data)
            batch.append(message)
        self._bytes -= size
        return batch


class RedisChannel:
    """Receive messages from the Redis channel. `is_open`: it is subscribed."""

    def __init__(self, context: ActorContext, acceptance: Acceptance, buffer: Buffer | None = None) -> None:
        self.is_open = False
        self.buffer = buffer or Buffer()
        self._context = context
        self._acceptance = acceptance
        self._came = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._logged_at = -_LOG_SECONDS
        self._logged = 0
        self._listener: asyncio.Task[None] | None = None
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Subscribe, and hand on the messages received."""
        self._listener = spawn(self._listen(), name="ingest: listen to Redis")
        self._worker = spawn(self._hand_on(), name="ingest: take from Redis")

    async def stop(self) -> None:
        """Unsubscribe; messages held get a moment to become durable."""
        await cancel(self._listener)
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d messages of Redis are given up", len(self.buffer))
        await cancel(self._worker)
        self._show(is_open=False)

    async def _listen(self) -> None:
        backoff = Backoff(*RETRY_SECONDS)
        while True:
            try:
                await self._follow(backoff)
            except REDIS_ERRORS as error:
                if self.is_open:
                    log.warning("Redis is away: what is published on %s now is lost: %s", SCORED_SIGNALS, error)
            except Exception:  # without this task no message is received
                log.exception("%s cannot be listened to", SCORED_SIGNALS)
            self._show(is_open=False)
            await asyncio.sleep(backoff.next())

    async def _follow(self, backoff: Backoff) -> None:
        async with self._context.redis.pubsub() as pubsub:
            await pubsub.subscribe(SCORED_SIGNALS)
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
                if message["type"] == "subscribe":  # also after redis-py has reconnected by itself
                    if not self.is_open:
                        log.info("listening to %s on Redis", SCORED_SIGNALS)
                    backoff.reset()
                    self._show(is_open=True)
                elif message["type"] == "message":
                    self._hear(message["data"])

    def _hear(self, data: bytes) -> None:
        before = self.buffer.dropped
        self.buffer.put(Received.by_redis(data))
        if dropped := self.buffer.dropped - before:
            metrics.INGEST_MESSAGES.labels("redis", "dropped").inc(dropped)
            self._tell_of_drops()
        self._idle.clear()
        self._came.set()

    def _tell_of_drops(self) -> None:
        now = time.monotonic()
        if now - self._logged_at >= _LOG_SECONDS:
            log.error("the buffer is full: %d messages of Redis are dropped", self.buffer.dropped - self._logged)
            self._logged_at, self._logged = now, self.buffer.dropped

    async def _hand_on(self) -> None:
        while True:
            await self._came.wait()
            self._came.clear()
            while batch := self.buffer.take():
                metrics.INGEST_BUFFERED.labels("redis").set(len(batch) + len(self.buffer))
                try:
                    await self._acceptance.accept(batch)
                except Exception:  # a bug of ours costs this batch, not the messages after it
                    log.exception("%d messages of Redis are lost", len(batch))
                    metrics.INGEST_MESSAGES.labels("redis", "lost").inc(len(batch))
            metrics.INGEST_BUFFERED.labels("redis").set(0)
            self._idle.set()

    def _show(self, *, is_open: bool) -> None:
        self.is_open = is_open
        metrics.INGEST_CONNECTED.labels("redis").set(is_open)
