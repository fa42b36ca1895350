"""Compute a provider's record from its entries of the log alone, as anyone can who has the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from actors.records.book import Book, Marks
from actors.records.curve import DayResult
from actors.records.entries import AnyEntry, MarkEntry, SplitEntry
from actors.records.history import LastMids, RecordFold, ends_day


@dataclass(frozen=True, slots=True)
class Replayed:
    """A provider's book after the last entry, its days so far, and the mids since the last of them."""

    book: Book
    days: tuple[DayResult, ...]
    marks: Marks


def replay(entries: Iterable[AnyEntry], cost_bps: Mapping[str, Decimal]) -> Replayed:
    """Return the record after these entries: those of one provider, and all marks and splits, in the log's order.

    Days before the provider's first entry, and those on which nothing of its was open, are not among its days.
    """
    book, mids, days = Book(), LastMids(), []
    fold = RecordFold(book, cost_bps)
    for entry in entries:
        fold.take(entry)
        if isinstance(entry, MarkEntry | SplitEntry):
            mids.take(entry)
        if ends_day(entry):
            assert isinstance(entry, MarkEntry)
            day = fold.end_day(entry, mids.marks)
            mids.begin_day()
            if day.result is not None:
                days.append(day)
    return Replayed(book, tuple(days), mids.marks)
