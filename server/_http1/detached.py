"""A connection's socket after HTTP has ended on it, as Tornado's stream."""

from __future__ import annotations

import asyncio
import socket

from tornado.iostream import IOStream


class DetachedStream(IOStream):
    """A stream whose first bytes have been read already, and whose client must read what is written.

    Writers have bounds of their own, and tell the client when one is reached. This is the last one, for all writers:
    with more than `unread_bytes` waiting the next write closes.
    """

    def __init__(self, connection: socket.socket, received: bytes, unread_bytes: int) -> None:
        super().__init__(connection)
        self._received = received
        self._unread_bytes = unread_bytes

    def write(self, data: bytes | memoryview) -> asyncio.Future[None]:
        """Write data. Raises StreamClosedError."""
        if not self.closed() and len(self._write_buffer) > self._unread_bytes:  # a closed one has no buffer any more
            self.close()
        return super().write(data)

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Fill `buf` with the bytes that were read before the detachment, then with the socket's (Tornado's hook)."""
        if not self._received:
            return super().read_from_fd(buf)
        size = min(len(buf), len(self._received))
        buf[:size] = self._received[:size]
        self._received = self._received[size:]
        return size
