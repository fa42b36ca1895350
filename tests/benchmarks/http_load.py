"""A load generator in a process of its own: raw keep-alive connections, requests encoded beforehand, a bounded time.

`run(Load(…))` blocks until it has ended; `Running` is one that goes on meanwhile. With a `rate` requests leave by the
clock, and a latency counts from when its request was due, so that a server that stalls is not spared those that would
have come meanwhile. Without one, every connection sends its next request when the last one is answered.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop

PATIENCE_SECONDS = 10.0  # for the answers to the last requests


@dataclass(frozen=True)
class Load:
    """A load: `requests` in turn, over so many connections, for so long; `rate` a second, or as fast as it goes.

    `keep_bodies` returns the answers' bodies, each with the time (monotonic) at which its request was due.
    """

    port: int
    requests: Sequence[bytes]
    connections: int
    seconds: float
    rate: float | None = None
    keep_bodies: bool = False


@dataclass
class Report:
    """The result of a load. `latencies` are seconds, sorted; `statuses` counts the answers' first lines."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    unsent: int = 0  # due and never sent, because no connection was free
    statuses: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    bodies: list[tuple[float, bytes]] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Return the number of all answers."""
        return len(self.latencies)

    def succeeded(self) -> int:
        """Return the number of answers with a status of 2xx."""
        return sum(count for status, count in self.statuses.items() if status.startswith("2"))

    def latency_ms(self, share: float) -> float:
        """Return a percentile of the latency, in milliseconds."""
        return self.latencies[min(int(len(self.latencies) * share), len(self.latencies) - 1)] * 1000


def post(path: str, body: bytes) -> bytes:
    """Return the bytes of a whole request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str) -> bytes:
    """Return the bytes of a whole request."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


class Running:
    """A load that has begun."""

    def __init__(self, load: Load) -> None:
        context = multiprocessing.get_context("spawn")
        self._answers, ours = context.Pipe(duplex=False)
        self._process = context.Process(target=_main, args=(load, ours), daemon=True)
        self._process.start()
        ours.close()
        self._limit = load.seconds + PATIENCE_SECONDS + 20

    @property
    def has_ended(self) -> bool:
        """Return whether the report is there."""
        return self._answers.poll()

    def report(self) -> Report:
        """Wait for the load's end, and return the report."""
        if not self._answers.poll(self._limit):
            self._process.kill()
            raise TimeoutError("the load generator does not end")
        report: Report = self._answers.recv()
        self._process.join()
        return report


def run(load: Load) -> Report:
    """Send the whole load, and wait."""
    return Running(load).report()


def _main(load: Load, answers: Any) -> None:
    answers.send(uvloop.run(_Generator(load).run()))


class _Generator:
    def __init__(self, load: Load) -> None:
        self.report = Report()
        self.load = load
        self.idle: deque[_Connection] = deque()
        self.due: deque[float] = deque()
        self.ends_at = 0.0
        self.requests: Iterator[bytes] = itertools.cycle(load.requests)
        self.under_way = 0
        self.is_over = False

    async def run(self) -> Report:
        loop, load = asyncio.get_running_loop(), self.load
        made = [
            await loop.create_connection(lambda: _Connection(self), "127.0.0.1", load.port)
            for _ in range(load.connections)
        ]
        cpu, began = time.process_time(), time.monotonic()
        self.ends_at = began + load.seconds
        if load.rate is None:
            for _, connection in made:
                connection.send(time.monotonic())
            await asyncio.sleep(load.seconds)
        else:
            await self._by_the_clock(began, load.rate)
        self.report.seconds = time.monotonic() - began
        self.report.unsent = len(self.due)
        self.due.clear()
        for _ in range(int(PATIENCE_SECONDS / 0.01)):
            if not self.under_way:
                break
            await asyncio.sleep(0.01)
        self.report.cpu_seconds = time.process_time() - cpu
        if self.under_way:
            self.report.statuses["no answer"] += self.under_way
        self.is_over = True
        for transport, _ in made:
            transport.close()
        self.report.latencies.sort()
        return self.report

    async def _by_the_clock(self, began: float, rate: float) -> None:
        sent = 0
        while (now := time.monotonic()) < self.ends_at:
            until = int((now - began) * rate) + 1
            self.due.extend(began + place / rate for place in range(sent, until))
            sent = until
            while self.due and self.idle:
                self.idle.popleft().send(self.due.popleft())
            await asyncio.sleep(max(0.001, began + sent / rate - time.monotonic()))

    def answered(self, connection: _Connection) -> None:
        if self.load.rate is not None:
            if self.due:
                connection.send(self.due.popleft())
            else:
                self.idle.append(connection)
        elif (now := time.monotonic()) < self.ends_at:
            connection.send(now)


class _Connection(asyncio.Protocol):
    def __init__(self, generator: _Generator) -> None:
        self._generator = generator
        self._received = b""
        self._due = 0.0
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._generator.idle.append(self)

    def send(self, due: float) -> None:
        self._due = due
        self._generator.under_way += 1
        self._transport.write(next(self._generator.requests))

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        start = received[:end].lower().find(b"content-length: ") + 16
        if len(received) < end + 4 + int(received[start : received.find(b"\r", start)]):
            return
        self._received = b""
        report = self._generator.report
        report.latencies.append(time.monotonic() - self._due)
        report.statuses[received[9 : received.find(b"\r")].decode()] += 1
        if self._generator.load.keep_bodies:
            report.bodies.append((self._due, received[end + 4 :]))
        self._generator.under_way -= 1
        self._generator.answered(self)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._generator.is_over:  # the server closed the connection
            self._generator.report.statuses[f"closed: {error!r}"] += 1
            if self in self._generator.idle:
                self._generator.idle.remove(self)
