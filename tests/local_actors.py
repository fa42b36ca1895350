"""Behaviours run in this process, over a real Postgres and Valkey: the pipeline without Ray, for tests of its rules.

Ray itself is under test in tests/integration/test_actors.py and in the end-to-end tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from actors._behaviour import Behaviour, Room
from actors._directory import Directory
from actors._fencing import Fence
from actors._messages import Delivery, Message, decode, encode
from config.settings import Settings
from config.tasks import cancel, spawn
from db._postgres import create_pool
from db._redis import create_redis
from schemas.errors import AppError


class LocalMailbox:
    """A mailbox that hands each message straight to the behaviour, pickled on the way as Ray would."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._sent: list[asyncio.Task[Any]] = []
        self.dropping = False  # hand-overs get lost, as when the receiver's process dies

    async def ask(self, key: str, message: Message[Any], **_: Any) -> Any:
        """The behaviour's reply; an AppError is raised."""
        [reply] = await self._behaviour.process([Delivery(key, decode(encode(message)))])
        if isinstance(reply, AppError):
            raise reply
        return decode(encode(reply))

    async def ask_batch(self, messages: Sequence[Message[Any]]) -> list[Any]:
        """The replies to one batch, errors as values."""
        return list(await self._behaviour.process([Delivery("", decode(encode(each))) for each in messages]))

    def tell(self, key: str, message: Message[Any]) -> bool:
        """Sent; nobody waits."""
        if not self.dropping:
            self._sent.append(spawn(self.ask(key, message), name=f"tell {type(message).__name__}"))
        return not self.dropping

    async def close(self) -> None:
        """Forget what is under way."""
        await cancel(*self._sent)


class _Unheard:
    """The mailbox of an actor that does not take part."""

    def tell(self, key: str, message: Message[Any]) -> bool:
        """Nobody hears it."""
        return False


class LocalActors:
    """The actors by kind, as a Directory finds them."""

    def __init__(self) -> None:
        self.mailboxes: dict[str, LocalMailbox] = {}
        self.behaviours: dict[str, Behaviour] = {}
        self._opened: list[Any] = []

    def mailbox(self, kind: str, key: str = "") -> LocalMailbox:
        """The mailbox of the one shard. News for an actor that does not take part are lost, as when it is away."""
        return self.mailboxes.get(kind) or cast(LocalMailbox, _Unheard())

    async def start(self, kind: str, behaviour: Behaviour, settings: Settings) -> None:
        """Start (or, when there is one already, take over from) the actor of `kind`."""
        assert settings.database_url is not None
        assert settings.redis_url is not None
        pool = await create_pool(settings.database_url, 4, name=kind)
        redis = create_redis(settings.redis_url)
        fence = Fence(pool, kind, lambda: None)
        await fence.take()
        room = Room(
            name=kind,
            shard=0,
            shards=1,
            settings=settings,
            pool=pool,
            redis=redis,
            fence=fence,
            directory=cast(Directory, self),
        )
        self.behaviours[kind] = behaviour
        self.mailboxes[kind] = LocalMailbox(behaviour)
        self._opened.append((behaviour, room, pool, redis))
        await behaviour.start(room)

    async def kill(self, kind: str) -> None:
        """The actor's process dies: no drain, its memory is gone."""
        await self.mailboxes.pop(kind).close()
        behaviour = self.behaviours.pop(kind)
        await self._end([each for each in self._opened if each[0] is behaviour])
        self._opened = [each for each in self._opened if each[0] is not behaviour]

    async def close(self) -> None:
        """End all of them."""
        for mailbox in self.mailboxes.values():
            await mailbox.close()
        await self._end(self._opened)

    async def _end(self, opened: list[Any]) -> None:
        for behaviour, room, pool, redis in opened:
            await behaviour.stop()
            await room.close()
            await redis.aclose()
            pool.terminate()


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
