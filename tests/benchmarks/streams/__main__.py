"""Streams, measured side by side: this server, nginx + nchan, Node + better-sse, FastAPI + sse-starlette.

    python -m tests.benchmarks.streams [--short] [--check] [--only NAME ...] [--write]

The same signals (1 kB, published one after another) and the same clients (`readers.py`, which check every id) for each.
Every server runs as one process (nginx: one worker) on this machine's loopback, is started anew for each measurement,
and is left out, by name, when it is not installed. Readers, publisher, PostgreSQL and Valkey share the cores with it.

CPU is the server's own processes' user and system time alone, over a whole measurement, by the deliveries in it.
Latency is from just before a signal is handed to Redis (nchan: posted) until a client has read it, over all clients.
Memory is PSS over the server's processes. `--check` exits with 1 when a target is missed; `--write` puts the table into
README.md and the charts into docs/.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from config.settings import Settings
from db._migrate import migrate
from tests.benchmarks.streams import measures
from tests.benchmarks.streams.contenders import EVERY, Backends, Contender
from tests.benchmarks.streams.machine import allow_many_files
from tests.benchmarks.streams.report import Results, judge, table, write
from tests.support.services import postgres_server, valkey_server

Measure = Callable[[Sequence[Contender], measures.Clock, measures.Extent], Awaitable[dict[str, Any]]]
FIGURES: dict[str, Measure] = {
    "steady": measures.steady,
    "burst": measures.burst,
    "bystanders": measures.bystanders,
    "idle": measures.idle,
}


async def run(options: argparse.Namespace) -> int:
    """Measure, print; 1 with `--check` when a target is missed."""
    allow_many_files()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _end, asyncio.current_task())
    extent = measures.SHORT if options.short else measures.FULL
    results = Results(extent)
    async with _backends() as backends:
        clock = measures.Clock(backends.folder)
        contenders = _installed(options.only)
        for figure, measure in FIGURES.items():
            if figure not in (options.figures or FIGURES):
                continue
            async with AsyncExitStack() as stack:
                servers = [await stack.enter_async_context(each.start(backends)) for each in contenders]
                found = await measure(servers, clock, extent)
            getattr(results, figure).update(found)
            for name, values in found.items():
                print(f"{figure:11} {name:12} {values}", flush=True)
    print(table(results))
    missed = judge(results)
    if options.write:
        write(results)
    return 1 if missed and options.check else 0


@asynccontextmanager
async def _backends() -> AsyncIterator[Backends]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        folder.chmod(0o755)  # noqa: ASYNC240 - PostgreSQL runs as another user; nothing else runs yet
        database_url = stack.enter_context(postgres_server(folder / "postgres"))
        redis_url = stack.enter_context(valkey_server(folder / "valkey"))
        await migrate(database_url)
        settings = Settings.load(env_file=None).replace(
            database_url=database_url, redis_url=redis_url, rate_limit_enabled=False, max_streams=50_000
        )
        yield Backends(settings, folder)


def _installed(only: list[str] | None) -> list[type[Contender]]:
    found = []
    for contender in EVERY:
        if only and contender.name not in only:
            continue
        missing = contender.missing()
        if missing is None:
            found.append(contender)
        else:
            print(f"{contender.title} is left out. It needs {missing}.")
    return found


def _end(task: asyncio.Task[int]) -> None:
    task.cancel()


def main() -> int:
    """Parse the command line, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a minute instead of four, with fewer connections")
    parser.add_argument("--check", action="store_true", help="fail when a target is missed")
    parser.add_argument("--figures", nargs="+", choices=[*FIGURES], help="measure nothing else")
    parser.add_argument("--only", nargs="+", choices=[each.name for each in EVERY], help="leave the others out")
    parser.add_argument("--write", action="store_true", help="write the README's table and the charts")
    return uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
