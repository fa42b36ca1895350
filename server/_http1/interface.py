"""The interface of an HTTP server under the application, and what the two that implement it share.

Handlers know Tornado's `HTTPConnection` only: they write headers and bodies, and `detach` gives them the connection as
a `BoundedStream` for a stream or a WebSocket. So either server can carry them (docs/adr/0011-http.md).
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from http.client import responses
from typing import Protocol

from tornado.httputil import format_timestamp

TURNED_AWAY = 256  # simultaneous connections that get an answer that there are too many; others are just closed
RETRY_SECONDS = 5  # after which a client that was one too many may try again
LATE_SECONDS = 0.1  # for the first words of the connections that came last
KERNEL_BYTES = 128 << 10  # that wait in the kernel to be sent: enough for any network, and far less than it would hold
RECEIVE_BYTES = 64 << 10  # that the kernel receives for us, so our largest read: as much as the largest body

# From a status, a message and the seconds after which to try again, if that helps, to headers and a body.
Refusal = Callable[[int, str, int | None], tuple[Iterable[tuple[str, str]], bytes]]


class HttpServer(Protocol):
    """A server of HTTP/1.1 that passes requests to a `tornado.httputil.HTTPServerConnectionDelegate`."""

    async def listen(self, sockets: Sequence[socket.socket], *, backlog: int = 128) -> None:
        """Accept connections from now on; the sockets are closed by `stop`."""

    async def stop(self) -> None:
        """Accept no more connections. Open ones go on, and so do those that the kernel has accepted for us by now."""

    async def until_taken(self, seconds: float) -> bool:
        """Wait until slow clients have read everything; returns whether they had in time."""

    async def close_all_connections(self) -> None:
        """Close all connections, those in the middle of a request included."""


def whole_answer(refusal: Refusal, status: int, message: str, retry_after: int | None = None) -> bytes:
    """Make a whole answer, the last one of its connection."""
    headers, body = refusal(status, message, retry_after)
    lines = [
        f"HTTP/1.1 {status} {responses[status]}",
        f"Date: {format_timestamp(time.time())}",
        *(f"{name}: {value}" for name, value in headers),
        "Connection: close",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "\r\n"]).encode() + body


def too_many(refusal: Refusal) -> bytes:
    """Make the answer for a connection that is one too many."""
    return whole_answer(refusal, 503, "Too many connections", RETRY_SECONDS)


def accept_queued(listening: socket.socket) -> Iterator[socket.socket]:
    """Accept the connections that the kernel has queued, then close the socket.

    The kernel would reset those when the last descriptor is closed; directly after the last `accept` there are none.
    """
    with listening, contextlib.suppress(OSError):  # BlockingIOError: there are no more
        listening.setblocking(False)
        while True:
            yield listening.accept()[0]


def bound_kernel(listening: socket.socket) -> None:
    """Bound what the kernel keeps for each connection; accepted sockets inherit both options."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    with contextlib.suppress(AttributeError, OSError):  # Linux has it, and TCP
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_BYTES)
