"""Gateways that are killed while they stream: every reader that reconnects ends with exactly the published sequence."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from config.settings import Settings
from config.tasks import cancel, spawn
from db._postgres import create_pool
from db._redis import create_redis
from tests.streams import Draft, Publisher, connect, until

READERS = 40
KILLS = 6
HEARTBEAT_SECONDS = 0.25  # heartbeats are where a crash could lose count: as many of them as possible


@dataclass
class Process:
    """A gateway in a process of its own."""

    process: asyncio.subprocess.Process
    port: int

    @classmethod
    async def start(cls, settings: Settings) -> Process:
        """Start one, and wait until it serves."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.benchmarks.stream_gateway",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **settings.to_environment()},  # noqa: TID251 - a child needs its parent's PATH
        )
        assert process.stdout is not None
        return cls(process, int(await asyncio.wait_for(process.stdout.readline(), 30)))

    async def kill(self) -> None:
        """End it as a power cut would."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@dataclass
class EventSource:
    """A reader that reconnects, anywhere, with the last id it has; as a browser does, but sooner."""

    gateways: list[Process]
    query: dict[str, Any]
    last_id: str | None = None
    received: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    fresh_starts: int = 0

    async def run(self) -> None:
        """Read for ever."""
        while True:
            try:
                await self._read(random.choice(self.gateways).port)
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                pass
            await asyncio.sleep(random.uniform(0.0, 0.1))

    async def _read(self, port: int) -> None:
        headers = {} if self.last_id is None else {"Last-Event-ID": self.last_id}
        reader = await connect(port, headers=headers, **self.query)
        try:
            assert reader.status == 200
            while (event := await reader.next(seconds=10)) is not None:
                if event.id is not None:
                    self.last_id = event.id
                    self.numbers.append(event.number)
                if event.name == "session_start" and not event.data["resumed"]:
                    self.fresh_starts += 1
                if event.name == "signal":
                    self.received.append(event.place)
        finally:
            await reader.close()


FILTERS: list[tuple[dict[str, Any], Callable[[Draft], bool]]] = [
    ({}, lambda _: True),
    ({"min_score": 50}, lambda draft: draft.score >= 50),
    ({"categories": "equities,forex"}, lambda draft: draft.asset_type in {"stock", "forex"}),
]


@pytest.mark.slow
async def test_readers_of_gateways_that_are_killed_again_and_again_miss_nothing(settings: Settings) -> None:
    settings = settings.replace(rate_limit_enabled=False, heartbeat_seconds=HEARTBEAT_SECONDS)
    assert settings.database_url is not None
    assert settings.redis_url is not None
    async with AsyncExitStack() as stack:
        pool, redis = await create_pool(settings.database_url, 2, name="chaos"), create_redis(settings.redis_url)
        stack.callback(pool.terminate)
        stack.push_async_callback(redis.aclose)
        gateways = [await Process.start(settings) for _ in range(2)]
        stack.push_async_callback(lambda: asyncio.gather(*(each.kill() for each in gateways)))
        publisher = Publisher(pool, redis)
        publishing = spawn(_publish(publisher), name="publisher")
        stack.push_async_callback(cancel, publishing)

        readers = [EventSource(gateways, FILTERS[number % len(FILTERS)][0]) for number in range(READERS)]
        reading = [spawn(each.run(), name="reader") for each in readers]
        stack.push_async_callback(cancel, *reading)
        await until(lambda: all(each.numbers for each in readers))
        begin = [each.received[0] if each.received else None for each in readers]
        for kill in range(KILLS):
            await asyncio.sleep(random.uniform(0.5, 1.5))
            victim = kill % 2
            await gateways[victim].kill()
            gateways[victim] = await Process.start(settings)
        await cancel(publishing)

        def expected(number: int) -> list[int]:
            places = publisher.places(FILTERS[number % len(FILTERS)][1])
            first = begin[number] or (readers[number].received or places[-1:])[0]
            return [place for place in places if place >= first]

        await until(
            lambda: all(each.received == expected(number) for number, each in enumerate(readers)),
            seconds=20,
            what="for the readers to have everything",
        )
        assert [each.fresh_starts for each in readers] == [1] * READERS
        for each in readers:
            assert each.numbers == list(range(1, len(each.numbers) + 1))


async def _publish(publisher: Publisher) -> None:
    # Singly and in batches, some of it lost by Redis.
    while True:
        batch = [
            Draft(random.choice(["crypto", "stock", "forex"]), random.randrange(100))
            for _ in range(random.choice([1, 1, 1, 5]))
        ]
        await publisher.publish(*batch, tell=random.random() > 0.05)
        await asyncio.sleep(random.uniform(0.0, 0.04))
