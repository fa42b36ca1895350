"""Measure a request's cost over each HTTP server: CPU µs of the serving process, the kernel's share included.

    python -m tests.benchmarks.bench_http_servers [--seconds 4] [--connections 16]

The application is the real one, without services: `GET /health`, and a `POST /auth/login` that is refused for its body.
Each server and client is a process of its own; CPU time is measured, so that a busy machine changes little.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from multiprocessing.connection import Connection

import psutil
import uvloop

from config.log import configure_logging
from tests.api.serving import SETTINGS, serving
from tests.benchmarks.http_load import Load, run

SERVERS = ("llhttp", "tornado")
BODY = b'{"email": "nobody"}'
REQUESTS = {
    "GET /health": b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST /auth/login": b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
}
SECONDS = 4.0


def main() -> None:
    """Measure, and print a line for each request."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--connections", type=int, default=16)
    arguments = parser.parse_args()
    print("request            server     CPU µs/request   requests/s   ratio of CPU")
    costs = {}
    for server in SERVERS:
        for name, request in REQUESTS.items():
            cost, rate = measure(server, request, arguments.connections, arguments.seconds)
            costs[server, name] = cost
            ratio = cost / costs[SERVERS[0], name]
            print(f"{name:<19}{server:<11}{cost:>14.0f}{rate:>13.0f}{ratio:>15.2f}", flush=True)


def measure(server: str, request: bytes, connections: int, seconds: float) -> tuple[float, float]:
    """Return CPU µs per request, and requests per second."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(server, theirs))
    process.start()
    try:
        port = ours.recv()
        run(Load(port, [request], connections, 1.0))  # warm
        usage = psutil.Process(process.pid)
        before, began = usage.cpu_times(), time.perf_counter()
        report = run(Load(port, [request], connections, seconds))
        after, ended = usage.cpu_times(), time.perf_counter()
    finally:
        ours.send(None)
        process.join()
    cpu = after.user + after.system - before.user - before.system
    return cpu / report.answered * 1e6, report.answered / (ended - began)


def serve(server: str, pipe: Connection) -> None:
    """Serve the application until the pipe says so."""

    async def until_told() -> None:
        async with serving(SETTINGS.replace(http_server=server)) as client:
            pipe.send(client.port)
            await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

    configure_logging("WARNING", "text")
    uvloop.run(until_told())


if __name__ == "__main__":
    main()
