"""Node's package `eventsource`, in a process of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

from config.tasks import cancel, spawn
from tests.browser._programs import PEERS_FOLDER, node_client
from tests.browser.clients import StreamClient

SCRIPT = Path(__file__).with_name("eventsource.cjs")


class Node(StreamClient):
    """A client that uses Node's package `eventsource`."""

    @classmethod
    def missing(cls) -> str | None:
        """Return what is missing: Node, or the package."""
        return None if node_client() else "node and its package eventsource (`make bench-peers`)"

    @classmethod
    @asynccontextmanager
    async def follow(cls, url: str, folder: Path) -> AsyncIterator[Node]:
        """Follow the stream in a process."""
        program = node_client()
        assert program is not None
        process = await asyncio.create_subprocess_exec(
            *(program, str(SCRIPT), url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PEERS": str(PEERS_FOLDER)},  # noqa: TID251 - a child needs its parent's PATH
        )
        client = cls()
        reading = spawn(client._read(process), name="node")
        try:
            yield client
        finally:
            process.kill()
            await process.wait()
            await cancel(reading)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            document = orjson.loads(line)
            assert document["event"] != "gave up"
            self.take(document["event"], document["id"], document["data"])
