"""The interface of a supervised service: how to prepare, start, probe and stop it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from signal import SIGTERM
from typing import ClassVar

from server.supervisor.process import Launch, StopSteps

# Runs a command to its end; raises `ServiceError` with its output when it fails.
Run = Callable[[Launch], Awaitable[None]]


class ServiceError(Exception):
    """The service cannot run, and trying again would not help; the text is for the person who starts it."""


class NotReady(Exception):
    """The service runs and does not serve yet; the text says what is missing."""


class Service(ABC):
    """A kind of child process. `name` identifies its log and its processes, `title` is for people."""

    name: str
    title: str
    stop_steps: StopSteps = ((SIGTERM, 10.0),)
    start_seconds: float = 30.0
    final_exit_codes: frozenset[int] = frozenset()  # which mean that another try would not help
    echoes: bool = False  # its log lines go to the console too
    # Probed this often once it has started, and judged dead when it has not answered for `patience_seconds`.
    watch_seconds: float | None = None
    patience_seconds: ClassVar[float] = 20.0

    @abstractmethod
    async def prepare(self, run: Run) -> None:
        """Prepare what the start needs. The service may have run before, and have been killed at any moment."""

    @abstractmethod
    def launch(self) -> Launch:
        """Return the command; called after `prepare`, at each start."""

    @abstractmethod
    async def probe(self, pid: int) -> str:
        """Send a real request, in a few seconds at most; return where it serves. Raises `NotReady` or `OSError`."""

    def broken(self, pid: int) -> str | None:
        """Return what has visibly broken since the start, though the process still runs; None if nothing has."""
        del pid
        return None

    @abstractmethod
    def tidy(self) -> None:
        """Remove what must not stay after a stop: sockets, pid files."""
