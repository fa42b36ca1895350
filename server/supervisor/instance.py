"""A running instance: its data directory and lock, its runtime directory, and how its processes are identified."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

INSTANCE_MARK = "TRADESTREAM_INSTANCE"
CHILD_MARK = "TRADESTREAM_CHILD"
# A Unix socket's path holds 107 bytes, and Ray puts up to 66 of its own behind the directory.
RUNTIME_PATH_BYTES = 36

POSTGRES = "postgres"
# SIGINT makes Postgres end its sessions and shut down in order; SIGQUIT at once, to recover at the next start.
POSTGRES_STOP = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))
_STOP = ((signal.SIGTERM, 2.0),)  # actors and gateways acknowledge only what is committed


class AlreadyRunning(Exception):
    """Another instance holds the data directory."""


class Instance:
    """The directories and the identity of the instance that uses `data_dir`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        self.identity = hashlib.blake2b(os.fsencode(self.data_dir), digest_size=6).hexdigest()
        self.runtime_dir = _temporary_root() / f"tradestream-{self.identity}"
        self.log_dir = self.data_dir / "logs"
        self.metrics_dir = self.data_dir / "run" / "metrics"
        self._lock: int | None = None

    @property
    def owner_pid(self) -> int | None:
        """Return the pid of the process that holds the lock; None if no instance runs here."""
        path = self.data_dir / "lock"
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_pid(path)
        except OSError:  # missing or unreadable: then no process of ours holds it
            return None
        return None

    @property
    def url(self) -> str | None:
        """Return where the running instance listens; None if none runs here, or it is still starting."""
        if self.owner_pid is None:
            return None
        try:
            lines = (self.data_dir / "lock").read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return None
        return lines[1] if len(lines) > 1 else None

    def announce(self, url: str) -> None:
        """Publish where we listen to other programs that use this directory, in the lock's second line."""
        assert self._lock is not None
        os.lseek(self._lock, 0, os.SEEK_END)
        os.write(self._lock, f"{url}\n".encode())

    def acquire(self) -> None:
        """Take the lock for this process's life, or raise `AlreadyRunning` at once."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.data_dir / "lock"
        while True:
            # Python opens files close-on-exec: no child can inherit the lock and outlive us with it.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            os.fchmod(descriptor, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise AlreadyRunning(
                    f"another instance (pid {_read_pid(path)}) runs on {self.data_dir}: "
                    "stop it, or give this one a DATA_DIR of its own"
                ) from None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    break
            os.close(descriptor)  # its holder removed it between our two calls
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._lock = descriptor

    def release(self) -> None:
        """Remove the lock and the runtime directory."""
        shutil.rmtree(self.runtime_dir, ignore_errors=True)
        if self._lock is not None:
            (self.data_dir / "lock").unlink(missing_ok=True)  # while it is held: no other process can have taken it
            os.close(self._lock)
            self._lock = None

    def create_directories(self) -> None:
        """Create the directories, and empty those that belong to one run only."""
        shutil.rmtree(self.metrics_dir, ignore_errors=True)
        for path in (self.data_dir, self.log_dir, self.metrics_dir.parent, self.metrics_dir):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path != self.data_dir:  # that one may be a user's, with more in it than ours
                path.chmod(0o700)
        for path in self.log_dir.iterdir():  # of versions that left them to the umask
            if path.is_file() and not path.is_symlink():
                path.chmod(0o600)
        # The name can be guessed and its parent is writable by all: use it only if it is a directory, and ours.
        self.runtime_dir.mkdir(mode=0o700, exist_ok=True)
        status = self.runtime_dir.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise AlreadyRunning(f"{self.runtime_dir} is not ours: remove it")
        shutil.rmtree(self.runtime_dir, ignore_errors=True)
        self.runtime_dir.mkdir(mode=0o700)
        # Root's Postgres runs as another user, who must reach its socket; the socket's own directory is closed.
        self.runtime_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)

    def marks(self, child: str) -> dict[str, str]:
        """Return the environment variables that identify `child` and its descendants as ours."""
        # Ray's processes change their title, which would write over the environment that others can read.
        return {INSTANCE_MARK: self.identity, CHILD_MARK: child, "SPT_NOENV": "1"}

    def processes(self, child: str | None = None) -> list[psutil.Process]:
        """Return this instance's running processes, started by any process; of one child, or of all."""
        ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
        return [each for each in psutil.process_iter() if each.pid not in ours and self._belongs(each, child)]

    async def end_processes(self, child: str | None = None) -> int:
        """End processes that an earlier run (or a child that died) left behind; returns how many there were.

        Postgres is asked first and given time: two servers on one directory would destroy it.
        """
        found = self.processes(child)
        databases = [each for each in found if _is_postgres(each)]
        others = [each for each in found if each not in databases]
        await asyncio.gather(_end(databases, POSTGRES_STOP), _end(others, _STOP))
        return len(found)

    def _belongs(self, process: psutil.Process, child: str | None) -> bool:
        try:
            # Postgres's workers write their title over their environment, but live in the data directory.
            if child in {None, POSTGRES} and _is_postgres(process):
                return Path(process.cwd()) == self.data_dir / POSTGRES
            environment = process.environ()
        except (psutil.Error, OSError):
            return False
        return environment.get(INSTANCE_MARK) == self.identity and child in {None, environment.get(CHILD_MARK)}


async def _end(processes: Sequence[psutil.Process], steps: Sequence[tuple[signal.Signals, float]]) -> None:
    pids = {each.pid for each in processes}
    for number, seconds in steps:
        for each in processes:
            with contextlib.suppress(psutil.Error):
                if each.ppid() not in pids:  # the first of a tree ends the others in order
                    each.send_signal(number)
        if await _all_gone(processes, seconds):
            return
    for each in processes:
        with contextlib.suppress(psutil.Error):
            each.kill()
    await _all_gone(processes, 5.0)


async def _all_gone(processes: Sequence[psutil.Process], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(_alive(each) for each in processes):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _is_postgres(process: psutil.Process) -> bool:
    try:
        return process.name() == POSTGRES
    except psutil.Error:
        return False


def _read_pid(path: Path) -> int | None:
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _temporary_root() -> Path:
    root = Path(tempfile.gettempdir()).resolve()
    short = len(os.fsencode(root)) + len("/tradestream-") + 12 <= RUNTIME_PATH_BYTES
    return root if short or sys.platform == "win32" else Path("/tmp")  # noqa: S108 - a directory of our own in it
