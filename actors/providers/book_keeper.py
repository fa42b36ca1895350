"""Keep the books of a shard's providers: close their days at the marks that end them, and store what has been read."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from operator import itemgetter
from uuid import UUID

from actors.records.book import Book
from actors.records.curve import DayResult, with_open_bets
from actors.records.entries import AnyEntry, MarkEntry, SplitEntry, decode
from actors.records.gates import Track, missing_gates
from actors.records.history import LastMids, RecordFold
from actors.records.stored import decode_book, encode_book
from db._postgres import Connection
from db.providers import books
from db.providers.books import BookRow, DayRow, EntryRow, StatsRow

Indexed = tuple[int, AnyEntry]
"""An entry of the log with its index."""


class MarketDay:
    """The marks and splits since the end of a day, as far as they have been read, in the log's order."""

    def __init__(self, entries: Iterable[Indexed] = ()) -> None:
        self.entries: list[Indexed] = []
        self.mids = LastMids()
        for index, entry in entries:
            self.take(index, entry)

    def take(self, index: int, entry: AnyEntry) -> None:
        """Read the next entry; those of the market are kept."""
        if isinstance(entry, MarkEntry | SplitEntry):
            self.entries.append((index, entry))
            self.mids.take(entry)


@dataclass(frozen=True, slots=True)
class DayEnd:
    """The mark that ends a day, its index, the market's entries up to it, and the newest feed item before."""

    index: int
    mark: MarkEntry
    market: MarketDay
    as_of_seq: int


async def load_market(conn: Connection, after: int, until: int) -> MarketDay:
    """Return the market's entries after an index and up to `until`."""
    return MarketDay(_decoded(await books.read_market(conn, after, until)))


class BookKeeper:
    """Reads providers' entries into their books; `cost_bps` are the costs of a side by asset type."""

    def __init__(self, cost_bps: Mapping[str, Decimal]) -> None:
        self._cost_bps = cost_bps

    async def store(self, conn: Connection, ids: Collection[UUID], until: int, market: MarketDay) -> None:
        """Store the books of providers as of an entry, so that less is left to be read when they are shown."""
        folds = await self._folds(conn, ids, until, market)
        await books.upsert_books(conn, [_row(each, until, fold.book) for each, fold in folds.items()])

    async def close(self, conn: Connection, ids: Collection[UUID], end: DayEnd) -> None:
        """Close a day of providers; one whose book is beyond it is left as it is."""
        folds = await self._folds(conn, ids, end.index, end.market)
        days: dict[UUID, DayResult] = {}
        for provider_id, fold in folds.items():
            days[provider_id] = fold.end_day(end.mark, end.market.mids.marks)
        rows = [day_row(provider_id, day) for provider_id, day in days.items() if day.result is not None]
        stats = [stats_row(each, folds[each].book, day, end.as_of_seq) for each, day in days.items()]
        await books.upsert_books(conn, [_row(each, end.index, fold.book) for each, fold in folds.items()])
        await books.upsert_stats(conn, stats)
        if rows:
            await books.insert_days(conn, rows)
            await books.set_daily_losses(conn, [each.provider_id for each in rows])

    async def _folds(
        self, conn: Connection, ids: Collection[UUID], until: int, market: MarketDay
    ) -> dict[UUID, RecordFold]:
        """Return the folds of those providers whose books are not as far, after all entries up to `until`."""
        stored = await books.load_books(conn, ids)
        after = {each: stored[each].applied_index if each in stored else -1 for each in ids}
        after = {each: index for each, index in after.items() if index < until}
        entries: defaultdict[UUID, list[Indexed]] = defaultdict(list)
        for row in await books.read_entries_since(conn, after, until):
            assert row.provider_id is not None
            entries[row.provider_id].append((row.index, decode(row.body)))
        folds = {}
        for provider_id, index in after.items():
            book = decode_book(stored[provider_id].book) if provider_id in stored else Book()
            folds[provider_id] = fold = RecordFold(book, self._cost_bps)
            since = [each for each in market.entries if index < each[0] <= until]
            for _, entry in heapq.merge(entries[provider_id], since, key=itemgetter(0)):
                fold.take(entry)
        return folds


def day_row(provider_id: UUID, day: DayResult) -> DayRow:
    """Return a day on which something was open as it is stored."""
    assert day.result is not None
    return DayRow(
        provider_id, day.day, day.result, day.equity, day.realised, day.open_result, day.exposure, day.drawdown
    )


def stats_row(provider_id: UUID, book: Book, day: DayResult, as_of_seq: int) -> StatsRow:
    """Return a provider's statistics at the end of a day."""
    bets = with_open_bets(book, {})
    positions = book.opened + book.unverified
    return StatsRow(
        provider_id=provider_id,
        day=day.day,
        as_of_seq=as_of_seq,
        positions=positions,
        unverified=book.unverified,
        open_positions=len(book.positions),
        stale=book.stale,
        bets=bets.count,
        wins=bets.wins,
        losses=bets.losses,
        gain_sum=bets.gain_sum,
        loss_sum=bets.loss_sum,
        days=book.days,
        day_sum=book.day_sum,
        day_square_sum=book.day_square_sum,
        first_on=book.first_day,
        equity=book.equity,
        open_result=day.open_result,
        max_drawdown=book.deepest,
        worst_day=book.worst_day,
        eligible_since=_eligible_since(book, bets.count, positions, day.day),
    )


def _eligible_since(book: Book, bets: int, positions: int, today: date) -> date | None:
    track = Track(bets, book.days, book.first_day, positions, book.unverified)
    return None if missing_gates(track, today + timedelta(days=1)) else today


def _row(provider_id: UUID, index: int, book: Book) -> BookRow:
    return BookRow(provider_id, index, book.is_active, encode_book(book))


def _decoded(rows: Sequence[EntryRow]) -> list[Indexed]:
    return [(row.index, decode(row.body)) for row in rows]
