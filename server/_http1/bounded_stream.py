"""Tornado's stream for a connection whose client must read what is written."""

from __future__ import annotations

import asyncio
import socket

from tornado.iostream import IOStream


class BoundedStream(IOStream):
    """A stream that closes at the next write when more than `unread_bytes` wait, for any writer.

    Writers have bounds of their own, and notify the client when one is reached; this is the last one. `received` has
    been read from the socket already.
    """

    def __init__(self, connection: socket.socket, unread_bytes: int, received: bytes = b"") -> None:
        super().__init__(connection)
        self._received = received
        self._unread_bytes = unread_bytes

    def write(self, data: bytes | memoryview) -> asyncio.Future[None]:
        """Write data. Raises StreamClosedError."""
        if not self.closed() and len(self._write_buffer) > self._unread_bytes:  # a closed one has no buffer any more
            self.close()
        return super().write(data)

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Fill `buf` with the bytes that were received before, then with the socket's (Tornado's hook)."""
        if not self._received:
            return super().read_from_fd(buf)
        size = min(len(buf), len(self._received))
        buf[:size] = self._received[:size]
        self._received = self._received[size:]
        return size
