"""`ingest` and `lens/publish` over a real Postgres and Valkey, and helpers to look at their results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from actors.ingest import INGEST
from actors.ingest.ingest import Ingest
from actors.lens.intake import Intake
from actors.lens.messages import INTAKE, PUBLISH
from actors.lens.publish import Publish
from config.settings import Settings
from db._postgres import Pool, create_pool
from db._redis import create_redis
from schemas.feed import FEED_CHANNEL, FeedSignal, decode_batch
from schemas.ingest import SCORED_SIGNALS, signal_id
from tests.support.lens_factory import until
from tests.support.local_actors import LocalActors, local_actors


@dataclass
class World:
    """The actors, and a pool (of one connection) and a client of the test's own."""

    actors: LocalActors
    conn: Pool
    redis: Redis

    @property
    def ingest(self) -> Ingest:
        """Return the behaviour under test."""
        behaviour = self.actors.behaviours[INGEST]
        assert isinstance(behaviour, Ingest)
        return behaviour

    async def listening(self) -> None:
        """Wait until the channel is subscribed: earlier messages are lost, as always with Redis."""

        async def look() -> bool:
            return bool(self.ingest.stats()["redis_open"])

        await until(look)

    async def publish(self, *messages: bytes) -> None:
        """Send messages as the document's publisher does; each must have reached a subscriber."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for each in messages:
                pipe.publish(SCORED_SIGNALS, each)
            assert await pipe.execute() == [1] * len(messages)

    async def signals(self) -> list[asyncpg.Record]:
        """Return the published signals in the feed's order."""
        return await self.conn.fetch("SELECT * FROM signals ORDER BY feed_seq")

    async def dead_letters(self) -> list[asyncpg.Record]:
        """Return the dead letters, oldest first."""
        return await self.conn.fetch("SELECT * FROM lens_dlq ORDER BY id")

    async def stored(self, count: int, *, seconds: float = 30.0) -> list[asyncpg.Record]:
        """Return the signals once there are so many."""

        async def look() -> list[asyncpg.Record] | None:
            found = await self.signals()
            return found if len(found) >= count else None

        found = list(await until(look, seconds=seconds) or [])
        assert len(found) == count
        assert [row["feed_seq"] for row in found] == list(range(1, count + 1)), "dense"
        return found

    async def kept(self, count: int) -> list[asyncpg.Record]:
        """Return the dead letters once there are so many."""

        async def look() -> list[asyncpg.Record] | None:
            found = await self.dead_letters()
            return found if len(found) >= count else None

        found = list(await until(look) or [])
        assert len(found) == count
        return found

    @asynccontextmanager
    async def feed(self) -> AsyncIterator[list[FeedSignal]]:
        """Collect the messages to the gateways from now on."""
        received: list[FeedSignal] = []
        async with self.redis.pubsub() as pubsub:
            await pubsub.subscribe(FEED_CHANNEL)

            async def listen() -> None:
                async for each in pubsub.listen():
                    if each["type"] == "message":
                        received.extend(decode_batch(each["data"]))

            listening = asyncio.get_running_loop().create_task(listen())
            try:
                yield received
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)


@asynccontextmanager
async def world(settings: Settings, *, intake: bool = False) -> AsyncIterator[World]:
    """Run the actors, started and listening."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    pool = await create_pool(settings.database_url, 1, name="test")
    redis = create_redis(settings.redis_url)
    behaviours: dict[str, Any] = {INGEST: Ingest(), PUBLISH: Publish(), **({INTAKE: Intake()} if intake else {})}
    try:
        async with local_actors(settings, behaviours) as actors:
            here = World(actors, pool, redis)
            await here.listening()
            try:
                yield here
            finally:
                if INGEST in actors.behaviours:  # before the owner that it hands things to
                    await actors.kill(INGEST)
    finally:
        await redis.aclose()
        pool.terminate()


def ids(names: Sequence[str]) -> list[UUID]:
    """Return the ids under which signals with these names are stored."""
    return [signal_id(each) for each in names]


def counted(way: str, result: str) -> float:
    """Return how many messages had this result so far, in this process."""
    value = REGISTRY.get_sample_value("tradestream_ingest_messages_total", {"way": way, "result": result})
    return value or 0.0
