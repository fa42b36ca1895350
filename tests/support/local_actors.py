"""Behaviours run in this process, over a real Postgres and Valkey: the pipeline without Ray, for tests of its rules.

Ray itself is under test in tests/integration/test_actors.py and in the end-to-end tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from actors._runtime.context import ActorContext, Behaviour
from actors._runtime.fencing import Fence
from actors._runtime.messages import Envelope, Message, decode, encode
from actors._runtime.placement import ActorSpec
from actors._runtime.ref import ActorRefs
from actors._runtime.registry import shard_of
from config.settings import Settings
from config.tasks import cancel, spawn
from db._postgres import create_pool
from db._redis import create_redis
from schemas.errors import AppError, Unavailable


class LocalRef:
    """A reference that hands each message straight to the behaviour, pickled on the way as by Ray."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._sent: list[asyncio.Task[Any]] = []
        self.dropping = False  # hand-overs get lost, as when the receiver's process dies

    async def ask(self, key: str, message: Message[Any], **_: Any) -> Any:
        """Return the behaviour's reply; an AppError is raised."""
        [reply] = await self._behaviour.process([Envelope(key, decode(encode(message)))])
        if isinstance(reply, AppError):
            raise reply
        return decode(encode(reply))

    async def ask_batch(self, messages: Sequence[Message[Any]]) -> list[Any]:
        """Return the replies to one batch, errors as values."""
        return list(await self._behaviour.process([Envelope("", decode(encode(each))) for each in messages]))

    def tell(self, key: str, message: Message[Any]) -> bool:
        """Send the message without waiting."""
        if not self.dropping:
            self._sent.append(spawn(self.ask(key, message), name=f"tell {type(message).__name__}"))
        return not self.dropping

    async def close(self) -> None:
        """Drop the messages that are under way."""
        await cancel(*self._sent)


class _NoActor:
    """A reference to an actor that does not take part."""

    def tell(self, key: str, message: Message[Any]) -> bool:
        """Lose the message."""
        return False


class LocalActors:
    """The actors by kind (with several shards, by `kind/shard`), as the registry finds them."""

    def __init__(self) -> None:
        self._shards: dict[str, int] = {}
        self.refs: dict[str, LocalRef] = {}
        self.behaviours: dict[str, Behaviour] = {}
        self._opened: list[Any] = []

    def ref(self, kind: str, key: str = "") -> LocalRef:
        """Return a reference to the key's shard. Messages to an actor that does not take part are lost."""
        return self.ref_to(kind, shard_of(key, self._shards.get(kind, 1)))

    def ref_to(self, kind: str, shard: int) -> LocalRef:
        """Return a reference to a shard."""
        name = kind if self._shards.get(kind, 1) == 1 else f"{kind}/{shard}"
        return self.refs.get(name) or cast(LocalRef, _NoActor())

    async def start(
        self, kind: str, behaviour: Behaviour, settings: Settings, *, shard: int = 0, shards: int = 1
    ) -> None:
        """Start (or, when there is one already, take over from) the actor of `kind`."""
        self._shards[kind] = shards
        spec = ActorSpec(kind, "", shards=shards)
        name = spec.name_of(shard)
        assert settings.database_url is not None
        assert settings.redis_url is not None
        pool = await create_pool(settings.database_url, 4, name=name)
        redis = create_redis(settings.redis_url)
        fence = Fence(pool, name, lambda: None, kind=kind, names=spec.names)
        await _patiently(fence.take)
        context = ActorContext(
            name=name,
            shard=shard,
            shards=shards,
            settings=settings,
            pool=pool,
            redis=redis,
            fence=fence,
            refs=cast(ActorRefs, self),
        )
        self.behaviours[name] = behaviour
        self.refs[name] = LocalRef(behaviour)
        self._opened.append((behaviour, context, pool, redis))
        await behaviour.start(context)

    async def kill(self, name: str) -> None:
        """End the actor as if its process died: no drain, and its memory is gone."""
        await self.refs.pop(name).close()
        behaviour = self.behaviours.pop(name)
        await self._end([each for each in self._opened if each[0] is behaviour])
        self._opened = [each for each in self._opened if each[0] is not behaviour]

    async def close(self) -> None:
        """End all actors."""
        for ref in self.refs.values():
            await ref.close()
        await self._end(self._opened)

    async def _end(self, opened: list[Any]) -> None:
        for behaviour, context, pool, redis in opened:
            await behaviour.stop()
            await context.close()
            await redis.aclose()
            pool.terminate()


async def _patiently(step: Callable[[], Awaitable[Any]]) -> None:
    # As the actors' host does: a Postgres that has no time for us just now is no end.
    for _ in range(4):
        try:
            await step()
        except Unavailable:
            continue
        return
    await step()


@asynccontextmanager
async def local_actors(settings: Settings, behaviours: dict[str, Behaviour]) -> AsyncIterator[LocalActors]:
    """The given behaviours, started in reverse order so that each finds the next one there."""
    actors = LocalActors()
    try:
        for kind, behaviour in reversed(behaviours.items()):
            await actors.start(kind, behaviour, settings)
        yield actors
    finally:
        await actors.close()
