"""Measurements of a running server: idle connections, a steady load, bursts, clients with other filters."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.streams.contenders import Contender
from tests.benchmarks.streams.machine import READERS_CORE, Child, child, cpu_seconds, pss_bytes, python
from tests.benchmarks.streams.readers import CLOCK_SLOTS, open_clock

RATE = 100  # signals a second
STEADY_CLIENTS = 1000
BURST_CLIENTS, BURST_SIGNALS = 500, 200
GRACE_SECONDS = 3.0  # that a server has to deliver what it was given
BURST_SECONDS = 30.0
WARM_CLIENTS = 50
SETTLE_SECONDS = 1.0
PAUSE_SECONDS = 0.3
BYSTANDERS_RATE = 200
BYSTANDERS_MATCHING = 10
HEALTH_PAUSE_SECONDS = 0.01


@dataclass(frozen=True)
class Extent:
    """The duration and size of the measurements."""

    rounds: int
    round_seconds: float
    health_seconds: float
    idle_clients: int
    memory_clients: int  # memory is compared at as many connections to each
    bystanders: Sequence[int]
    bystanders_seconds: float


FULL = Extent(4, 2.0, 3.0, 10_000, 2_000, (0, 3_000, 9_000), 3.0)
SHORT = Extent(2, 1.0, 2.0, 3_000, 1_500, (0, 1_000, 3_000), 2.0)


@dataclass
class Load:
    """A steady load. `cpu_us` per delivery; latencies in ms from publishing to reading; `faults`: wrong ids."""

    delivered: int
    expected: int
    cpu_us: float
    cpu_share: float
    readers_share: float
    faults: int
    quantiles: list[float] = field(repr=False)

    @property
    def is_kept_up(self) -> bool:
        """Return whether the server delivers as fast as it is given signals."""
        return self.delivered >= self.expected

    def latency_ms(self, share: float) -> float:
        """Return the latency that a share of the deliveries stays below."""
        return self.quantiles[min(len(self.quantiles) - 1, int(share * (len(self.quantiles) - 1)))]


@dataclass
class Burst:
    """Bursts: deliveries a second (the median of the rounds), the fastest, CPU per delivery, whether all came."""

    per_second: float
    best_per_second: float
    cpu_us: float
    faults: int


@dataclass
class Idle:
    """Silent connections: memory each, at so many; with all of them open, what /health takes and the CPU's share."""

    clients: int
    kb_per_connection: float
    most_clients: int
    most_kb_per_connection: float
    opened_per_second: float
    health_p99_ms: float
    busy_health_p99_ms: float
    cpu_share: float


