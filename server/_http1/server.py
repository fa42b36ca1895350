"""The server: listens, ends what is late, and closes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence

from tornado.httputil import HTTPServerConnectionDelegate

from server._http1.connection import Connection

SWEEP_SECONDS = 1.0  # how often deadlines are looked at: one timer for all connections
CLOSE_SECONDS = 1.0  # for connections to tell their requests that they have gone
LATE_SECONDS = 0.1  # for the first words of those that came last

Refusal = Callable[[int, str], bytes]  # status and what is wrong: a body


class HttpServer:
    """Serves an application. `refusal` makes the body that tells of a request which HTTP itself does not allow.

    A connection is closed when no whole head of a request has come `idle_seconds` after the last answer, or not all of
    a body `body_seconds` after its head, or when its client leaves an answer unread for `idle_seconds`.
    """

    def __init__(
        self,
        app: HTTPServerConnectionDelegate,
        *,
        refusal: Refusal,
        idle_seconds: float,
        body_seconds: float,
        header_bytes: int,
    ) -> None:
        self.app = app
        self.refusal = refusal
        self.idle_seconds = idle_seconds
        self.body_seconds = body_seconds
        self.header_bytes = header_bytes
        self.connections: set[Connection] = set()
        self._listeners: list[tuple[asyncio.Server, socket.socket]] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._all_gone: asyncio.Future[None] | None = None
        self.is_closed = False

    async def listen(self, sockets: Sequence[socket.socket], *, backlog: int = 128) -> None:
        """Accept connections from now on; the sockets are closed by `stop`."""
        loop = asyncio.get_running_loop()
        for each in sockets:
            own = each.dup()  # the listener closes its own before the last connections are accepted
            listener = await loop.create_server(lambda: Connection(self), sock=each, backlog=backlog)
            self._listeners.append((listener, own))
        if self._sweeper is None:
            self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)

    async def stop(self) -> None:
        """Accept no more. What is open goes on, and so does what the kernel has accepted for us by now.

        It would reset those connections when the last descriptor is closed; at once after the last `accept` there are
        none.
        """
        loop = asyncio.get_running_loop()
        accepted: list[socket.socket] = []
        for listener, own in self._listeners:
            listener.close()
            with own, contextlib.suppress(OSError):  # BlockingIOError: there are no more
                own.setblocking(False)
                while True:
                    accepted.append(own.accept()[0])
        self._listeners.clear()
        for each in accepted:
            try:
                await loop.connect_accepted_socket(lambda: Connection(self), each)
            except OSError:  # it has gone
                each.close()
        if accepted:
            await asyncio.sleep(LATE_SECONDS)  # what they ask is on its way: until then nobody would see them wait

    async def close_all_connections(self) -> None:
        """End what is open, requests in the middle included."""
        self.is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for each in list(self.connections):
            each.abort()
        if self.connections:
            self._all_gone = asyncio.get_running_loop().create_future()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone, CLOSE_SECONDS)

    def gone(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        if not self.connections and self._all_gone is not None and not self._all_gone.done():
            self._all_gone.set_result(None)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for each in [each for each in self.connections if min(each.deadline, each.write_deadline) < now]:
            each.abort()
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)
