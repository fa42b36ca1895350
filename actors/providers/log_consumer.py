"""Consume the log: apply every entry to its provider's record exactly once, across crashes.

A page's effects and the new offset are one transaction. The end of a day closes the books of all providers, some
hundred in one transaction, before the offset goes past it. Redis only says when to read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import asyncpg
import msgspec

from actors._follower import Follower, PageSize
from actors._runtime.context import ActorContext
from actors._runtime.registry import shard_of
from actors.providers.book_keeper import BookKeeper, DayEnd, Indexed, MarketDay, load_market
from actors.providers.events import RecordChange
from actors.providers.messages import provider_key
from actors.providers.projection import Projection, StreakKey
from actors.providers.record import figures_of
from actors.records.entries import (
    EndEntry,
    FillEntry,
    MarkEntry,
    RetractionEntry,
    SignalEntry,
    SplitEntry,
    decode,
)
from actors.records.history import ends_day, marks_of
from actors.streaks import Streak, from_row
from db import streaks
from db._postgres import Connection
from db.log import LogRow, read_entries
from db.providers import books, outcomes, records
from db.providers.books import MidRow
from db.providers.outcomes import OutcomeRow
from db.providers.records import LogOffset, RecordRow
from schemas.feed import LOG_CHANNEL

log = logging.getLogger(__name__)

PAGE = 500  # entries of one transaction: some 20 ms
PAGE_SECONDS = 5.0
DAY_CHUNK = 200  # providers of one transaction at the end of a day: some 1 000 positions are 20 ms
DAY_SECONDS = 60.0
MOST_UNSTORED = 200  # entries of a provider that are not in its stored book: reading them costs 3 ms
MOST_STORED = 10  # books with a page, those with the most of such entries: 200 of each are 30 ms
IN_MEMORY = 10_000  # records: some 10 MB; past it the least recently used are evicted and read again

_UTC = "UTC"  # the days of a provider that has chosen no zone

# Errors which mean that this entry cannot be stored, not that the server is in trouble.
_UNFIT = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    ArithmeticError,
    ValueError,
    msgspec.ValidationError,
)


class LogConsumer:
    """Reads the log for one shard; `turn` is held while a page is applied; `notify` gets the committed changes."""

    def __init__(
        self, context: ActorContext, turn: asyncio.Lock, notify: Callable[[Sequence[RecordChange]], None]
    ) -> None:
        self._context = context
        self._turn = turn
        self._notify = notify
        self._shard = context.shards, context.shard
        self._reading = asyncio.Lock()
        self._follower = Follower(context, LOG_CHANNEL, self._read)
        self._keeper = BookKeeper(context.settings.costs_bps)
        self._offset: LogOffset | None = None  # None: to be read from Postgres, with the market's day
        self._market = MarketDay()
        self._records: OrderedDict[UUID, RecordRow] = OrderedDict()  # as they are stored; least recently used first
        self._streaks: dict[StreakKey, Streak] = {}  # of those records
        self._unstored: Counter[UUID] = Counter()  # entries, as far as this process has read them
        self._page = PageSize(PAGE)
        self._came = 1  # entries of the last page

    @property
    def stats(self) -> Mapping[str, float]:
        """Return the offset, and how much is held in memory."""
        return {"log_index": self._offset.index if self._offset else 0, "in_memory": len(self._records)}

    def start(self) -> None:
        """Start consuming."""
        self._follower.start()

    def forget(self, provider_ids: Iterable[UUID]) -> None:
        """Drop these records from memory, so that they are read again before use; the caller holds the lock `turn`."""
        for each in provider_ids:
            self._records.pop(each, None)

    async def catch_up(self) -> int:
        """Apply everything that is in the log and return the offset; raises DatabaseUnavailable, Fenced."""
        async with self._reading:
            while await self._apply_next():
                pass
            assert self._offset is not None
            return self._offset.index

    async def _read(self) -> int:
        await self.catch_up()
        return self._came

    # --- a page

    async def _apply_next(self) -> bool:
        """Apply the next page, or close the day that ends with the next entry; return whether there may be more."""
        async with self._turn:
            try:
                async with self._context.transaction(deadline_seconds=PAGE_SECONDS) as conn:
                    offset = await self._load_offset(conn)
                    rows = await read_entries(conn, offset.index, self._page.now)
                    if not rows:
                        self._came = 1  # the log is quiet: the next entry needs no batching delay
                        return False
                    page = self._decoded(rows)
                    end = next(((index, entry) for index, entry in page if ends_day(entry)), None)
                    if end is None or end[0] > rows[0].index:
                        reached = rows[-1].index + 1 if end is None else end[0]
                        projection = await self._apply(conn, [each for each in page if each[0] < reached], reached)
                        await records.set_offset(conn, *self._shard, replace(offset, index=reached))
            except _UNFIT as error:
                self._distrust_memory()
                if not self._page.halve():
                    await self._skip(rows[0], error)
                return True
            except BaseException:
                self._distrust_memory()
                raise
            if end is None or end[0] > rows[0].index:
                is_full = len(rows) == self._page.now
                self._finish_page(projection, replace(offset, index=reached), len(rows))
                return end is not None or is_full
        await self._close_day(offset, *end)
        return True

    def _finish_page(self, projection: Projection, offset: LogOffset, came: int) -> None:
        self._came = came
        self._page.restore()
        self._offset = offset
        changes = [RecordChange(self._records[each.provider_id], each) for each in projection.records.values()]
        self._remember(projection)
        self._notify(changes)  # the lock is still held: events leave in the order of the commits

    async def _load_offset(self, conn: Connection) -> LogOffset:
        if self._offset is None:
            self._offset = await records.get_offset(conn, *self._shard)
            self._market = await load_market(conn, self._offset.day_index, self._offset.index - 1)
        return self._offset

    def _decoded(self, rows: Sequence[LogRow]) -> list[Indexed]:
        """Return the entries that concern this shard: its providers' own, and the market's."""
        return [
            (row.index, decode(row.body)) for row in rows if row.provider_id is None or self._is_ours(row.provider_id)
        ]

    def _distrust_memory(self) -> None:
        # The transaction may have been committed all the same: Postgres holds the truth.
        self._offset = None
        self._records.clear()
        self._streaks.clear()

    async def _skip(self, row: LogRow, error: Exception) -> None:
        log.error("%s leaves out entry %d, which cannot be stored", self._context.name, row.index, exc_info=error)
        async with self._context.transaction() as conn:
            offset = await records.get_offset(conn, *self._shard)
            await records.set_offset(conn, *self._shard, replace(offset, index=row.index + 1))

    def _is_ours(self, provider_id: UUID) -> bool:
        shards = self._context.shards
        return shards == 1 or shard_of(provider_key(provider_id), shards) == self._context.shard

    async def _apply(self, conn: Connection, page: Sequence[Indexed], reached: int) -> Projection:
        positions = await self._positions(conn, page)
        own = Counter(provider_of(entry) for _, entry in page)
        ids = {each for each in own if each is not None} | {each.provider_id for each in positions}
        known = await self._load(conn, ids)
        people = [each for each in ids if not known[each].is_system]
        zones = dict.fromkeys(people, _UTC)
        if people:
            zones |= await streaks.load_zones(conn, people)
        projection = Projection(known, positions, self._streaks, zones)
        for index, entry in page:
            projection.take(index, entry)
            self._market.take(index, entry)
        await _save(conn, projection)
        await self._store_mids(conn, page)
        await self._store_books(conn, own, projection, page, reached - 1)
        return projection

    async def _positions(self, conn: Connection, page: Sequence[Indexed]) -> list[OutcomeRow]:
        """Load the stored positions that a page is about."""
        named: set[UUID] = set()
        whole: set[UUID] = set()
        found: dict[UUID, OutcomeRow] = {}
        for _, entry in page:
            match entry:
                case SignalEntry() if entry.closes is not None:
                    named.add(entry.closes)
                case FillEntry() | EndEntry():
                    named.add(entry.position)
                case RetractionEntry():
                    whole.add(entry.provider_id)
                case SplitEntry():
                    rows = await outcomes.load_open_on(conn, entry.asset_type, entry.instrument)
                    found |= {each.signal_id: each for each in rows}
        if any(isinstance(entry, MarkEntry) for _, entry in page):
            found |= {each.signal_id: each for each in await outcomes.load_unmarked(conn)}
        if named:
            found |= {each.signal_id: each for each in await outcomes.load_outcomes(conn, named)}
        if whole:
            found |= {each.signal_id: each for each in await outcomes.load_outcomes_of(conn, whole)}
        return [each for each in found.values() if self._is_ours(each.provider_id)]

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

    # --- books

    async def _store_mids(self, conn: Connection, page: Sequence[Indexed]) -> None:
        """Store the last mids of all instruments, for all shards."""
        if self._context.shard != 0:
            return
        rows: dict[tuple[str, str], MidRow] = {}
        for _, entry in page:
            if isinstance(entry, MarkEntry):
                rows |= {key: MidRow(*key, mid, entry.hour) for key, mid in marks_of(entry).items()}
        if rows:
            await books.upsert_mids(conn, list(rows.values()))

    async def _store_books(
        self, conn: Connection, own: Counter[UUID | None], projection: Projection, page: Sequence[Indexed], until: int
    ) -> None:
        """Store the books of which much is not stored, and those that a split has changed."""
        self._unstored.update({each: count for each, count in own.items() if each is not None})
        full = [each for each in own if each is not None and self._unstored[each] >= MOST_UNSTORED]
        due = set(sorted(full, key=self._unstored.__getitem__)[-MOST_STORED:])
        if any(isinstance(entry, SplitEntry) for _, entry in page):
            due |= projection.records.keys()
        if due:
            await self._keeper.store(conn, due, until, self._market)
            for each in due:
                del self._unstored[each]

    async def _close_day(self, offset: LogOffset, index: int, mark: object) -> None:
        """Close the books of every provider of this shard, and go past the mark."""
        assert isinstance(mark, MarkEntry)
        async with self._context.connection(deadline_seconds=DAY_SECONDS) as conn:
            ids = [each for each in await books.providers_to_close(conn, offset.day_index) if self._is_ours(each)]
            market = await load_market(conn, offset.day_index, index)
            end = DayEnd(index, mark, market, await books.newest_seq(conn, index))
        for start in range(0, len(ids), DAY_CHUNK):
            chunk = ids[start : start + DAY_CHUNK]
            async with self._turn, self._context.transaction(deadline_seconds=DAY_SECONDS) as conn:
                await self._keeper.close(conn, chunk, end)
                self.forget(chunk)  # when a record became eligible is read with it
        closed = LogOffset(index + 1, index)
        async with self._turn:
            try:
                async with self._context.transaction(deadline_seconds=PAGE_SECONDS) as conn:
                    projection = await self._apply(conn, [(index, mark)], closed.index)
                    await records.set_offset(conn, *self._shard, closed)
            except BaseException:
                self._distrust_memory()
                raise
            self._finish_page(projection, closed, 1)
        self._market = MarketDay()
        self._unstored.clear()


def provider_of(entry: object) -> UUID | None:
    """Return the provider whose own an entry is; None: it is the market's."""
    return None if isinstance(entry, MarkEntry | SplitEntry) else getattr(entry, "provider_id", None)


async def _save(conn: Connection, projection: Projection) -> None:
    if new := projection.new_positions:
        await outcomes.insert_outcomes(conn, new)
    if changed := projection.changed_positions:
        await outcomes.update_outcomes(conn, changed)
    if gone := projection.gone_positions:
        await outcomes.delete_outcomes(conn, gone)
    if projection.records:
        await records.upsert_records(conn, [(each, figures_of(each)) for each in projection.records.values()])
    if rows := projection.streak_rows():
        await streaks.upsert_streaks(conn, "provider", rows)
    if projection.ended:
        await streaks.insert_ended(conn, "provider", projection.ended)
