"""The owner of the log is killed, again and again, while signals are published and a stranger reads: it only grows."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from actors.records.entries import SignalEntry
from config.settings import Settings
from db._postgres import connection, transaction
from server.supervisor.process import inherited_environment
from server.verify.audit import audit, read_entries
from server.verify.kept import Kept
from server.verify.source import LogSource
from tests.support.log_factory import log_world
from tests.support.providers_factory import Trade, add_system_provider, publish
from tests.support.services import REPOSITORY

SECONDS = 120.0
SIGNALS, KILLS = 2_000, 6


def start(settings: Settings) -> subprocess.Popen[bytes]:
    where = (str(settings.database_url), str(settings.redis_url), str(settings.data_dir))
    command = [sys.executable, "-m", "tests.chaos.log_owner_process", *where]
    environment = {**inherited_environment(), "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, env=environment, cwd=REPOSITORY, stderr=subprocess.DEVNULL)


@pytest.mark.slow  # seven processes are started
async def test_the_log_only_grows_though_its_owner_is_killed(settings: Settings, tmp_path: Path) -> None:
    rng = random.Random(5)
    deadline = asyncio.get_running_loop().time() + SECONDS
    owner = start(settings)
    try:
        async with log_world(settings, started=False) as world:
            source, kept = LogSource(f"http://127.0.0.1:{world.client.port}"), Kept(tmp_path, "http://server")
            async with transaction(world.pool) as conn:
                providers = [await add_system_provider(conn) for _ in range(3)]

            async def logged() -> int:
                async with connection(world.pool) as conn:
                    return int(await conn.fetchval("SELECT feed_seq FROM log_state"))

            published = kills = visits = 0
            while published < SIGNALS or await logged() < published or (await world.checkpoint()).size < published:
                assert asyncio.get_running_loop().time() < deadline, (published, await logged())
                if published < SIGNALS:
                    async with transaction(world.pool) as conn:
                        await publish(conn, [_trade(rng, providers) for _ in range(40)])
                    published += 40
                if kills < KILLS and await logged() > SIGNALS // (KILLS + 1) * kills:
                    owner.send_signal(signal.SIGKILL)
                    owner.wait(10)
                    owner = start(settings)
                    kills += 1
                if (await world.client.get("/log/checkpoint")).status == 200:
                    await audit(source, kept)  # it continues the log of the last visit
                    visits += 1
                await asyncio.sleep(rng.random() * 0.05)
            audited = await audit(source, kept)
            await source.close()
            entries = [entry for _, entry in read_entries(kept, audited.checkpoint.size, b"")]
            numbers = [each.feed_seq for each in entries if isinstance(each, SignalEntry)]
            assert numbers == list(range(1, SIGNALS + 1))
            assert kills == KILLS
            assert visits > KILLS
    finally:
        owner.kill()
        owner.wait(10)


def _trade(rng: random.Random, providers: list[UUID]) -> Trade:
    return Trade(
        rng.choice(providers),
        opens=rng.random() < 0.55,
        symbol=rng.choice(["BTC", "ETH"]),
        direction=rng.choice(["long", "short"]),
        price=Decimal(rng.randint(1, 10**6)).scaleb(-3),
    )
