"""Many readers of the stream in one process, as cheap as Python can be: they count events and time some of them.

python -m tests.benchmarks.stream_readers PORT PATH CLIENTS TIMED; prints `ready` when every stream has begun. A line
`N` on stdin makes it count from zero, wait for N signals in all, and print a JSON line with the time of the last and,
of the first TIMED clients, each signal's place in the feed and the time it came (monotonic seconds). Ends with stdin.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

EVENT = b"event: signal\n"
LONGEST_WAIT_SECONDS = 60.0
OPENING = 64  # connections that are being opened at once


class Readers:
    """The connections, and what has come over them."""

    def __init__(self, port: int, path: str, clients: int, timed: int) -> None:
        self._port = port
        self._request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._to_time = timed
        self._timed: set[int] = set()
        self._tails: dict[int, bytes] = {}
        self._buffer = memoryview(bytearray(1 << 20))
        self.signals = 0
        self.ended = 0
        self.arrivals: list[tuple[int, float]] = []
        for start in range(0, clients, OPENING):
            self._open(min(OPENING, clients - start))

    def read(self, seconds: float) -> None:
        """Read what has come, waiting for it at most `seconds`."""
        for fd, _ in self._poll.poll(seconds):
            if fd not in self._sockets:  # stdin
                return
            self._take(fd)

    def watch(self, fd: int) -> None:
        """Let `read` return when there is something to read there."""
        self._poll.register(fd, select.EPOLLIN)

    def _open(self, number: int) -> None:
        opened = []
        for _ in range(number):
            connection = socket.create_connection(("127.0.0.1", self._port))
            connection.sendall(self._request)
            opened.append(connection)
        for connection in opened:
            head = b""
            while b'"filters"' not in head or not head.endswith(b"\n\n"):
                chunk = connection.recv(65536)
                assert chunk, head
                head += chunk
            assert b"200 OK" in head, head
            fd = connection.fileno()
            if len(self._timed) < self._to_time:
                self._timed.add(fd)
            self._sockets[fd] = connection
            connection.setblocking(False)
            self._poll.register(fd, select.EPOLLIN)

    def _take(self, fd: int) -> None:
        try:
            size = self._sockets[fd].recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._poll.unregister(fd)
            self.ended += 1
            return
        data = bytes(self._buffer[:size])
        tail = self._tails.pop(fd, None)
        if tail is not None:
            data = tail + data
        if not data.endswith(b"\n\n"):  # in the middle of an event: what is left is counted with the rest of it
            end = data.rfind(b"\n\n") + 2
            if end == 1:
                end = 0
            self._tails[fd] = data[end:]
            data = data[:end]
        self.signals += data.count(EVENT)
        if fd in self._timed:
            now = time.monotonic()
            for part in data.split(b'data: {"id":"')[1:]:
                self.arrivals.append((int(part[: part.index(b'"')]), now))


def main() -> None:
    """Open, then answer lines."""
    readers = Readers(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    readers.watch(sys.stdin.fileno())
    print("ready", flush=True)
    while line := sys.stdin.readline():
        wanted = int(line)
        readers.signals, readers.arrivals = 0, []
        give_up_at = time.monotonic() + LONGEST_WAIT_SECONDS
        while readers.signals < wanted and time.monotonic() < give_up_at:
            readers.read(0.5)
        ended_at = time.monotonic()
        report = {
            "signals": readers.signals,
            "ended": readers.ended,
            "last_at": ended_at,
            "arrivals": readers.arrivals,
        }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
