"""Tornado's HTTP server behind the same interface: to compare with, and to go back to when ours is not needed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream, StreamClosedError
from tornado.netutil import add_accept_handler

from config.tasks import spawn
from handlers._http.body import has_body
from server._http1.bounded_stream import BoundedStream
from server._http1.interface import (
    LATE_SECONDS,
    RECEIVE_BYTES,
    TURNED_AWAY,
    Refusal,
    accept_queued,
    bound_kernel,
    too_many,
)
from server._http1.limits import ConnectionLimits

CLOSE_SECONDS = 1.0  # for connections to notify their requests of the end
LOOK_SECONDS = 0.02  # between two looks at what clients have not taken yet, while the process ends
LINGER_SECONDS = 2.0  # in which a client may read why it was turned away
LARGEST_BODY = 1 << 62  # the handlers have a bound of their own, and tell the client


class TornadoServer:
    """Serve an application by `tornado.httpserver.HTTPServer`.

    The parameters are those of `LlhttpServer`, as far as Tornado has them; ADR 11 lists what it has not.
    """

    def __init__(
        self,
        app: HTTPServerConnectionDelegate,
        *,
        refusal: Refusal,
        idle_seconds: float,
        body_seconds: float,
        header_bytes: int,
        detached_bytes: int,
        limits: ConnectionLimits,
        on_turned_away: Callable[[str], None],
    ) -> None:
        self._server = _Server(
            app,
            on_gone=self._gone,
            idle_connection_timeout=idle_seconds,
            body_timeout=body_seconds,
            max_header_size=header_bytes,
            max_body_size=LARGEST_BODY,
        )
        self._refusal = refusal
        self._detached_bytes = detached_bytes
        self._limits = limits
        self._on_turned_away = on_turned_away
        self._addresses: dict[IOStream, str] = {}  # of the connections that count
        self._turned_away: set[IOStream] = set()  # that are still being answered so
        self._listeners: list[tuple[Callable[[], None], socket.socket]] = []

    async def listen(self, sockets: Sequence[socket.socket], *, backlog: int = 128) -> None:
        """See `HttpServer.listen`."""
        for each in sockets:
            bound_kernel(each)
            each.listen(backlog)
            self._listeners.append((add_accept_handler(each, self._accept), each))

    async def stop(self) -> None:
        """See `HttpServer.stop`."""
        for stop_accepting, listening in self._listeners:
            stop_accepting()
            for accepted in accept_queued(listening):
                try:
                    address = accepted.getpeername()
                except OSError:  # it has gone
                    accepted.close()
                else:
                    self._accept(accepted, address)
        if self._listeners:
            await asyncio.sleep(LATE_SECONDS)  # until their requests arrive, these would count as idle
        self._listeners.clear()

    async def until_taken(self, seconds: float) -> bool:
        """See `HttpServer.until_taken`."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        while any(each.writing() for each in self._addresses):
            if loop.time() >= ends_at:
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return True

    async def close_all_connections(self) -> None:
        """See `HttpServer.close_all_connections`."""
        for each in [*self._addresses, *self._turned_away]:
            each.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._server.close_all_connections()

    def _accept(self, connection: socket.socket, address: tuple[str, int] | str) -> None:
        connection.setblocking(False)
        stream = BoundedStream(connection, self._detached_bytes)
        ip = address[0] if isinstance(address, tuple) else ""
        bound = self._limits.enter(ip)
        if bound is None:
            self._addresses[stream] = ip
            self._server.handle_stream(stream, address)  # type: ignore[arg-type]  # a Unix socket's is a text
            return
        self._on_turned_away(bound)
        if len(self._turned_away) >= TURNED_AWAY:
            stream.close()
        else:
            self._turned_away.add(stream)
            spawn(self._turn_away(stream), name="turn a connection away")

    async def _turn_away(self, stream: IOStream) -> None:
        with contextlib.suppress(StreamClosedError, OSError):  # OSError: a time-out is one
            async with asyncio.timeout(LINGER_SECONDS):
                await stream.write(too_many(self._refusal))
                stream.socket.shutdown(socket.SHUT_WR)
                while True:  # until the client closes: bytes that arrive at a closed connection destroy the answer
                    await stream.read_bytes(RECEIVE_BYTES, partial=True)
        stream.close()
        self._turned_away.discard(stream)

    def _gone(self, stream: IOStream) -> None:
        self._limits.leave(self._addresses.pop(stream))


class _Server(HTTPServer):
    def initialize(  # type: ignore[override]  # Tornado's way to construct
        self, app: HTTPServerConnectionDelegate, *, on_gone: Callable[[IOStream], None], **options: Any
    ) -> None:
        super().initialize(app, **options)
        self._on_gone = on_gone

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Let the application answer a request (Tornado's hook)."""
        assert isinstance(request_conn, HTTP1Connection)
        return _Request(super().start_request(server_conn, _Answer(request_conn)))

    def on_close(self, server_conn: object) -> None:
        """Note that a connection has ended, or is HTTP no more (Tornado's hook)."""
        super().on_close(server_conn)
        assert isinstance(server_conn, HTTP1ServerConnection)
        self._on_gone(server_conn.stream)


class _Request(HTTPMessageDelegate):
    """A request, of which Tornado waits for the handler only if a body follows.

    An answer that ends before the request has been read ends Tornado's connection; without a body, it has been read.
    """

    def __init__(self, delegate: HTTPMessageDelegate) -> None:
        self._delegate = delegate
        self.data_received = delegate.data_received  # type: ignore[method-assign]
        self.finish = delegate.finish  # type: ignore[method-assign]
        self.on_connection_close = delegate.on_connection_close  # type: ignore[method-assign]

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        prepared = self._delegate.headers_received(start_line, headers)
        return prepared if has_body(headers) else None


class _Answer(HTTPConnection):
    """An answer, after which the connection is closed if its headers say so: Tornado's own does not look."""

    def __init__(self, connection: HTTP1Connection) -> None:
        self.context = connection.context  # HTTPServerRequest asks it for remote_ip and protocol
        self._connection = connection
        self._stream = connection.stream
        self._is_last = False

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        self._connection.set_close_callback(callback)

    def write_headers(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> asyncio.Future[None]:
        self._is_last = headers.get("Connection", "").lower() == "close"
        return self._connection.write_headers(start_line, headers, chunk)

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        return self._connection.write(chunk)

    def finish(self) -> None:
        self._connection.finish()
        if self._is_last and not self._stream.closed():
            self._stream.write(b"").add_done_callback(lambda _: self._stream.close())  # when all has been written

    def detach(self) -> IOStream:
        return self._connection.detach()
