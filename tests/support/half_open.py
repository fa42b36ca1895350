"""Half-open connections to Valkey: nothing passes any more, and neither end gets an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from config.tasks import cancel, spawn


class Relay:
    """A TCP address in front of a Unix socket."""

    def __init__(self, path: str) -> None:
        self.url = ""
        self._path = path
        self._copying: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def cut(self) -> None:
        """Stop forwarding on the connections that are open now. New ones work."""
        copying, self._copying = self._copying, []
        await cancel(*copying)

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a new connection on."""
        back, forth = await asyncio.open_unix_connection(self._path)
        self._writers += [writer, forth]
        self._copying += [spawn(_copy(reader, forth), name="forth"), spawn(_copy(back, writer), name="back")]

    async def close(self) -> None:
        """End all connections."""
        await self.cut()
        for each in self._writers:
            each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


@asynccontextmanager
async def relayed(url: str) -> AsyncIterator[Relay]:
    """A relay in front of the Valkey at this URL of a Unix socket."""
    relay = Relay(urlsplit(url).path)
    server = await asyncio.start_server(relay.connect, "127.0.0.1", 0)
    relay.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        await relay.close()
