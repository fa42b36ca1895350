"""A supervised service: its process, its log, its start, and the wait before the next try."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from config.backoff import Backoff
from server.supervisor.console import Console
from server.supervisor.instance import Instance
from server.supervisor.logfile import LogFile
from server.supervisor.process import Child, Launch, Reaper, describe_exit
from server.supervisor.service import NotReady, Service, ServiceError

PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Policy:
    """How often and how long the supervisor retries. Times are in seconds."""

    first_attempts: int = 3  # at the very first start a person is looking: a fault is reported, not retried for ever
    first_seconds: float = 0.25
    ceiling_seconds: float = 30.0
    steady_seconds: float = 60.0  # what has lived this long starts again at `first_seconds`


class StartFailed(Exception):
    """A service did not come up. The text ends with the last lines of its log."""

    def __init__(self, title: str, reason: str, tail: str, *, final: bool = False) -> None:
        self.reason = f"{title}: {reason}"
        self.final = final
        super().__init__(f"{self.reason}\n{tail}" if tail else self.reason)


class Unit:
    """A service and its current process. One caller at a time starts, awaits or stops it."""

    def __init__(
        self,
        service: Service,
        instance: Instance,
        reaper: Reaper,
        console: Console,
        hurry: asyncio.Event,
        policy: Policy,
    ) -> None:
        self.service = service
        self._backoff = Backoff(policy.first_seconds, policy.ceiling_seconds)
        self._steady_seconds = policy.steady_seconds
        self._instance = instance
        self._reaper = reaper
        self._hurry = hurry
        self._log = LogFile(instance.log_dir / f"{service.name}.log")
        self._echo = console.channel() if service.echoes else None
        self._child: Child | None = None
        self._up_since: float | None = None

    @property
    def pid(self) -> int | None:
        """Return the running process's pid, or None."""
        return self._child.pid if self._child is not None and self._child.running else None

    @property
    def tail(self) -> str:
        """Return the last lines of the service's log."""
        return self._log.tail()

    @property
    def is_up(self) -> bool:
        """Whether the service has answered since its last start."""
        return self._up_since is not None

    def next_pause(self) -> float:
        """Return the seconds to wait before the next start; few again after a steady run."""
        if self._up_since is not None and time.monotonic() - self._up_since >= self._steady_seconds:
            self._backoff.reset()
        return self._backoff.next()

    async def start(self) -> str:
        """Start the service and wait until it answers; returns where. Raises `StartFailed`, leaving no process."""
        self._up_since = None
        title = self.service.title
        try:
            await self._instance.end_processes(self.service.name)
            await self.service.prepare(self._run)
            self._child = Child(self.service.launch(), self._reaper)
            await self._child.read_output(self._sink)
            where = await self._answer(self._child)
        except ServiceError as error:
            await self.stop()
            raise StartFailed(title, str(error), "", final=True) from None
        except (NotReady, OSError) as error:
            await self.stop()
            raise StartFailed(title, str(error), self._log.tail()) from None
        self._up_since = time.monotonic()
        return where

    async def ended(self) -> str:
        """Wait until the service dies, or no longer answers (then it is stopped); returns the reason."""
        assert self._child is not None
        exited, service = self._child.exited, self.service
        answered = time.monotonic()
        while True:
            await asyncio.wait({exited}, timeout=service.watch_seconds)
            if exited.done():
                return describe_exit(exited.result())
            if (fault := service.broken(self._child.pid)) is None:
                try:
                    async with asyncio.timeout(PROBE_SECONDS):
                        await service.probe(self._child.pid)
                    answered = time.monotonic()
                    continue
                except (NotReady, OSError) as error:
                    silent = time.monotonic() - answered
                    if silent < service.patience_seconds:
                        continue
                    fault = f"no answer for {silent:.0f} s: {error}"
            await self.stop()
            return fault

    async def stop(self) -> None:
        """Stop the service and every process that belongs to it; harmless when it does not run."""
        if self._child is not None:
            await self._child.stop(self.service.stop_steps, self._hurry)
            self._child = None
            await self._instance.end_processes(self.service.name)
        self.service.tidy()

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    async def _answer(self, child: Child) -> str:
        deadline = time.monotonic() + self.service.start_seconds
        polling, reason = Backoff(0.02, 0.25), "no answer"
        while True:
            try:
                # Not wait_for, which in Python 3.11 swallows a cancellation that comes together with the answer.
                async with asyncio.timeout(PROBE_SECONDS):
                    return await self.service.probe(child.pid)
            except (NotReady, OSError) as error:
                reason = str(error) or reason
            await asyncio.wait({child.exited}, timeout=polling.next())
            if not child.running:
                child.close()
                code = child.exited.result()
                if code in self.service.final_exit_codes:
                    raise ServiceError(f"{describe_exit(code)}\n{self._log.tail()}")
                raise NotReady(describe_exit(code))
            if time.monotonic() > deadline:
                raise NotReady(f"not ready after {self.service.start_seconds:.0f} s: {reason}")

    async def _run(self, launch: Launch) -> None:
        await run_to_end(launch, self._reaper, self._log)

    def _sink(self, data: bytes) -> None:
        self._log.write(data)
        if self._echo is not None:
            self._echo(data)


async def run_to_end(launch: Launch, reaper: Reaper, log: LogFile, *, seconds: float = 600.0) -> None:
    """Run a command that ends by itself. Raises `ServiceError` with its output when it fails."""
    child = Child(launch, reaper)
    try:
        await child.read_output(log.write)
        async with asyncio.timeout(seconds):
            await asyncio.shield(child.exited)
    except TimeoutError:
        raise ServiceError(f"{launch.argv[0]} did not end within {seconds:.0f} s\n{log.tail()}") from None
    finally:
        if child.running:
            await child.stop((), asyncio.Event())
        child.close()
    if child.exited.result() != 0:
        raise ServiceError(f"{launch.argv[0]}: {describe_exit(child.exited.result())}\n{log.tail()}")
