"""Hash passwords beside the event loop, in a bounded number of threads, whose time is shared fairly among addresses."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import bcrypt

from schemas._people import normalise_text
from schemas.errors import Overloaded, RateLimited

COST = 12  # 2¹² rounds, about a quarter of a second of a core
WAITING = 64  # hashes that may wait for a thread, some 15 s of two cores' work; past it one of them is answered 503
WAITING_OF_ONE = 8  # of one address: what ten logins a minute need at their worst
DEADLINE_SECONDS = 15.0
BUSY_SECONDS = 2  # after which an address whose hashes wait may retry: its eight are done by then
# Below the loop's own thread, so that the kernel runs the loop first whenever it has something to do.
NICENESS = 10

# The hash of no password: checking against it takes as long as against a real one.
NO_HASH = "$2b$12$YFV6ALR3daCcSlz0NjEqjOoa0X9dhAF0m9Ju/sx5g85ZBnYmDquXK"


def prehash(key: bytes, password: str) -> bytes:
    """Return 64 ASCII characters that depend on all of the password: bcrypt alone stops at 72 bytes, and at a NUL."""
    return base64.b64encode(hmac.digest(key, password.encode(), hashlib.sha384))


@dataclass(frozen=True, slots=True)
class PasswordVerdict:
    """Whether a password is right, and whether its hash should be made anew, in the form that is stored now."""

    matches: bool
    is_outdated: bool = False


@dataclass(eq=False, slots=True)
class _Job:
    """A requested hash. `outcome` is the caller's future."""

    work: Callable[[], object]
    address: str
    outcome: asyncio.Future[object]


class Passwords:
    """Hashes and checks passwords. bcrypt releases the interpreter's lock, so threads are enough.

    Requests wait by address, and addresses take turns: one that sends many waits for its own. Of one address at
    most `waiting_of_one` wait (None: as many as of all). Past `waiting` of all, the address with the most loses one.
    """

    def __init__(
        self,
        pepper: str,
        *,
        threads: int | None = None,
        waiting: int = WAITING,
        waiting_of_one: int | None = None,
        cost: int = COST,
    ) -> None:
        self._key = pepper.encode()
        self._cost = cost
        self._free = threads or max(1, min(4, os.cpu_count() or 1))
        self._executor = ThreadPoolExecutor(self._free, "password", initializer=_step_back)
        self._most = waiting
        self._most_of_one = waiting_of_one
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()  # by address, in the order of their turns

    async def hash(self, password: str, address: str = "") -> str:
        """Return the hash to store, for a client at `address`. Raises Overloaded and RateLimited."""
        work = partial(_hash, prehash(self._key, normalise_text(password)), self._cost)
        return str(await self._run(work, address))

    async def check(self, password: str, stored: str | None, address: str = "") -> bool:
        """Return whether this is the password, as `judge` finds. Raises Overloaded and RateLimited."""
        return (await self.judge(password, stored, address)).matches

    async def judge(self, password: str, stored: str | None, address: str = "") -> PasswordVerdict:
        """Judge whether this is the password; it takes as long without one (None). Raises Overloaded and RateLimited.

        It is compared in Unicode's NFC, as it is stored. Earlier versions stored it as typed: a password that has
        another form is tried in that, too, for every account, so that timing reveals nothing.
        """
        forms = dict.fromkeys((normalise_text(password), password))
        for form in forms:
            work = partial(_check, prehash(self._key, form), (stored or NO_HASH).encode())
            if await self._run(work, address) and stored is not None:
                return PasswordVerdict(matches=True, is_outdated=form != normalise_text(password))
        return PasswordVerdict(matches=False)

    def close(self) -> None:
        """Drop the waiting requests; results of those being computed are discarded."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        for jobs in self._waiting.values():
            for job in jobs:
                job.outcome.cancel()
        self._waiting.clear()

    async def _run(self, work: Callable[[], object], address: str) -> object:
        job = _Job(work, address, asyncio.get_running_loop().create_future())
        if self._free:
            self._start(job)
        else:
            self._queue(job)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await job.outcome
        except TimeoutError:
            raise Overloaded(retry_after=BUSY_SECONDS) from None
        finally:
            self._forget(job)

    def _queue(self, job: _Job) -> None:
        of_one = self._waiting.get(job.address, ())
        if self._most_of_one is not None and len(of_one) >= self._most_of_one:
            raise RateLimited("Too many passwords wait to be checked for this address", retry_after=BUSY_SECONDS)
        if sum(map(len, self._waiting.values())) >= self._most:
            longest = max(self._waiting.values(), key=len, default=deque[_Job]())
            if len(longest) <= len(of_one) + 1:
                raise Overloaded(retry_after=BUSY_SECONDS)
            loser = longest.pop()  # the latest to arrive: it would have waited longest
            if not loser.outcome.done():
                loser.outcome.set_exception(Overloaded(retry_after=BUSY_SECONDS))
        self._waiting.setdefault(job.address, deque()).append(job)

    def _forget(self, job: _Job) -> None:
        """Drop a hash whose caller no longer waits, unless a thread has it already."""
        jobs = self._waiting.get(job.address)
        if jobs is not None and job in jobs:
            jobs.remove(job)
            if not jobs:
                del self._waiting[job.address]

    def _start(self, job: _Job) -> None:
        self._free -= 1
        loop = asyncio.get_running_loop()

        def tell(done: Future[object]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._end, job, done)

        self._executor.submit(job.work).add_done_callback(tell)

    def _end(self, job: _Job, done: Future[object]) -> None:
        # A slot is free when a thread is, not when a caller has given up.
        self._free += 1
        if not job.outcome.done():
            if done.cancelled():
                job.outcome.cancel()
            elif (failure := done.exception()) is not None:
                job.outcome.set_exception(failure)
            else:
                job.outcome.set_result(done.result())
        if self._waiting:
            address, jobs = self._waiting.popitem(last=False)
            following = jobs.popleft()
            if jobs:
                self._waiting[address] = jobs
            self._start(following)


def _hash(prehashed: bytes, cost: int) -> str:
    return bcrypt.hashpw(prehashed, bcrypt.gensalt(cost)).decode()


def _check(prehashed: bytes, stored: bytes) -> bool:
    return bcrypt.checkpw(prehashed, stored)


def _step_back() -> None:
    if sys.platform == "linux":  # elsewhere niceness is the whole process's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
