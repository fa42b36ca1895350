"""Measure the gateway's cost of one `POST /api/v1/signals` over the whole server, with Ray and Postgres.

    python -m tests.benchmarks.bench_submit [--requests 4000] [--connections 50] [--check]

CPU microseconds of the gateway process per request (the kernel's share included), requests per second and latency.
The budget is 400 µs (`--check` exits with 1 above that). The client runs in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.queues import Queue
from pathlib import Path

import orjson
import psutil
import uvloop

from tests.support.services import Server

BUDGET_US = 400
WARM_UP = 500
BODY = orjson.dumps(
    {
        "event_type": "OPEN_SIGNAL",
        "symbol": "BTC",
        "signal_direction": "long",
        "entry_price": 42000.50,
        "size": 0.1,
        "liquidation_price": 38000.00,
        "ts_utc": "2024-01-15T10:30:00Z",
        "source": "strategy_alpha",
    }
)
REQUEST = (
    b"POST /api/v1/signals HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    % len(BODY)
) + BODY


def main() -> int:
    """Measure and print; 1 with `--check` if the budget is exceeded."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder) / "data", RATE_LIMIT_ENABLED="false") as server:
        server.start().wait_ready()
        [gateway] = [each for each in server.children() if "server.main" in " ".join(each.cmdline())]
        port = int(server.settings["PORT"])
        measure(gateway, port, WARM_UP, 10)
        print("connections   CPU µs/request   requests/s   median ms   p99 ms")
        costs = []
        for connections in (1, arguments.connections):
            count = arguments.requests if connections > 1 else arguments.requests // 8
            cost, rate, latencies = measure(gateway, port, count, connections)
            costs.append(cost)
            median, p99 = (latencies[int(len(latencies) * share)] * 1000 for share in (0.5, 0.99))
            print(f"{connections:>11}{cost:>17.0f}{rate:>13.0f}{median:>12.1f}{p99:>9.1f}")
    print(f"budget {BUDGET_US} µs at {arguments.connections} connections")
    return 1 if arguments.check and costs[-1] > BUDGET_US else 0


def measure(gateway: psutil.Process, port: int, requests: int, connections: int) -> tuple[float, float, list[float]]:
    """Return CPU µs per request, requests per second, and the sorted latencies in seconds."""
    context = multiprocessing.get_context("spawn")
    answers: Queue[tuple[float, list[float]]] = context.Queue()
    client = context.Process(target=load, args=(port, requests, connections, answers))
    before = gateway.cpu_times()
    client.start()
    seconds, latencies = answers.get(timeout=300)
    client.join()
    after = gateway.cpu_times()
    cpu = after.user + after.system - before.user - before.system
    return cpu / len(latencies) * 1e6, len(latencies) / seconds, sorted(latencies)


def load(port: int, requests: int, connections: int, answers: Queue[tuple[float, list[float]]]) -> None:
    """Run the client: so many connections, each with one request after another."""

    async def one() -> list[float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        latencies = []
        for _ in range(requests // connections):
            began = time.perf_counter()
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 201 "), head
            size = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(size.partition(b":")[2]))
            latencies.append(time.perf_counter() - began)
        writer.close()
        return latencies

    async def all_of_them() -> None:
        began = time.perf_counter()
        found = await asyncio.gather(*(one() for _ in range(connections)))
        answers.put((time.perf_counter() - began, [latency for each in found for latency in each]))

    uvloop.run(all_of_them())


if __name__ == "__main__":
    sys.exit(main())
