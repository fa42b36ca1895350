"""Our HTTP server: listens, ends connections that are late, and closes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence

from tornado.httputil import HTTPServerConnectionDelegate

from server._http1.connection import Connection
from server._http1.interface import LATE_SECONDS, TURNED_AWAY, Refusal, accept_queued, bound_kernel, too_many
from server._http1.limits import ConnectionLimits

SWEEP_SECONDS = 1.0  # how often deadlines are looked at: one timer for all connections
CLOSE_SECONDS = 1.0  # for connections to notify their requests of the end
LOOK_SECONDS = 0.02  # between two looks at what clients have not taken yet, while the process ends

UNREAD_BYTES = 64 << 10


class LlhttpServer:
    """Serve an application. `refusal` makes the answer to a request that HTTP itself does not allow.

    A connection is closed when no request has begun `idle_seconds` after the last answer, its head has not come
    `head_seconds` after it began, or its body not `body_seconds` after its head; or when the client takes nothing of an
    answer for `unread_seconds`. Of unread answers at most `unread_bytes` and one answer wait; of what is written to a
    detached stream `detached_bytes`. `limits` bounds the connections, and `on_turned_away` receives the bound's name.
    """

    def __init__(
        self,
        app: HTTPServerConnectionDelegate,
        *,
        refusal: Refusal,
        idle_seconds: float,
        body_seconds: float,
        header_bytes: int,
        head_seconds: float | None = None,  # as idle_seconds, and so is the next
        unread_seconds: float | None = None,
        unread_bytes: int = UNREAD_BYTES,
        detached_bytes: int = 4 << 20,
        limits: ConnectionLimits | None = None,
        on_turned_away: Callable[[str], None] = lambda bound: None,
    ) -> None:
        self.app = app
        self.refusal = refusal
        self.idle_seconds = idle_seconds
        self.body_seconds = body_seconds
        self.header_bytes = header_bytes
        self.head_seconds = idle_seconds if head_seconds is None else head_seconds
        self.unread_seconds = idle_seconds if unread_seconds is None else unread_seconds
        self.unread_bytes = unread_bytes
        self.detached_bytes = detached_bytes
        self.connections: set[Connection] = set()
        self._limits = limits
        self._on_turned_away = on_turned_away
        self._turned_away = 0  # connections that are still being answered so
        self._listeners: list[tuple[asyncio.Server, socket.socket]] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._all_gone: asyncio.Future[None] | None = None
        self.is_closed = False

    async def listen(self, sockets: Sequence[socket.socket], *, backlog: int = 128) -> None:
        """See `HttpServer.listen`."""
        loop = asyncio.get_running_loop()
        for each in sockets:
            bound_kernel(each)
            own = each.dup()  # the listener closes its own before the last connections are accepted
            listener = await loop.create_server(lambda: Connection(self), sock=each, backlog=backlog)
            self._listeners.append((listener, own))
        if self._sweeper is None:
            self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)

    async def stop(self) -> None:
        """See `HttpServer.stop`."""
        loop = asyncio.get_running_loop()
        accepted: list[socket.socket] = []
        for listener, own in self._listeners:
            listener.close()
            accepted += accept_queued(own)
        self._listeners.clear()
        for each in accepted:
            try:
                await loop.connect_accepted_socket(lambda: Connection(self), each)
            except OSError:  # it has gone
                each.close()
        if accepted:
            await asyncio.sleep(LATE_SECONDS)  # until their requests arrive, these would count as idle

    async def until_taken(self, seconds: float) -> bool:
        """See `HttpServer.until_taken`."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        while any(each.has_unsent for each in self.connections):
            if loop.time() >= ends_at:
                return False
            await asyncio.sleep(LOOK_SECONDS)  # polled: at the end of a process that costs nobody
        return True

    async def close_all_connections(self) -> None:
        """See `HttpServer.close_all_connections`."""
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

    def enter(self, connection: Connection) -> bytes | None:
        """Register a new connection. If it is one too many, return the answer to send before the close, if any."""
        self.connections.add(connection)
        bound = None if self._limits is None else self._limits.enter(connection.remote_ip)
        connection.is_counted = bound is None
        if bound is None:
            return None
        self._on_turned_away(bound)
        self._turned_away += 1
        if self._turned_away > TURNED_AWAY:
            return b""
        return too_many(self.refusal)

    def gone(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self.connections.discard(connection)
        if not connection.is_counted:
            self._turned_away -= 1
        elif self._limits is not None:
            self._limits.leave(connection.remote_ip)
        if not self.connections and self._all_gone is not None and not self._all_gone.done():
            self._all_gone.set_result(None)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for each in [each for each in self.connections if min(each.deadline, each.write_deadline) < now]:
            if each.is_late(now):
                each.abort()
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)
