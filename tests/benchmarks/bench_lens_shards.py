"""Measure the pipeline's rate by LENS_SHARDS: one, two and four lanes, each held to a tenth of a core.

    python -m tests.benchmarks.bench_lens_shards [--shards 1,2,4] [--share 0.1] [--signals 800] [--check]

For each number of lanes a `run.py serve` of its own, as in bench_pipeline, but with `lens/intake` apart from the other
three stages. These are stopped (SIGSTOP) until `--signals` for each lane are accepted. Then every lane's process is
continued and stopped in turn, so that it runs for `--share` of each period, and no two of them at once: what limits the
pipeline is its lanes, if the machine has a core to spare. The rate is from then until the last signal is published.
Takes about 80 seconds.

`--check` exits with 1 if twice the lanes have not at least GROWTH times the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import uvloop

from tests.benchmarks import footprint
from tests.benchmarks.bench_pipeline import CONNECTIONS, SETTINGS, requests
from tests.benchmarks.http_load import Load, run
from tests.support.lens_factory import until
from tests.support.services import Server

GROWTH = 1.7
PERIOD_SECONDS = 0.25
PLACEMENT = (
    "intake=lens/intake@1 lane=lens/enrich+lens/evaluate+lens/publish rest=providers+users+leaderboards+ingest+ledger@1"
)
SOURCES = 2_000  # so many that each lane gets its part


@contextmanager
def throttled(processes: Sequence[psutil.Process], share: float) -> Iterator[None]:
    """Let each process run for a share of every period, one after the other."""
    over = threading.Event()
    pids = [each.pid for each in processes]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)

    def take_turns() -> None:
        begin = time.monotonic()
        while not over.is_set():
            for place, pid in enumerate(pids):
                time.sleep(max(begin + place * PERIOD_SECONDS / len(pids) - time.monotonic(), 0))
                os.kill(pid, signal.SIGCONT)
                time.sleep(share * PERIOD_SECONDS)
                os.kill(pid, signal.SIGSTOP)
            begin = max(begin + PERIOD_SECONDS, time.monotonic() - PERIOD_SECONDS)  # late turns are not made up for

    thread = threading.Thread(target=take_turns, name="throttle")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def lanes_of(server: Server) -> list[psutil.Process]:
    """Return the processes of the lanes."""
    return [each for each in server.children("ray") if " ".join(each.cmdline()).startswith("ray::Lane")]


def cpu_of(processes: Sequence[psutil.Process]) -> float:
    """Return the CPU seconds that the processes have spent."""
    return sum(sum(each.cpu_times()[:2]) for each in processes)


async def measure(shards: int, share: float, signals: int) -> float:
    """Return the published signals a second with so many lanes."""
    settings = SETTINGS | {"LENS_SHARDS": str(shards), "ACTOR_PLACEMENT": PLACEMENT}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Server(Path(folder) / "data", **settings) as server:
        server.start()
        await asyncio.to_thread(server.wait_ready, 180.0)
        port, bodies = int(server.settings["PORT"]), requests(sources=SOURCES)
        await asyncio.to_thread(run, Load(port, bodies, 16, 2.0, rate=200.0))  # warm, and sources have their providers
        lanes = lanes_of(server)
        assert len(lanes) == shards, f"{len(lanes)} processes for {shards} lanes"
        conn = await asyncpg.connect(footprint.postgres_url(server))
        try:
            await until_empty(conn)
            for each in lanes:
                each.suspend()
            accepted = 0
            while accepted < signals * shards:
                accepted += (await asyncio.to_thread(run, Load(port, bodies, CONNECTIONS, 1.0))).succeeded()
            before, began = cpu_of(lanes), time.monotonic()
            with throttled(lanes, share):
                await until_empty(conn)
            took = time.monotonic() - began
        finally:
            await conn.close()
        spent = (cpu_of(lanes) - before) / took / shards
        print(f"{shards} lanes: {accepted / took:6.0f}/s, {accepted} in all; each lane had {spent:.1%} of a core")
        return accepted / took


async def until_empty(conn: asyncpg.Connection[asyncpg.Record]) -> None:
    """Wait until no event is under way."""

    async def is_empty() -> bool:
        return not await conn.fetchval("SELECT count(*) FROM lens_progress WHERE finished_at IS NULL")

    await until(is_empty, seconds=180)


async def compare(options: argparse.Namespace) -> int:
    """Compare all numbers of lanes; 1 with `--check` if the rate does not grow with them."""
    rates: dict[int, float] = {}
    for shards in map(int, options.shards.split(",")):
        rates[shards] = await measure(shards, options.share, options.signals)
    missed = 0
    for few, many in zip(rates, list(rates)[1:], strict=False):
        growth, wanted = rates[many] / rates[few], GROWTH * many / few / 2
        missed += growth < wanted
        print(f"{few} → {many} lanes: {growth:.2f} times the rate (at least {wanted:.1f})")
    return int(missed > 0 and options.check)


def main() -> int:
    """Parse and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", default="1,2,4")
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--signals", type=int, default=800, help="for each lane")
    parser.add_argument("--check", action="store_true")
    return uvloop.run(compare(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
