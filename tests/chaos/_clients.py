"""A producer that must lose no signal and a browser that must miss none: both go on through any failure."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.api.serving import Response, read_response
from tests.support.streams import Event, Reader, answered

# An answer that takes longer is no answer: the producer hangs up and asks again.
PATIENCE_SECONDS = 10.0
PAUSE_SECONDS = (0.05, 0.5)  # between two tries, with jitter
BROKEN = (OSError, EOFError, TimeoutError, ValueError)


@dataclass
class Tally:
    """The producers' answers by status (0: none came), and the slowest answer."""

    statuses: Counter[int] = field(default_factory=Counter)
    slowest_seconds: float = 0.0

    def count(self, status: int, seconds: float) -> None:
        """Count one answer, or a missing one."""
        self.statuses[status] += 1
        if status:
            self.slowest_seconds = max(self.slowest_seconds, seconds)


class KeepAlive:
    """One connection that is used again and again, and opened anew when it breaks."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, document: Any, **headers: str) -> Response:
        """Send one request. Raises one of BROKEN when no whole answer comes."""
        body = orjson.dumps(document)
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        lines = [f"POST {path} HTTP/1.1", "Host: test", *(f"{name}: {value}" for name, value in fields.items())]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = self._streams
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
                response = await read_response(reader)
        except BaseException:
            await self.close()
            raise
        if response.headers.get("Connection", "").lower() == "close":
            await self.close()
        return response

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            writer, self._streams = self._streams[1], None
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


class Producers:
    """Some clients that post signals, each under an idempotency key, until every one has been answered with 201.

    The last third is not posted before `go_on` is set, so that there is something to post when the system breaks.
    """

    def __init__(self, port: int, signals: Sequence[tuple[str, dict[str, Any]]], *, clients: int) -> None:
        self.go_on = asyncio.Event()
        self.tally = Tally()
        self.accepted: dict[str, str] = {}  # event id by idempotency key
        self.signals = dict(signals)
        self._port = port
        self._todo = deque(signals)
        self._clients = clients
        self._held = len(signals) // 3

    async def run(self, *, seconds: float) -> None:
        """Post all signals. Raises TimeoutError when that is not done in time."""
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for n in range(self._clients):
                group.create_task(self._client(), name=f"producer {n}")

    async def _client(self) -> None:
        connection = KeepAlive(self._port)
        try:
            while self._todo:
                if len(self._todo) <= self._held and not self.go_on.is_set():
                    await self.go_on.wait()
                    continue
                key, signal = self._todo.popleft()
                self.accepted[key] = await self._insist(connection, key, signal)
        finally:
            await connection.close()

    async def _insist(self, connection: KeepAlive, key: str, signal: dict[str, Any]) -> str:
        while True:
            began = time.monotonic()
            try:
                response = await connection.post("/api/v1/signals", signal, **{"X-Idempotency-Key": key})
            except BROKEN:
                self.tally.count(0, 0.0)
            else:
                self.tally.count(response.status, time.monotonic() - began)
                if response.status == 201:
                    return str(response.json["event_id"])
            await asyncio.sleep(random.uniform(*PAUSE_SECONDS))


class Follower:
    """A browser's EventSource: it reads the stream, and after every end it reconnects with its last id."""

    def __init__(self, port: int) -> None:
        self.events: list[Event] = []
        self.forgotten = 0  # times that the server refused the id, and a new session began
        self.reconnects = -1
        self._port = port

    @property
    def signals(self) -> list[str]:
        """Return the ids of the signals, in the order in which they were seen."""
        return [event.data["id"] for event in self.events if event.name == "signal"]

    @property
    def numbers(self) -> list[int]:
        """Return the numbers of all events that have one."""
        return [event.number for event in self.events if event.id is not None]

    @property
    def is_connected(self) -> bool:
        """Return whether a stream has been opened at least once."""
        return bool(self.events)

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            with suppress(*BROKEN):
                await self._read(await self._connect())
            await asyncio.sleep(random.uniform(*PAUSE_SECONDS))

    async def _connect(self) -> Reader:
        last = next((event.id for event in reversed(self.events) if event.id is not None), None)
        field = "" if last is None else f"Last-Event-ID: {last}\r\n"
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
            try:
                writer.write(f"GET /api/signals/stream HTTP/1.1\r\nHost: test\r\n{field}\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
            except BaseException:
                writer.close()
                raise
        return answered(reader, writer, head)

    async def _read(self, reader: Reader) -> None:
        try:
            if reader.status != 200:
                return
            self.reconnects += 1
            # The server's heartbeats come more often: a connection that is silent for so long is dead.
            while (event := await reader.next(seconds=20.0)) is not None:
                if event.name == "session_start" and self.events and not event.data["resumed"]:
                    self.forgotten += 1
                self.events.append(event)
        finally:
            await reader.close()
