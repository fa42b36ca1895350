"""Send published decisions to the Lens sockets that have subscribed to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from config.metrics import STREAM_DELIVERIES, STREAMS_OPEN
from handlers.streams.connections import PushedSocket
from handlers.streams.frames import text_frame
from schemas.feed import FeedDecision


class DecisionHub:
    """The Lens sockets of this process: at most `limit`, each with at most `buffer_bytes` pending."""

    def __init__(self, *, limit: int, buffer_bytes: int) -> None:
        self._limit = limit
        self._buffer_bytes = buffer_bytes
        self._sockets: dict[PushedSocket, Callable[[FeedDecision], bool]] = {}

    def __len__(self) -> int:
        return len(self._sockets)

    def join(self, socket: PushedSocket, wants: Callable[[FeedDecision], bool]) -> bool:
        """Add a socket, and the decisions that it wants; False if there are too many."""
        if len(self._sockets) >= self._limit:
            return False
        self._sockets[socket] = wants
        STREAMS_OPEN.labels("lens").inc()
        return True

    def leave(self, socket: PushedSocket) -> None:
        """Remove a socket that has been closed."""
        if socket in self._sockets:
            del self._sockets[socket]
            STREAMS_OPEN.labels("lens").dec()

    def publish(self, items: Sequence[FeedDecision]) -> None:
        """Send each decision to the sockets that want it: framed once, one write per socket for all of them."""
        frames = [text_frame(item.data) for item in items]
        delivered = 0
        for socket, wants in list(self._sockets.items()):
            wanted = [frame for item, frame in zip(items, frames, strict=True) if wants(item)]
            if not wanted:
                continue
            delivered += len(wanted)
            try:
                socket.push(b"".join(wanted))
            except OSError:  # it is closing
                continue
            if socket.pushed_bytes() > self._buffer_bytes:
                socket.abort()
        STREAM_DELIVERIES.inc(delivered)

    def close(self, code: int, reason: str) -> None:
        """Close all sockets."""
        for socket in list(self._sockets):
            socket.hang_up(code, reason)
