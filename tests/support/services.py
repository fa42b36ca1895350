"""Real servers for tests: the same embedded services as in production, in a directory of their own, always ended.

`postgres_server(root)`, `valkey_server(root)` and `ray_head(root)` are one server each; `Server` is a whole
`run.py serve`. They listen on Unix sockets or on free ports of the loopback interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import urlopen

import asyncpg
import psutil

from server.supervisor.embedded_postgres import EmbeddedPostgres
from server.supervisor.embedded_valkey import EmbeddedValkey
from server.supervisor.instance import Instance
from server.supervisor.ports import free_ports
from server.supervisor.process import Launch, inherited_environment, popen
from server.supervisor.ray_head import RayHead, ray_environment
from server.supervisor.service import NotReady, Service

REPOSITORY = Path(__file__).resolve().parents[2]

T = TypeVar("T")


@contextmanager
def postgres_server(root: Path) -> Iterator[str]:
    """Run a PostgreSQL without fsync; yields the DSN of a role that may create databases."""
    with _instance(root) as instance:
        service = EmbeddedPostgres(instance, durable=False)
        with _running(service, root / "postgres.log"):
            yield service.url


def drop_database(url: str, name: str, seconds: float = 30.0) -> None:
    """Drop the database and end its connections; one that cannot be dropped stays until the end of the run.

    An autovacuum worker in it may be ended by a superuser only, and the role of the tests is none: without FORCE,
    Postgres itself asks the worker to leave and waits for it.
    """

    async def drop() -> None:
        conn = await asyncpg.connect(url)
        try:
            deadline, how = time.monotonic() + seconds, " WITH (FORCE)"
            while time.monotonic() < deadline:
                try:
                    await conn.execute(f"DROP DATABASE IF EXISTS {name}{how}")
                except asyncpg.InsufficientPrivilegeError:
                    how = ""
                except asyncpg.ObjectInUseError:
                    how = " WITH (FORCE)"
                    await asyncio.sleep(0.1)
                else:
                    return
        finally:
            await conn.close()

    asyncio.run(drop())


@contextmanager
def valkey_server(root: Path) -> Iterator[str]:
    """Run a Valkey that keeps nothing on the disk; yields its URL."""
    with _instance(root) as instance:
        service = EmbeddedValkey(instance, durable=False)
        with _running(service, root / "valkey.log"):
            yield service.url


@dataclass(frozen=True)
class Ray:
    """A running head, and the environment that a driver needs to join it."""

    address: str
    environment: Mapping[str, str]


@contextmanager
def ray_head(root: Path, *, environment: Mapping[str, str] | None = None) -> Iterator[Ray]:
    """Run a Ray head without a dashboard; `environment` is added to its workers'. Drivers need `Ray.environment`."""
    with _instance(root) as instance:
        inherited = {**inherited_environment(), **(environment or {})}
        service = RayHead(instance, lambda name: {**inherited, **instance.marks(name)})
        with _running(service, root / "ray.log"):
            yield Ray(service.address, ray_environment(instance))


class Server:
    """A whole `run.py serve` with its own data directory and ports.

    `settings` are environment variables that override the test defaults: one gateway, no Ray dashboard.
    """

    def __init__(self, data_dir: Path, *, command: Sequence[str] | None = None, **settings: str) -> None:
        self.data_dir = data_dir
        self.instance = Instance(data_dir)
        self.port = free_ports(1)[0]
        self.settings = {
            "DATA_DIR": str(data_dir),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "RAY_DASHBOARD_PORT": "0",
            "DRAIN_SECONDS": "2",
            **settings,
        }
        self._command = list(command or (sys.executable, str(REPOSITORY / "run.py"), "serve"))
        self._process: subprocess.Popen[bytes] | None = None
        self._output = data_dir.with_name(f"{data_dir.name}.out")

    @property
    def url(self) -> str:
        """The URL of the gateways."""
        return f"http://127.0.0.1:{self.settings['PORT']}"

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def output(self) -> str:
        """Return all that it has printed so far, over all starts."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def start(self) -> Server:
        """Start it, and do not wait."""
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        environment = {**inherited_environment(), "PYTHONPATH": str(REPOSITORY), **self.settings}
        launch = Launch(self._command, environment, REPOSITORY)
        with self._output.open("ab") as file:
            self._process = popen(launch, file.fileno())
        return self

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Wait until `/ready` answers 200; fails at once, with the output, when the supervisor has ended."""

        def ready() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"the server has ended with {self._process.returncode}:\n{self.output}")
            return status_of(f"{self.url}/ready") == 200

        try:
            wait_until(ready, seconds)
        except TimeoutError:
            raise AssertionError(f"not ready after {seconds} s:\n{self.output}") from None

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 40.0) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self.wait(seconds)

    def wait(self, seconds: float = 40.0) -> int:
        """Wait for it to end by itself; returns the exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def kill(self) -> None:
        """Send SIGKILL to the supervisor alone; the next start cleans up after it."""
        self.stop(signal.SIGKILL)

    def children(self, name: str | None = None) -> list[psutil.Process]:
        """Return the processes marked as this instance's, of one child (`postgres`, `gateway-1`) or of all."""
        ours = self._process.pid if self._process else None
        return [each for each in self.instance.processes(name) if each.pid != ours]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop(seconds=30)
            if self._process.poll() is None:
                self.kill()
        _in_thread(self.instance.end_processes)
        self.instance.release()


def wait_until(condition: Callable[[], T], seconds: float = 20.0) -> T:
    """Poll until the answer is true; return it. Raises `TimeoutError`."""
    deadline = time.monotonic() + seconds
    pause = 0.01
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"still {answer!r} after {seconds} s")
        time.sleep(pause)
        pause = min(0.25, 1.5 * pause)


def status_of(url: str, seconds: float = 5.0) -> int | None:
    """Return the status of a GET, or None if nothing answers."""
    try:
        with urlopen(url, timeout=seconds) as response:
            return int(response.status)
    except HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return None


@contextmanager
def _instance(root: Path) -> Iterator[Instance]:
    root.mkdir(parents=True, exist_ok=True)
    instance = Instance(root)
    instance.create_directories()
    try:
        yield instance
    finally:
        _in_thread(instance.end_processes)
        instance.release()


@contextmanager
def _running(service: Service, log: Path) -> Iterator[None]:
    _in_thread(lambda: service.prepare(_run))
    with log.open("wb") as file:
        process = popen(service.launch(), file.fileno())
    try:
        _in_thread(lambda: _answers(service, process, log))
        yield
    finally:
        _stop(process, service)
        service.tidy()


async def _answers(service: Service, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + service.start_seconds
    while True:
        try:
            await service.probe(process.pid)
        except (NotReady, OSError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{service.title}: {error}\n{_read(log)}") from None
        else:
            return
        await asyncio.sleep(0.02)


def _read(log: Path) -> str:
    return log.read_text(errors="replace")


async def _run(launch: Launch) -> None:
    process = popen(launch, subprocess.PIPE)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output.decode(errors="replace")


def _stop(process: subprocess.Popen[bytes], service: Service) -> None:
    for number, seconds in (*service.stop_steps, (signal.SIGKILL, 10.0)):
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return


def _in_thread(call: Callable[[], Awaitable[Any]]) -> None:
    """Run a coroutine with a loop of its own: the test's loop, running or not, is left alone."""

    async def run() -> None:
        await call()

    with ThreadPoolExecutor(1) as executor:
        executor.submit(asyncio.run, run()).result()
