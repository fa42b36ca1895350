"""What the streams cost: CPU per delivery, latency, bursts, memory per idle connection, many who do not match.

    python -m tests.benchmarks.bench_fanout [--quick] [--clients 1000] [--idle 2000] [--check]

One gateway process on uvloop, real PostgreSQL and Valkey, readers in a process of their own, signals of 1 kB published
as the publish stage does it (insert, commit, PUBLISH). CPU is the gateway's user and system time over the run, divided
by the deliveries; it includes receiving the signals, heartbeats and ids. Latency is from just before the message to
Redis to the read in the client, on the clock that all processes share. `--check` exits with 1 beyond BOUNDS.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import uvloop

from config.settings import Settings
from db._migrate import migrate
from db._postgres import create_pool
from db._redis import create_redis
from tests.services import postgres_server, valkey_server
from tests.streams import BOB, Draft, Publisher

NOTE = "x" * 900  # with the rest, 1 kB
PATH = "/api/signals/stream"
RATE = 100
TIMED = 10  # readers whose latencies are taken, in a process of their own: the others are kept busy by reading
BOUNDS = {"cpu_us": 7.1, "burst_per_second": 300_000, "pss_kb": 8.0}


class Peer:
    """A child process that is told lines and answers lines."""

    def __init__(self, module: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},  # noqa: TID251 - a child needs its parent's PATH
        )

    def say(self, line: object) -> None:
        """Send a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    async def hear(self) -> str:
        """The next line."""
        assert self.process.stdout is not None
        line = await asyncio.to_thread(self.process.stdout.readline)
        assert line, f"the process ended with {self.process.poll()}"
        return line.strip()

    def end(self) -> None:
        """Close its stdin and wait for its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def peer(module: str, *arguments: str, environment: dict[str, str] | None = None) -> Iterator[Peer]:
    """A running peer."""
    started = Peer(module, *arguments, environment=environment)
    try:
        yield started
    finally:
        started.end()


class Bench:
    """One gateway and its publisher."""

    def __init__(self, gateway: Peer, port: int, publisher: Publisher) -> None:
        self.gateway = psutil.Process(gateway.process.pid)
        self.port = port
        self.publisher = publisher

    async def steady(self, clients: int, seconds: float, path: str = PATH) -> dict[str, Any]:
        """`clients` readers, RATE signals a second, each published by itself."""
        count, told = int(RATE * seconds), dict[int, float]()
        with (
            peer("tests.benchmarks.stream_readers", str(self.port), path, str(clients - TIMED), "0") as readers,
            peer("tests.benchmarks.stream_readers", str(self.port), path, str(TIMED), str(TIMED)) as timed,
        ):
            await readers.hear()
            await timed.hear()
            await asyncio.sleep(1.0)
            readers.say(count * (clients - TIMED))
            timed.say(count * TIMED)
            before, started = self._cpu(), time.monotonic()
            for number in range(count):
                await asyncio.sleep(started + number / RATE - time.monotonic())
                await self._publish(1, tell=False)
                item, _ = self.publisher.published[-1]
                told[item.feed_seq] = time.monotonic()
                await self.publisher.tell([item])
            reports = [json.loads(await each.hear()) for each in (readers, timed)]
            cpu = self._cpu() - before
        delivered, latencies = (
            sum(report["signals"] for report in reports),
            sorted((at - told[place]) * 1000 for place, at in reports[1]["arrivals"]),
        )
        return {
            "delivered": delivered,
            "expected": count * clients,
            "cpu_us": cpu / max(1, delivered) * 1e6,
            "cpu_share": cpu / (max(report["last_at"] for report in reports) - started),
            "p50_ms": latencies[len(latencies) // 2] if latencies else None,
            "p99_ms": latencies[int(len(latencies) * 0.99)] if latencies else None,
        }

    async def burst(self, clients: int, signals: int, rounds: int) -> dict[str, Any]:
        """`signals` at once to `clients` readers: deliveries per second from the message to the last read."""
        rates, cpus = [], []
        with peer(
            "tests.benchmarks.stream_readers", str(self.port), "/api/signals/stream", str(clients), "0"
        ) as readers:
            await readers.hear()
            for _ in range(rounds):
                await asyncio.sleep(0.5)
                readers.say(clients * signals)
                await asyncio.sleep(0.1)
                await self._publish(signals, tell=False)
                items = [item for item, _ in self.publisher.published[-signals:]]
                before, started = self._cpu(), time.monotonic()
                await self.publisher.tell(items)
                report = json.loads(await readers.hear())
                assert report["signals"] == clients * signals, report
                rates.append(report["signals"] / (report["last_at"] - started))
                await asyncio.sleep(0.2)
                cpus.append((self._cpu() - before) / report["signals"] * 1e6)
        return {"per_second": max(rates), "median_per_second": sorted(rates)[len(rates) // 2], "cpu_us": min(cpus)}

    async def idle(self, clients: int) -> dict[str, Any]:
        """Memory of the gateway per open connection that is silent, and what heartbeats cost it."""
        with peer("tests.benchmarks.stream_readers", str(self.port), PATH, "50", "0") as warm:
            await warm.hear()
        await asyncio.sleep(1.0)
        before, began = self._pss(), time.monotonic()
        with peer(
            "tests.benchmarks.stream_readers", str(self.port), "/api/signals/stream", str(clients), "0"
        ) as readers:
            await readers.hear()
            opened = time.monotonic() - began
            await asyncio.sleep(2.0)
            used = self._pss() - before
            cpu, started = self._cpu(), time.monotonic()
            health = await self._health(10.0)
            share = (self._cpu() - cpu) / (time.monotonic() - started)
            later = self._pss() - before
        return {
            "kb_per_connection": used / clients / 1024,
            "kb_later": later / clients / 1024,
            "opened_per_second": clients / opened,
            "idle_cpu_share": share,
            "health_p99_ms": health,
        }

    async def _publish(self, count: int, *, tell: bool = True) -> None:
        await self.publisher.publish(*[Draft(provider_id=BOB, note=NOTE)] * count, tell=tell)

    async def _health(self, seconds: float) -> float:
        # p99 of /health over one kept connection, in ms.
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        times = []
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            started = time.monotonic()
            writer.write(b"GET /health HTTP/1.1\r\nHost: bench\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")
            )
            await reader.readexactly(length)
            times.append((time.monotonic() - started) * 1000)
            await asyncio.sleep(0.02)
        writer.close()
        return sorted(times)[int(len(times) * 0.99)]

    def _cpu(self) -> float:
        times = self.gateway.cpu_times()
        return float(times.user + times.system)

    def _pss(self) -> int:
        return int(self.gateway.memory_full_info().pss)


async def run(options: argparse.Namespace) -> int:
    """Measure and print; 1 with `--check` for a figure beyond its bound."""
    with ExitStack() as stack:
        root = stack.enter_context(_root())
        database_url = stack.enter_context(postgres_server(root / "postgres"))
        redis_url = stack.enter_context(valkey_server(root / "valkey"))
        await migrate(database_url)
        settings = Settings.load(env_file=None).replace(
            database_url=database_url, redis_url=redis_url, rate_limit_enabled=False, max_streams=50_000
        )
        gateway = stack.enter_context(peer("tests.benchmarks.stream_gateway", environment=settings.to_environment()))
        port = int(await gateway.hear())
        pool, redis = await create_pool(database_url, 2, name="bench"), create_redis(redis_url)
        bench = Bench(gateway, port, Publisher(pool, redis))
        try:
            results = await _measure(bench, options)
        finally:
            await redis.aclose()
            pool.terminate()
    return _judge(results) if options.check else 0


@contextmanager
def _root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        Path(name).chmod(0o755)  # PostgreSQL runs as another user
        yield Path(name)


async def _measure(bench: Bench, options: argparse.Namespace) -> dict[str, float]:
    seconds = 3.0 if options.quick else 8.0
    idle = await bench.idle(options.idle)
    _show(f"{options.idle} idle connections", idle)
    steady = await bench.steady(options.clients, seconds)
    _show(f"{options.clients} clients x {RATE} signals/s", steady)
    _show(f"{TIMED} clients x {RATE} signals/s", await bench.steady(TIMED, seconds))
    burst = await bench.burst(500, 200, 3 if options.quick else 8)
    _show("500 clients, bursts of 200 signals", burst)
    return {
        "cpu_us": steady["cpu_us"],
        "burst_per_second": burst["per_second"],
        "pss_kb": idle["kb_per_connection"],
    }


def _show(title: str, figures: dict[str, Any]) -> None:
    print(f"{title}:", ", ".join(f"{name} {value:,.2f}" for name, value in figures.items() if value is not None))


def _judge(results: dict[str, float]) -> int:
    failed = [
        name
        for name, bound in BOUNDS.items()
        if (results[name] < bound if name.endswith("per_second") else results[name] > bound)
    ]
    print("beyond their bounds:", ", ".join(failed) or "none")
    return 1 if failed else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter runs")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--check", action="store_true", help="fail beyond the bounds")
    return uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
