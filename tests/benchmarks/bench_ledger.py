"""What the owner of the log costs: `python -m tests.benchmarks.bench_ledger`.

Three measurements, each of CPU seconds of this process and of PostgreSQL: a page of signals, an hour with 200 000 open
positions in 4 000 instruments (its minutes and its mark), and 90 days that are backfilled with the simulated market.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psutil

from actors import _follower
from actors.ledger import watch
from actors.ledger.ledger import LogOwner
from actors.ledger.messages import LEDGER
from actors.lens.market._moving import Anchor, SimulatedPrices
from actors.lens.market.quotes import (
    MINUTE_MS,
    MINUTES_PAGE,
    Bar,
    PricedInstrument,
    Resolution,
    VenueQuote,
    first_minute_ms,
)
from config.settings import Settings
from db._migrate import migrate
from db._postgres import Pool, create_pool, transaction
from server.supervisor.instance import POSTGRES, Instance
from tests.support.local_actors import local_actors
from tests.support.providers_factory import Trade, add_system_provider, publish
from tests.support.services import postgres_server, valkey_server

HOUR = timedelta(hours=1)
START = datetime(2026, 8, 1, 0, 30, tzinfo=UTC)
PAGE = 500
_HUNDRED = Decimal(100)


class FixedAnchors:
    """Let each instrument start at 100."""

    async def of(self, instrument: PricedInstrument) -> Anchor | None:
        """See Anchors."""
        return Anchor(100.0, START.timestamp())

    async def declare(self, instrument: PricedInstrument, price: Decimal, at: datetime) -> None:
        """See Anchors."""


class FlatPrices:
    """A source of prices that costs nothing: all stands at 100, so what is left is the owner's own work."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now

    async def quote(self, instrument: PricedInstrument) -> VenueQuote | None:
        """See PriceSource."""
        return VenueQuote(_HUNDRED, _HUNDRED, _HUNDRED, self._now(), "flat")

    async def minutes(self, instrument: PricedInstrument, since: datetime) -> Sequence[Bar]:
        """See PriceSource."""
        first, last = first_minute_ms(since), int(self._now().timestamp() * 1000) - MINUTE_MS
        found = range(first, last + 1, MINUTE_MS)[:MINUTES_PAGE]
        return [Bar(each, _HUNDRED, _HUNDRED, _HUNDRED, _HUNDRED, _HUNDRED) for each in found]

    async def resolution(self, instrument: PricedInstrument) -> Resolution | None:
        """See PriceSource."""
        return None

    async def close(self) -> None:
        """See PriceSource."""


class SetClock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        """Return the time."""
        return self.at


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """Return the CPU time of the processes so far, kernel included."""
    return sum(sum(each.cpu_times()[:2]) for each in processes)


class LedgerBench:
    """An owner of the log, and the processes whose CPU counts."""

    def __init__(self, pool: Pool, server: Instance, *, is_flat: bool) -> None:
        self.pool = pool
        self.clock = SetClock()
        source = FlatPrices(self.clock) if is_flat else SimulatedPrices(FixedAnchors(), now=self.clock)
        self.owner = LogOwner(source, self.clock)
        self._server = server

    def used(self) -> tuple[float, float]:
        """Return the CPU seconds of this process, and of PostgreSQL."""
        return time.process_time(), cpu_seconds(self._server.processes(POSTGRES))

    async def entries(self) -> int:
        """Return the number of entries."""
        async with transaction(self.pool) as conn:
            return int(await conn.fetchval("SELECT size FROM log_state"))

    async def measured(self, what: str, count: int, unit: str) -> Callable[[], None]:
        """Begin a measurement; the result ends it and prints it, by `unit`."""
        before, started = self.used(), time.perf_counter()

        def end() -> None:
            took, (ours, theirs) = time.perf_counter() - started, self.used()
            ours, theirs = ours - before[0], theirs - before[1]
            print(
                f"{what}: {took:.2f} s, CPU {ours:.2f} s and PostgreSQL {theirs:.2f} s; "
                f"{1e6 * ours / count:.0f} µs and {1e6 * theirs / count:.0f} µs for each {unit}",
                flush=True,
            )

        return end


async def pages(bench: LedgerBench, count: int) -> None:
    """Append signals of one hour, half of them closes, a quarter of all short."""
    rng = random.Random(7)
    async with transaction(bench.pool, deadline_seconds=120) as conn:
        providers = [await add_system_provider(conn) for _ in range(200)]
        for first in range(0, count, PAGE):
            at = bench.clock.at + timedelta(seconds=first / PAGE)
            trades = [
                Trade(
                    rng.choice(providers),
                    opens=number % 2 == 0,
                    symbol=rng.choice(("BTC", "ETH", "SOL")),
                    direction=rng.choice(("long", "long", "long", "short")),
                )
                for number in range(PAGE)
            ]
            await publish(conn, trades, at=at)
    end = await bench.measured(f"{count} signals in pages of {PAGE}", count, "signal")
    await bench.owner.keeper.catch_up()
    end()


