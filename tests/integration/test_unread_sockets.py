"""WebSocket clients that ask and never read: their buffers are bounded, and no other client is blocked.

The kind is that of `tests/unit/test_http1_unread.py`: answers, pongs and errors are written to whoever makes us write.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from config.settings import Settings
from server._http1.bounded_stream import BoundedStream
from tests.support.streams import Gateway, gateway, ready, until

BUFFER_BYTES = 50_000
HANDSHAKE = (
    "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def _frame(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame, masked with zeros."""
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2)
    return bytes([0x80 | opcode]) + size + bytes(4) + payload


FLOODS = {
    "pings": _frame(9, b"x" * 125),
    "subscriptions": _frame(1, b'{"action":"subscribe"}'),
    "questions": _frame(1, b'{"type":"ping"}'),
    "mistakes": _frame(1, b'{"type":"nothing of the kind"}'),
    "nonsense": _frame(1, b"x" * 2000),
    "bytes": _frame(2, bytes(125)),
    "pongs": _frame(10, b""),
}


@pytest.mark.parametrize("path", ["/api/v1/ws/stream", "/api/signals/ws"])
async def test_messages_waiting_for_a_deaf_client_are_bounded(settings: Settings, path: str) -> None:
    settings = settings.replace(rate_limit_enabled=False, stream_buffer_bytes=BUFFER_BYTES)
    opened: list[BoundedStream] = []
    async with gateway(settings) as server:
        await ready(server)
        for name, frame in FLOODS.items():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(BoundedStream, "__init__", _remembering(opened))
                most = await _flood(server, path, frame, opened)
            assert most <= 4 * BUFFER_BYTES + 10_000, name
        await until(lambda: all(each.closed() for each in opened))


def _remembering(opened: list[BoundedStream]) -> Callable[..., None]:
    original = BoundedStream.__init__

    def init(self: BoundedStream, *args: Any) -> None:
        opened.append(self)
        original(self, *args)

    return init


async def _flood(server: Gateway, path: str, frame: bytes, opened: list[BoundedStream]) -> int:
    """Return the most bytes that waited in our process, while the client sent all it could for a moment."""
    opened.clear()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", server.port))
    try:
        await loop.sock_sendall(client, HANDSHAKE.format(path).encode())
        await until(lambda: bool(opened))
        data, sent, most = frame * (1 + (64 << 10) // len(frame)), 0, 0
        ends_at = time.monotonic() + 0.4
        while time.monotonic() < ends_at and not opened[0].closed():
            try:
                sent += client.send(memoryview(data)[sent % len(data) :])
            except BlockingIOError:
                await asyncio.sleep(0.001)
            except ConnectionError:
                break
            await asyncio.sleep(0)
            if (waiting := opened[0]._write_buffer) is not None:  # as it is once the stream is closed
                most = max(most, len(waiting))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(2):  # others are served meanwhile
            assert orjson.loads((await reader.read(-1)).partition(b"\r\n\r\n")[2]) == {"status": "ok"}
        writer.close()
        return most
    finally:
        client.close()
