"""Recompute a track record from what Postgres has: the log and the follower changes.

For operators, and for tests: the record that is kept entry by entry equals it to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from uuid import UUID

from actors.providers.book_keeper import Indexed, day_row, stats_row
from actors.providers.projection import Projection
from actors.providers.record import figures_of, followed, with_given_level
from actors.records.book import Book
from actors.records.entries import MarkEntry, SignalEntry, SplitEntry, decode
from actors.records.history import LastMids, RecordFold, ends_day
from actors.records.stored import encode_book
from db._postgres import Connection
from db.providers import books, follows, outcomes, records
from db.providers.books import BookRow, DayRow, StatsRow
from db.providers.follows import FollowerChange
from db.providers.outcomes import OutcomeRow
from db.providers.records import RecordRow


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A recomputed record, and its differences from the stored one: empty when that is right."""

    record: RecordRow
    outcomes: Sequence[OutcomeRow]
    market: MarketRecord
    differences: Sequence[str]


@dataclass(frozen=True, slots=True)
class MarketRecord:
    """A provider's book, days and statistics, recomputed from its own entries and the market's."""

    book: BookRow | None
    days: Sequence[DayRow]
    stats: StatsRow | None


async def rebuild(conn: Connection, provider_id: UUID, cost_bps: Mapping[str, Decimal]) -> Rebuilt:
    """Compare a provider's record, up to the newest entry in it, with its recomputation.

    For a transaction that sees one moment. Raises KeyError for an unknown provider.
    """
    stored = (await records.load_records(conn, [provider_id]))[provider_id]
    book = (await books.load_books(conn, [provider_id])).get(provider_id)
    until = max(stored.applied_index, book.applied_index if book else -1)
    log = [(row.index, decode(row.body)) for row in await books.read_log_of(conn, provider_id, until)]
    changes = await follows.load_changes(conn, provider_id)
    empty = RecordRow(provider_id, stored.is_system, eligible_since=stored.eligible_since)
    record, positions = replay_figures(empty, [each for each in log if each[0] <= stored.applied_index], changes)
    record = with_given_level(record, stored)
    market = replay_market(provider_id, log, book.applied_index if book else -1, cost_bps)
    differences = _differences(stored, record)
    found = await records.load_figures(conn, provider_id)
    if found is not None and found != figures_of(record):
        differences.append(f"figures: {found}, not {figures_of(record)}")
    if not _alike(await outcomes.load_outcomes_of(conn, [provider_id]), positions):
        differences.append("outcomes")
    following = await follows.count_followers(conn, provider_id)
    if following != stored.follower_count:
        differences.append(f"followers: {stored.follower_count}, not {following}")
    if book != market.book:
        differences.append("book")
    if await books.load_days(conn, provider_id) != market.days:
        differences.append("days")
    if not _same_stats(await books.load_stats(conn, provider_id), market.stats):
        differences.append("statistics")
    return Rebuilt(record, positions, market, differences)


async def repair(conn: Connection, rebuilt: Rebuilt) -> None:
    """Store a recomputed record; for a transaction of the provider's owner."""
    provider_id, market = rebuilt.record.provider_id, rebuilt.market
    await outcomes.delete_outcomes_of(conn, provider_id)
    if rebuilt.outcomes:
        await outcomes.insert_outcomes(conn, rebuilt.outcomes)
    await records.upsert_records(conn, [(rebuilt.record, figures_of(rebuilt.record))])
    if market.book is not None:
        await books.upsert_books(conn, [market.book])
    await books.delete_days_of(conn, provider_id)
    await books.insert_days(conn, market.days)
    if market.stats is not None:
        await books.upsert_stats(conn, [market.stats])
        await books.set_daily_losses(conn, [provider_id])


def replay_figures(
    empty: RecordRow, log: Iterable[Indexed], changes: Iterable[FollowerChange]
) -> tuple[RecordRow, Sequence[OutcomeRow]]:
    """Return the record after entries and follower changes, each where it happened, and its positions."""
    provider_id = empty.provider_id
    projection = Projection({provider_id: empty}, (), {}, {})
    waiting = list(changes)[::-1]

    def follow_until(feed_seq: int | None) -> None:
        while waiting and (feed_seq is None or waiting[-1].feed_seq < feed_seq):
            change = waiting.pop()
            record = projection.records.get(provider_id, empty)
            projection.records[provider_id] = followed(record, change.delta, change.at)

    for index, entry in log:
        if isinstance(entry, SignalEntry):
            follow_until(entry.feed_seq)
        projection.take(index, entry)
    follow_until(None)
    positions = sorted(projection.positions.values(), key=lambda each: each.opened_seq)
    return projection.records.get(provider_id, empty), positions


def replay_market(
    provider_id: UUID, log: Iterable[Indexed], until: int, cost_bps: Mapping[str, Decimal]
) -> MarketRecord:
    """Return the book as of an entry, and the days and statistics until then."""
    fold, mids = RecordFold(Book(), cost_bps), LastMids()
    days: list[DayRow] = []
    stats: StatsRow | None = None
    is_due = False
    for index, entry in log:
        if index > until:
            break
        fold.take(entry)
        if isinstance(entry, MarkEntry | SplitEntry):
            mids.take(entry)
        else:
            is_due = True
        if ends_day(entry) and isinstance(entry, MarkEntry):
            day = fold.end_day(entry, mids.marks)
            mids.begin_day()
            if day.result is not None:
                days.append(day_row(provider_id, day))
            if is_due:
                stats = _with_eligibility(stats_row(provider_id, fold.book, day, 0), stats)
            is_due = fold.book.is_active
    book = BookRow(provider_id, until, fold.book.is_active, encode_book(fold.book)) if until >= 0 else None
    return MarketRecord(book, days, stats)


def _with_eligibility(stats: StatsRow, before: StatsRow | None) -> StatsRow:
    known = None if before is None else before.eligible_since
    return stats if known is None else replace(stats, eligible_since=known)


def _differences(stored: RecordRow, record: RecordRow) -> list[str]:
    return [
        f"{each.name}: {getattr(stored, each.name)}, not {getattr(record, each.name)}"
        for each in fields(record)
        if getattr(stored, each.name) != getattr(record, each.name)
    ]


def _alike(stored: Sequence[OutcomeRow], computed: Sequence[OutcomeRow]) -> bool:
    """Compare positions; those that were closed before there was a log have no legs, and the feed's numbers."""
    if len(stored) != len(computed):
        return False
    for old, new in zip(stored, computed, strict=True):
        if old.status != "PENDING" and not old.legs:
            old.legs, old.closed_seq, old.close_reason = new.legs, new.closed_seq, new.close_reason
            old.open_part = new.open_part
        if old != new:
            return False
    return True


def _same_stats(stored: StatsRow | None, computed: StatsRow | None) -> bool:
    """Compare statistics but for the newest item of the whole feed, which a provider's entries do not say."""
    if stored is None or computed is None:
        return stored is computed
    return replace(stored, as_of_seq=computed.as_of_seq) == computed
