"""Measure a night of the boards of skill: reading everyone's record, computing, storing, and a page afterwards.

python -m tests.benchmarks.bench_skill_boards [providers] [--check]
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from actors.leaderboards.night import night_of
from config.clock import now
from db import _board_nights as sql
from db._migrate import migrate
from db._postgres import create_pool, transaction
from tests.support.records_factory import DAY, RecordStats, add_stats
from tests.support.services import postgres_server

PROVIDERS = 100_000
MOST_SECONDS = 60.0
NIGHTS = 2  # in the second everyone was eligible before


def crowd(count: int) -> list[RecordStats]:
    """Return providers of whom all are eligible and a twentieth is skilled."""
    chance = random.Random(7)
    return [
        RecordStats(
            mean=chance.gauss(0.003 if number % 20 == 0 else 0.0, 0.0007),
            days=chance.randrange(60, 500),
            age=500,
            unverified=chance.randrange(20),
        )
        for number in range(count)
    ]


async def run(postgres_url: str, count: int) -> float:
    """Return the seconds of the slower night."""
    await migrate(postgres_url)
    pool = await create_pool(postgres_url, 1, name="bench")
    slowest = 0.0
    async with transaction(pool, deadline_seconds=300) as conn:
        await add_stats(conn, crowd(count))
    for number in range(NIGHTS):
        day = DAY + timedelta(days=number)
        began = time.perf_counter()
        async with transaction(pool, deadline_seconds=300) as conn:
            stats = await sql.load_stats(conn)
            read = time.perf_counter()
            night, candidates = night_of(day, stats, now())
            computed = time.perf_counter()
            await sql.insert_night(conn, night, candidates)
        ended = time.perf_counter()
        slowest = max(slowest, ended - began)
        print(
            f"{count} providers, {night.listed} listed: {ended - began:.2f} s, of it reading {read - began:.2f}, "
            f"computing {computed - read:.2f}, storing {ended - computed:.2f}"
        )
    async with transaction(pool, deadline_seconds=60) as conn:
        for offset in (0, 4_000):
            began = time.perf_counter()
            page = await sql.load_listed(conn, "steady", day, offset, 100)
            print(f"{len(page)} entries from place {offset + 1} on: {1e3 * (time.perf_counter() - began):.1f} ms")
    pool.terminate()
    return slowest


def main() -> int:
    """Start an own server, and measure."""
    numbers = [each for each in sys.argv[1:] if each.isdigit()]
    count = int(numbers[0]) if numbers else PROVIDERS
    with tempfile.TemporaryDirectory() as folder, postgres_server(Path(folder) / "postgres") as postgres_url:
        slowest = asyncio.run(run(postgres_url, count))
    return 1 if "--check" in sys.argv and slowest > MOST_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
