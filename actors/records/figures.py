"""Compute the figures that a profile shows of a provider's book (pure): each rounded once, null instead of infinity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from actors.records.book import Book, Marks
from actors.records.curve import with_open_bets
from actors.records.gates import MissingGate, Track, missing_gates
from actors.records.returns import UNIT, rounded
from actors.records.skill import wilson

_FIGURE_UNITS = 10**4  # figures have 4 decimals


@dataclass(frozen=True, slots=True)
class BookFigures:
    """The figures of a book. Returns are fractions; times are in seconds. Counts are of bets but for positions."""

    profit_factor: float | None
    payoff: float | None
    expectancy: float | None
    median_holding_seconds: int | None
    oldest_open_seconds: int | None
    share_open: float | None
    share_verified: float | None
    worst_day: float | None
    open: int
    closed: int
    breakeven: int
    stale: int
    days: int
    win_rate_interval: tuple[float, float] | None
    missing: tuple[MissingGate, ...]  # what keeps it off the boards


def figures_of_book(book: Book, marks: Marks, now: datetime) -> BookFigures:
    """Return the figures of a book that has been marked last at these mids."""
    closed, bets = book.closed, with_open_bets(book, marks)
    loss = -bets.loss_sum
    positions = book.opened + book.unverified
    oldest = min((each.opened_at for each in book.positions.values()), default=None)
    interval = wilson(bets.wins, bets.count)
    track = Track(bets.count, book.days, book.first_day, positions, book.unverified)
    return BookFigures(
        profit_factor=_figure(bets.gain_sum, loss),
        payoff=_figure(bets.gain_sum * bets.losses, loss * bets.wins),
        expectancy=_figure(bets.gain_sum + bets.loss_sum, bets.count * UNIT),
        median_holding_seconds=median_of(book.holding),
        oldest_open_seconds=None if oldest is None else max(int((now - oldest).total_seconds()), 0),
        share_open=_figure(len(book.bets), bets.count),
        share_verified=_figure(book.opened, positions),
        worst_day=None if book.worst_day is None else _figure(book.worst_day, UNIT),
        open=len(book.bets),
        closed=closed.count,
        breakeven=closed.count - closed.wins - closed.losses,
        stale=book.stale,
        days=book.days,
        win_rate_interval=None if interval is None else (round(interval[0], 4), round(interval[1], 4)),
        missing=tuple(missing_gates(track, now.date())),
    )


def median_of(counts: Mapping[int, int]) -> int | None:
    """Return the median of values by their counts, between two of them the mean rounded down; None without any."""
    total = sum(counts.values())
    if not total:
        return None
    values = sorted(counts)
    return (_at(values, counts, (total - 1) // 2) + _at(values, counts, total // 2)) // 2


def _at(values: list[int], counts: Mapping[int, int], place: int) -> int:
    passed = 0
    for value in values:
        passed += counts[value]
        if passed > place:
            return value
    raise AssertionError("past the last value")


def _figure(numerator: int, denominator: int) -> float | None:
    return rounded(numerator * _FIGURE_UNITS, denominator) / _FIGURE_UNITS if denominator else None
