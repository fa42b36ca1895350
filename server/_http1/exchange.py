"""A request and its answer, with the interface that Tornado's application calls a connection."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPOutputError,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream

if TYPE_CHECKING:
    from server._http1.connection import Connection

log = logging.getLogger(__name__)

_NO_BODY = frozenset({204, 304})
_SWITCHING_PROTOCOLS = 101
_LARGE_BYTES = 32 << 10  # larger bodies are not copied behind their head: connections share one file's content


class Exchange(HTTPConnection):
    """A request and its answer, which keeps what is received until it is the request's turn to be passed on."""

    def __init__(
        self,
        connection: Connection,
        start_line: RequestStartLine,
        headers: HTTPHeaders,
        *,
        keep_alive: bool,
        is_tunnel: bool,
    ) -> None:
        self.context = connection  # Tornado asks it for remote_ip and protocol
        self.start_line = start_line
        self.headers = headers
        self.keep_alive = keep_alive
        self.is_complete = is_tunnel  # the whole request has been received
        self.is_read = False  # and the handler has it, or has ended
        self.has_head = False  # the answer has begun
        self.waiting_bytes = 0  # in _chunks
        self._is_tunnel = is_tunnel
        self._chunks: list[bytes] = []  # of the body, or of what comes through the tunnel
        self._delegate: HTTPMessageDelegate | None = None  # the application's end, until it has the whole request
        self._is_ready = False  # the handler wants its body
        # Of the answer.
        self._is_finished = self._is_chunked = False
        self._remaining: int | None = None  # bytes of its body, if it has a Content-Length
        self._unsent = b""
        self._on_close: Callable[[], None] | None = None

    def receive(self, chunk: bytes) -> None:
        """Keep a part of the body until `go_on`."""
        if chunk and not self._is_finished:
            self._chunks.append(chunk)
            self.waiting_bytes += len(chunk)

    def go_on(self) -> None:
        """Pass to the application what it has not received yet, as far as it wants it now."""
        try:
            if self._delegate is None:
                self._begin()
            if self._is_ready:
                self._deliver()
        except HTTPInputError as error:
            self.context.refuse_current(str(error))
        except Exception:
            log.exception("the application failed at %s", self._path)
            self.context.abort()

    def lost(self) -> None:
        """Notify the handler, once, that the client has gone or that no more of its request will come."""
        callback, self._on_close = self._on_close, None
        delegate, self._delegate = self._delegate, None
        if not self.is_read:
            self.is_read = True
            callback = None if delegate is None else delegate.on_connection_close
        if callback is not None:
            try:
                callback()
            except Exception:
                log.exception("the application failed at %s", self._path)

    @property
    def _path(self) -> str:
        return self.start_line.path.partition("?")[0]  # a query may hold a secret

    def _begin(self) -> None:
        connection = self.context
        connection.deadline = math.inf if self.is_complete else connection.loop.time() + connection.server.body_seconds
        self._delegate = connection.server.app.start_request(connection, self)
        prepared = self._delegate.headers_received(self.start_line, self.headers)
        if prepared is None or self._has_no_body:  # nothing would have to wait for the handler
            self._make_ready()
        else:
            cast("asyncio.Future[None]", prepared).add_done_callback(self._prepared)

    @property
    def _has_no_body(self) -> bool:
        return self.is_complete and (self._is_tunnel or not self._chunks)

    def _prepared(self, _: asyncio.Future[None]) -> None:
        if self._is_finished:  # by its `prepare`: a body that comes is discarded
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
                    return  # the handler needs no more of the body
        if self.is_complete:
            self.is_read = True
            self._delegate = None  # it refers to us: the cycle would wait for the collector
            delegate.finish()

    # Called by Tornado.

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Set the `callback` for a client that goes before it has its answer."""
        self._on_close = callback

    def write_headers(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> asyncio.Future[None]:
        """Begin the answer. Raises ValueError for a header whose value would split it in two."""
        assert isinstance(start_line, ResponseStartLine)
        method, _, version = self.start_line
        code, length = start_line.code, headers.get("Content-Length")
        has_body = method != "HEAD" and code >= 200 and code not in _NO_BODY
        self._is_chunked = has_body and length is None and version == "HTTP/1.1"
        if self._is_chunked:
            headers["Transfer-Encoding"] = "chunked"
        if not self.is_complete or (has_body and length is None and not self._is_chunked):
            # The rest of the body may have no reader; or the end of the connection is the end of the answer.
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
        if not text.count("\r") == text.count("\n") == len(lines) + 2:  # two more: the start line's, the empty one
            raise ValueError("a header's value has a line break")
        data = text.encode("latin-1")
        self.has_head = True
        if code == _SWITCHING_PROTOCOLS:  # what follows it goes over the detached stream, and so does this
            self._unsent += data
            return self.context.done
        if not chunk:
            return self.context.send(data)
        framed = self._framed(chunk)
        if len(framed) < _LARGE_BYTES:
            return self.context.send(data + framed)
        self.context.send(data)
        return self.context.send(framed)

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Go on with the answer. Raises HTTPOutputError when it gets longer than its Content-Length."""
        if not self.has_head:  # write_headers has refused it
            self.context.abort()
        return self.context.send(self._framed(chunk))

    def finish(self) -> None:
        """End the answer. Raises HTTPOutputError when it is shorter than its Content-Length."""
        if not self.has_head:
            self.context.abort()
        if self._remaining and not self.context.is_gone:
            self.context.abort()
            raise HTTPOutputError(f"the answer is {self._remaining} bytes shorter than its Content-Length")
        if self._is_chunked:
            self.context.send(b"0\r\n\r\n")
        self._is_finished = True
        if self._unsent:
            return  # `detach` follows
        self._chunks.clear()
        if not self.is_read and (self._is_ready or not self.is_complete):
            self.context.loop.call_soon(self.lost)  # the handler may still wait for its body
        self.context.finished(self)

    def detach(self) -> IOStream:
        """Return the connection's socket. Raises StreamClosedError when the client has gone."""
        self._on_close = None
        return self.context.detach(self._unsent, b"".join(self._chunks))

    def _framed(self, chunk: bytes) -> bytes:
        if self._remaining is not None:
            self._remaining -= len(chunk)
            if self._remaining < 0:
                self.context.abort()
                raise HTTPOutputError("the answer is longer than its Content-Length")
        return b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._is_chunked and chunk else chunk
