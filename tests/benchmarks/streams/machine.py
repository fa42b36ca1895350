"""Child processes that answer lines, and the CPU time, memory and open files of processes."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PATIENCE_SECONDS = 90.0
SERVER_CORE, READERS_CORE = 0, 1  # all other processes run on any core


class Child:
    """A process that reads lines and answers lines; it ends when its stdin does, or at a SIGTERM."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, core: int | None, ends_with_stdin: bool
    ) -> None:
        self._ends_with_stdin = ends_with_stdin
        if core is not None:
            command = [*_pinned(core), *command]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},  # noqa: TID251 - a child needs its parent's PATH
        )

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    def say(self, line: object) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    async def hear(self) -> str:
        """Read the next line."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            line = await asyncio.to_thread(self._process.stdout.readline)
        assert line, f"{self._process.args!r} ended with {self._process.poll()}"
        return line.strip()

    def end(self) -> None:
        """Ask the child to end, and wait; kill it if it does not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        if not self._ends_with_stdin:
            self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def child(
    *command: str,
    environment: Mapping[str, str] | None = None,
    core: int | None = None,
    ends_with_stdin: bool = True,
) -> Iterator[Child]:
    """Run a child; with a `core`, on that one alone."""
    started = Child(command, environment or {}, core=core, ends_with_stdin=ends_with_stdin)
    try:
        yield started
    finally:
        started.end()


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a module of this project."""
    return (sys.executable, "-m", module, *arguments)


def family(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants, the kernel's share included."""
    return sum(_cpu_seconds(each) for each in family(pid))


def pss_bytes(pid: int) -> int:
    """Return the memory of a process and its descendants; shared pages are counted once."""
    return sum(int(each.memory_full_info().pss) for each in family(pid))


def allow_many_files() -> int:
    """Raise this process's limit of open files, which children inherit, as far as that goes; returns it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def _pinned(core: int) -> list[str]:
    # Which core a process happens to be on, and who else is there, is worth a factor of two to what a send costs.
    cores, program = sorted(os.sched_getaffinity(0)), shutil.which("taskset")
    return [] if program is None else [program, "-c", str(cores[core % len(cores)])]


def _cpu_seconds(process: psutil.Process) -> float:
    # In nanoseconds where the kernel says so: the usual figure counts in hundredths of a second.
    try:
        tasks = list(Path(f"/proc/{process.pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except OSError:
        times = process.cpu_times()
        return float(times.user + times.system)
