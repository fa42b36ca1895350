"""Compare providers with each other after each day: their risk, and who moves with whom."""

from __future__ import annotations

import asyncio
import logging

from actors._runtime.context import ActorContext
from actors.records.companions import LEAST_DAYS, WINDOW_DAYS, Days, companions
from db.providers import books

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
NIGHT_SECONDS = 300.0


class Nights:
    """Compares providers once all shards have closed a day; the first shard does it for all.

    A crash loses nothing: the next process compares anew, with the same result.
    """

    def __init__(self, context: ActorContext) -> None:
        self._context = context
        self._compared: int | None = None  # the entry that ended the last day that was compared

    def start(self) -> None:
        """Start looking for days that have ended."""
        if self._context.shard == 0:
            self._context.every(LOOK_SECONDS, self.look, name="compare providers")

    async def look(self) -> None:
        """Compare the providers if another day has been closed by all shards."""
        async with self._context.connection(deadline_seconds=NIGHT_SECONDS) as conn:
            index = await books.closed_by_all(conn, self._context.shards)
            if index is None or index == self._compared:
                return
            day = await books.last_closed_day(conn)
            if day is None:
                return
            results = await books.daily_results(conn, day, WINDOW_DAYS, LEAST_DAYS)
        pairs = await asyncio.to_thread(lambda: companions(Days(results)))
        async with self._context.transaction(deadline_seconds=NIGHT_SECONDS) as conn:
            await books.rank_risks(conn)
            await books.replace_correlations(conn, pairs)
        self._compared = index
