"""Measure the actor reference beside plain Ray calls: `python -m tests.benchmarks.bench_actor_ref [--json]`.

Every contender adds to a counter. `plain` awaits one Ray call per addition; `mailbox` sends messages to the same kind
of actor; `persisted` sends them to counters that answer when Postgres has committed (with fsync). The contenders take
turns in every round, so that whatever else the machine does hits all of them; ratios are taken within a round, then
the median. One caller asks again as soon as it is answered; a hundred do so side by side.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import asyncpg
import ray
import uvloop

from actors._runtime.placement import ActorSpec
from actors._runtime.registry import ActorRegistry, connect, disconnect
from config.settings import Settings
from db import actors as sql
from tests.integration.counters import SCHEMA, Add
from tests.support.breakable import ray_for_this_process
from tests.support.services import postgres_server

SPECS = (
    ActorSpec("bench/plain", "tests.integration.counters:Plain"),
    ActorSpec("bench/counters", "tests.integration.counters:Counters"),
)
MIGRATION = Path(sql.__file__).parent / "migrations" / "0001_actors.sql"
CALLERS = (1, 100)
TARGETS = "targets: mailbox at least 20 times the calls of plain at 100 callers, at most 1.2 times its latency at 1"

Call = Callable[[str], Awaitable[Any]]


class PlainCounter:
    """The counter, written with Ray alone."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}

    async def add(self, key: str, by: int) -> int:
        """Add one; return the new total."""
        self._totals[key] = total = self._totals.get(key, 0) + by
        return total


@dataclass(frozen=True, slots=True)
class Figure:
    """The result of one contender in one round."""

    calls_per_second: float
    p50_ms: float
    p99_ms: float


async def measure(call: Call, callers: int, seconds: float) -> Figure:
    """Measure `callers` that each ask again as soon as they are answered, for `seconds`."""
    latencies: list[float] = []
    started = time.perf_counter()
    end = started + seconds

    async def caller(key: str) -> None:
        while True:
            asked = time.perf_counter()
            if asked >= end:
                return
            await call(key)
            latencies.append(time.perf_counter() - asked)

    await asyncio.gather(*(caller(f"key-{number}") for number in range(callers)))
    elapsed = time.perf_counter() - started
    latencies.sort()
    return Figure(
        len(latencies) / elapsed,
        1000 * latencies[len(latencies) // 2],
        1000 * latencies[int(len(latencies) * 0.99)],
    )


async def compare(contenders: Mapping[str, Call], rounds: int, seconds: float) -> dict[tuple[str, int], list[Figure]]:
    """Measure all contenders in every round, each round in another order."""
    figures: dict[tuple[str, int], list[Figure]] = {(name, n): [] for n in CALLERS for name in contenders}
    for call in contenders.values():
        await measure(call, CALLERS[-1], seconds / 4)  # warm up
    for number in range(rounds):
        names = list(contenders)
        names = names[number % len(names) :] + names[: number % len(names)]
        for callers in CALLERS:
            for name in names:
                figures[name, callers].append(await measure(contenders[name], callers, seconds))
    return figures


def median(figures: list[Figure]) -> Figure:
    """Return the median of each number."""
    columns = zip(*(asdict(figure).values() for figure in figures), strict=True)
    return Figure(*(statistics.median(column) for column in columns))


def ratio(figures: list[Figure], base: list[Figure], name: str) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(getattr(a, name) / getattr(b, name) for a, b in zip(figures, base, strict=True))


def report(figures: dict[tuple[str, int], list[Figure]]) -> list[dict[str, Any]]:
    """Print a row for each contender and number of callers."""
    return [
        {
            "contender": name,
            "callers": callers,
            **{key: round(value, 2) for key, value in asdict(median(rounds)).items()},
            "calls_vs_plain": round(ratio(rounds, figures["plain", callers], "calls_per_second"), 2),
            "p50_vs_plain": round(ratio(rounds, figures["plain", callers], "p50_ms"), 2),
        }
        for (name, callers), rounds in figures.items()
    ]


async def run(url: str, address: str, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Prepare, compare, clean up."""
    conn = await asyncpg.connect(url)
    await conn.execute(MIGRATION.read_text().partition("-- migrate:down")[0])
    await conn.execute(SCHEMA)
    await conn.close()
    settings = Settings.load(env_file=None).replace(
        database_url=url, redis_url="unix:///nowhere", ray_address=address, log_level="WARNING"
    )
    await connect(settings)
    registry = ActorRegistry(settings, SPECS)
    await registry.start()
    plain = ray.remote(PlainCounter).options(num_cpus=0, max_concurrency=1000, enable_task_events=False).remote()

    async def by_plain_call(key: str) -> None:
        await plain.add.remote(key, 1)

    async def by_mailbox(key: str) -> None:
        await registry.ref("bench/plain", key).ask(key, Add())

    async def persisted(key: str) -> None:
        await registry.ref("bench/counters", key).ask(key, Add())

    try:
        contenders = {"plain": by_plain_call, "mailbox": by_mailbox, "persisted": persisted}
        return report(await compare(contenders, rounds, seconds))
    finally:
        await registry.stop_actors()
        await registry.close()
        await disconnect()


async def make_durable(url: str) -> None:
    """Switch fsync on, as in production; the servers of tests run without it."""
    conn = await asyncpg.connect(url, user="postgres", database="postgres")
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        await conn.execute(f"ALTER SYSTEM SET {name} = on")
    await conn.execute("SELECT pg_reload_conf()")
    await conn.close()


def main() -> None:
    """Start the servers, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.7, help="for each contender in each round")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(postgres_server(root / "postgres"))
        address = stack.enter_context(ray_for_this_process(root / "ray"))
        asyncio.run(make_durable(url))
        rows = uvloop.run(run(url, address, options.rounds, options.seconds))
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    head = "".join(f"{title:>12}" for title in ("callers", "calls/s", "p50 ms", "p99 ms", "× calls", "× p50"))
    print(f"{'':<10}{head}")
    for row in rows:
        name, *values = row.values()
        print(f"{name:<10}" + "".join(f"{value:>12}" for value in values))
    print(TARGETS)


if __name__ == "__main__":
    main()
