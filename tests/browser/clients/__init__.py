"""Other projects' clients of server-sent events. Each reports its events, and reconnects by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True)
class Received:
    """An event as a client passes it to its user. `id`: None if the event itself has none."""

    event: str
    id: str | None
    data: Any


class StreamClient(ABC):
    """A client that follows a stream. `received` holds its events so far."""

    is_told_everything = False  # or only of the events that it listens to: `session_start` and `signal`

    def __init__(self) -> None:
        self.received: list[Received] = []

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """Return what has to be installed first; None if nothing is missing."""

    @classmethod
    @abstractmethod
    def follow(cls, url: str, folder: Path) -> AsyncIterator[StreamClient]:
        """Follow the stream at a URL, with a folder for temporary files."""

    async def refresh(self) -> None:  # noqa: B027 - most clients receive events without asking
        """Bring `received` up to date."""

    @property
    def places(self) -> list[int]:
        """Return the feed_seqs of the signals, in order of arrival."""
        return [int(each.data["id"]) for each in self.received if each.event == "signal"]

    @property
    def resumed(self) -> list[bool]:
        """Return for each connection whether the server resumed the client's session."""
        return [each.data["resumed"] for each in self.received if each.event == "session_start"]

    @property
    def numbers(self) -> list[int]:
        """Return the number in the id of each event that has one."""
        return [int(each.id.partition(":")[2]) for each in self.received if each.id is not None]

    @property
    def codes(self) -> list[str]:
        """Return the codes of the errors, which only a client that reports every event knows."""
        return [each.data["code"] for each in self.received if each.event == "error"]

    def take(self, event: str, event_id: str | None, data: str) -> None:
        """Record an event."""
        self.received.append(Received(event, event_id, orjson.loads(data)))
