"""Represent one open stream: its number in the session, its offset in the feed, and the frames it is sent."""

from __future__ import annotations

import asyncio
import enum
import fcntl
import os
import socket
import sys
import termios
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import orjson

from handlers.streams.checkpoints import append_checkpoint, pack_checkpoints, trim_checkpoints
from handlers.streams.connections import LAST_CHUNK, PushedSocket, chunk
from handlers.streams.frames import text_frame
from handlers.streams.ring import EncodedSignal, Payload

if TYPE_CHECKING:
    from handlers.streams.fanout import Fanout, Group
    from handlers.streams.resume import StreamSession

# RFC 6455 § 7.4 and the IANA registry: going away, service restart, try again later; anything else is a policy (1008).
_CLOSE_CODES = {"MAX_LIFETIME": 1001, "SERVER_DRAINING": 1012, "SLOW_CONSUMER": 1013, "SERVICE_UNAVAILABLE": 1013}
_EVENT = b"event: %b\nid: %b:%d%b"
_EVENT_CHUNK = b"%x\r\nevent: %b\nid: %b:%b%b\r\n"  # the same in a chunk, put together once
_EVENT_BYTES = len(_EVENT) - len(b"%b%b%d%b")
RECEIVE_BYTES = 4096
PING = b"\x89\x00"


class ClientState(enum.Enum):
    """The state of a client. Only a LIVE one is sent signals as they come; the others have an offset of their own."""

    BEHIND = "behind"  # is being sent earlier signals, as fast as its connection takes them
    LIVE = "live"
    HELD = "held"  # while its next heartbeat is being recorded
    ENDING = "ending"  # is told why, and closed
    CLOSED = "closed"


class StreamClient(ABC):
    """A stream, over any transport. Subclasses frame events and hand bytes to the connection.

    `n` is the number of the last event framed; every matching signal up to `cursor` has been framed (while LIVE that
    is the fan-out's own offset). `waiting_bytes` counts the signals that have come since and have yet to be sent.
    """

    kind: ClassVar[str]

    __slots__ = (
        "checkpoints",
        "cursor",
        "deadline",
        "deadline_code",
        "epoch",
        "fanout",
        "first",
        "group",
        "is_fetching",
        "is_replaying",
        "last_checkpoint",
        "n",
        "session",
        "stalled_since",
        "state",
        "viewer",
        "waiting_bytes",
    )

    def __init__(self, opened: StreamSession) -> None:
        self.session = opened.session
        self.viewer = opened.viewer
        self.n = opened.n
        self.first = opened.n + 1  # the number of its session_start
        self.cursor = opened.cursor
        self.epoch = opened.epoch
        self.checkpoints = pack_checkpoints(opened.checkpoints)
        self.last_checkpoint = opened.checkpoints[-1]
        self.state = ClientState.BEHIND
        self.waiting_bytes = 0
        self.is_replaying = True
        self.is_fetching = False
        self.stalled_since: float | None = None
        self.deadline = float("inf")
        self.deadline_code = ""
        self.group: Group
        self.fanout: Fanout

    def checkpoint(self, n: int, seq: int, *, keep_bytes: int, keep: int) -> None:
        """Record that by event `n` everything up to `seq` was sent; past `keep_bytes` the newest `keep` are kept."""
        if (n, seq) == self.last_checkpoint:
            return
        self.checkpoints = append_checkpoint(self.checkpoints, self.last_checkpoint, (n, seq))
        self.last_checkpoint = (n, seq)
        if len(self.checkpoints) > keep_bytes:
            self.checkpoints = trim_checkpoints(self.checkpoints, keep)

    @property
    @abstractmethod
    def pending_bytes(self) -> int:
        """How many bytes have been framed and not yet been taken by the connection."""

    @abstractmethod
    def deliver(self, signals: Sequence[EncodedSignal]) -> bool:
        """Number, frame and send signals; False if something is now pending, or the connection is gone."""

    @abstractmethod
    def send_event(self, name: bytes, payload: Payload) -> bool:
        """Number, frame and send another event; False as in `deliver`."""

    @abstractmethod
    def end(self, code: str, retry_after: int | None) -> bool:
        """Send the reason why the stream ends, behind what is pending; False if it could not leave at once."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; what is pending is lost."""

    @abstractmethod
    def probe(self) -> None:
        """Send something without meaning for the other end to acknowledge, unless more than that is pending."""

    @abstractmethod
    def unacknowledged(self) -> int | None:
        """Return how many bytes the other end has not acknowledged yet; None where the system cannot tell."""


