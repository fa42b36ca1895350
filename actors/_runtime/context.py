"""Define an actor apart from Ray: a Behaviour processes batches, with an ActorContext that gives it what it needs.

`ActorContext.write` makes a batch durable: one fenced transaction, each command applied once, failures alone.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from actors._runtime.commands import Apply, write_batch
from actors._runtime.fencing import Fence
from actors._runtime.messages import Envelope
from actors._runtime.ref import ActorRef, ActorRefs
from config import tasks
from config.backoff import jittered
from config.settings import Settings
from db._postgres import DEADLINE_SECONDS, Connection, Pool, connection, loudness
from db._redis import RedisClient
from schemas.errors import Unavailable

log = logging.getLogger(__name__)


class ActorContext:
    """Give an actor its connections, references to other actors and background tasks, for the life of its process."""

    def __init__(
        self,
        *,
        name: str,
        shard: int,
        shards: int,
        settings: Settings,
        pool: Pool,
        redis: RedisClient,
        fence: Fence,
        refs: ActorRefs,
    ) -> None:
        self.name = name  # as in Ray: "lens/enrich", or "providers/3" for a kind with several shards
        self.shard = shard
        self.shards = shards
        self.settings = settings
        self.pool = pool
        self.redis = redis
        self.fence = fence
        self._refs = refs
        self._tasks: set[asyncio.Task[object]] = set()

    @property
    def epoch(self) -> int:
        """Return the epoch under which this process writes."""
        return self.fence.epoch

    def connection(
        self, *, deadline_seconds: float | None = DEADLINE_SECONDS
    ) -> AbstractAsyncContextManager[Connection]:
        """Open a read connection. Raises DatabaseUnavailable, at the deadline (of the whole block) at the latest."""
        return connection(self.pool, deadline_seconds=deadline_seconds)

    def transaction(
        self, *, deadline_seconds: float | None = DEADLINE_SECONDS
    ) -> AbstractAsyncContextManager[Connection]:
        """Open a transaction that only the current owner can have; `conn.transaction()` in it is a savepoint.

        Raises DatabaseUnavailable, at the latest at the deadline (of the whole block); if the body has run, it may have
        been committed. Raises Fenced when another process has taken over; this process is ending then.
        """
        return self.fence.transaction(deadline_seconds=deadline_seconds)

    def ref(self, kind: str, key: str) -> ActorRef:
        """Return the reference to the actor of `kind` that owns `key`."""
        return self._refs.ref(kind, key)

    def peer(self, kind: str) -> ActorRef:
        """Return the reference to the actor of `kind` with this actor's shard number; both have as many shards."""
        return self._refs.ref_to(kind, self.shard)

    def spawn(self, coroutine: Coroutine[None, None, object], *, name: str) -> asyncio.Task[object]:
        """Start background work; it is cancelled when the actor stops."""
        task = tasks.spawn(coroutine, name=f"{self.name}: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def every(self, seconds: float, work: Callable[[], Awaitable[object]], *, name: str) -> asyncio.Task[object]:
        """Call `work` repeatedly, `seconds` (± 10 %) after it last ended. A failure is logged, and the loop goes on."""
        return self.spawn(self._repeat(seconds, work, name), name=name)

    async def _repeat(self, seconds: float, work: Callable[[], Awaitable[object]], name: str) -> None:
        while True:
            await asyncio.sleep(jittered(seconds, 0.1))
            try:
                await work()
            except Unavailable as error:
                log.log(loudness(error), "%s: %s waits for its next turn: %s", self.name, name, error)
            except Exception:
                log.exception("%s: %s failed", self.name, name)

    async def close(self) -> None:
        """Cancel the background tasks."""
        await tasks.cancel(*self._tasks)

    async def write(self, batch: Sequence[Envelope], apply: Apply) -> list[object]:
        """Apply a batch in one fenced transaction; return the durable replies (values or AppErrors), in order.

        `apply` gets the messages that were not applied before; the others get the reply they had then. If it raises (a
        constraint, a domain error, a bug), everything is rolled back and each message is tried alone, in order, behind
        a savepoint. Raises DatabaseUnavailable and Fenced for the batch as a whole.
        """
        return await write_batch(self.fence, batch, lambda: apply)


class Behaviour(ABC):
    """Process the messages of one kind of actor. One instance per shard, in one process, on one event loop.

    A subclass's docstring states what it owns, what success means, what a crash loses, and why repeating is
    harmless. Batches of different senders overlap at every `await`; those of one sender do not.
    """

    context: ActorContext

    async def start(self, context: ActorContext) -> None:
        """Start the actor: called once, with the epoch taken, before any batch. Call `super().start(context)` first."""
        self.context = context

    async def stop(self) -> None:  # noqa: B027 - not every actor has something to stop
        """Stop the actor: called once, after the last batch was answered; the context's background tasks still run."""

    @abstractmethod
    async def process(self, batch: Sequence[Envelope]) -> Sequence[object]:
        """Return one reply or AppError value for each message, in order. An exception is the reply to all of them."""

    def stats(self) -> Mapping[str, float]:
        """Return what this actor holds and how busy it is, as shown by `ping` and in metrics."""
        return {}
