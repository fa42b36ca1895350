"""One turn at a time: who holds some keys is alone with them, the others come in the order in which they asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager


class _Ticket:
    __slots__ = ("behind", "ready")

    def __init__(self) -> None:
        self.behind = 0  # the number of keys for which somebody else comes first
        self.ready: asyncio.Future[None] | None = None


class KeyedLock:
    """A queue for each key that is in use; a ticket stands in the queues of all its keys from the moment it is drawn.

    Tickets are drawn one after another, so of any two the earlier one is first in every queue they share: nobody can
    wait in a circle.
    """

    def __init__(self) -> None:
        self._queues: dict[str, deque[_Ticket]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._queues

    def __len__(self) -> int:
        return len(self._queues)

    @asynccontextmanager
    async def of(self, keys: Collection[str]) -> AsyncIterator[None]:
        """Wait for the turn with all of `keys` (no duplicates), and hold it for the block."""
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
        if queue[0] is not ticket:  # given up while still waiting
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
