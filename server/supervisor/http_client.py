"""The supervisor's HTTP client: one GET with a deadline, without threads and without a client library."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

BODY_BYTES = 4 << 10


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer. `client_port` is our end of the connection, by which the answering process can be found."""

    status: int
    body: bytes
    client_port: int


@asynccontextmanager
async def http_exchange(
    host: str, port: int, path: str, *, headers: Mapping[str, str] | None = None, seconds: float = 3.0
) -> AsyncIterator[HttpAnswer]:
    """Send a GET, and keep the connection until the block ends. Raises `OSError` (a time-out is one) on any failure."""
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", *(f"{k}: {v}" for k, v in (headers or {}).items())]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            yield await _read(reader, writer.get_extra_info("sockname")[1])
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def http_get(host: str, port: int, path: str, *, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    """Send a GET and close the connection. Raises `OSError` on any failure."""
    async with http_exchange(host, port, path, headers=headers) as answer:
        return answer


async def _read(reader: asyncio.StreamReader, client_port: int) -> HttpAnswer:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        length = min(int(fields.get("content-length") or 0), BODY_BYTES)
        return HttpAnswer(int(head[0].split()[1]), await reader.readexactly(length), client_port)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
        raise OSError(f"no HTTP answer: {error!r}") from None
