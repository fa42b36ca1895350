"""Measure records from the market: closing a day of 200 000 open positions, and reading a profile with its curve.

    python -m tests.benchmarks.bench_records [open positions]

A day's end is one shard's work for all providers, over a real Postgres: its own CPU, PostgreSQL's, and the time. The
profile is one of 5 000 closed positions over two years, read together with its curve, as a page does.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import psutil

from actors.ledger.log_writer import LogWriter
from actors.providers.messages import PROVIDERS
from actors.providers.providers import Providers
from actors.records.entries import AnyEntry, MarkEntry, SignalEntry
from actors.records.returns import UNIT
from config.ids import uuid7
from config.settings import Settings
from db._migrate import migrate
from db._postgres import Pool, connection, create_pool, transaction
from handlers._present_records import read_equity
from handlers._profiles import Profiles
from server.supervisor.instance import POSTGRES, Instance
from tests.support.local_actors import local_actors
from tests.support.providers_factory import add_system_provider
from tests.support.services import postgres_server, valkey_server

POSITIONS = 200_000
EACH = 200  # open positions of a provider
INSTRUMENTS = 1_000
CLOSED = 5_000
READS = 200
START = datetime(2024, 11, 1, 12, tzinfo=UTC)


def signal(who: UUID, seq: int, at: datetime, price: int, closes: UUID | None = None) -> SignalEntry:
    """Return a signal that opens a position, or closes one."""
    return SignalEntry(
        feed_seq=seq,
        signal_id=uuid7(),
        provider_id=who,
        asset_type="crypto",
        instrument=f"I{seq // 2 % INSTRUMENTS if closes is None else (seq - 1) // 2 % INSTRUMENTS}",
        event_type="OPEN_SIGNAL" if closes is None else "CLOSE_SIGNAL",
        direction="long",
        declared_price=Decimal(price),
        received_at=at,
        published_at=at,
        score=70,
        texts="ab" * 32,
        way_in="lens",
        record_price=Decimal(price),
        opens=closes is None,
        closes=closes,
        part=0 if closes is None else UNIT,
    )


def mark(day: date) -> MarkEntry:
    """Return the mark that ends a day."""
    at = datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC)
    mids = {f"I{number}": Decimal(90 + (number * 31 + day.toordinal()) % 20) for number in range(INSTRUMENTS)}
    return MarkEntry(at, {"crypto": mids})


def past(who: UUID, first_seq: int) -> Iterator[AnyEntry]:
    """Yield 5 000 positions that are opened and closed on the days of two years."""
    each_day = CLOSED // 700
    seq = first_seq
    for number in range(CLOSED // each_day):
        at = START + timedelta(days=number)
        for _ in range(each_day):
            opening = signal(who, seq, at, 100)
            yield opening
            yield signal(who, seq + 1, at + timedelta(hours=1), 95 + seq % 11, opening.signal_id)
            seq += 2
        yield mark(at.date())


def cpu_of(backends: Sequence[psutil.Process]) -> float:
    """Return the CPU time of those of the processes that still run."""
    total = 0.0
    for each in backends:
        with suppress(psutil.NoSuchProcess):
            total += sum(each.cpu_times()[:2])
    return total


async def append(pool: Pool, entries: Sequence[AnyEntry]) -> None:
    """Append entries to the log."""
    writer = LogWriter()
    for start in range(0, len(entries), 20_000):
        async with transaction(pool, deadline_seconds=120) as conn:
            await writer.append(conn, entries[start : start + 20_000])


async def run(root: Path, postgres_url: str, redis_url: str, positions: int) -> None:
    """Measure both."""
    await migrate(postgres_url)
    settings = Settings.load(env_file=None).replace(database_url=postgres_url, redis_url=redis_url, data_dir=root)
    pool = await create_pool(postgres_url, 4, name="bench")
    async with transaction(pool, deadline_seconds=60) as conn:
        who = await add_system_provider(conn)
        others = [await add_system_provider(conn) for _ in range(positions // EACH)]
    owner = Providers()
    async with local_actors(settings, {PROVIDERS: owner}):
        history = [*past(who, 1)]
        await append(pool, history)
        await owner.log_consumer.catch_up()
        await read_page(pool, settings, who)
        now = START + timedelta(days=750)
        opened = [
            signal(others[n % len(others)], 20_001 + 2 * n, now + timedelta(seconds=n), 100) for n in range(positions)
        ]
        await append(pool, opened)
        await owner.log_consumer.catch_up()
        backends = Instance(root / "postgres").processes(POSTGRES)
        for number in range(2):
            await append(pool, [mark(now.date() + timedelta(days=number))])
            own, theirs, began = time.process_time(), cpu_of(backends), time.perf_counter()
            await owner.log_consumer.catch_up()
            own, theirs = time.process_time() - own, cpu_of(backends) - theirs
            seconds = time.perf_counter() - began
            print(
                f"day {number + 1} of {positions} open positions: {own:5.2f} s of the owner's CPU, {theirs:5.2f} s of "
                f"PostgreSQL's; {seconds:5.2f} s"
            )
    pool.terminate()


async def read_page(pool: Pool, settings: Settings, who: UUID) -> None:
    """Read the profile and the curve, and print how long both took."""
    profiles, times = Profiles(pool, settings.costs_bps), []
    for _ in range(READS):
        began = time.perf_counter()
        await profiles.get(who, None)
        async with connection(pool) as conn:
            found = await read_equity(conn, who, settings.costs_bps, period="all", points=500)
        times.append(1e3 * (time.perf_counter() - began))
    assert found is not None
    times.sort()
    print(
        f"profile and curve of {CLOSED} closed positions: median {times[READS // 2]:.1f} ms, "
        f"p99 {times[READS * 99 // 100]:.1f} ms"
    )


def main() -> None:
    """Start own servers, and measure."""
    positions = int(sys.argv[1]) if len(sys.argv) > 1 else POSITIONS
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with postgres_server(root / "postgres") as postgres_url, valkey_server(root / "valkey") as redis_url:
            asyncio.run(run(root, postgres_url, redis_url, positions))


if __name__ == "__main__":
    main()
