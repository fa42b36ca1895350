"""Lock sets of keys exclusively, first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager


class _Ticket:
    __slots__ = ("behind", "ready")

    def __init__(self) -> None:
        self.behind = 0  # the number of keys that an earlier ticket holds or waits for
        self.ready: asyncio.Future[None] | None = None


class KeyedLock:
    """Lock several keys at once. Each key in use has a queue; a ticket joins those of all its keys when it is made.

    Tickets are made one after another, so of any two the earlier one is first in every queue they share: there is no
    deadlock.
    """

    def __init__(self) -> None:
        self._queues: dict[str, deque[_Ticket]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._queues

    def __len__(self) -> int:
        return len(self._queues)

    @asynccontextmanager
    async def of(self, keys: Collection[str]) -> AsyncIterator[None]:
        """Wait for the lock on all of `keys` (no duplicates), and hold it for the block."""
        ticket = _Ticket()
        for key in keys:
            queue = self._queues.setdefault(key, deque())
            ticket.behind += bool(queue)
            queue.append(ticket)
        try:
            if ticket.behind:
                ticket.ready = asyncio.get_running_loop().create_future()
                await ticket.ready
            yield
        finally:
            for key in keys:
                self._leave(key, ticket)

    def _leave(self, key: str, ticket: _Ticket) -> None:
        queue = self._queues[key]
        if queue[0] is not ticket:  # cancelled while still waiting
            queue.remove(ticket)
            return
        queue.popleft()
        if not queue:
            del self._queues[key]
            return
        following = queue[0]
        following.behind -= 1
        if not following.behind and following.ready is not None and not following.ready.done():
            following.ready.set_result(None)