class SseClient(StreamClient):
    """A stream of server-sent events over a socket that has been taken from its HTTP connection."""

    kind = "sse"

    __slots__ = ("_fd", "_is_chunked", "_loop", "_pending", "_socket")

    def __init__(self, opened: StreamSession, sock: socket.socket) -> None:
        super().__init__(opened)
        self._socket = sock
        self._fd = sock.fileno()  # -1 once it is closed: the number may be another connection's by then
        self._is_chunked = False
        self._pending = b""
        self._loop = asyncio.get_running_loop()

    def open(self, head: bytes, *, chunked: bool) -> None:
        """Watch the connection; `head` precedes what is sent first, which goes in chunks if HTTP is to be 1.1.

        Without chunks the body ends with the connection, which is enough for browsers; but clients that ask for so many
        bytes (Python's requests) get them when there are as many, with chunks when one is there.
        """
        self._is_chunked = chunked
        self._pending = head
        self._loop.add_reader(self._fd, self._readable)

    @property
    def pending_bytes(self) -> int:
        """How many bytes have been framed and not yet been taken by the socket."""
        return len(self._pending)

    def deliver(self, signals: Sequence[EncodedSignal]) -> bool:
        """Number, frame and send signals: the hot path, once per client and batch.

        With a thousand clients nothing of theirs is in the processor's caches, so what counts is how little memory is
        touched: a write to a descriptor, rather than to a socket with its method, saves a tenth of a delivery.
        """
        n = self.n
        count = len(signals)
        self.n = n + count
        if count == 1 and self._is_chunked:
            number, name, event = b"%d" % (n + 1), signals[0].name, signals[0].event
            size = _EVENT_BYTES + len(name) + len(self.session) + len(number) + len(event)
            return self._transmit(_EVENT_CHUNK % (size, name, self.session, number, event))
        if count == 1:
            data = _EVENT % (signals[0].name, self.session, n + 1, signals[0].event)
        else:
            # One format for the whole batch: a third of the time of one, or of the pieces to join, for each signal.
            values: list[bytes | int] = [self.session] * (4 * count)
            values[0::4] = [signal.name for signal in signals]
            values[2::4] = range(n + 1, n + count + 1)
            values[3::4] = [signal.event for signal in signals]
            data = _EVENT * count % tuple(values)
        return self._transmit(chunk(data) if self._is_chunked else data)

    def send_event(self, name: bytes, payload: Payload) -> bool:
        """Number, frame and send another event."""
        self.n += 1
        data = b"event: %b\nid: %b:%d%b" % (name, self.session, self.n, payload.event)
        return self._transmit(chunk(data) if self._is_chunked else data)

    def end(self, code: str, retry_after: int | None) -> bool:
        """Send the reason why the stream ends; browsers ignore `retry_after`, so the protocol's own `retry` is set."""
        retry = b"" if retry_after is None else b"retry: %d\n" % (retry_after * 1000)
        data = b"event: error\n%bdata: %b\n\n" % (retry, error_data(code, retry_after))
        return self._transmit(chunk(data) + LAST_CHUNK if self._is_chunked else data)

    def close(self) -> None:
        """Close the socket."""
        fd = self._fd
        if fd < 0:
            return
        self._fd = -1
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        self._pending = b""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # the peer was faster
            pass
        self._socket.close()

    def probe(self) -> None:
        """Send a comment line, which becomes part of the next event."""
        if not self._pending and self._fd >= 0:
            self._transmit(chunk(b":\n") if self._is_chunked else b":\n")

    def unacknowledged(self) -> int | None:
        """See `StreamClient.unacknowledged`."""
        return queued_bytes(self._fd)

    def _transmit(self, data: bytes) -> bool:
        if self._pending:
            data = self._pending + data
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.fanout.lost(self)
            return False
        if sent == len(data):
            if self._pending:
                self._pending = b""
                self._loop.remove_writer(self._fd)
            return True
        self._pending = data[sent:]
        self._loop.add_writer(self._fd, self._writable)
        return False

    def _writable(self) -> None:
        if self._transmit(b""):
            self.fanout.flushed(self)

    def _readable(self) -> None:
        # A stream's client has nothing more to send; an empty read means that it has closed.
        try:
            if self._socket.recv(RECEIVE_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.fanout.lost(self)


class SocketClient(StreamClient):
    """The same stream as JSON messages over a WebSocket, whose frames are made here."""

    kind = "ws"
    __slots__ = ("_is_hanging_up", "_pushed")

    def __init__(self, opened: StreamSession, pushed: PushedSocket) -> None:
        super().__init__(opened)
        self._pushed = pushed
        self._is_hanging_up = False

    def open(self) -> None:
        """Watch the connection."""
        self._pushed.on_gone = lambda: self.fanout.lost(self)

    @property
    def pending_bytes(self) -> int:
        """How many bytes have been framed and not yet been taken by the socket."""
        return self._pushed.pushed_bytes()

    def deliver(self, signals: Sequence[EncodedSignal]) -> bool:
        """Number, frame and send signals."""
        frames = [
            text_frame(b'{"event":"%b","id":"%b:%d%b' % (signal.name, self.session, n, signal.message))
            for n, signal in enumerate(signals, self.n + 1)
        ]
        self.n += len(signals)
        return self._transmit(b"".join(frames))

    def send_event(self, name: bytes, payload: Payload) -> bool:
        """Number, frame and send another event."""
        self.n += 1
        return self._transmit(
            text_frame(b'{"event":"%b","id":"%b:%d%b' % (name, self.session, self.n, payload.message))
        )

    def end(self, code: str, retry_after: int | None) -> bool:
        """Send the reason why the stream ends, and begin the closing handshake."""
        is_sent = self._transmit(text_frame(b'{"event":"error","data":%b}' % error_data(code, retry_after)))
        self._is_hanging_up = True
        self._pushed.hang_up(_CLOSE_CODES.get(code, 1008), code)
        return is_sent

    def close(self) -> None:
        """Close the connection; one that is closing with a handshake ends by itself, within seconds."""
        if not self._is_hanging_up:
            self._pushed.abort()

    def probe(self) -> None:
        """Send a ping."""
        if not self._pushed.pushed_bytes():
            self._transmit(PING)

    def unacknowledged(self) -> int | None:
        """See `StreamClient.unacknowledged`."""
        return queued_bytes(self._pushed.fileno())

    def _transmit(self, frames: bytes) -> bool:
        try:
            future = self._pushed.push(frames)
        except OSError:
            self.fanout.lost(self)
            return False
        if future is None:
            return True
        future.add_done_callback(self._flushed)
        return False

    def _flushed(self, future: asyncio.Future[None]) -> None:
        if future.cancelled() or future.exception() is not None:
            self.fanout.lost(self)
        elif not self._pushed.pushed_bytes():
            self.fanout.flushed(self)


def queued_bytes(fd: int) -> int | None:
    """Return how many bytes a socket's peer has not acknowledged; None if it is closed, or the system cannot tell."""
    if fd < 0:
        return None
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return None


def error_data(code: str, retry_after: int | None) -> bytes:
    """Build the data of an `error` event."""
    return orjson.dumps({"code": code} if retry_after is None else {"code": code, "retry_after": retry_after})
