"""The supervisor's child processes: started so that none outlives it, reaped, logged, and stopped in steps."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from config.settings import describe_settings
from config.tasks import spawn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

# A signal, and the seconds after which the next step is taken; SIGKILL follows the last one.
StopSteps = Sequence[tuple[signal.Signals, float]]


@dataclass(frozen=True, slots=True)
class SystemUser:
    """The system user that a child runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Launch:
    """A command to execute: `environment` is complete, `account` None means our own user."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    cwd: Path | None = None
    account: SystemUser | None = None
    death_signal: signal.Signals = signal.SIGTERM  # what the kernel sends when the supervisor is killed


def inherited_environment() -> dict[str, str]:
    """Return our environment without the settings, which a child gets in the form that `Settings` has parsed."""
    settings = {name for name, _, _ in describe_settings()}
    # The one place where it is copied: PATH, HOME, the locale and what tools are configured by must reach children.
    return {name: value for name, value in os.environ.items() if name not in settings}  # noqa: TID251


def become_subreaper() -> None:
    """Make orphaned descendants (Ray's agents and workers) our children, so that they can be found and reaped."""
    if _libc is not None:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def popen(launch: Launch, output: int | None) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, since the supervisor handles a terminal's Ctrl-C.

    Call it from the main thread only: the death signal is sent when the *thread* that forked ends.
    """
    account = launch.account
    return subprocess.Popen(
        list(launch.argv),
        env=dict(launch.environment),
        cwd=launch.cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        start_new_session=True,
        # Runs after setuid, which would clear the death signal. The supervisor has no threads that could hold a lock.
        preexec_fn=_die_with_parent(launch.death_signal, os.getpid()),  # noqa: PLW1509
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [],
    )


def _die_with_parent(number: signal.Signals, parent: int) -> Callable[[], None] | None:
    if _libc is None:
        return None
    prctl = _libc.prctl  # looked up before the fork

    def configure() -> None:
        prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return configure


class Reaper:
    """Reap every child that ends: those we started, through their futures, and orphans that we inherit.

    It waits for *any* child, because as PID 1 of a container and as subreaper we inherit processes that we never
    started. So nothing else in this process may wait for children: no asyncio subprocesses here.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGCHLD, self.reap)

    def exit_of(self, pid: int) -> asyncio.Future[int]:
        """Return the future of a new child's exit code (negative: the signal that ended it)."""
        future: asyncio.Future[int] = self._loop.create_future()
        self._waiting[pid] = future
        return future

    def reap(self) -> None:
        """Reap all children that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            future = self._waiting.pop(pid, None)
            if future is not None and not future.done():
                future.set_result(os.waitstatus_to_exitcode(status))

    def close(self) -> None:
        """Remove the SIGCHLD handler."""
        self._loop.remove_signal_handler(signal.SIGCHLD)


class Child:
    """A running child process. Raises `OSError` when it cannot be executed."""

    def __init__(self, launch: Launch, reaper: Reaper) -> None:
        self._output, write_end = os.pipe()
        try:
            self._process = popen(launch, write_end)
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(write_end)
        self._pipe: asyncio.ReadTransport | None = None
        self._sink: Callable[[bytes], None] = lambda data: None
        self.pid = self._process.pid
        self.exited = reaper.exit_of(self.pid)
        self.exited.add_done_callback(self._record_exit)

    async def read_output(self, sink: Callable[[bytes], None]) -> None:
        """Pass all further output of the process to `sink`."""
        self._sink = sink
        pipe = os.fdopen(self._output, "rb", buffering=0)
        self._pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: _Pump(sink), pipe)

    @property
    def running(self) -> bool:
        """Whether the process has not been reaped yet; only then is `pid` certainly its own."""
        return not self.exited.done()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def stop(self, steps: StopSteps, hurry: asyncio.Event) -> int:
        """End the process by each step's signal and time, then SIGKILL; returns the exit code. `hurry` cuts waits."""
        for number, seconds in steps:
            self.send(number)
            if await self._gone_within(seconds, hurry):
                break
        else:
            self.send(signal.SIGKILL)
        code = await self.exited
        self.close()
        return code

    def close(self) -> None:
        """Read the last output and close the pipe, which a grandchild may hold open for ever."""
        if self._pipe is None or self._pipe.is_closing():
            return
        with contextlib.suppress(BlockingIOError):
            for _ in range(16):  # a pipe holds 64 KiB
                if not (data := os.read(self._output, 64 << 10)):
                    break
                self._sink(data)
        self._pipe.close()

    async def _gone_within(self, seconds: float, hurry: asyncio.Event) -> bool:
        hurried = spawn(hurry.wait(), name=f"hurry the end of {self.pid}")
        either: set[asyncio.Future[int] | asyncio.Task[Literal[True]]] = {self.exited, hurried}
        try:
            if not hurry.is_set():
                await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if self.running:
                await asyncio.wait({self.exited}, timeout=0.5 if hurry.is_set() else 0)
            return not self.running
        finally:
            hurried.cancel()

    def _record_exit(self, exited: asyncio.Future[int]) -> None:
        if not exited.cancelled():
            self._process.returncode = exited.result()  # so that Popen does not wait for it too


class _Pump(asyncio.Protocol):
    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink

    def data_received(self, data: bytes) -> None:
        self._sink(data)


def describe_exit(code: int) -> str:
    """Describe an exit code: `exit code 3`, `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
