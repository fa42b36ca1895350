"""Many clients of a stream in one process, the same for every server: raw sockets, epoll, every id checked.

    python -m tests.benchmarks.streams.readers

The first line on stdin is a JSON object: `port`, `paths` (client i asks for paths[i % len(paths)], in which `{uuid}` is
replaced by a UUID of its own), `clients`, `clock` (a file of CLOCK_SLOTS doubles, in which the publisher notes when it
published what; optional). When every stream has begun the seconds that this took are printed. Then each line
{"wanted", "seconds"} makes it read until so many signals have come or the time is over, and print a JSON line, what
`Readers.run` returns. Ends with stdin.

A signal is a JSON object that begins with START and its place N, and ends with END. N must be dense: each client checks
that what came is exactly what follows what it had.
"""

from __future__ import annotations

import json
import mmap
import select
import socket
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.streams.machine import allow_many_files

START = b'{"id":"'
END = b'~"}'
SEPARATORS = 8  # what follows an event's END, with chunked encoding: less than this says nothing
CLOCK_SLOTS = 1 << 16
OPENING = 64  # connections that are being opened at once
OPENING_SECONDS = 10.0
QUANTILES = 200


class Readers:
    """The connections, and the signals received over them."""

    def __init__(self, port: int, paths: list[str], clients: int, clock: memoryview | None) -> None:
        self._port = port
        self._paths = paths
        self._clock = clock
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._tails: dict[int, bytes] = {}
        self._last: dict[int, int] = {}
        self._buffer = bytearray(1 << 20)
        self._latencies = array("d")
        self._delivered = 0
        self._faults = 0
        self._ended = 0
        self._last_at = 0.0
        for start in range(0, clients, OPENING):
            self._open(range(start, min(start + OPENING, clients)))

    def run(self, wanted: int, seconds: float) -> dict[str, Any]:
        """Read until `wanted` signals have come, or the time is over."""
        self._delivered = self._faults = 0
        self._latencies = array("d")
        began, cpu = time.monotonic(), time.process_time()
        give_up_at = began + seconds
        self._last_at = began
        while self._delivered < wanted and time.monotonic() < give_up_at:
            for fd, _ in self._poll.poll(0.2, 4096):
                self._take(fd)
        elapsed = time.monotonic() - began
        return {
            "delivered": self._delivered,
            "faults": self._faults,
            "ended": self._ended,
            "last_at": self._last_at,
            "busy": (time.process_time() - cpu) / elapsed if elapsed else 0.0,
            "latencies": self._quantiles(),
        }

    def _open(self, numbers: range) -> None:
        opened = []
        for number in numbers:
            connection = socket.create_connection(("127.0.0.1", self._port), OPENING_SECONDS)
            path = self._paths[number % len(self._paths)].replace("{uuid}", f"01900000-0000-7000-9000-{number:012x}")
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n".encode())
            opened.append(connection)
        for connection in opened:
            head = b""
            while b"\r\n\r\n" not in head:
                chunk = connection.recv(65536)
                assert chunk, head
                head += chunk
            assert b" 200 OK" in head, head
            fd = connection.fileno()
            self._sockets[fd] = connection
            self._last[fd] = 0
            connection.setblocking(False)
            self._poll.register(fd, select.EPOLLIN)

    def _take(self, fd: int) -> None:
        data = self._buffer
        try:
            size = self._sockets[fd].recv_into(data)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._poll.unregister(fd)
            self._ended += 1
            return
        tail = self._tails.pop(fd, None)
        if tail is not None:
            data = bytearray(tail) + memoryview(data)[:size]
            size = len(data)
        end = data.rfind(END, 0, size)
        if end < 0:
            self._tails[fd] = bytes(memoryview(data)[:size])
            return
        rest = end + len(END)
        if size - rest > SEPARATORS:  # in the middle of an event
            self._tails[fd] = bytes(memoryview(data)[rest:size])
        count = data.count(END, 0, rest)
        start = data.rfind(START, 0, end) + len(START)
        self._note(fd, count, int(data[start : data.index(b'"', start)]))

    def _note(self, fd: int, count: int, place: int) -> None:
        # `count` signals have come, the last of them with the number `place`.
        now = self._last_at = time.monotonic()
        before = self._last[fd]
        if before and place != before + count:
            self._faults += 1
        self._last[fd] = place
        self._delivered += count
        clock = self._clock
        if clock is not None:
            if count == 1:
                self._latencies.append(now - clock[place % CLOCK_SLOTS])
            else:
                self._latencies.extend(
                    [now - clock[each % CLOCK_SLOTS] for each in range(place - count + 1, place + 1)]
                )

    def _quantiles(self) -> list[float]:
        # In ms; the last but one of every hundred is p99.
        if not self._latencies:
            return []
        found = np.quantile(np.frombuffer(self._latencies), np.linspace(0.0, 1.0, QUANTILES + 1))
        return [round(float(each) * 1000, 4) for each in found]


def open_clock(path: str) -> memoryview:
    """Open the clock that the publisher and the readers share."""
    with Path(path).open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), CLOCK_SLOTS * 8)).cast("d")


def main() -> None:
    """Open the connections, then answer lines."""
    allow_many_files()
    options = json.loads(sys.stdin.readline())
    clock = open_clock(options["clock"]) if options.get("clock") else None
    began = time.monotonic()
    readers = Readers(options["port"], options["paths"], options["clients"], clock)
    print(time.monotonic() - began, flush=True)
    while line := sys.stdin.readline():
        order = json.loads(line)
        print(json.dumps(readers.run(order["wanted"], order["seconds"])), flush=True)


if __name__ == "__main__":
    main()
