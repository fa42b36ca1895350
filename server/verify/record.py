"""Recompute a provider's record from the entries of the log, and compare it with what its page shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final
from uuid import UUID

from actors.providers.projection import Projection
from actors.providers.record import figures_of
from actors.records.book import Book
from actors.records.curve import DayResult
from actors.records.entries import AnyEntry, RetractionEntry, SignalEntry
from actors.records.figures import median_of
from actors.records.replay import replay
from actors.records.returns import UNIT, rounded
from config.documents import Document
from db.providers.records import RecordRow
from server.verify import NotVerified

SHOWN: Final = Decimal("0.0001")
_UNIT: Final = Decimal(10) ** 12
_MOST_BPS: Final = 10_000
MOST: Final = 10
MOST_POINTS: Final = 500


@dataclass
class Recomputed:
    """A provider's record, as the log has it; `signals` are those of its own."""

    book: Book
    days: Mapping[date, DayResult]
    signals: int
    newest: int  # index of its last entry, or −1


@dataclass
class _Counting:
    """Passes entries on, and counts the provider's own."""

    provider_id: UUID
    signals: int = 0
    newest: int = -1
    retracted: set[UUID] = field(default_factory=set)

    def own(self, entries: Iterator[tuple[int, AnyEntry]]) -> Iterator[AnyEntry]:
        for index, entry in entries:
            provider_id = getattr(entry, "provider_id", None)
            if provider_id is not None:
                if provider_id != self.provider_id:
                    continue
                self.newest = index
                self.signals += isinstance(entry, SignalEntry)
                if isinstance(entry, RetractionEntry):
                    self.retracted.add(entry.signal_id)
            yield entry


def recompute(
    entries: Iterator[tuple[int, AnyEntry]], provider_id: UUID, cost_bps: Mapping[str, Decimal]
) -> Recomputed:
    """Return the provider's record after these entries: its own and the market's, with their indices."""
    counting = _Counting(provider_id)
    found = replay(counting.own(entries), cost_bps)
    return Recomputed(found.book, {day.day: day for day in found.days}, counting.signals, counting.newest)


def costs_of(equity: Document) -> Mapping[str, Decimal]:
    """Return the costs that the page is computed with. Raises NotVerified."""
    given = equity.get("cost_bps")
    if not isinstance(given, dict):
        raise NotVerified("the equity has no cost_bps")
    found = {name: _number(value, f"cost_bps.{name}") for name, value in given.items()}
    if not all(value.is_finite() and 0 <= value <= _MOST_BPS for value in found.values()):
        raise NotVerified("cost_bps of the equity are no costs")
    return found


def differences(record: Recomputed, equity: Document) -> tuple[int, list[str]]:
    """Return how many of the shown days were compared, and what differs, each with its day and figure.

    The last point is of now, at mids that no day of the log ends with: it is left out.
    """
    points = equity.get("points")
    if not isinstance(points, list) or not all(isinstance(each, dict) for each in points):
        raise NotVerified("the equity has no points")
    known = _every_day(record.days)
    shown_days = {_day(point): point for point in points[:-1]}
    found = [text for day, point in shown_days.items() if day in known for text in _differing(point, known[day])]
    if len(known) < MOST_POINTS:
        found += [f"{day} is not shown" for day in known if day not in shown_days]
    return len(shown_days.keys() & known.keys()), found[:MOST]


def record_differences(record: Recomputed, profile: Document) -> list[str]:
    """Return the figures of a profile's `record`, if it has one, that differ; those of now, at today's mids, aside."""
    given, book = profile.get("record"), record.book
    if not isinstance(given, dict):
        return []
    positions = book.opened + book.unverified
    figures = {
        "closed": book.closed.count,
        "breakeven": book.closed.count - book.closed.wins - book.closed.losses,
        "median_holding_seconds": median_of(book.holding),
        "share_verified": shown(rounded(book.opened * UNIT, positions)) if positions else None,
    }
    return [
        f"record.{name} is shown as {given.get(name)}, and by the log it is {value}"
        for name, value in figures.items()
        if not _is_same(given.get(name), value)
    ]


