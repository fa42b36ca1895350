"""Servers that a test stops, freezes and restarts: apart from those that the other tests share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from server.supervisor.instance import POSTGRES, Instance
from tests.support.services import postgres_server, ray_head


class BreakablePostgres:
    """A PostgreSQL whose address stays the same through its restarts."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._running = ExitStack()
        self._is_running = False
        self.url = ""

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        if self._is_running:
            return
        self._is_running = True
        self.url = self._running.enter_context(postgres_server(self._root))

    def stop(self) -> None:
        """Shut down in an orderly way: open sessions get an error."""
        self._is_running = False
        self._running.close()

    def crash(self) -> None:
        """Kill every process of it at once."""
        for each in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self.stop()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze it: it keeps its connections and answers nothing."""
        stopped = self._processes()
        for each in stopped:
            each.suspend()
        try:
            yield
        finally:
            for each in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.resume()

    def _processes(self) -> list[psutil.Process]:
        return Instance(self._root).processes(POSTGRES)


@contextmanager
def breakable_postgres(root: Path) -> Iterator[BreakablePostgres]:
    """Run a BreakablePostgres, and stop it at the end in whatever state it is."""
    server = BreakablePostgres(root)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def ray_for_this_process(root: Path) -> Iterator[str]:
    """A Ray head that this process may join; its address."""
    with ray_head(root) as ray, pytest.MonkeyPatch.context() as patch:
        for name, value in ray.environment.items():
            patch.setenv(name, value)
        yield ray.address
