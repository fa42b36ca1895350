"""Measure whether logins block the event loop: the latency of `/health` while 20 clients log in without a pause.

    python -m tests.benchmarks.bench_login [--seconds 10] [--check]

A whole server with one gateway is started in a directory of its own. `/health` is asked over one connection, again and
again; its p99 under the logins must stay below 25 ms (`--check` exits with 1 above that). bcrypt has its real cost.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import mailbox
import re
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from tests.support.services import Server, wait_until

CLIENTS = 20
TARGET_MS = 25.0
PAUSE_SECONDS = 0.005  # between two questions
ADDRESS, PASSWORD = "bench@example.com", "correct horse battery"


def main() -> int:
    """Measure and print; 1 with `--check` if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ts-bench-") as folder,
        Server(Path(folder) / "data", RATE_LIMIT_ENABLED="false").start() as server,
    ):
        server.wait_ready(120)
        make_account(server)
        idle = asyncio.run(measure(server, options.seconds, clients=0))
        busy = asyncio.run(measure(server, options.seconds, clients=CLIENTS))
    missed = busy > TARGET_MS
    print(f"/health p99 idle {idle:.1f} ms, under {CLIENTS} logins {busy:.1f} ms (target {TARGET_MS:.0f} ms)")
    return 1 if missed and options.check else 0


def make_account(server: Server) -> None:
    """Register, and follow the link of the e-mail."""
    post(server, "/auth/register", {"email": ADDRESS, "password": PASSWORD, "display_name": "Bench"})
    folder = server.data_dir / "mail"

    def token() -> str | None:
        texts = [] if not folder.exists() else [message.as_string() for message in mailbox.Maildir(folder)]
        found = re.search(r"token=([A-Za-z0-9_-]{43})", "".join(texts))
        return None if found is None else found[1]

    post(server, "/auth/verify-email", {"token": wait_until(token)})


def post(server: Server, path: str, body: object) -> None:
    """Send a POST request that must succeed."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", path, orjson.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status < 300, response.read()
    connection.close()


async def measure(server: Server, seconds: float, *, clients: int) -> float:
    """Return the p99 of `/health` in ms while so many clients log in."""
    ends_at = time.monotonic() + seconds
    logins: list[float] = []
    statuses: dict[int, int] = {}
    client = AsyncHTTPClient(force_instance=True, max_clients=CLIENTS + 1)
    body = orjson.dumps({"email": ADDRESS, "password": PASSWORD})

    async def log_in() -> None:
        while time.monotonic() < ends_at:
            began = time.perf_counter()
            request = HTTPRequest(
                f"{server.url}/auth/login",
                method="POST",
                body=body,
                headers={"Content-Type": "application/json"},
                request_timeout=60,
            )
            response = await client.fetch(request, raise_error=False)
            statuses[response.code] = statuses.get(response.code, 0) + 1
            logins.append(time.perf_counter() - began)

    work: list[Callable[[], Awaitable[None]]] = [log_in] * clients
    health, *_ = await asyncio.gather(ask_health(server.port, ends_at), *(each() for each in work))
    client.close()
    p50, p99 = percentile(health, 0.5), percentile(health, 0.99)
    print(
        f"{clients:2} clients: /health p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {max(health):.1f} ms"
        f" of {len(health)} questions"
    )
    if logins:
        slow = percentile([each * 1000 for each in logins], 0.99)
        print(f"            {len(logins) / seconds:.1f} logins/s, p99 {slow / 1000:.1f} s, by status {statuses}")
    return p99


async def ask_health(port: int, ends_at: float) -> list[float]:
    """Measure the milliseconds of each answer over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = []
    while time.monotonic() < ends_at:
        began = time.perf_counter()
        writer.write(b"GET /health HTTP/1.1\r\nHost: bench\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length is not None
        await reader.readexactly(int(length[1]))
        found.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(PAUSE_SECONDS)
    writer.close()
    return found


def percentile(values: list[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


if __name__ == "__main__":
    sys.exit(main())
