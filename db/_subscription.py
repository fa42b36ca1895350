"""Receive what is published on channels of Redis, through every outage: the only loop that subscribes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from config.backoff import Backoff
from config.tasks import cancel, spawn
from db._redis import CONNECTION_LOST, REDIS_ERRORS, RedisClient

log = logging.getLogger(__name__)

RETRY_SECONDS = (0.1, 2.0)  # first and longest wait after a failure
PING_SECONDS = 5.0  # a subscription silent for so long is pinged, and is dead after as long again

T = TypeVar("T")
Receiver = Callable[[bytes], None]


def reading(decode: Callable[[bytes], T], take: Callable[[T], None]) -> Receiver:
    """Make a receiver of decoded messages; one that raises ValueError when decoded is logged and passed over."""

    def receive(data: bytes) -> None:
        try:
            message = decode(data)
        except ValueError:
            log.exception("a message cannot be read by %s", decode.__name__)
        else:
            take(message)

    return receive


class Subscription:
    """Hands each message to the receiver of its channel. `is_open`: Redis has confirmed all channels.

    Redis keeps no message: what is published while the subscription is not open is missed. `on_open` is called whenever
    it opens, again perhaps, and is where one catches up; `on_lost` when it is not open any more. Receivers are called
    at once: nothing is queued here, and one that keeps messages bounds them. If one raises, the connection is given up,
    so that `on_open` makes good for the message.
    """

    def __init__(
        self,
        redis: RedisClient,
        receivers: Mapping[str, Receiver],
        *,
        on_open: Callable[[], None] = lambda: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.is_open = False
        self._redis = redis
        self._receivers = {channel.encode(): receiver for channel, receiver in receivers.items()}
        self._name = ", ".join(receivers)
        self._on_open = on_open
        self._on_lost = on_lost
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Subscribe, and go on until `stop`, whether Redis is available or not."""
        self._task = spawn(self.run(), name=f"subscription to {self._name}")

    async def stop(self) -> None:
        """Unsubscribe. `on_lost` is not called."""
        await cancel(self._task)
        self.is_open = False

    async def run(self) -> None:
        """Subscribe and receive until cancelled; `start` does so in a task of its own."""
        backoff = Backoff(*RETRY_SECONDS)
        while True:
            try:
                await self._follow(backoff)
            except REDIS_ERRORS as error:
                log.log(logging.INFO if self.is_open else logging.DEBUG, "%s: lost: %s", self._name, error)
                self._redis.doubt()
            except Exception:  # without this task nothing is received any more
                log.exception("a message on %s could not be taken", self._name)
            if self.is_open:
                self.is_open = False
                self._on_lost()
            await asyncio.sleep(backoff.next())

    async def _follow(self, backoff: Backoff) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(*self._receivers)
            is_silent = False
            while True:
                message = await pubsub.get_message(timeout=PING_SECONDS)
                if message is None:
                    if is_silent:
                        raise CONNECTION_LOST("the subscription is dead")
                    is_silent = True
                    await pubsub.ping()
                    continue
                is_silent = False
                if message["type"] == "message":
                    self._receivers[message["channel"]](message["data"])
                # Also after redis-py has reconnected by itself: it subscribes again, and reports that in no other way.
                elif message["type"] == "subscribe" and message["data"] == len(self._receivers):
                    backoff.reset()
                    log.log(logging.DEBUG if self.is_open else logging.INFO, "%s: subscribed", self._name)
                    self.is_open = True
                    self._on_open()
