"""Measure the import of 1 000 scored signals by Redis and by Kafka, from the first sent to the last in the feed.

python -m tests.benchmarks.bench_ingest
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from actors.ingest.received import Received, read
from config.settings import Settings
from db._migrate import migrate
from tests.integration.ingest_world import World, world
from tests.peers.kafka import KafkaBroker
from tests.support.scored import numbered
from tests.support.services import postgres_server, valkey_server

MESSAGES, ROUNDS, LONE = 1_000, 3, 50


async def burst(here: World, send: Callable[[list[bytes]], Awaitable[None]], first: int) -> tuple[float, float]:
    """Return the seconds of the clock and of this process's CPU until the last message is in the feed."""
    batch = numbered(MESSAGES, start=first)
    began, cpu = time.perf_counter(), time.process_time()
    await send(batch)
    while await here.conn.fetchval("SELECT last_seq FROM feed_counter") < first + MESSAGES:  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.005)
    return time.perf_counter() - began, time.process_time() - cpu


async def alone(here: World, first: int) -> list[float]:
    """Return the milliseconds from sending one message to its arrival on the feed's channel, sorted."""
    waits = []
    async with here.feed() as heard:
        for n in range(first, first + LONE):
            seen, began = len(heard), time.perf_counter()
            await here.publish(*numbered(1, start=n))
            while len(heard) == seen:  # noqa: ASYNC110 - the list is filled by another task
                await asyncio.sleep(0.0005)
            waits.append(1000 * (time.perf_counter() - began))
    return sorted(waits)


async def measure(settings: Settings, broker: KafkaBroker) -> None:
    """Print the figures."""
    received = [Received.by_redis(each) for each in numbered(MESSAGES)]
    began = time.process_time()
    for each in received:
        read(each)
    print(f"reading and checking a message: {1e6 * (time.process_time() - began) / MESSAGES:.0f} µs")
    await broker.create_topic(1)
    async with world(settings) as here:

        async def by_redis(batch: list[bytes]) -> None:
            await here.publish(*batch)

        first = 0
        for way, send in (("redis", by_redis), ("kafka", broker.produce)):
            for _ in range(ROUNDS):
                seconds, cpu = await burst(here, send, first)
                first += MESSAGES
                print(
                    f"{way}: {MESSAGES} messages in {1000 * seconds:.0f} ms, {MESSAGES / seconds:.0f}/s; "
                    f"{1e6 * cpu / MESSAGES:.0f} µs of CPU each (sender, ingest and lens/publish in one process)"
                )
        waits = await alone(here, first)
        print(f"redis, one by one: p50 {waits[LONE // 2]:.1f} ms, max {waits[-1]:.1f} ms to the feed's channel")


async def _main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with postgres_server(root / "postgres") as database, valkey_server(root / "valkey") as redis:
            await migrate(database)
            with KafkaBroker(root) as broker:
                settings = Settings.load(env_file=None).replace(
                    database_url=database, redis_url=redis, kafka_bootstrap_servers=broker.servers
                )
                await measure(settings, broker)


if __name__ == "__main__":
    asyncio.run(_main())
