"""Cache and share answers: one cell a query, with its last answer, how long that is valid, and the call in flight."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from actors.lens.market._http import CallFailed
from config.backoff import backoff_seconds

K = TypeVar("K", bound=Hashable)

_NEVER: Final = float("-inf")  # the clock's zero is arbitrary
_FIRST_HOLD_SECONDS: Final = 0.5  # shorter than the pipeline's first retry, which is to make a real call
_LONGEST_HOLD_SECONDS: Final = 30.0


@dataclass(slots=True)
class Cell:
    """A query's cached state; times are of the monotonic clock, in seconds.

    Until `refresh_at` the value is simply used. Until `fresh_until` it is used and refreshed in the background, so
    that under steady traffic no signal ever waits. Until `keep_until` it is used only where no newer one is available.
    """

    value: object = None
    refresh_at: float = _NEVER
    fresh_until: float = _NEVER
    keep_until: float = _NEVER
    failure: CallFailed | None = None
    failures: int = 0
    retry_at: float = _NEVER
    call: asyncio.Task[None] | None = None

    def store(self, value: object, now: float, *, refresh: float, fresh: float, keep: float) -> None:
        """Store a new answer, to be refreshed, replaced and forgotten after so many seconds."""
        self.value = value
        self.refresh_at, self.fresh_until, self.keep_until = now + refresh, now + fresh, now + keep
        self.failure = None
        self.failures = 0
        self.retry_at = _NEVER

    def fail(self, failure: CallFailed, now: float) -> None:
        """Record a failed call: the old value stays, and the next call waits, the longer the more have failed."""
        self.failure = failure
        self.failures += 1
        self.retry_at = now + backoff_seconds(self.failures, _FIRST_HOLD_SECONDS, _LONGEST_HOLD_SECONDS)

    def result(self, now: float) -> tuple[object, CallFailed | None]:
        """Return the value to use, and the failure that explains why it is not fresh."""
        if now < self.fresh_until:
            return self.value, None
        return (self.value if now < self.keep_until else None), self.failure


async def answer_of(cell: Cell) -> object:
    """Return the cell's answer, after its call (which has a deadline) if one is in flight. Raises CallFailed."""
    if cell.call is not None:
        await asyncio.wait({cell.call})
    if (failure := cell.failure) is not None:
        raise CallFailed(failure.reason, failure.message, failure.retry_after_seconds)
    return cell.value


class Cells(Generic[K]):
    """Keep the most recently used cells. A cell that is dropped while its call is in flight loses only the sharing."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._cells: OrderedDict[K, Cell] = OrderedDict()

    def __len__(self) -> int:
        return len(self._cells)

    def of(self, key: K) -> Cell:
        """Return the cell of a query, made if there is none."""
        cell = self._cells.get(key)
        if cell is None:
            if len(self._cells) >= self._limit:
                self._cells.popitem(last=False)
            cell = self._cells[key] = Cell()
        else:
            self._cells.move_to_end(key)
        return cell
