"""A page with an EventSource, as browsers run it: it reconnects by itself, and checks the stream's guarantees."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.support.streams import Event, Reader, connect

# Each server that a test kills is unavailable for less. Heartbeats come far more often.
SILENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Published:
    """A signal of the feed, as Postgres has it: what filters look at, and the id that readers see."""

    id: str
    category: str
    asset_type: str
    score: int
    provider_id: str


@dataclass(frozen=True)
class Wish:
    """A filter as a URL has it, and its meaning, implemented a second time so that a test compares both."""

    query: Mapping[str, Any]
    matches: Callable[[Published], bool]


@dataclass
class Page:
    """An EventSource, and the few lines around it that make a new one when the browser has given the first one up.

    Browsers reconnect with `Last-Event-ID` after `retry` whenever a stream ends. A refusal (anything but 200) ends an
    EventSource for good: the page then opens another, with `last_event_id` in its URL.
    """

    port: int
    wish: Wish
    signals: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    reconnects: int = -1
    refusals: int = 0
    beats: int = 0
    _session: str = ""
    _number: int = 0
    _retry_seconds: float = 2.0
    _is_new: bool = True

    @property
    def is_open(self) -> bool:
        """Return whether a stream has been opened at least once."""
        return self.reconnects >= 0

    async def run(self) -> None:
        """Read for ever."""
        while True:
            with suppress(OSError, EOFError, TimeoutError):  # the end of a stream, or a failure to open it
                await self._read()
            # Mostly sooner than a browser, which waits the whole time: the server gets less time to recover.
            await asyncio.sleep(self._retry_seconds * random.uniform(0.0, 1.0))

    async def _read(self) -> None:
        last = f"{self._session}:{self._number}" if self._session else None
        query, headers = dict(self.wish.query), {}
        if last is not None and self._is_new:
            query["last_event_id"] = last
        elif last is not None:
            headers["Last-Event-ID"] = last
        reader = await connect(self.port, headers=headers, **query)
        try:
            if reader.status != 200:
                self.refusals += 1
                self._is_new = True
                self._check(reader.status in {429, 503}, f"refused with {reader.status}")
                return
            self._is_new = False
            self.reconnects += 1
            await self._follow(reader)
        finally:
            await reader.close()

    async def _follow(self, reader: Reader) -> None:
        is_first = True
        while (event := await reader.next(seconds=SILENCE_SECONDS)) is not None:
            self._retry_seconds = reader.retry[-1] / 1000
            self._check((event.name == "session_start") is is_first, f"{event.name} at the wrong time")
            is_first = False
            if event.id is not None:
                self._take(event)

    def _take(self, event: Event) -> None:
        assert event.id is not None
        session, _, number = event.id.partition(":")
        if event.name == "session_start":
            resumed = event.data["resumed"]
            self._check(resumed is bool(self._session), f"resumed: {resumed} after {self._session}:{self._number}")
            self._session = self._session or session
        self._check(session == self._session, f"an id of {session} in {self._session}")
        self._check(int(number) == self._number + 1, f"{event.name} {number} after {self._number}")
        self._session, self._number = session, int(number)
        if event.name == "signal":
            self.signals.append(event.data["id"])
        elif event.name == "heartbeat":
            self.beats += 1

    def _check(self, is_right: bool, fault: str) -> None:
        if not is_right:
            self.faults.append(fault)
