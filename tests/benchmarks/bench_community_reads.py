"""Compare the community's reads with the same endpoints in FastAPI, asyncpg and pydantic on the same database.

    python -m tests.benchmarks.bench_community_reads [--seconds 6] [--signals 100000] [--check]

For `GET /api/signals?limit=50`, a provider's profile and a leaderboard: requests per second of CPU of the server's one
process, and with that of its Postgres backends (and of the actor that it asks). To reach: twice the peer's of the first
(`--check` exits with 1 otherwise). "one reader" is a single connection: no two requests are alike at the same time, so
nothing is shared; "many pages" are 16 connections that ask for 200 different pages, "many profiles" for 200 profiles.

Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import orjson
import psutil

from db._migrate import migrate
from server.supervisor.ports import free_ports
from tests.benchmarks import http_load
from tests.benchmarks.community_data import fill
from tests.support.services import REPOSITORY, Server, postgres_server, status_of, wait_until

PROVIDERS = 2_000
LEAST_RATIO = 2.0
PROFILE = "/api/providers/00000000-0000-7000-8000-000000000007"
CASES: Sequence[tuple[str, Sequence[str], int]] = (
    ("GET /api/signals?limit=50", ["/api/signals?limit=50"], 16),
    ("  one reader", ["/api/signals?limit=50"], 1),
    ("  many pages", [f"/api/signals?limit=50&offset={n}" for n in range(200)], 16),
    ("GET /api/providers/{id}", [PROFILE], 16),
    ("  one reader", [PROFILE], 1),
    ("  many profiles", [f"/api/providers/00000000-0000-7000-8000-{n:012d}" for n in range(1, 201)], 16),
    ("GET /api/leaderboards/followers", ["/api/leaderboards/followers"], 16),
    ("  one reader", ["/api/leaderboards/followers"], 1),
)

_THREE = f"{'ours':>7}{'peer':>7}{'ratio':>7}"
HEADING = f"{'':<34}{_THREE}   with Postgres:{_THREE}   req/s  ours   peer   median ms  ours   peer"


@dataclass
class Cost:
    """The CPU costs and rate of one load."""

    answered: int
    seconds: float
    own: float  # CPU seconds of the server's process
    whole: float  # and of those that it makes work
    median_ms: float


def main() -> int:
    """Measure and print; 1 with `--check` if a target is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--signals", type=int, default=100_000)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    missed = False
    with tempfile.TemporaryDirectory() as folder, postgres_server(Path(folder) / "postgres") as url:
        asyncio.run(prepare(url, arguments.signals))
        server = Server(Path(folder) / "data", DATABASE_URL=url, RATE_LIMIT_ENABLED="false", LOG_LEVEL="WARNING")
        with server, peer(url) as (peer_process, peer_port):
            server.start().wait_ready(180)
            [gateway] = [each for each in server.children() if "server.main" in " ".join(each.cmdline())]
            compare(int(server.settings["PORT"]), peer_port)
            print(f"{arguments.signals} signals of {PROVIDERS} providers; requests per second of CPU")
            print(
                f"{'':<34}{'ours':>7}{'peer':>7}{'ratio':>7}   with Postgres:{'ours':>7}{'peer':>7}{'ratio':>7}", end=""
            )
            print("   req/s  ours   peer   median ms  ours   peer")
            for name, paths, connections in CASES:
                requests = [http_load.get(path) for path in paths]
                ours = measure(url, gateway, "gateway", int(server.settings["PORT"]), requests, connections, arguments)
                theirs = measure(url, peer_process, "peer", peer_port, requests, connections, arguments)
                ratio = show(name, ours, theirs)
                missed |= not name.startswith(" ") and ratio < LEAST_RATIO
    return 1 if arguments.check and missed else 0


async def prepare(url: str, signals: int) -> None:
    """Fill the tables, and the leaderboards' copy."""
    await migrate(url)
    conn = await asyncpg.connect(url)
    await fill(conn, providers=PROVIDERS, signals=signals)
    await conn.execute("INSERT INTO provider_offsets VALUES (2, 0, 0, -1), (2, 1, 0, -1)")
    await conn.execute("REFRESH MATERIALIZED VIEW leaderboard")
    await conn.close()


