"""Bring a stored book up to the present (pure): the entries since then, and the open positions at the last mids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from actors.records.book import Book, Marks
from actors.records.curve import Accounting, DayResult
from actors.records.entries import AnyEntry
from actors.records.figures import BookFigures, figures_of_book
from actors.records.history import RecordFold


@dataclass(frozen=True, slots=True)
class Present:
    """A provider's record now: the day so far as if it ended now, and its figures."""

    today: DayResult
    figures: BookFigures


def with_entries(book: Book, entries: Iterable[AnyEntry], cost_bps: Mapping[str, Decimal]) -> Book:
    """Return the book after entries of its provider."""
    fold = RecordFold(book, cost_bps)
    for entry in entries:
        fold.take(entry)
    return book


def present_of(book: Book, marks: Marks, now: datetime, cost_bps: Mapping[str, Decimal]) -> Present:
    """Return the record at the last mids; the book is used up."""
    stale = book.stale
    today = Accounting(book, cost_bps).end_day(now.date(), marks)
    book.stale = stale  # only the end of a day tells
    return Present(today, figures_of_book(book, marks, now))


def days_with_today(days: Sequence[DayResult], today: DayResult) -> list[DayResult]:
    """Return the days of a curve with a point for every day, up to now: without exposure nothing has changed."""
    found: list[DayResult] = []
    for day in [*days, today]:
        if found:
            found += _between(found[-1], day.day)
        found.append(day)
    return found


def _between(last: DayResult, until: date) -> list[DayResult]:
    missing = range(last.day.toordinal() + 1, until.toordinal())
    equity = last.equity
    realised = last.realised + last.open_result
    return [DayResult(date.fromordinal(number), None, equity, realised, 0, 0, last.drawdown) for number in missing]
