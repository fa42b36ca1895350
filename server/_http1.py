"""HTTP/1.1 under Tornado's application: llhttp parses, the event loop's transports read and write.

Tornado's own server makes a dozen futures, four system calls for options and a time-out for each request, which is more
than the work of a small answer (docs/adr/0011). What it gives to the application stays as it is: an object with the
interface of `tornado.httputil.HTTPConnection` for each request, and an `IOStream` for who detaches a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from http.client import responses
from typing import cast

import httptools
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPOutputError,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
    format_timestamp,
)
from tornado.iostream import IOStream, StreamClosedError

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0  # how often deadlines are looked at: one timer for all connections
LINGER_SECONDS = 2.0  # in which a client may read why it was refused before the connection is closed
LINGER_BYTES = 1 << 20  # that are thrown away meanwhile
CLOSE_SECONDS = 1.0  # for connections to tell their requests that they have gone
WAITING_BYTES = 64 << 10  # of a body that are read ahead of its handler
PIECE_BYTES = 16 << 10  # parsed at a time, so that a packet of small requests does not become thousands of objects

Refusal = Callable[[int, str], bytes]  # status and what is wrong: a body

_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}(?= )")
_NO_BODY = frozenset({204, 304})
_VERSIONS = frozenset({"1.0", "1.1"})
_SWITCHING_PROTOCOLS = 101


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
        self.connections: set[_Connection] = set()
        self._listeners: list[tuple[asyncio.Server, socket.socket]] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._all_gone: asyncio.Future[None] | None = None
        self.is_closed = False

    async def listen(self, sockets: Sequence[socket.socket], *, backlog: int = 128) -> None:
        """Accept connections from now on; the sockets are closed by `stop`."""
        loop = asyncio.get_running_loop()
        for each in sockets:
            own = each.dup()
            listener = await loop.create_server(lambda: _Connection(self), sock=each, backlog=backlog)
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
                await loop.connect_accepted_socket(lambda: _Connection(self), each)
            except OSError:  # it has gone
                each.close()

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

    def gone(self, connection: _Connection) -> None:
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


class _HeadTooLarge(Exception):
    """More than `header_bytes`."""


class _Connection(asyncio.Protocol):
    """One client. Its requests are answered one after the other, in their order."""

    protocol = "http"  # with remote_ip, what Tornado asks a connection's context for

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.loop = asyncio.get_running_loop()
        self.remote_ip = "0.0.0.0"  # noqa: S104 - what Tornado calls who comes over a Unix socket
        self.deadline = self.loop.time() + server.idle_seconds
        self.write_deadline = math.inf  # while the client does not read what we write
        self.drained: asyncio.Future[None] | None = None  # likewise
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.done.set_result(None)
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._held = b""  # what has come and is not parsed yet
        self._current: _Exchange | None = None
        self._waiting: deque[_Exchange] = deque()
        self._incoming: _Exchange | None = None  # whose body is being read
        self._tunnel: _Exchange | None = None  # after whose head no HTTP comes
        self._refusal = b""  # the last answer, once those before it have been given
        self._is_paused = self._is_detached = False
        self._is_deaf = False  # what comes is thrown away
        self._is_closing = False  # the last answer has been given
        self._discarded_bytes = 0
        # Of the message whose head is being read.
        self._begun = self._head_bytes = self._idle_bytes = 0
        self._in_head = self._is_moving = False
        self._url = b""
        self._method: str | None = None
        self._headers = HTTPHeaders()
        self._upgrading: _Exchange | None = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple):
            self.remote_ip = address[0]
        self.server.connections.add(self)
        if self.server.is_closed:
            self.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > LINGER_BYTES:
                self.abort()
            return
        self._held += data
        self.go_on()

    def eof_received(self) -> bool:
        return False  # the client has gone; the transport sends what it holds, and closes

    def pause_writing(self) -> None:
        self.drained = self.loop.create_future()
        self.write_deadline = self.loop.time() + self.server.idle_seconds

    def resume_writing(self) -> None:
        self.write_deadline = math.inf
        if self.drained is not None:
            self.drained.set_result(None)
            self.drained = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.gone(self)
        self._parser = None  # the parser knows us: together we would wait for the collector
        if self.drained is not None:
            self.drained.set_exception(StreamClosedError(real_error=exc))
            self.drained.exception()
            self.drained = None
        exchange, self._current, self._incoming, self._tunnel = self._current, None, None, None
        self._held = b""
        self._waiting.clear()
        if exchange is not None and not self._is_detached:
            exchange.lost()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._begun += 1
        self._in_head, self._is_moving, self._head_bytes = True, True, 0
        self._url, self._headers = b"", HTTPHeaders()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer
        self._head_bytes += len(name) + len(value) + 4
        self._headers.add(name.decode("latin-1"), value.decode("latin-1").strip(" \t"))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        if self._head_bytes + len(self._url) > self.server.header_bytes:
            raise _HeadTooLarge
        self._in_head, self._is_moving = False, True
        method = self._method or self._parser.get_method().decode("latin-1")
        self._method = None
        version = self._parser.get_http_version()
        coding = self._headers.get("Transfer-Encoding")
        if version not in _VERSIONS or (coding is not None and (version != "1.1" or coding.lower() != "chunked")):
            raise HTTPInputError("a version or a transfer coding that we do not know")
        start_line = RequestStartLine(method, self._url.decode("latin-1"), f"HTTP/{version}")
        exchange = _Exchange(self, start_line, self._headers, keep_alive=self._parser.should_keep_alive())
        if self._parser.should_upgrade():
            self._upgrading = exchange
        else:
            self._take(exchange)

    def on_body(self, chunk: bytes) -> None:
        self._is_moving = True
        if self._incoming is not None:
            self._incoming.receive(chunk)

    def on_message_complete(self) -> None:
        exchange, self._incoming = self._incoming, None
        if exchange is not None:
            exchange.is_complete = True
            self._is_deaf = not exchange.keep_alive  # nothing may come after it (RFC 9112 § 9.6)
            if exchange is self._current:
                self.deadline = math.inf  # while it is answered, the handlers have theirs

    # What an exchange calls.

    @property
    def is_gone(self) -> bool:
        """Whether nothing that is written would get anywhere."""
        return self._is_closing or self.transport.is_closing()

    def send(self, data: bytes) -> asyncio.Future[None]:
        """Write; done when the client has read so much that there is room for more."""
        if self.is_gone:
            future: asyncio.Future[None] = self.loop.create_future()
            future.set_exception(StreamClosedError())
            future.exception()  # whoever does not wait for it does not care
            return future
        self.transport.write(data)
        if self.drained is None:
            return self.done
        waiter = asyncio.shield(self.drained)  # one who gives up must not give up for the others
        waiter.add_done_callback(lambda done: done.cancelled() or done.exception())
        return waiter

    def finished(self, exchange: _Exchange) -> None:
        """An exchange is over: close, or go on with the next one."""
        if exchange is not self._current:
            return
        self._current = None
        self.deadline = self.loop.time() + self.server.idle_seconds
        if not exchange.keep_alive:
            if exchange.is_complete:
                self.transport.close()  # when what is written has been sent
            else:
                self._linger(b"")
        elif self._waiting or self._held:
            self.loop.call_soon(self.go_on)
        elif self._refusal:
            self._linger(self._refusal)

    def detach(self, unsent: bytes, after: bytes) -> IOStream:
        """The socket as Tornado's stream; nothing of it is ours any more. Raises StreamClosedError."""
        if self.is_gone or self.transport.get_write_buffer_size():
            self.abort()
            raise StreamClosedError
        connection = socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))
        connection.setblocking(False)
        self._is_detached = True
        self.transport.abort()  # closes its own descriptor, and says nothing to the client
        stream = _Detached(connection, after + self._held)
        if unsent:
            stream.write(unsent)
        return stream

    def abort(self) -> None:
        """Close now."""
        self.transport.abort()

    def go_on(self) -> None:
        """Hand on what has come, as far as it is wanted now."""
        while True:
            if self._current is None and self._waiting and not self.is_gone:
                self._current = self._waiting.popleft()
            if self._current is not None and not self._current.is_read:
                self._current.go_on()
            if not self._held or self._waiting or self._is_deaf or self._parser is None:
                break
            piece, self._held = self._held[:PIECE_BYTES], self._held[PIECE_BYTES:]
            self._parse(piece)
        exchange = self._current
        wants_pause = not self._is_deaf and (
            bool(self._waiting) or (exchange is not None and exchange.waiting_bytes > WAITING_BYTES)
        )
        if wants_pause != self._is_paused and not self.transport.is_closing():
            self._is_paused = wants_pause
            if wants_pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def refuse_current(self) -> None:
        """Refuse the request that is being handed on, with all that came after it."""
        self._waiting.clear()
        self._incoming = self._current
        self._refuse(400, "Malformed HTTP request")

    # Our own.

    def _parse(self, piece: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.receive(piece)
            return
        was_between = not self._in_head and self._incoming is None
        self._begun, self._is_moving = 0, False
        try:
            try:
                self._feed(piece)
            except httptools.HttpParserInvalidMethodError:
                method = _METHOD.match(piece)
                if method is None or not was_between or self._begun != 1:
                    raise
                # llhttp does not know it: the application refuses it, as it does any that a path lacks.
                self._method = method[0].decode()
                self._parser = httptools.HttpRequestParser(self)
                self._feed(b"PUT" + piece[method.end() :])
            # The parser keeps what it has of a field, in the trailers too, until it has the rest.
            self._idle_bytes = 0 if self._is_moving else self._idle_bytes + len(piece)
            if self._idle_bytes > self.server.header_bytes and (self._in_head or self._incoming is not None):
                raise _HeadTooLarge
        except (httptools.HttpParserError, _HeadTooLarge) as error:
            if self._is_deaf:
                return  # it came after the last request
            if isinstance(error, _HeadTooLarge) or isinstance(error.__context__, _HeadTooLarge):
                self._refuse(431, "The request's head is too large")
            else:
                log.info("malformed HTTP from %s: %s", self.remote_ip, error.__context__ or error)
                self._refuse(400, "Malformed HTTP request")

    def _feed(self, data: bytes) -> None:
        while data:
            assert self._parser is not None
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._upgrade(data[upgrade.args[0] :])

    def _upgrade(self, rest: bytes) -> bytes:
        # What is to be parsed instead of the rest.
        exchange, self._upgrading = self._upgrading, None
        assert exchange is not None
        (method, target, version), headers = exchange.start_line, exchange.headers
        is_socket = method == "GET" and version == "HTTP/1.1" and headers.get("Upgrade", "").lower() == "websocket"
        has_body = "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0"
        if method != "CONNECT" and (has_body or not is_socket):
            # To a protocol that we do not speak: as if nothing had been offered (RFC 9110 § 7.8).
            lines = [f"{n}: {v}\r\n" for n, v in headers.get_all() if n not in {"Upgrade", "Http2-Settings"}]
            self._parser = httptools.HttpRequestParser(self)
            self._method = method  # which may be one that llhttp does not know
            return f"PUT {target} {version}\r\n{''.join(lines)}\r\n".encode("latin-1") + rest
        self._tunnel = exchange
        exchange.keep_alive = False
        exchange.is_complete = exchange.is_tunnel = True
        self._take(exchange)
        self._incoming = None
        exchange.receive(rest)
        return b""

    def _take(self, exchange: _Exchange) -> None:
        self._incoming = exchange
        if self._current is None and not self._waiting:
            self._current = exchange
        else:
            self._waiting.append(exchange)

    def _refuse(self, status: int, message: str) -> None:
        """Say that what came is not HTTP as it should be, after the answers to what came before; then close."""
        self._is_deaf, self._in_head, self._held = True, False, b""
        body = self.server.refusal(status, message)
        head = (
            f"HTTP/1.1 {status} {responses[status]}\r\nDate: {format_timestamp(time.time())}\r\nConnection: close\r\n"
            f"Content-Type: application/json; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._refusal = head.encode() + body
        broken, self._incoming = self._incoming, None
        if broken is not None and self._waiting and self._waiting[-1] is broken:
            self._waiting.pop()
        elif broken is not None and self._current is broken:
            self._current = None
            self._linger(b"" if broken.has_head else self._refusal)
            broken.lost()
        if self._current is None and not self._waiting:
            self._linger(self._refusal)

    def _linger(self, data: bytes) -> None:
        """Say the last word, and close a moment later: bytes that arrive at a closed connection destroy it."""
        if self.is_gone:
            return
        if data:
            self.transport.write(data)
        is_behind = self.transport.get_write_buffer_size() > 0
        self.deadline = self.loop.time() + (self.server.idle_seconds if is_behind else LINGER_SECONDS)
        self._is_closing = self._is_deaf = True
        self._held = b""
        self._waiting.clear()
        self.transport.write_eof()
        if self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()


class _Exchange(HTTPConnection):
    """One request and its answer: what Tornado's application calls the connection."""

    def __init__(
        self, connection: _Connection, start_line: RequestStartLine, headers: HTTPHeaders, *, keep_alive: bool
    ) -> None:
        self.context = connection  # Tornado asks it for remote_ip and protocol
        self.start_line = start_line
        self.headers = headers
        self.keep_alive = keep_alive
        self.is_complete = False  # the whole request has come
        self.is_read = False  # and the handler has it, or is not there any more
        self.is_tunnel = False  # no HTTP comes after its head
        self.has_head = False  # the answer has begun
        self.waiting_bytes = 0
        self._chunks: list[bytes] = []  # of the body, or of what comes after the head of an upgrade
        self._delegate: HTTPMessageDelegate | None = None
        self._is_ready = False  # the handler wants its body
        self._is_finished = self._is_chunked = False
        self._remaining: int | None = None
        self._unsent = b""
        self._on_close: Callable[[], None] | None = None

    def receive(self, chunk: bytes) -> None:
        """Keep a part of the body until `go_on`."""
        if chunk and not self._is_finished:
            self._chunks.append(chunk)
            self.waiting_bytes += len(chunk)

    def go_on(self) -> None:
        """Hand to the application what it has not got yet, as far as it wants it now."""
        connection = self.context
        try:
            if self._delegate is None:
                self._begin()
            if self._is_ready:
                self._deliver()
        except HTTPInputError as error:
            log.info("malformed HTTP from %s: %s", connection.remote_ip, error)
            connection.refuse_current()
        except Exception:
            log.exception("the application failed at %s", self.start_line.path.partition("?")[0])
            connection.abort()

    def lost(self) -> None:
        """The client has gone, or the handler gets no more of its request. Tells the handler, once."""
        callback, self._on_close = self._on_close, None
        delegate, self._delegate = self._delegate, None
        if not self.is_read:
            self.is_read = True
            callback = None if delegate is None else delegate.on_connection_close
        if callback is not None:
            try:
                callback()
            except Exception:
                log.exception("the application failed at %s", self.start_line.path.partition("?")[0])

    def _begin(self) -> None:
        connection = self.context
        connection.deadline = math.inf if self.is_complete else connection.loop.time() + connection.server.body_seconds
        self._delegate = connection.server.app.start_request(connection, self)
        prepared = self._delegate.headers_received(self.start_line, self.headers)
        if prepared is None or self._has_no_body:
            self._make_ready()  # there is nothing to wait with
        else:
            cast("asyncio.Future[None]", prepared).add_done_callback(self._prepared)

    @property
    def _has_no_body(self) -> bool:
        return self.is_complete and (self.is_tunnel or not self._chunks)

    def _prepared(self, _: asyncio.Future[None]) -> None:
        if self._is_finished:
            self.lost()
        elif not self.is_read:
            self._make_ready()
            self.context.go_on()

    def _make_ready(self) -> None:
        self._is_ready = True
        if self.is_complete or self._chunks or self.has_head or self.start_line.version != "HTTP/1.1":
            return
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.context.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _deliver(self) -> None:
        delegate = self._delegate
        assert delegate is not None
        if not self._has_no_body:
            chunks, self._chunks, self.waiting_bytes = self._chunks, [], 0
            for chunk in chunks:
                taken = delegate.data_received(chunk)
                assert taken is None, "our handlers take a chunk at once"
                if self._is_finished:
                    return
        if self.is_complete:
            self.is_read = True
            self._delegate = None  # it knows us: together we would wait for the collector
            delegate.finish()

    # What Tornado calls.

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """`callback` is called when the client goes before it has its answer."""
        self._on_close = callback

    def write_headers(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> asyncio.Future[None]:
        """Begin the answer. Raises ValueError for a header that would be two."""
        assert isinstance(start_line, ResponseStartLine)
        method, _, version = self.start_line
        code, length = start_line.code, headers.get("Content-Length")
        has_body = method != "HEAD" and code >= 200 and code not in _NO_BODY
        self._is_chunked = has_body and length is None and version == "HTTP/1.1"
        if self._is_chunked:
            headers["Transfer-Encoding"] = "chunked"
        if not self.is_complete or (has_body and length is None and not self._is_chunked):
            # There may be a body that nobody wants; or the end of the connection is the end of the answer.
            self.keep_alive = False
        if code != _SWITCHING_PROTOCOLS:
            if not self.keep_alive or headers.get("Connection", "").lower() == "close":
                self.keep_alive = False
                headers["Connection"] = "close"
            elif version == "HTTP/1.0":
                headers["Connection"] = "Keep-Alive"
        self._remaining = 0 if not has_body else None if length is None else int(length)
        lines = [f"{name}: {value}\r\n" for name, value in headers.get_all()]
        text = f"HTTP/1.1 {code} {start_line.reason}\r\n{''.join(lines)}\r\n"
        if not text.count("\r") == text.count("\n") == len(lines) + 2:
            raise ValueError("a header's value has a line break")
        data = text.encode("latin-1")
        self.has_head = True
        if code == _SWITCHING_PROTOCOLS:  # what follows it goes over the detached stream, and so does this
            self._unsent += data
            return self.context.done
        return self.context.send(data + self._framed(chunk) if chunk else data)

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Go on with the answer. Raises HTTPOutputError when it gets longer than its Content-Length."""
        if not self.has_head:  # write_headers has refused it
            self.context.abort()
        return self.context.send(self._framed(chunk))

    def finish(self) -> None:
        """The answer is whole. Raises HTTPOutputError when it is shorter than its Content-Length."""
        if not self.has_head:
            self.context.abort()
        if self._remaining and not self.context.is_gone:
            self.context.abort()
            raise HTTPOutputError(f"the answer is {self._remaining} bytes shorter than its Content-Length")
        if self._is_chunked:
            self.context.send(b"0\r\n\r\n")
        self._is_finished = True
        if self._unsent:
            return
        self._chunks.clear()
        if not self.is_complete:
            self.keep_alive = False
        if not self.is_read and (self._is_ready or not self.is_complete):
            self.context.loop.call_soon(self.lost)  # the handler may still wait for its body
        self.context.finished(self)

    def detach(self) -> IOStream:
        """The connection's socket. Raises StreamClosedError when the client has gone."""
        self._on_close = None
        return self.context.detach(self._unsent, b"".join(self._chunks))

    def _framed(self, chunk: bytes) -> bytes:
        if self._remaining is not None:
            self._remaining -= len(chunk)
            if self._remaining < 0:
                self.context.abort()
                raise HTTPOutputError("the answer is longer than its Content-Length")
        return b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._is_chunked and chunk else chunk


class _Detached(IOStream):
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
