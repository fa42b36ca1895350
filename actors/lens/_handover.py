"""Hand accepted events to the enrich stage: at once under low load, in batches under high load."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from actors._runtime.ref import ActorRef
from actors.lens.messages import Process, Work

LINGER_SECONDS_EACH = 0.005
LINGER_SECONDS = 0.1
"""The batching delay under load: 5 ms for each event of the batch before, 100 ms at most. A batch costs a stage 2–3 ms
of CPU whatever its size, and one that is worked on in a row keeps the processor's caches. Under 200 events a second a
batch is smaller than its delay was meant for, and the delay shrinks to nothing; a lone event never waits."""


def linger_after(events: int) -> float:
    """Return the batching delay after a batch of so many events, in seconds."""
    return min(LINGER_SECONDS_EACH * events, LINGER_SECONDS) if events > 1 else 0.0


class HandOver:
    """Batch work for a stage. Work lost on the way is in Postgres; the next stage's sweep finds it."""

    def __init__(self, stage: ActorRef) -> None:
        self._stage = stage
        self._waiting: list[Work] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, works: Sequence[Work]) -> None:
        """Send the work now, or with all that is added until the batching delay of the last batch is over."""
        self._waiting += works
        if self._timer is None:
            self.flush()

    def flush(self) -> None:
        """Send the waiting work."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            batch, self._waiting = self._waiting, []
            self._stage.tell("", Process(tuple(batch)))
            if pause := linger_after(len(batch)):
                self._timer = asyncio.get_running_loop().call_later(pause, self.flush)