class Clock:
    """The publishing times of the signals, in memory that the readers share."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "clock"
        self.path.write_bytes(bytes(CLOCK_SLOTS * 8))
        self._slots = open_clock(str(self.path))

    async def publish(self, server: Contender, count: int) -> float:
        """Publish so many signals at once; return when that began."""
        items = await server.prepare(count)
        now = time.monotonic()
        for item in items:
            self._slots[item.feed_seq % CLOCK_SLOTS] = now
        await server.tell(items)
        return now


@contextmanager
def _readers(
    server: Contender, clients: int, *, clock: Clock | None = None, paths: Sequence[str] = ()
) -> Iterator[Child]:
    with child(*python("tests.benchmarks.streams.readers"), core=READERS_CORE) as process:
        order = {
            "port": server.port,
            "paths": [*(paths or server.paths)],
            "clients": clients,
            "clock": str(clock.path) if clock else None,
        }
        process.say(json.dumps(order))
        yield process


async def _begun(server: Contender, readers: Child, clients: int) -> None:
    await readers.hear()
    await server.settle(clients)
    await asyncio.sleep(SETTLE_SECONDS)


def _read(readers: Child, wanted: int, seconds: float) -> None:
    readers.say(json.dumps({"wanted": wanted, "seconds": seconds}))


@dataclass
class Run:
    """A server with its clients, between two rounds."""

    server: Contender
    readers: Child
    clients: int
    rounds: list[dict[str, Any]] = field(default_factory=list)


async def in_turns(
    servers: Sequence[Contender], clock: Clock, clients: int, rounds: int, play: Callable[[Run], Awaitable[None]]
) -> list[Run]:
    """Run rounds of each server in turn, so that changes in the machine's speed hit all alike.

    A server that one round keeps busy for longer gets only one round, after all others.
    """
    runs = []
    with ExitStack() as stack:
        for server in servers:
            run = Run(server, stack.enter_context(_readers(server, clients, clock=clock)), clients)
            await _begun(server, run.readers, clients)
            await _warm_up(server, clock, run.readers, clients)
            runs.append(run)
        for _ in range(rounds):
            for run in runs:
                if not run.server.is_overwhelmed:
                    await play(run)
        for run in runs:
            if run.server.is_overwhelmed:
                await play(run)
    return runs


async def steady(servers: Sequence[Contender], clock: Clock, extent: Extent) -> dict[str, Load]:
    """STEADY_CLIENTS clients, RATE signals a second, each published by itself."""
    count = int(RATE * extent.round_seconds)

    async def play(run: Run) -> None:
        _read(run.readers, count * run.clients, extent.round_seconds + GRACE_SECONDS)
        cpu, started = cpu_seconds(run.server.pid), time.monotonic()
        for number in range(count):
            await asyncio.sleep(started + number / RATE - time.monotonic())
            await clock.publish(run.server, 1)
        report = json.loads(await run.readers.hear())
        report["cpu"] = cpu_seconds(run.server.pid) - cpu
        report["seconds"] = time.monotonic() - started
        run.rounds.append(report)

    runs = await in_turns(servers, clock, STEADY_CLIENTS, extent.rounds, play)
    return {run.server.name: _load(run, count) for run in runs}


def _load(run: Run, count: int) -> Load:
    rounds = run.rounds
    return Load(
        delivered=sum(each["delivered"] for each in rounds),
        expected=count * run.clients * len(rounds),
        cpu_us=median(each["cpu"] / max(1, each["delivered"]) * 1e6 for each in rounds),
        cpu_share=median(each["cpu"] / each["seconds"] for each in rounds),
        readers_share=median(each["busy"] for each in rounds),
        faults=sum(each["faults"] for each in rounds),
        quantiles=[median(values) for values in zip(*(each["latencies"] for each in rounds), strict=True)],
    )


async def burst(servers: Sequence[Contender], clock: Clock, extent: Extent) -> dict[str, Burst]:
    """BURST_SIGNALS at once to BURST_CLIENTS clients: from the first publish to the last read."""
    wanted = BURST_CLIENTS * BURST_SIGNALS

    async def play(run: Run) -> None:
        _read(run.readers, wanted, BURST_SECONDS)
        await asyncio.sleep(PAUSE_SECONDS)
        cpu = cpu_seconds(run.server.pid)
        began = await clock.publish(run.server, BURST_SIGNALS)
        report = json.loads(await run.readers.hear())
        await asyncio.sleep(PAUSE_SECONDS)
        report["cpu"] = cpu_seconds(run.server.pid) - cpu
        report["seconds"] = report["last_at"] - began
        run.rounds.append(report)

    runs = await in_turns(servers, clock, BURST_CLIENTS, extent.rounds + 2, play)
    found = {}
    for run in runs:
        rates = [each["delivered"] / each["seconds"] for each in run.rounds]
        found[run.server.name] = Burst(
            median(rates),
            max(rates),
            median(each["cpu"] / max(1, each["delivered"]) * 1e6 for each in run.rounds),
            sum(each["faults"] + wanted - each["delivered"] for each in run.rounds),
        )
    return found


async def idle(servers: Sequence[Contender], clock: Clock, extent: Extent) -> dict[str, Idle]:
    """Memory per silent connection, and /health while all that a server is asked to hold are open."""
    found = {}
    for server in servers:
        found[server.name] = await _idle(server, clock, extent)
        print(f"{server.title}: {found[server.name]}", flush=True)
    return found


async def _idle(server: Contender, clock: Clock, extent: Extent) -> Idle:
    fewer, most = extent.memory_clients, min(extent.idle_clients, server.idle_clients)
    with _readers(server, WARM_CLIENTS) as readers:
        await _begun(server, readers, WARM_CLIENTS)
        await _warm_up(server, clock, readers, WARM_CLIENTS)
    await asyncio.sleep(SETTLE_SECONDS)
    before = pss_bytes(server.pid)
    with _readers(server, fewer) as first:
        session_opened = float(await first.hear())
        await server.settle(fewer)
        await asyncio.sleep(SETTLE_SECONDS)
        used = pss_bytes(server.pid) - before
        with _readers(server, most - fewer) as others:
            await others.hear()
            await server.settle(most)
            await asyncio.sleep(SETTLE_SECONDS)
            used_by_most = pss_bytes(server.pid) - before
            cpu, started = cpu_seconds(server.pid), time.monotonic()
            health = await _health(server, extent.health_seconds)
            share = (cpu_seconds(server.pid) - cpu) / (time.monotonic() - started)
            async with _trickle(server, clock, (first, others), extent.health_seconds):
                busy = await _health(server, extent.health_seconds)
    return Idle(
        fewer, used / fewer / 1024, most, used_by_most / most / 1024, fewer / session_opened, health, busy, share
    )


async def bystanders(servers: Sequence[Contender], clock: Clock, extent: Extent) -> dict[str, list[tuple[int, float]]]:
    """CPU µs per signal for BYSTANDERS_MATCHING clients that want it and n that do not, each n with filters of its own.

    What the same connections cost without a signal (heartbeats) is taken off.
    """
    return {server.name: await _bystanders(server, clock, extent) for server in servers if server.has_filters}


async def _bystanders(server: Contender, clock: Clock, extent: Extent) -> list[tuple[int, float]]:
    found = []
    for number in extent.bystanders:
        with (
            _readers(server, BYSTANDERS_MATCHING, clock=clock) as matching,
            _readers(server, number, paths=["/api/signals/stream?provider_ids={uuid}"]) as others,
        ):
            await others.hear()
            await _begun(server, matching, BYSTANDERS_MATCHING)
            await _warm_up(server, clock, matching, BYSTANDERS_MATCHING)
            cpu = cpu_seconds(server.pid)
            await asyncio.sleep(extent.bystanders_seconds)
            silent = cpu_seconds(server.pid) - cpu
            count = int(BYSTANDERS_RATE * extent.bystanders_seconds)
            _read(matching, count * BYSTANDERS_MATCHING, extent.bystanders_seconds + GRACE_SECONDS)
            cpu, started = cpu_seconds(server.pid), time.monotonic()
            for signal in range(count):
                await asyncio.sleep(started + signal / BYSTANDERS_RATE - time.monotonic())
                await clock.publish(server, 1)
            used = cpu_seconds(server.pid) - cpu
            report = json.loads(await matching.hear())
            assert report["delivered"] == count * BYSTANDERS_MATCHING, report
            found.append((number, (used - silent) / count * 1e6))
    return found


async def _warm_up(server: Contender, clock: Clock, readers: Child, clients: int) -> None:
    _read(readers, clients * 5, 10.0)
    await clock.publish(server, 5)
    report = json.loads(await readers.hear())
    assert report["delivered"] == clients * 5, report


@asynccontextmanager
async def _trickle(server: Contender, clock: Clock, every: Sequence[Child], seconds: float) -> AsyncIterator[None]:
    # A signal a second to every connection, for so long.
    for readers in every:
        _read(readers, 1 << 60, seconds)

    async def publish() -> None:
        for _ in range(int(seconds)):
            await clock.publish(server, 1)
            await asyncio.sleep(1.0)

    async with asyncio.TaskGroup() as group:
        group.create_task(publish(), name="trickle")
        yield
    for readers in every:
        report: dict[str, Any] = json.loads(await readers.hear())
        assert not report["faults"], report
        if not report["delivered"]:
            print(f"{server.title}: no signal reached some of its clients within {seconds:g} s", flush=True)


async def _health(server: Contender, seconds: float) -> float:
    # p99 of the answers over one kept connection, in ms.
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    times = []
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        started = time.monotonic()
        writer.write(b"GET %b HTTP/1.1\r\nHost: bench\r\n\r\n" % server.health.encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b" 200 " in head, head
        if b"chunked" in head:
            await reader.readuntil(b"0\r\n\r\n")
        else:
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
        times.append((time.monotonic() - started) * 1000)
        await asyncio.sleep(HEALTH_PAUSE_SECONDS)
    writer.close()
    return sorted(times)[int(len(times) * 0.99)]
