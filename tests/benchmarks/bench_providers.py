"""Measure the feed consumer's cost per signal: CPU of its process and of PostgreSQL's, by size of page.

python -m tests.benchmarks.bench_providers [signals]
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from actors import _follower
from actors.ledger.messages import LEDGER
from actors.providers import log_consumer
from actors.providers.messages import PROVIDERS
from actors.providers.providers import Providers
from config.settings import Settings
from db._migrate import migrate
from db._postgres import Pool, create_pool, transaction
from server.supervisor.instance import POSTGRES, Instance
from tests.support.local_actors import local_actors
from tests.support.providers_factory import Trade, add_system_provider, publish
from tests.support.quiet_ledger import append_feed, quiet_ledger
from tests.support.services import postgres_server, valkey_server

PROVIDERS_COUNT = 500
SIGNALS = 6_000
PAGES = (1, 25, 100, 500)


def trades(providers: Sequence[UUID], count: int) -> list[Trade]:
    """Return as many closes as opens; every provider trades three symbols."""
    rng = random.Random(7)
    return [
        Trade(
            rng.choice(providers),
            opens=n % 2 == 0,
            symbol=rng.choice(("BTC", "ETH", "SOL")),
            price=Decimal(rng.randint(10_000, 90_000)) / 100,
        )
        for n in range(count)
    ]


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """Return the CPU time of the processes so far, kernel included."""
    return sum(sum(each.cpu_times()[:2]) for each in processes)


async def measure(settings: Settings, pool: Pool, server: Instance, page: int, count: int) -> None:
    """Let one shard read `count` new signals in pages of `page`; print CPU microseconds a signal."""
    log_consumer.PAGE, _follower.POLL_SECONDS = page, 3600.0
    async with transaction(pool, deadline_seconds=60) as conn:
        providers = [await add_system_provider(conn) for _ in range(PROVIDERS_COUNT)]
    owner = Providers()
    async with local_actors(settings, {PROVIDERS: owner, LEDGER: quiet_ledger()}) as actors:
        for first in (True, False):  # the first round loads records and plans statements
            async with transaction(pool, deadline_seconds=60) as conn:
                await publish(conn, trades(providers, count // 4 if first else count))
            await append_feed(actors)
            backends = server.processes(POSTGRES)
            own, theirs, began = time.process_time(), cpu_seconds(backends), time.perf_counter()
            await owner.log_consumer.catch_up()
            own, theirs = time.process_time() - own, cpu_seconds(backends) - theirs
            seconds = time.perf_counter() - began
    print(
        f"pages of {page:3}: {1e6 * own / count:6.0f} µs of the owner's CPU a signal, {1e6 * theirs / count:6.0f} µs of"
        f" PostgreSQL's; {count / seconds:6.0f} signals/s by one shard"
    )


async def run(root: Path, postgres_url: str, redis_url: str, count: int) -> None:
    """Measure every size of page."""
    await migrate(postgres_url)
    settings = Settings.load(env_file=None).replace(database_url=postgres_url, redis_url=redis_url, data_dir=root)
    pool: Any = await create_pool(postgres_url, 2, name="bench")
    for page in PAGES:
        await measure(settings, pool, Instance(root), page, count if page > 1 else count // 10)
    pool.terminate()


def main() -> None:
    """Start own servers, and measure."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else SIGNALS
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with postgres_server(root / "postgres") as postgres_url, valkey_server(root / "valkey") as redis_url:
            asyncio.run(run(root / "postgres", postgres_url, redis_url, count))


if __name__ == "__main__":
    main()
