"""Compress answers for clients that accept it: once for all with the same bytes, without blocking the event loop."""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

LEAST_BYTES = 1 << 10  # bytes; below it nothing is gained: a packet is a packet
LEVEL = 1  # a tenth larger than by level 6, in half of its time
BEST_LEVEL = 9  # level for what is compressed once
IN_LOOP_BYTES = 16 << 10  # takes 0.3 ms; more is done in a thread, which costs a tenth of that to hand over
WAITING = 32  # bodies that may wait for the thread; those past it are sent uncompressed
KEPT_BYTES = 4 << 20  # bytes of bodies kept with their compressed form; the least recently used is dropped first
HEADER_CHARACTERS = 200

_GZIP = 16 + zlib.MAX_WBITS
_TYPES = ("application/json", "text/")
_STREAM = "text/event-stream"


def is_compressible(media_type: str) -> bool:
    """Return whether compressing a body of this type is worthwhile; an event stream is sent line by line."""
    return media_type.startswith(_TYPES) and not media_type.startswith(_STREAM)


def takes_gzip(accepted: str | None) -> bool:
    """Return whether an `Accept-Encoding` header accepts gzip, and rates it at least as high as no encoding."""
    return accepted is not None and len(accepted) <= HEADER_CHARACTERS and _takes_gzip(accepted)


def compress(body: bytes, level: int = LEVEL) -> bytes:
    """Compress the body with gzip; the same body gives the same bytes."""
    return zlib.compress(body, level, _GZIP)


class Compressor:
    """Compresses bodies and caches the last ones: readers of one page share its bytes.

    The cache's key is the whole body, so no client gets another's content.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._pending: dict[bytes, asyncio.Future[bytes]] = {}
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compress")

    def at_once(self, body: bytes) -> bytes | None:
        """Return the compressed body, or None where compressing would block the event loop for too long."""
        kept = self._kept.get(body)
        if kept is not None:
            self._kept.move_to_end(body)
        elif len(body) <= IN_LOOP_BYTES:
            kept = compress(body)
            self._keep(body, kept)
        return kept

    async def later(self, body: bytes) -> bytes | None:
        """Compress the body in a thread; returns None where too many bodies wait for it."""
        pending = self._pending.get(body)
        if pending is None:
            if len(self._pending) >= WAITING:
                return None
            pending = asyncio.get_running_loop().run_in_executor(self._executor, compress, body)
            self._pending[body] = pending
            pending.add_done_callback(lambda done: self._finished(body, done))
        return await asyncio.shield(pending)  # a cancelled caller does not cancel it for the others

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
