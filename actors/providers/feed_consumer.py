"""Consume the feed as a log: apply every signal to its provider's record exactly once, across crashes.

A page's effects and the new offset are one transaction. Redis only says when to read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from uuid import UUID

import asyncpg

from actors._follower import Follower, PageSize
from actors._runtime.context import ActorContext
from actors._runtime.registry import shard_of
from actors.providers.events import RecordChange
from actors.providers.messages import provider_key
from actors.providers.projection import Projection, StreakKey, keys_to_close
from actors.providers.record import figures_of
from actors.streaks import Streak, from_row
from db import streaks
from db._postgres import Connection
from db.providers import outcomes, records
from db.providers.records import LoggedSignal, RecordRow
from schemas.feed import FEED_CHANNEL

log = logging.getLogger(__name__)

PAGE = 500  # signals of one transaction: some 20 ms
PAGE_SECONDS = 5.0
IN_MEMORY = 10_000  # records: some 10 MB; past it the least recently used are evicted and read again

_UTC = "UTC"  # the days of a provider that has chosen no zone

# Errors which mean that this signal cannot be stored, not that the server is in trouble.
_UNFIT = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ArithmeticError, ValueError)


class FeedConsumer:
    """Reads the feed for one shard; `turn` is held while a page is applied; `notify` gets the committed changes."""

    def __init__(
        self, context: ActorContext, turn: asyncio.Lock, notify: Callable[[Sequence[RecordChange]], None]
    ) -> None:
        self._context = context
        self._turn = turn
        self._notify = notify
        self._shard = context.shards, context.shard
        self._follower = Follower(context, FEED_CHANNEL, self._read)
        self._cursor: int | None = None  # None: to be read from Postgres
        self._records: OrderedDict[UUID, RecordRow] = OrderedDict()  # as they are stored; least recently used first
        self._streaks: dict[StreakKey, Streak] = {}  # of those records
        self._page = PageSize(PAGE)
        self._came = 1  # signals of the last page

    @property
    def stats(self) -> Mapping[str, float]:
        """Return the offset, and how much is held in memory."""
        return {"feed_seq": self._cursor or 0, "in_memory": len(self._records)}

    def start(self) -> None:
        """Start consuming."""
        self._follower.start()

    def forget(self, provider_ids: Iterable[UUID]) -> None:
        """Drop these records from memory, so that they are read again before use; the caller holds the lock `turn`."""
        for each in provider_ids:
            self._records.pop(each, None)

    async def catch_up(self) -> int:
        """Apply everything that is in the log and return its offset; raises DatabaseUnavailable, Fenced."""
        while await self._apply_page():
            pass
        assert self._cursor is not None
        return self._cursor

    async def _read(self) -> int:
        await self.catch_up()
        return self._came

    # --- a page

    async def _apply_page(self) -> bool:
        """Apply the next page; return whether there may be another."""
        async with self._turn:
            try:
                async with self._context.transaction(deadline_seconds=PAGE_SECONDS) as conn:
                    if self._cursor is None:
                        self._cursor = await records.get_cursor(conn, *self._shard)
                    page = await records.read_log(conn, self._cursor, self._page.now)
                    if not page:
                        self._came = 1  # the feed is quiet: the next signal needs no batching delay
                        return False
                    reached = page[-1].feed_seq
                    projection = await self._apply(conn, [each for each in page if self._is_ours(each.provider_id)])
                    await records.set_cursor(conn, *self._shard, reached)
            except _UNFIT as error:
                self._distrust_memory()
                if not self._page.halve():
                    await self._skip(page[0], error)
                return True
            except BaseException:
                self._distrust_memory()
                raise
            full, self._came = len(page) == self._page.now, len(page)
            self._page.restore()
            self._cursor = reached
            changes = [RecordChange(self._records[each.provider_id], each) for each in projection.records.values()]
            self._remember(projection)
            self._notify(changes)  # the lock is still held: events leave in the order of the commits
        return full

    def _distrust_memory(self) -> None:
        # The transaction may have been committed all the same: Postgres holds the truth.
        self._cursor = None
        self._records.clear()
        self._streaks.clear()

    async def _skip(self, signal: LoggedSignal, error: Exception) -> None:
        log.error("%s leaves out signal %s, which cannot be stored", self._context.name, signal.id, exc_info=error)
        async with self._context.transaction() as conn:
            await records.set_cursor(conn, *self._shard, signal.feed_seq)

    def _is_ours(self, provider_id: UUID) -> bool:
        shards = self._context.shards
        return shards == 1 or shard_of(provider_key(provider_id), shards) == self._context.shard

    async def _apply(self, conn: Connection, page: Sequence[LoggedSignal]) -> Projection:
        ids = {each.provider_id for each in page}
        known = await self._load(conn, ids)
        people = [each for each in ids if not known[each].is_system]
        zones = dict.fromkeys(people, _UTC)
        if people:
            zones |= await streaks.load_zones(conn, people)
        wanted = keys_to_close(page)
        positions = await outcomes.oldest_open(conn, wanted) if wanted else []
        projection = Projection(known, positions, self._streaks, zones)
        for each in page:
            projection.take(each)
        await _save(conn, projection)
        return projection

    async def _load(self, conn: Connection, ids: Collection[UUID]) -> Mapping[UUID, RecordRow]:
        missing = [each for each in ids if each not in self._records]
        if missing:
            loaded = await records.load_records(conn, missing)
            self._records.update(loaded)
            people = [each.provider_id for each in loaded.values() if not each.is_system]
            for row in await streaks.load_streaks(conn, "provider", people) if people else ():
                self._streaks[row.owner_id, row.streak_type] = from_row(row)
        return self._records

    def _remember(self, projection: Projection) -> None:
        self._streaks.update(projection.streaks)
        for provider_id, record in projection.records.items():
            self._records[provider_id] = record
            self._records.move_to_end(provider_id)
        while len(self._records) > IN_MEMORY:
            provider_id, _ = self._records.popitem(last=False)
            self._streaks.pop((provider_id, "profitable_signal"), None)
            self._streaks.pop((provider_id, "provider_signal"), None)


async def _save(conn: Connection, projection: Projection) -> None:
    if projection.opened:
        await outcomes.insert_outcomes(conn, projection.opened)
    if projection.closed:
        await outcomes.close_outcomes(conn, projection.closed)
    if projection.records:
        await records.upsert_records(conn, [(each, figures_of(each)) for each in projection.records.values()])
    if rows := projection.streak_rows():
        await streaks.upsert_streaks(conn, "provider", rows)
    if projection.ended:
        await streaks.insert_ended(conn, "provider", projection.ended)