async def hour(bench: LedgerBench, positions: int, instruments: int) -> None:
    """Pass an hour with many open positions: each minute's candles, and the mark."""
    start = bench.clock.at.replace(minute=0, second=0, microsecond=0)
    async with transaction(bench.pool, deadline_seconds=300) as conn:
        await conn.execute(
            """
            INSERT INTO open_instruments (asset_type, instrument, symbol, checked_until)
            SELECT 'crypto', 'X' || n, 'X' || n, $2 FROM generate_series(1, $1) n
            """,
            instruments,
            start,
        )
        await conn.execute(
            """
            INSERT INTO open_positions (signal_id, provider_id, asset_type, instrument, side, opened_seq, received_at,
                declared_price, open_part, is_filled, take_profit, target_part, stop_loss, watched_from, low_level,
                high_level)
            SELECT gen_random_uuid(), gen_random_uuid(), 'crypto', 'X' || 1 + n % $2,
                CASE WHEN n % 2 = 0 THEN 'long' ELSE 'short' END, n, $3, 100, 1000000000000, true, '[]', 0,
                100 - (n % 40) / 2.0 - 1, $3, CASE WHEN n % 2 = 0 THEN 100 - (n % 40) / 2.0 - 1 END,
                CASE WHEN n % 2 = 1 THEN 200 END
            FROM generate_series(1, $1) n
            """,
            positions,
            instruments,
            start,
        )
        await conn.execute("UPDATE log_state SET reached_at = $1", start)
    async with transaction(bench.pool, deadline_seconds=300) as conn:
        await conn.execute("ANALYZE open_positions")
    bench.owner.keeper.log = None
    bench.clock.at = start + timedelta(seconds=5)
    before = await bench.entries()
    await bench.owner.keeper.catch_up()
    end = await bench.measured(f"an hour of {positions} positions in {instruments} instruments", 1, "hour")
    for minute in range(1, 61):
        bench.clock.at = start + timedelta(minutes=minute, seconds=5)
        await bench.owner.watch.look()
        await bench.owner.keeper.catch_up()
    end()
    print(f"  {await bench.entries() - before} entries")


async def backfill(bench: LedgerBench, days: int, providers_count: int, signals: int) -> None:
    """Append the signals of many days, in batches, as a demo's past comes."""
    rng = random.Random(8)
    async with transaction(bench.pool, deadline_seconds=120) as conn:
        await conn.execute("TRUNCATE open_positions, open_instruments")
        providers = [await add_system_provider(conn) for _ in range(providers_count)]
    bench.owner.keeper.log = None
    first = bench.clock.at.replace(minute=0) + HOUR
    bench.clock.at = first + timedelta(days=days)
    symbols = [f"S{number}" for number in range(20)]
    times = sorted(rng.random() for _ in range(signals))
    end = await bench.measured(f"{days} days of {signals} signals in {len(symbols)} instruments", signals, "signal")
    before = await bench.entries()
    for start in range(0, signals, PAGE):
        async with transaction(bench.pool, deadline_seconds=120) as conn:
            for part in times[start : start + PAGE]:
                trade = Trade(
                    rng.choice(providers),
                    opens=rng.random() < 0.52,
                    symbol=rng.choice(symbols),
                    direction=rng.choice(("long", "long", "short")),
                )
                await publish(conn, [trade], at=first + part * timedelta(days=days))
            await conn.execute("UPDATE signals SET way_in = 'backfill' WHERE way_in IS DISTINCT FROM 'backfill'")
        await bench.owner.keeper.catch_up()
    end()
    print(f"  {await bench.entries() - before} entries")


async def run(url: str, redis_url: str, server: Instance, options: argparse.Namespace, data_dir: Path) -> None:
    """Run all measurements."""
    await migrate(url)
    _follower.POLL_SECONDS, watch.WATCH_SECONDS = 3600.0, 3600.0  # type: ignore[misc]
    pool = await create_pool(url, 4, name="bench")
    settings = Settings.load(env_file=None).replace(database_url=url, redis_url=redis_url, data_dir=data_dir)
    bench = LedgerBench(pool, server, is_flat=options.flat)
    async with local_actors(settings, {LEDGER: bench.owner}):
        if "pages" in options.parts:
            await pages(bench, options.signals)
        if "hour" in options.parts:
            await hour(bench, options.positions, options.instruments)
        if "backfill" in options.parts:
            await backfill(bench, options.days, 30, options.past)
    pool.terminate()


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["pages", "hour", "backfill"])
    parser.add_argument("--signals", type=int, default=20_000)
    parser.add_argument("--positions", type=int, default=200_000)
    parser.add_argument("--instruments", type=int, default=4_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--past", type=int, default=6_000)
    parser.add_argument("--flat", action="store_true", help="a source that costs nothing, not the simulated market")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with postgres_server(root / "postgres") as url, valkey_server(root / "valkey") as redis_url:
            asyncio.run(run(url, redis_url, Instance(root / "postgres"), options, root))


if __name__ == "__main__":
    main()
