"""Receive scored signals from a Redis channel, and hold the messages until they are durable.

Redis keeps nothing: messages published while nothing is subscribed are lost, and so are those that this process holds
when it is killed. The Kafka topic is for producers that need more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

from actors._runtime.context import ActorContext
from actors.ingest.acceptance import MOST_BYTES, MOST_MESSAGES, Acceptance
from actors.ingest.received import Received
from config import metrics
from config.tasks import cancel, spawn
from db._subscription import Subscription
from schemas.ingest import SCORED_SIGNALS

log = logging.getLogger(__name__)

# While Postgres is unavailable. Past either bound the oldest are dropped: the newest of the waiting are worth most.
BUFFER_MESSAGES = 10_000
BUFFER_BYTES = 32 << 20

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
    """Receive messages from the Redis channel."""

    def __init__(self, context: ActorContext, acceptance: Acceptance, buffer: Buffer | None = None) -> None:
        self.buffer = buffer or Buffer()
        self._acceptance = acceptance
        self._came = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._logged_at = -_LOG_SECONDS
        self._logged = 0
        self._subscription = Subscription(
            context.redis,
            {SCORED_SIGNALS: self._receive},
            on_open=lambda: self._show(is_open=True),
            on_lost=lambda: self._show(is_open=False),
        )
        self._worker: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the channel is subscribed to; what is published on it otherwise is lost."""
        return self._subscription.is_open

    def start(self) -> None:
        """Subscribe, and hand on the messages received."""
        self._subscription.start()
        self._worker = spawn(self._hand_on(), name="ingest: take from Redis")

    async def stop(self) -> None:
        """Unsubscribe; messages held get a moment to become durable."""
        await self._subscription.stop()
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d messages of Redis are given up", len(self.buffer))
        await cancel(self._worker)
        self._show(is_open=False)

    def _receive(self, data: bytes) -> None:
        before = self.buffer.dropped
        self.buffer.put(Received.by_redis(data))
        if dropped := self.buffer.dropped - before:
            metrics.INGEST_MESSAGES.labels("redis", "dropped").inc(dropped)
            self._report_drops()
        self._idle.clear()
        self._came.set()

    def _report_drops(self) -> None:
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
        metrics.INGEST_CONNECTED.labels("redis").set(is_open)