@contextmanager
def peer(url: str) -> Iterator[tuple[psutil.Process, int]]:
    """Run the peer; yield its process and port."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", "tests.benchmarks.peer_fastapi", url, str(port)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: status_of(f"http://127.0.0.1:{port}{PROFILE}") == 200)
        yield psutil.Process(process.pid), port
    finally:
        process.terminate()
        process.wait(10)


def compare(port: int, peer_port: int) -> None:
    """Assert that both answer the same, but for the form of numbers and times."""
    for path in ("/api/signals?limit=50", PROFILE, "/api/leaderboards/followers"):
        [ours, theirs] = [
            orjson.loads(
                http_load.run(http_load.Load(each, [http_load.get(path)], 1, 0.2, keep_bodies=True)).bodies[0][1]
            )
            for each in (port, peer_port)
        ]
        assert ours.keys() == theirs.keys(), path
        for name in ("signals", "recent_signals", "entries"):
            if name in ours:
                assert [each.keys() for each in ours[name]] == [each.keys() for each in theirs[name]], path
                firsts = [[each.get("id", each.get("value")) for each in body[name]] for body in (ours, theirs)]
                assert firsts[0] == firsts[1], (path, firsts)


def measure(
    url: str,
    process: psutil.Process,
    backends: str,
    port: int,
    requests: Sequence[bytes],
    connections: int,
    arguments: argparse.Namespace,
) -> Cost:
    """Measure one load, after a short one that warms up."""
    http_load.run(http_load.Load(port, requests, connections, 1.0))
    helpers = [psutil.Process(pid) for pid in asyncio.run(backend_pids(url, backends))]
    if backends == "gateway":
        helpers += [each for each in psutil.process_iter() if "leaderboards" in " ".join(cmdline(each))]
    before = cpu([process]), cpu(helpers)
    report = http_load.run(http_load.Load(port, requests, connections, arguments.seconds))
    after = cpu([process]), cpu(helpers)
    assert report.succeeded() == report.answered > 0, report.statuses
    own = spent(before[0], after[0])
    whole = own + spent(before[1], after[1])
    return Cost(report.answered, report.seconds, own, whole, report.latency_ms(0.5))


async def backend_pids(url: str, name: str) -> list[int]:
    """Return the Postgres processes that serve the connections of this name."""
    conn = await asyncpg.connect(url)
    rows = await conn.fetch("SELECT pid FROM pg_stat_activity WHERE application_name LIKE $1 || '%'", name)
    await conn.close()
    return [row[0] for row in rows]


def cmdline(process: psutil.Process) -> list[str]:
    """Return a process's command line; empty if it has ended or is another user's."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def cpu(processes: Sequence[psutil.Process]) -> dict[int, float]:
    """Return the seconds of CPU so far, by process."""
    used = {}
    for each in processes:
        with contextlib.suppress(psutil.Error):
            times = each.cpu_times()
            used[each.pid] = times.user + times.system
    return used


def spent(before: dict[int, float], after: dict[int, float]) -> float:
    """Return the CPU seconds since `before` of the processes that still run."""
    return sum(seconds - before[pid] for pid, seconds in after.items())


def show(name: str, ours: Cost, theirs: Cost) -> float:
    """Print a line; return the ratio."""
    own, peers = ours.answered / ours.own, theirs.answered / theirs.own
    whole, peers_whole = ours.answered / ours.whole, theirs.answered / theirs.whole
    print(f"{name:<34}{own:>7.0f}{peers:>7.0f}{own / peers:>7.1f}", end="")
    print(f"{whole:>24.0f}{peers_whole:>7.0f}{whole / peers_whole:>7.1f}", end="")
    print(f"{ours.answered / ours.seconds:>14.0f}{theirs.answered / theirs.seconds:>7.0f}", end="")
    print(f"{ours.median_ms:>17.1f}{theirs.median_ms:>7.1f}", flush=True)
    return own / peers


if __name__ == "__main__":
    sys.exit(main())
