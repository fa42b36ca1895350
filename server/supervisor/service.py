"""What the supervisor needs to know of a service: how to prepare, start, ask and stop it."""

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
    """One kind of child. `name` is its log's and its processes' mark, `title` what a person reads."""

    name: str
    title: str
    stop_steps: StopSteps = ((SIGTERM, 10.0),)
    start_seconds: float = 30.0
    final_exit_codes: frozenset[int] = frozenset()  # with which it says that trying again would not help
    echoes: bool = False  # its log lines go to the console too
    # Asked this often once it has started, and taken for dead when it has not answered for `patience_seconds`.
    watch_seconds: float | None = None
    patience_seconds: ClassVar[float] = 20.0

    @abstractmethod
    async def prepare(self, run: Run) -> None:
        """Whatever must be there before the start. It may have run before, and have been killed at any moment."""

    @abstractmethod
    def launch(self) -> Launch:
        """The command; called after `prepare`, at each start."""

    @abstractmethod
    async def probe(self, pid: int) -> str:
        """Really ask it, in a few seconds at most: a line that says where it is. Raises `NotReady` or `OSError`."""

    def broken(self, pid: int) -> str | None:
        """Whether it has visibly fallen apart since it started, though it still runs: what is wrong, or None."""
        del pid
        return None

    @abstractmethod
    def tidy(self) -> None:
        """Remove what must not stay when it has stopped: sockets, pid files."""
