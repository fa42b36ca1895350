"""A client's connection: its requests and answers, their order, and its end."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, cast

from tornado.httputil import HTTPHeaders, RequestStartLine
from tornado.iostream import IOStream, StreamClosedError

from server._http1.bounded_stream import BoundedStream
from server._http1.exchange import Exchange
from server._http1.interface import whole_answer
from server._http1.parser import BadRequest, Incomplete, RequestParser
from server._http1.unsent import unsent_bytes

if TYPE_CHECKING:
    from server._http1.server import LlhttpServer

log = logging.getLogger(__name__)

LINGER_SECONDS = 2.0  # in which a client may read why it was refused before the connection is closed
LINGER_BYTES = 1 << 20  # that are discarded meanwhile
WAITING_BYTES = 64 << 10  # of a body that are read ahead of its handler
PIECE_BYTES = 16 << 10  # parsed at a time, so that a packet of small requests does not become thousands of objects


class Connection(asyncio.Protocol):
    """A client's connection, whose requests are answered one after the other, in order.

    While more than `unread_bytes` of answers wait for the client, no request is begun and nothing is read. A client
    that says that it will send no more (half-closes) gets its answers all the same.

    It is asyncio's protocol, the parser's receiver, and the context of its requests for Tornado.
    """

    protocol = "http"  # with remote_ip, what Tornado asks a context for

    def __init__(self, server: LlhttpServer) -> None:
        self.server = server
        self.loop = asyncio.get_running_loop()
        self.remote_ip = "0.0.0.0"  # noqa: S104 - Tornado's name for a peer on a Unix socket
        self.deadline = self.loop.time() + server.idle_seconds
        self.write_deadline = math.inf  # when the client does not read what we write
        self.drained: asyncio.Future[None] | None = None  # likewise
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.done.set_result(None)
        self.is_counted = False  # among those that may be open
        self._parser = RequestParser(self, server.header_bytes)
        self._held = b""  # received, and not parsed yet
        self._current: Exchange | None = None  # passed to the application, and being answered
        self._waiting: deque[Exchange] = deque()  # behind it
        self._incoming: Exchange | None = None  # whose body is being read: the last of those
        self._refusal = b""  # the last answer, sent after those before it
        self._is_paused = self._is_detached = False
        self._is_deaf = False  # what is received is discarded
        self._is_ended = False  # the client sends no more
        self._is_closing = False  # the last answer has been written
        self._is_timed = False  # a head has begun, and has its own deadline
        self._discarded_bytes = 0
        self._written_bytes = self._taken_bytes = 0

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # After too many bytes, writing resumes when all have left: the last answer is taken before the next.
        self.transport.set_write_buffer_limits(high=self.server.unread_bytes, low=0)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple):
            self.remote_ip = address[0]
        refusal = self.server.enter(self)
        if self.server.is_closed or refusal == b"":
            self.abort()
        elif refusal is not None:
            self._linger(refusal)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > LINGER_BYTES:
                self.abort()
            return
        self._held += data
        self.go_on()

    def eof_received(self) -> bool:
        """Return whether to keep the connection: as long as something is to be answered."""
        self._is_ended = True
        if not self._is_closing:  # when closing, this is what we wait for
            self.go_on()
        return not self._is_closing and not self.transport.is_closing()

    def pause_writing(self) -> None:
        self.drained = self.loop.create_future()
        self.write_deadline = self.loop.time() + self.server.unread_seconds
        self._taken_bytes = self._written_bytes - unsent_bytes(self.transport)

    def resume_writing(self) -> None:
        self.write_deadline = math.inf
        if self.drained is not None:
            self.drained.set_result(None)
            self.drained = None
        self.loop.call_soon(self.go_on)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.gone(self)
        self._parser.close()
        self._held = b""
        if self.drained is not None:
            self.drained.set_exception(StreamClosedError(real_error=exc))
            self.drained.exception()  # there may be no waiter
            self.drained = None
        exchange, self._current, self._incoming = self._current, None, None
        self._waiting.clear()
        if exchange is not None and not self._is_detached:
            exchange.lost()

    # Called by the parser.

    def begin_request(
        self, start_line: RequestStartLine, headers: HTTPHeaders, *, keep_alive: bool, is_tunnel: bool
    ) -> None:
        exchange = Exchange(self, start_line, headers, keep_alive=keep_alive, is_tunnel=is_tunnel)
        self._incoming = exchange
        self._is_timed = False
        if self._current is None and not self._waiting and self.drained is None:
            self._current = exchange
        else:
            self._waiting.append(exchange)

    def receive_body(self, chunk: bytes) -> None:
        assert self._incoming is not None
        self._incoming.receive(chunk)

    def end_request(self) -> None:
        exchange, self._incoming = self._incoming, None
        assert exchange is not None
        exchange.is_complete = True
        self._is_deaf = not exchange.keep_alive  # nothing may come after it (RFC 9112 § 9.6)
        if exchange is self._current:
            self.deadline = math.inf  # while it is answered, the handlers have deadlines

    # Called by an exchange.

    @property
    def is_gone(self) -> bool:
        """Whether the connection is lost, so that writes would have no receiver."""
        return self._is_closing or self.transport.is_closing()

    def send(self, data: bytes) -> asyncio.Future[None]:
        """Write data; the future is done when the client has read enough for more to be written."""
        if self.is_gone:
            future: asyncio.Future[None] = self.loop.create_future()
            future.set_exception(StreamClosedError())
            future.exception()  # retrieved, for callers that do not wait for it
            return future
        self._written_bytes += len(data)
        self.transport.write(data)
        if self.drained is None:
            return self.done
        waiter = asyncio.shield(self.drained)  # one waiter's cancellation must not cancel the others
        waiter.add_done_callback(lambda done: done.cancelled() or done.exception())
        return waiter

    def go_on(self) -> None:
        """Pass on what was received, as far as it is wanted now."""
        while True:
            if self._current is None and self._waiting and self.drained is None and not self.is_gone:
                self._current = self._waiting.popleft()
            if self._current is not None and not self._current.is_read:
                self._current.go_on()
            if not self._held or self._waiting or self._is_deaf or (self.drained is not None and not self._incoming):
                break
            piece, self._held = self._held[:PIECE_BYTES], self._held[PIECE_BYTES:]
            try:
                self._parser.feed(piece)
            except BadRequest as error:
                if not self._is_deaf:  # otherwise it came after the last request
                    self._refuse(error, self._incoming)
        if self._current is None and not self._is_timed and self._parser.is_in_head:
            self._is_timed = True
            self.deadline = min(self.deadline, self.loop.time() + self.server.head_seconds)
        if self._is_ended:
            self._end()
        else:
            self._read_or_pause()

    def refuse_current(self, reason: str) -> None:
        """Refuse the request that is being passed on, and everything received after it."""
        self._waiting.clear()
        self._refuse(BadRequest(reason), self._current)

    def finished(self, exchange: Exchange) -> None:
        """End an exchange: close, or go on with the next one."""
        if exchange is not self._current:
            return
        self._current = None
        self.deadline = self.loop.time() + self.server.idle_seconds
        self._is_timed = False
        if not exchange.keep_alive:
            if exchange.is_complete:
                self.transport.close()  # when what is written has been sent
            else:
                self._linger(b"")
        elif self._waiting or self._held:
            self.loop.call_soon(self.go_on)
        elif self._refusal:
            self._linger(self._refusal)
        elif self._is_ended:
            self.transport.close()
        elif self._parser.is_in_head:
            self.loop.call_soon(self.go_on)

    def detach(self, unsent: bytes, received: bytes) -> IOStream:
        """Return the socket as Tornado's stream, and give it up. Raises StreamClosedError."""
        if self.is_gone or self.transport.get_write_buffer_size():
            self.abort()
            raise StreamClosedError
        connection = socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))
        connection.setblocking(False)
        self._is_detached = True
        self.transport.abort()  # closes its own descriptor, and sends nothing to the client
        stream = BoundedStream(connection, self.server.detached_bytes, received + self._held)
        self._held = b""
        if unsent:
            stream.write(unsent)
        return stream

    def abort(self) -> None:
        """Close the connection now."""
        self.transport.abort()

    # Called by the server.

    @property
    def has_unsent(self) -> bool:
        """Whether a close would now lose a part of an answer."""
        return not self._is_detached and self.transport.get_write_buffer_size() > 0

    def is_late(self, now: float) -> bool:
        """Whether the client is past a deadline of sending, or does not read. One that reads has time."""
        is_slow = now > self.deadline
        if not is_slow and now <= self.write_deadline:
            return False
        unsent = unsent_bytes(self.transport)
        taken, before = self._written_bytes - unsent, self._taken_bytes
        self._taken_bytes = taken
        if not unsent or taken <= before or (is_slow and self._current is not None):
            return True
        more = now + self.server.unread_seconds
        if is_slow:
            self.deadline = more
        if self.write_deadline < now:
            self.write_deadline = more
        return False

    # Our own.

    def _read_or_pause(self) -> None:
        exchange = self._current
        has_enough = (
            bool(self._waiting)
            or (exchange is not None and exchange.waiting_bytes > WAITING_BYTES)
            or (self.drained is not None and not self._incoming)
        )
        is_paused = has_enough and not self._is_deaf
        if is_paused == self._is_paused or self.transport.is_closing():
            return
        self._is_paused = is_paused
        if is_paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _end(self) -> None:
        # The client sends no more: complete requests are answered, an incomplete one cannot be.
        if self.is_gone or self._is_deaf or (self._held and (self._waiting or self.drained is not None)):
            return  # `finished` closes; or the rest is looked at later
        if self._incoming is not None and not self._incoming.is_complete:
            self._refuse(Incomplete("it ends within a body"), self._incoming)
        elif self._parser.is_in_head:
            self._refuse(Incomplete("it ends within a head"), None)
        elif self._current is None and not self._waiting:
            self.transport.close()

    def _refuse(self, error: BadRequest, broken: Exchange | None) -> None:
        """Answer with the error, after the answers to earlier requests; then close. The head of `broken` was valid."""
        if not isinstance(error, Incomplete):  # a client that leaves mid-request is not worth a log line
            log.info("malformed HTTP from %s: %s", self.remote_ip, error)
        self._is_deaf, self._held, self._incoming = True, b"", None
        self._refusal = whole_answer(self.server.refusal, error.status, error.message)
        if broken is not None and broken is self._current:
            self._current = None
            self._linger(b"" if broken.has_head else self._refusal)  # an answer that has begun is cut, not completed
            broken.lost()
            return
        if broken is not None and self._waiting:
            self._waiting.pop()  # the broken exchange is the last
        if self._current is None and not self._waiting:
            self._linger(self._refusal)

    def _linger(self, data: bytes) -> None:
        """Send the last answer, and close a moment later: bytes that arrive at a closed connection would destroy it."""
        if self.is_gone:
            return
        if data:
            self._written_bytes += len(data)
            self.transport.write(data)
        is_behind = self.transport.get_write_buffer_size() > 0
        self.deadline = self.loop.time() + (self.server.unread_seconds if is_behind else LINGER_SECONDS)
        self._is_closing = self._is_deaf = True
        self._held = b""
        self._waiting.clear()
        if self._is_ended:
            self.transport.close()  # nothing more can arrive
            return
        self.transport.write_eof()
        if self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()
