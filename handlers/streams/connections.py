"""Turn a request into a stream: what it asks for, and the raw connection."""

from __future__ import annotations

import asyncio
import random
import re
import socket
from collections.abc import Callable

import orjson
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketHandler

from config.masking import redact
from config.texts import escape_unstorable
from handlers._http.access import Caller
from handlers._http.limits import LimitVerdict
from schemas.errors import AppError, Overloaded, Unavailable
from schemas.stream import Viewer

EVENT_STREAM_HEADERS = (
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-cache, no-transform"),
    ("X-Accel-Buffering", "no"),  # nginx passes each event on as it comes
)
# The first line of the first event, whichever that is: some clients deliver a block that has no data as an empty event.
RECONNECT = b"retry: 2000\n"
LAST_CHUNK = b"0\r\n\r\n"

EVENT_ID = re.compile(r"(sess-[0-9a-f]{16}):([1-9][0-9]{0,14})")

# An EventSource that is told to reconnect later does so spread over this time: a restart defers all of them at once.
LATER_MS = (1000, 3000)

# Heartbeats that stay unacknowledged for so long end the connection: its peer has vanished without closing it.
USER_TIMEOUT_MS = 60_000
# The kernel takes no more than this unsent: a slow client's data waits here, where it is bounded and counted.
UNSENT_BYTES = 128 << 10


def viewer_of(caller: Caller, peer: str) -> Viewer:
    """Return the stream's holder, as the feed needs to know it."""
    claims, is_proxied = caller.claims, caller.address != peer
    if claims is None or claims.is_demo:
        expires_at = None if claims is None else claims.expires_at
        return Viewer(caller.counted_address, expires_at=expires_at, is_proxied=is_proxied)
    return Viewer(
        caller.counted_address,
        user_id=claims.subject,
        session_id=claims.session_id,
        is_demo=False,
        is_provider=claims.is_provider,
        expires_at=claims.expires_at,
        is_proxied=is_proxied,
    )


def last_event_ids(request: HTTPServerRequest, *, header_first: bool = True) -> list[str]:
    """Return the ids that a client says it received last, the one that counts first.

    An EventSource sends the header. Clients that cannot (polyfills, WebSockets, a page that begins with stored
    events) use the query: `last_event_id`, or as polyfills call it, `lastEventId`, `Last-Event-Id`; theirs comes last.
    """
    header = request.headers.get("Last-Event-ID", "")
    queried = [
        each.decode("utf-8", "replace")
        for name, values in request.query_arguments.items()
        if name.replace("-", "").replace("_", "").lower() == "lasteventid"
        for each in values
    ][::-1]
    given = [header, *queried] if header_first else [*queried, header]
    # Valid ids come before invalid ones: a broken id must not hide another.
    return sorted(filter(None, given), key=lambda each: EVENT_ID.fullmatch(each) is None)


def takes_events(accept: str | None) -> bool:
    """Return whether an `Accept` header names the event stream, as every EventSource's does."""
    ranges = (accept or "").split(",")
    return any(each.partition(";")[0].strip().lower() == "text/event-stream" for each in ranges)


def is_passing(error: AppError) -> bool:
    """Return whether the error passes by itself. Overloaded does not count: too many streams are a limit."""
    return isinstance(error, Unavailable) and not isinstance(error, Overloaded) and error.retry_after is not None


def later(error: AppError, verdict: LimitVerdict | None) -> bytes:
    """Build an event stream that only says why there is none now and when to retry; the client keeps its last id.

    A counted client (`verdict`) that has used half of its limit retries after its reset: a 429 would be for good.
    """
    wait_ms, retry_after = random.randint(*LATER_MS), error.retry_after or 1  # noqa: S311
    if verdict is not None and 2 * verdict.used > verdict.limit:
        wait_ms += 1000 * verdict.reset_seconds
        retry_after = max(retry_after, verdict.reset_seconds)
    data = orjson.dumps(
        {"code": error.code, "message": escape_unstorable(redact(error.message)), "retry_after": retry_after}
    )
    return b"retry: %d\nevent: error\ndata: %b\n\n" % (wait_ms, data)


def chunk(data: bytes) -> bytes:
    """Return the bytes as a chunk of an HTTP/1.1 body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def response_head(headers: HTTPHeaders) -> bytes:
    """Return the head of a 200 response. Header values hold no line breaks: Tornado's set_header ensures that."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.get_all())
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode("latin-1")


def take_socket(stream: IOStream) -> socket.socket:
    """Return the socket of a detached connection, without Tornado's wrapper. Raises OSError if it is closed."""
    try:
        if stream.closed():
            raise StreamClosedError
        connection = stream.socket.dup()
    finally:
        stream.close()
    connection.setblocking(False)
    prepare_socket(connection)
    return connection


def prepare_socket(connection: socket.socket) -> None:
    """Set what a long-lived, one-way connection needs; a Unix socket has none of it."""
    if connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (("TCP_USER_TIMEOUT", USER_TIMEOUT_MS), ("TCP_NOTSENT_LOWAT", UNSENT_BYTES)):
        if hasattr(socket, name):  # Linux has both
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class PushedSocket(WebSocketHandler):
    """A WebSocket to which others push frames. Tornado does the handshake, reads, and answers pings and closes."""

    on_gone: Callable[[], None] | None = None  # called once when the connection is gone
    _waiting_bytes = 0

    def push(self, frames: bytes) -> asyncio.Future[None] | None:
        """Write frames; returns a future that is done when they have left, or None if they already have.

        The future fails, or OSError is raised, when the connection is gone. Pushed frames and Tornado's own share the
        connection's buffer, so they never mix.
        """
        stream = self._stream()
        future = stream.write(frames)
        if not stream.writing():
            return None
        size = len(frames)
        self._waiting_bytes += size
        future.add_done_callback(lambda _: self._left(size))
        return future

    def pushed_bytes(self) -> int:
        """How many bytes have been pushed and have not left yet."""
        return self._waiting_bytes

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 when it is closed."""
        try:
            return int(self._stream().socket.fileno())
        except StreamClosedError:
            return -1

    def hang_up(self, code: int, reason: str) -> None:
        """Close with the WebSocket's closing handshake."""
        self.close(code, reason)

    def abort(self) -> None:
        """Close without it."""
        if self.ws_connection is not None and self.ws_connection.stream is not None:
            self.ws_connection.stream.close()

    def prepare_connection(self) -> None:
        """Set the connection's options, once it is open."""
        prepare_socket(self._stream().socket)

    def on_close(self) -> None:
        """Tornado's hook at the end of the connection."""
        if self.on_gone is not None:
            self.on_gone()
            self.on_gone = None

    def _stream(self) -> IOStream:
        connection = self.ws_connection
        if connection is None or connection.is_closing() or connection.stream is None:
            raise StreamClosedError
        return connection.stream

    def _left(self, size: int) -> None:
        self._waiting_bytes -= size
