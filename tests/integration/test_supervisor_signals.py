"""Signals to a whole server: whichever processes get them, and however many, streams get a last event.

The kind: an end that is asked for twice (by a terminal and by make, by a manager that signals all of a group) is taken
for impatience, and what was to be drained is killed. The supervisor, the gateways' streams, Postgres and Valkey
are real; there is no Ray.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.chaos._stream_server import COMMAND
from tests.support.services import Server
from tests.support.streams import Reader, connect, until

STREAMS = 40
SETTINGS = {"RATE_LIMIT_ENABLED": "false", "DRAIN_SECONDS": "4", "RAY_ADDRESS": "127.0.0.1:1"}


@asynccontextmanager
async def streaming(tmp_path: Path) -> AsyncIterator[tuple[Server, list[Reader]]]:
    """A server of two gateways, and the readers of its streams."""
    with Server(tmp_path / "data", command=COMMAND, WORKERS="2", **SETTINGS) as server:
        server.start()
        await until(lambda: "Ctrl-C stops everything" in server.output, seconds=90)
        async with AsyncExitStack() as stack:
            readers = []
            for _ in range(STREAMS):
                reader = await connect(server.port)
                stack.push_async_callback(reader.close)
                await reader.until(lambda event: event.name == "session_start")
                readers.append(reader)
            yield server, readers


def make_passes_it_on(server: Server) -> None:
    """Send `kill` to make's group: the server gets it once from the group, once from make."""
    os.killpg(server.pid, signal.SIGTERM)
    time.sleep(0.05)
    os.kill(server.pid, signal.SIGTERM)


def twice_on_the_keyboard(server: Server) -> None:
    """Send Ctrl-C twice, as an impatient user does."""
    os.killpg(server.pid, signal.SIGINT)
    time.sleep(0.3)
    os.killpg(server.pid, signal.SIGINT)


def the_whole_control_group(server: Server) -> None:
    """Signal all processes, as systemd does by default: also the stores, and the gateways before the supervisor."""
    for process in [*server.children(), psutil.Process(server.pid)]:
        try:
            process.send_signal(signal.SIGTERM)
        except psutil.NoSuchProcess:
            continue


@pytest.mark.parametrize("ask", [make_passes_it_on, twice_on_the_keyboard, the_whole_control_group])
async def test_every_stream_is_told(tmp_path: Path, ask: Callable[[Server], None]) -> None:
    async with streaming(tmp_path) as (server, readers):
        ask(server)
        endings = await asyncio.gather(*(reader.until(lambda event: event.name == "error") for reader in readers))
        assert [each[-1].data["code"] for each in endings] == ["SERVER_DRAINING"] * STREAMS
        assert all(reader.last_id for reader in readers), "with the id to come back with"
        await until(lambda: server.poll() is not None, seconds=30)
        assert server.poll() == 0, server.output
        assert not server.children()
