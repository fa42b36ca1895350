"""Follow an ordered log that other processes append to: read when it is announced, and now and then without."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from actors._runtime.context import ActorContext
from config.backoff import Backoff, jittered
from db._subscription import Subscription
from schemas.errors import Unavailable

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0  # between two reads without an announcement
BATCHING_SECONDS: Final = 0.05  # a page costs milliseconds whatever it holds,
BATCHING_SECONDS_EACH: Final = 0.025  # and longer for each item of the last one: a steady flow is read 3 times a second
BATCHING_SECONDS_MOST: Final = 0.3  # at most: still well within the second in which boards have moved
RETRY_SECONDS: Final = (0.1, 5.0)


class Follower:
    """Calls `catch_up`, which applies all that there is and returns how many items its last page had.

    It is called at an announcement on a channel of Redis, a moment later, so that what comes together is read together;
    after a second without; and again, after a growing delay, when it failed. A failure costs nothing else.
    """

    def __init__(self, context: ActorContext, channel: str, catch_up: Callable[[], Awaitable[int]]) -> None:
        self._context = context
        self._channel = channel
        self._catch_up = catch_up
        self._wake = asyncio.Event()
        self._announcements = Subscription(context.redis, {channel: lambda _: self.wake()}, on_open=self.wake)

    def start(self) -> None:
        """Start following."""
        self._context.spawn(self._follow(), name=f"follow {self._channel}")
        self._context.spawn(self._announcements.run(), name=f"listen to {self._channel}")

    def wake(self) -> None:
        """Have it read soon."""
        self._wake.set()

    async def _follow(self) -> None:
        backoff = Backoff(*RETRY_SECONDS)
        while True:
            self._wake.clear()
            try:
                came = await self._catch_up()
                backoff.reset()
            except Exception as error:
                level = logging.WARNING if isinstance(error, Unavailable) else logging.ERROR
                log.log(
                    level,
                    "%s cannot read %s: %s",
                    self._context.name,
                    self._channel,
                    error,
                    exc_info=level == logging.ERROR,
                )
                await asyncio.sleep(backoff.next())
                continue
            try:
                async with asyncio.timeout(jittered(POLL_SECONDS, 0.1)):
                    await self._wake.wait()
                    delay = BATCHING_SECONDS + BATCHING_SECONDS_EACH * (came - 1)
                    await asyncio.sleep(min(max(delay, BATCHING_SECONDS), BATCHING_SECONDS_MOST))
            except TimeoutError:
                pass


class PageSize:
    """The number of items that are read at once: halved down to the item at fault, and doubled again after success."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.now = most

    def halve(self) -> bool:
        """Read half as many; False if it is a single item already, which is the one at fault."""
        if self.now == 1:
            return False
        self.now //= 2
        return True

    def restore(self) -> None:
        """Read more again."""
        self.now = min(2 * self.now, self.most)
