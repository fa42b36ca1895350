"""A whole system reads a Kafka topic while its parts are killed in turn: each signal once, each dead letter once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import psutil
import pytest

from tests.chaos._victims import CORE, LENS, POSTGRES, Victim
from tests.chaos.test_lens_durability import database
from tests.peers.kafka import KafkaBroker
from tests.support.lens_factory import until
from tests.support.scored import numbered
from tests.support.services import Server

BATCH, EVERY_TENTH = 2_000, 10


@pytest.mark.slow
async def test_messages_of_kafka_are_stored_once_whoever_is_killed(tmp_path: Path) -> None:
    with KafkaBroker(tmp_path) as broker:
        await broker.create_topic(2)
        with Server(tmp_path / "data", KAFKA_BOOTSTRAP_SERVERS=broker.servers) as server:
            server.start()
            await asyncio.to_thread(server.wait_ready, 90)
            for turn, victim in enumerate((CORE, LENS, POSTGRES, CORE)):
                start = turn * BATCH
                messages = [
                    b"bad %d" % n if n % EVERY_TENTH == 0 else each
                    for n, each in enumerate(numbered(BATCH, start=start), start)
                ]
                await asyncio.gather(
                    *(broker.produce(messages[each::2], partition=each) for each in (0, 1)),
                    kill_amid(server, victim, start),
                )
                await until(lambda so_far=start + BATCH: stored(server, so_far), seconds=90)
            for partition in (0, 1):

                async def committed(each: int = partition) -> bool:
                    return await broker.committed("tradestream", each) == 2 * BATCH

                await until(committed, seconds=30)
            total = 4 * BATCH
            async with database(server) as conn:
                assert await conn.fetchval("SELECT count(*) FROM signals") == total * 9 // 10
                assert await conn.fetchval("SELECT last_seq FROM feed_counter") == total * 9 // 10
                assert await conn.fetchval("SELECT count(DISTINCT payload) FROM lens_dlq") == total // 10
                assert await conn.fetchval("SELECT count(*) FROM lens_dlq") == total // 10


async def kill_amid(server: Server, victim: Victim, start: int) -> None:
    """Send SIGKILL when some of the batch is stored."""

    async def find() -> psutil.Process | None:
        return await asyncio.to_thread(victim.find, server)

    process = await until(find, seconds=30)
    assert process is not None
    await until(lambda: stored(server, start + 1), seconds=60)
    process.kill()


async def stored(server: Server, count: int) -> bool:
    """Return whether so many messages became signals or dead letters; False, too, while Postgres is unavailable."""
    try:
        async with database(server) as conn:
            query = "SELECT (SELECT count(*) FROM signals) + (SELECT count(*) FROM lens_dlq)"
            return bool(await conn.fetchval(query) >= count)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