def _every_day(days: Mapping[date, DayResult]) -> Mapping[date, DayResult]:
    """Return the days with those between them on which nothing was open, and nothing changed."""
    found: dict[date, DayResult] = {}
    before: DayResult | None = None
    for day, result in days.items():
        while before is not None and (following := before.day + timedelta(days=1)) < day:
            realised = before.realised + before.open_result
            before = DayResult(following, None, before.equity, realised, 0, 0, before.drawdown)
            found[following] = before
        found[day] = before = result
    return found


def _differing(point: Document, ours: DayResult) -> list[str]:
    figures = {
        "equity": ours.equity,
        "realised": ours.realised,
        "open": ours.open_result,
        "exposure": ours.exposure,
        "drawdown": ours.drawdown,
    }
    return [
        f"{ours.day}: {name} is shown as {point.get(name)}, and by the log it is {shown(value)}"
        for name, value in figures.items()
        if _number(point.get(name), name) != shown(value)
    ]


def shown(value: int) -> Decimal:
    """Return an amount of 1e-12 as pages show it: four decimals, half to even."""
    return (Decimal(value) / _UNIT).quantize(SHOWN)


def _day(point: Document) -> date:
    """Return the day that a point is the end of."""
    try:
        return (datetime.fromisoformat(str(point["t"])) - timedelta(microseconds=1)).date()
    except (KeyError, ValueError, TypeError, OverflowError):
        raise NotVerified("a point of the equity has no time") from None


def _number(value: object, name: str) -> Decimal:
    try:
        if isinstance(value, int | float | str):
            return Decimal(str(value))
    except InvalidOperation:
        pass
    raise NotVerified(f"{name} of the equity is no number")


def declared_since(
    entries: Iterator[tuple[int, AnyEntry]], provider_id: UUID, since: int
) -> list[Mapping[str, object]]:
    """Return the figures of declared prices after the entries before `since`, and after each own entry from there on.

    A page that is read beside a log that grows shows one of these.
    """
    empty = RecordRow(provider_id, is_system=False)
    projection = Projection({provider_id: empty}, (), {}, {})
    found: list[Mapping[str, object]] = []
    for index, entry in entries:
        owner = getattr(entry, "provider_id", provider_id)
        if owner != provider_id:
            continue
        if index >= since:
            found.append(_declared(projection.records.get(provider_id, empty)))
        projection.take(index, entry)
    return [*found, _declared(projection.records.get(provider_id, empty))]


def declared_differences(states: Sequence[Mapping[str, object]], profile: Document) -> list[str]:
    """Return the figures of a page that differ from the log's; none if they are those of one of the states."""
    shown_stats = profile.get("stats")
    if not isinstance(shown_stats, dict):
        raise NotVerified("the profile has no stats")
    for state in states:
        found = [
            f"{name} is shown as {shown_stats.get(name)}, and by the log it is {value}"
            for name, value in state.items()
            if not _is_same(shown_stats.get(name), value)
        ]
        if not found:
            return []
    return found


def _declared(record: RecordRow) -> Mapping[str, object]:
    figures = figures_of(record)
    counts = ("total_signals", "win_count", "loss_count", "current_streak", "longest_streak")
    return {name: getattr(record, name) for name in counts} | {
        name: getattr(figures, name) for name in figures.__match_args__
    }


def _is_same(given: object, value: object) -> bool:
    if given is None or value is None:
        return given is value
    return isinstance(given, int | float) and Decimal(str(given)) == Decimal(str(value))


def lines_of(record: Recomputed) -> Sequence[str]:
    """Return the record in lines for people."""
    book = record.book
    first = f"{record.signals} signals, {book.opened} positions with a quote and {book.unverified} without"
    if not record.days:
        return [first, "no day with an open position has ended yet"]
    last = max(record.days)
    return [
        first,
        f"{book.closed.count} bets closed: {book.closed.wins} won, {book.closed.losses} lost",
        f"equity {exact(book.equity)} after {book.days} days with exposure, the last on {last}",
        f"drawdown {exact(book.deepest)} at worst, worst day {exact(book.worst_day or 0)}",
    ]


def exact(value: int) -> str:
    """Return an amount of 1e-12 with all of its digits."""
    return f"{Decimal(value) / _UNIT:.12f}"
