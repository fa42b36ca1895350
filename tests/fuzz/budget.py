"""A fuzzer's time, and the seed that repeats its finds."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Iterator

SHORT_SECONDS = 2.0  # as a part of `make test`
SHORT_SEED = 1


def fuzz_seconds() -> float:
    """Return the seconds of one fuzzer: FUZZ_SECONDS, or a few."""
    return float(os.environ.get("FUZZ_SECONDS", SHORT_SECONDS))  # noqa: TID251 - of the tests, not a setting


def fuzz_seed() -> int:
    """Return FUZZ_SEED; else always the same for a short run, and a new one for a long one."""
    seed = os.environ.get("FUZZ_SEED")  # noqa: TID251 - of the tests, not a setting
    if seed is not None:
        return int(seed)
    return SHORT_SEED if fuzz_seconds() <= SHORT_SECONDS else secrets.randbelow(1 << 32)


def rounds(seconds: float | None = None) -> Iterator[tuple[str, random.Random]]:
    """Yield each round's name for a failure's message and its own random source, until the time is over.

    There is one round at least. A round's chance depends on the seed and its number only, so `FUZZ_SEED` repeats it.
    """
    seed, ends_at, number = fuzz_seed(), time.monotonic() + (fuzz_seconds() if seconds is None else seconds), 0
    print(f"FUZZ_SEED={seed}")  # noqa: T201 - pytest shows it with a failure
    while number == 0 or time.monotonic() < ends_at:
        yield f"FUZZ_SEED={seed}, round {number}", random.Random(f"{seed}:{number}")
        number += 1
