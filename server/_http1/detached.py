"""A connection's socket once no HTTP comes over it any more: Tornado's stream."""

from __future__ import annotations

import socket

from tornado.iostream import IOStream


class DetachedStream(IOStream):
    """A stream whose first bytes have been read already."""

    def __init__(self, connection: socket.socket, received: bytes) -> None:
        super().__init__(connection)
        self._received = received

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Tornado's hook."""
        if not self._received:
            return super().read_from_fd(buf)
        size = min(len(buf), len(self._received))
        buf[:size] = self._received[:size]
        self._received = self._received[size:]
        return size
