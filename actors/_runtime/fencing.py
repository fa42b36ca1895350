"""Fence an actor's writes: a process takes an epoch at its start, and writes only while that epoch is the newest.

The epoch is a row. A write transaction holds it with a shared lock, a take-over updates it: so a take-over waits for
the predecessor's open transactions (and ends those that stay open), and the predecessor finds its epoch superseded.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from config import tasks
from db import actors as sql
from db._postgres import DEADLINE_SECONDS, Connection, Pool, connection, transaction
from schemas.errors import Fenced

log = logging.getLogger(__name__)

# A predecessor's open transaction may still commit for this long; then its connection is closed.
PATIENCE_SECONDS = 0.5
_TAKE_SECONDS = 5.0


class Fence:
    """Hold an actor's right to write. `on_lost` is called, once, when another process has taken over.

    With `kind` and the `names` of all its actors, a take-over also ends the right of those that there are no more:
    after another LENS_SHARDS a source has another owner, and the one before may still live.
    """

    def __init__(
        self,
        pool: Pool,
        actor: str,
        on_lost: Callable[[], None],
        *,
        kind: str | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self.actor = actor
        self._kind = kind
        self._names = names
        self.epoch = 0  # none yet
        self._pool = pool
        self._on_lost = on_lost
        self._lost = False

    async def take(self) -> int:
        """Take over from the process that writes now; return the new epoch. Raises DatabaseUnavailable."""
        async with connection(self._pool, deadline_seconds=_TAKE_SECONDS) as conn:
            impatient = tasks.spawn(self._end_blockers(conn.get_server_pid()), name=f"{self.actor}: end predecessor")
            try:
                taken_by = f"{socket.gethostname()}:{os.getpid()}"
                if self._kind is not None:
                    await sql.supersede_epochs(conn, self._kind, self._names, taken_by)
                self.epoch = await sql.take_epoch(conn, self.actor, taken_by)
            finally:
                await tasks.cancel(impatient)
        return self.epoch

    @asynccontextmanager
    async def transaction(self, *, deadline_seconds: float | None = DEADLINE_SECONDS) -> AsyncIterator[Connection]:
        """Open a transaction under this epoch. Raises Fenced when there is a newer one, and DatabaseUnavailable."""
        async with transaction(self._pool, deadline_seconds=deadline_seconds) as conn:
            if not await sql.hold_epoch(conn, self.actor, self.epoch):
                self._lose()
                raise Fenced(f"{self.actor}: epoch {self.epoch} is not the newest")
            yield conn

    def _lose(self) -> None:
        if not self._lost:
            self._lost = True
            log.error("%s: another process has taken over epoch %d", self.actor, self.epoch)
            self._on_lost()

    async def _end_blockers(self, waiting_pid: int) -> None:
        await asyncio.sleep(PATIENCE_SECONDS)
        async with connection(self._pool) as conn:
            ended = await sql.terminate_blockers(conn, waiting_pid)
        if ended:
            log.warning("%s: ended %d open transactions of the predecessor", self.actor, ended)
