"""Answers compressed for who asks for it: once for all who get the same bytes, and never in the event loop's way."""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

LEAST_BYTES = 1 << 10  # below it nothing is won: a packet is a packet
LEVEL = 1  # a tenth larger than by level 6, in half of its time
BEST_LEVEL = 9  # for what is compressed once
IN_LOOP_BYTES = 16 << 10  # take 0.3 ms; more is done in a thread, which takes a tenth of that to get there
WAITING = 32  # bodies that may wait for the thread; those past it are sent as they are
KEPT_BYTES = 4 << 20  # of bodies that were compressed, with what they became; the one that is unused longest goes first
HEADER_CHARACTERS = 200

_GZIP = 16 + zlib.MAX_WBITS
_TYPES = ("application/json", "text/")
_STREAM = "text/event-stream"


def is_compressible(media_type: str) -> bool:
    """Whether compressing a body of this type is worth its while; an event stream goes out line by line."""
    return media_type.startswith(_TYPES) and not media_type.startswith(_STREAM)


def takes_gzip(accepted: str | None) -> bool:
    """Whether an `Accept-Encoding` header asks for gzip, and likes it at least as much as nothing at all."""
    return accepted is not None and len(accepted) <= HEADER_CHARACTERS and _takes_gzip(accepted)


def compress(body: bytes, level: int = LEVEL) -> bytes:
    """The body as gzip; the same body gives the same bytes."""
    return zlib.compress(body, level, _GZIP)


class Compressor:
    """Compresses bodies, and keeps the last ones: readers of one page share its bytes.

    It is keyed by the whole body, so nobody gets what is not theirs.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._pending: dict[bytes, asyncio.Future[bytes]] = {}
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compress")

    def at_once(self, body: bytes) -> bytes | None:
        """The compressed body, or None where that would take too long for the event loop."""
        kept = self._kept.get(body)
        if kept is not None:
            self._kept.move_to_end(body)
        elif len(body) <= IN_LOOP_BYTES:
            kept = compress(body)
            self._keep(body, kept)
        return kept

    async def later(self, body: bytes) -> bytes | None:
        """The compressed body, from a thread; None where too many wait for it."""
        pending = self._pending.get(body)
        if pending is None:
            if len(self._pending) >= WAITING:
                return None
            pending = asyncio.get_running_loop().run_in_executor(self._executor, compress, body)
            self._pending[body] = pending
            pending.add_done_callback(lambda done: self._finished(body, done))
        return await asyncio.shield(pending)  # one who goes away takes nothing from the others

    def _finished(self, body: bytes, done: asyncio.Future[bytes]) -> None:
        del self._pending[body]
        if not done.cancelled() and done.exception() is None:
            self._keep(body, done.result())

    def _keep(self, body: bytes, compressed: bytes) -> None:
        if len(body) > KEPT_BYTES // 4:
            return
        self._kept[body] = compressed
        self._kept_bytes += len(body) + len(compressed)
        while self._kept_bytes > KEPT_BYTES:
            oldest, became = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest) + len(became)


@lru_cache(maxsize=256)
def _takes_gzip(accepted: str) -> bool:
    wanted: dict[str, float] = {}
    for each in accepted.lower().split(","):
        coding, _, parameters = each.partition(";")
        wanted[coding.strip()] = _quality(parameters)
    gzip = wanted.get("gzip", wanted.get("x-gzip", wanted.get("*", 0.0)))
    return gzip > 0 and gzip >= wanted.get("identity", 0.0)


def _quality(parameters: str) -> float:
    for each in parameters.split(";"):
        name, _, value = each.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return 0.0
            return quality if 0 <= quality <= 1 else 0.0
    return 1.0
