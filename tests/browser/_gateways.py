"""Two gateway processes on one port, of which one is killed now and then, and a publisher that goes on meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from config.settings import Settings
from config.tasks import cancel, spawn
from db._postgres import create_pool
from db._redis import create_redis
from server.supervisor.ports import free_ports
from tests.support.streams import Draft, Publisher

PUBLISH_EVERY_SECONDS = 0.03
START_SECONDS = 30.0


@dataclass
class Gateways:
    """Gateway processes that share a port, as with WORKERS."""

    settings: Settings
    port: int
    publisher: Publisher
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    is_publishing: bool = True

    async def replace_oldest(self) -> None:
        """Kill one as a power cut would, and start another one in its place."""
        await self._kill(self.processes.pop(0))
        await self.start()

    async def replace_all(self) -> None:
        """Kill all gateways, so that none listens for a while; then start others."""
        count = len(self.processes)
        await self.stop()
        for _ in range(count):
            await self.start()

    async def publish(self) -> None:
        """Publish signals, one after another, until `is_publishing` is false."""
        for number in itertools.count():
            if not self.is_publishing:
                return
            await self.publisher.publish(Draft(score=number % 100))
            await asyncio.sleep(PUBLISH_EVERY_SECONDS)

    async def start(self) -> asyncio.subprocess.Process:
        """Start one, and wait until it serves."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.benchmarks.stream_gateway", str(self.port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **self.settings.to_environment()},  # noqa: TID251 - a child needs its parent's PATH
        )
        self.processes.append(process)
        assert process.stdout is not None
        assert int(await asyncio.wait_for(process.stdout.readline(), START_SECONDS)) == self.port
        return process

    async def stop(self) -> None:
        """Stop all gateways."""
        while self.processes:
            await self._kill(self.processes.pop())

    async def _kill(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


@asynccontextmanager
async def gateways(settings: Settings, count: int = 2) -> AsyncIterator[Gateways]:
    """Run gateways on one port, and publish signals all the time."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    async with AsyncExitStack() as stack:
        pool, redis = await create_pool(settings.database_url, 2, name="test"), create_redis(settings.redis_url)
        stack.callback(pool.terminate)
        stack.push_async_callback(redis.aclose)
        found = Gateways(settings, free_ports(1)[0], Publisher(pool, redis))
        stack.push_async_callback(found.stop)
        for _ in range(count):
            await found.start()
        publishing = spawn(found.publish(), name="publisher")
        stack.push_async_callback(cancel, publishing)
        yield found
