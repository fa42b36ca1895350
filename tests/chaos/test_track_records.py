"""The owners of track records are killed, again and again, while signals are published: each counts once."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from uuid import UUID

import pytest

from actors.providers.rebuild import rebuild
from config.settings import Settings
from db._postgres import connection, create_pool, transaction
from db.providers.records import load_records
from server.supervisor.process import inherited_environment
from tests.support.providers_factory import Trade, add_system_provider, publish
from tests.support.quiet_ledger import with_log_key
from tests.support.services import REPOSITORY

SHARDS = 2
SECONDS = 90.0  # for everything; a start takes two of them, and on a busy machine ten


@contextmanager
def owners_of(settings: Settings) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = [start(settings, shard) for shard in range(SHARDS)]
    try:
        yield processes
    finally:
        for each in processes:
            each.kill()
            each.wait(10)


def start(settings: Settings, shard: int) -> subprocess.Popen[bytes]:
    where = (str(settings.database_url), str(settings.redis_url), str(shard), str(SHARDS), str(settings.data_dir))
    command = [sys.executable, "-m", "tests.chaos.log_consumer_process", *where]
    environment = {**inherited_environment(), "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, env=environment, cwd=REPOSITORY, stderr=subprocess.DEVNULL)


@pytest.mark.slow  # six processes are started
async def test_signals_count_once_though_their_owners_are_killed(settings: Settings) -> None:
    rng = random.Random(3)
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 2, name="test")
    with with_log_key(settings) as settings, owners_of(settings) as owners:
        async with transaction(pool) as conn:
            providers = [await add_system_provider(conn) for _ in range(5)]
        deadline = asyncio.get_running_loop().time() + SECONDS

        async def applied() -> int:
            async with connection(pool) as conn:
                return int(await conn.fetchval("SELECT coalesce(sum(total_signals), 0) FROM provider_stats"))

        published = kills = 0
        while published < 3_000 or await applied() < published:
            assert asyncio.get_running_loop().time() < deadline, (published, await applied())
            if published < 3_000:
                async with transaction(pool) as conn:
                    await publish(conn, [_trade(rng, providers) for _ in range(50)])
                published += 50
            if kills < 4 and await applied() > 500 * kills:  # in the middle of a page, as likely as not
                shard = rng.randrange(SHARDS)
                owners[shard].send_signal(signal.SIGKILL)
                owners[shard].wait(10)
                owners[shard] = start(settings, shard)
                kills += 1
            await asyncio.sleep(rng.random() * 0.02)
        assert kills == 4
        async with connection(pool) as conn:
            records = await load_records(conn, providers)
            assert sum(each.total_signals for each in records.values()) == published
            for provider_id in providers:
                assert (await rebuild(conn, provider_id, settings.costs_bps)).differences == []
    pool.terminate()


def _trade(rng: random.Random, providers: list[UUID]) -> Trade:
    return Trade(
        rng.choice(providers),
        opens=rng.random() < 0.55,
        symbol=rng.choice(["BTC", "ETH"]),
        direction=rng.choice(["long", "short"]),
        price=Decimal(rng.randint(1, 10**6)).scaleb(-3),
    )
