"""Password hashes, computed beside the event loop by a bounded number of threads."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import bcrypt

from schemas._people import normalise_text
from schemas.errors import Overloaded

COST = 12  # 2¹² rounds, about a quarter of a second of a core
WAITING = 64  # hashes that may wait for a thread, some 15 s of two cores' work; past it the caller gets 503
DEADLINE_SECONDS = 15.0
# Below the loop's own thread, so that the kernel runs the loop first whenever it has something to do.
NICENESS = 10

# Of nobody's password: checking against it takes as long as against a real one.
NO_HASH = "$2b$12$YFV6ALR3daCcSlz0NjEqjOoa0X9dhAF0m9Ju/sx5g85ZBnYmDquXK"

T = TypeVar("T")


def prehash(key: bytes, password: str) -> bytes:
    """64 ASCII characters of which each bit of the password counts: bcrypt alone stops at 72 bytes, and at a NUL."""
    return base64.b64encode(hmac.digest(key, password.encode(), hashlib.sha384))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of a password: whether it is right, and whether its hash should be made anew, in the form that is stored now."""

    matches: bool
    is_outdated: bool = False


class Passwords:
    """Hashes and checks passwords. bcrypt releases the interpreter's lock, so threads are enough."""

    def __init__(self, pepper: str, *, threads: int | None = None, waiting: int = WAITING, cost: int = COST) -> None:
        self._key = pepper.encode()
        self._cost = cost
        self._threads = threads or max(1, min(4, os.cpu_count() or 1))
        self._executor = ThreadPoolExecutor(self._threads, "password", initializer=_step_back)
        self._places = threading.BoundedSemaphore(self._threads + waiting)

    async def hash(self, password: str) -> str:
        """The hash to store. Raises Overloaded."""
        return await self._run(partial(_hash, prehash(self._key, normalise_text(password)), self._cost))

    async def check(self, password: str, stored: str | None) -> bool:
        """Whether this is the password, as `judge` finds. Raises Overloaded."""
        return (await self.judge(password, stored)).matches

    async def judge(self, password: str, stored: str | None) -> Verdict:
        """Whether this is the password; it takes the same time without one (None). Raises Overloaded.

        It is compared in Unicode's NFC, as it is stored. Versions before stored it as it was typed: a password that has
        another form is tried in that, too, whoever's it is, so that time tells nothing.
        """
        forms = dict.fromkeys((normalise_text(password), password))
        for form in forms:
            matches = await self._run(partial(_check, prehash(self._key, form), (stored or NO_HASH).encode()))
            if matches and stored is not None:
                return Verdict(matches=True, is_outdated=form != normalise_text(password))
        return Verdict(matches=False)

    def close(self) -> None:
        """Drop what waits; what is being computed ends unheard."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._places.acquire(blocking=False):
            raise Overloaded
        job = self._executor.submit(work)
        # A place is free when a thread is, not when a caller has lost patience.
        job.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await asyncio.wrap_future(job)
        except TimeoutError:
            raise Overloaded from None


def _hash(prehashed: bytes, cost: int) -> str:
    return bcrypt.hashpw(prehashed, bcrypt.gensalt(cost)).decode()


def _check(prehashed: bytes, stored: bytes) -> bool:
    return bcrypt.checkpw(prehashed, stored)


def _step_back() -> None:
    if sys.platform == "linux":  # elsewhere niceness is the whole process's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
