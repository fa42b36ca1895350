"""Mark a provider's positions day by day: the daily return, the equity that compounds it, and the bets it consists of.

A `Book` is everything that the next day depends on; `Accounting` is the whole of its rules. What was kept day by day
and what is computed anew from the log are the same digits, because both are this fold over the same events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Context, Decimal
from typing import Final

from actors.records.book import (
    Bet,
    Bets,
    Book,
    Instrument,
    MarkedPosition,
    Marks,
    PositionId,
    RecentClose,
    UnitChange,
)
from actors.records.returns import UNIT, cost_of, return_of, rounded, times
from schemas._vocabulary import Side

RECENT: Final = timedelta(minutes=1)
"""A signal can be retracted for 10 s from its receipt: its retraction stands in the log before any signal of its
provider that was received a minute later."""

_EXACTLY: Final = Context(prec=60)
"""So many digits that only a quotient without an end is rounded, half to even."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A position was opened at the price of its record."""

    position_id: PositionId
    instrument: Instrument
    side: Side
    entry: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Left:
    """A part of a position was closed, by a signal or an end. `part` is in units of 1e-12 of the whole position."""

    position_id: PositionId
    part: int
    exit_price: Decimal
    at: datetime
    closed_by: PositionId | None = None


@dataclass(frozen=True, slots=True)
class Reopened:
    """The signal of a close was retracted: what it closed is open again."""

    closed_by: PositionId


@dataclass(frozen=True, slots=True)
class Voided:
    """A position counts as if it had never been: its signal was retracted, or its market resolved to nothing."""

    position_id: PositionId


@dataclass(frozen=True, slots=True)
class Divided:
    """Each share became `new` for `old`."""

    instrument: Instrument
    new: int
    old: int


Event = Opened | Left | Reopened | Voided | Divided


@dataclass(frozen=True, slots=True)
class DayResult:
    """One UTC day of a provider. Amounts are in units of 1e-12; `result` is None where nothing was open all day."""

    day: date
    result: int | None
    equity: int
    realised: int
    open_result: int
    exposure: int
    drawdown: int


def close_day(
    book: Book, day: date, events: Iterable[Event], marks: Marks, cost_bps: Mapping[str, Decimal]
) -> DayResult:
    """Apply a day's events, mark what is open at its end, and return the day; the book is then that of the day's end.

    `events` are those that stand in the log before the mark of the day's end and after that of the day before.
    """
    work = Accounting(book, cost_bps)
    for event in events:
        work.apply(event)
    return work.end_day(day, marks)


class Accounting:
    """Applies events and days to a book, in their order."""

    def __init__(self, book: Book, cost_bps: Mapping[str, Decimal]) -> None:
        self.book = book
        self._cost_bps = cost_bps

    def apply(self, event: Event) -> None:
        """Apply one event. What is about a position that has ended changes nothing."""
        match event:
            case Opened():
                self._open(event)
            case Left():
                if position := self.book.positions.get(event.position_id):
                    self._leave(position, event)
            case Reopened():
                self._reopen(event.closed_by)
            case Voided():
                self._void(event.position_id)
            case Divided():
                for position in self.book.positions.values():
                    if position.instrument == event.instrument:
                        position.entry = divided(position.entry, event.new, event.old)

    def end_day(self, day: date, marks: Marks) -> DayResult:
        """Value every open unit at its mark, and compound the day's result into the equity."""
        book = self.book
        gained = self._mark(marks)
        gain, book.gain = book.gain, 0
        exposed, book.exposed = book.exposed, len(book.positions)
        book.peak_before = book.peak_units  # what a day was divided by stays
        for recent in book.closes.values():
            recent.position.is_new = False
        if not exposed:
            return DayResult(day, None, book.equity, book.equity - UNIT, 0, 0, _drawdown(book))
        before = book.equity
        result = self._share(gain)
        book.equity = max(before + times(before, result), 0)
        book.highest = max(book.highest, book.equity)
        book.deepest = max(book.deepest, _drawdown(book))
        book.worst_day = result if book.worst_day is None else min(book.worst_day, result)
        book.days += 1
        book.day_sum += result
        book.day_square_sum += result * result
        book.first_day = book.first_day or day
        open_result = 0
        for position, each in zip(book.positions.values(), gained, strict=True):
            position.accrued += times(before, self._share(each))
            open_result += position.accrued
        realised = book.equity - UNIT - open_result
        return DayResult(day, result, book.equity, realised, open_result, self._share(book.units), _drawdown(book))

    def _mark(self, marks: Marks) -> list[int]:
        """Value the open units; return what each position gained."""
        book, gained = self.book, []
        book.stale = 0
        for position in book.positions.values():
            book.stale += position.instrument not in marks
            value = position.value_at(marks)
            gained.append(times(position.open_part, value - position.value))
            position.value, position.is_new = value, False
        book.gain += sum(gained)
        return gained

    def _share(self, amount: int) -> int:
        return rounded(amount * UNIT, self.book.peak_units) if self.book.peak_units else 0

    def _open(self, event: Opened) -> None:
        book = self.book
        position = MarkedPosition(event.position_id, event.instrument, event.side, event.entry, event.at)
        book.positions[position.id] = position
        bet = book.bets.setdefault(position.instrument, Bet())
        bet.count += 1
        bet.open_count += 1
        self._pay(position, UNIT)
        book.opened += 1
        book.exposed += 1
        self._change(UnitChange(event.at, position.id, UNIT, None))

    def _change(self, change: UnitChange) -> None:
        book = self.book
        book.changes.append(change)
        book.units += change.part
        book.peak_units = max(book.peak_units, book.units)

    def _take_back(self, changes: Iterable[UnitChange]) -> None:
        """Count the units as if these changes had never been."""
        book, gone = self.book, {id(each) for each in changes}
        book.changes = [each for each in book.changes if id(each) not in gone]
        book.units, book.peak_units = book.units_before, book.peak_before
        for each in book.changes:
            book.units += each.part
            book.peak_units = max(book.peak_units, book.units)

    def _leave(self, position: MarkedPosition, event: Left) -> None:
        book = self.book
        part, accrued = min(event.part, position.open_part), position.accrued
        left = return_of(position.instrument[0], position.side, position.entry, event.exit_price)
        gain, realised = times(part, left - position.value), times(part, left)
        book.gain += gain
        position.realised += realised
        cost = self._pay(position, part)
        self._reduce(position, part)
        self._change(UnitChange(event.at, position.id, -part, event.closed_by))
        if event.closed_by is not None:
            taken = accrued - position.accrued
            book.closes[event.closed_by] = RecentClose(
                event.at, position, part, position.value, gain, realised, cost, taken
            )
        if not position.open_part:
            self._end(position, event.at)

    def _reopen(self, closed_by: PositionId) -> None:
        book = self.book
        recent = book.closes.get(closed_by)
        if recent is None:
            return
        position = recent.position
        if position.id not in book.positions:
            self._revive(position)
        del book.closes[closed_by]
        book.gain -= recent.gain - recent.cost - times(recent.part, position.value - recent.value)
        position.realised -= recent.realised
        position.costs -= recent.cost
        position.accrued += recent.accrued
        position.open_part += recent.part
        self._take_back(each for each in book.changes if each.closed_by == closed_by)

    def _revive(self, position: MarkedPosition) -> None:
        """Put an ended position back, and its bet, which may have ended, too."""
        book = self.book
        book.positions[position.id] = position
        book.exposed += not position.is_new
        self._count_holding(position, -1)
        position.ended_at = None
        bet = book.bets.setdefault(position.instrument, Bet())
        ended = self._last_close(position.instrument)
        if ended is not None and ended.bet is not None:
            finished, ended.bet = ended.bet, None
            book.closed.add(rounded(finished.result_sum, finished.count), -1)
            bet.count += finished.count
            bet.result_sum += finished.result_sum
        bet.open_count += 1
        bet.result_sum -= position.realised - position.costs

    def _last_close(self, instrument: Instrument) -> RecentClose | None:
        """Return the last close on an instrument that may be retracted: it has the bet that ended since then."""
        found = (each for each in reversed(self.book.closes.values()) if each.position.instrument == instrument)
        return next(found, None)

    def _void(self, position_id: PositionId) -> None:
        """Take back what a position has counted, on earlier days too."""
        book = self.book
        for closed_by in [key for key, recent in book.closes.items() if recent.position.id == position_id][::-1]:
            self._reopen(closed_by)
        position = book.positions.get(position_id)
        if position is None:
            return
        book.gain -= position.realised + times(position.open_part, position.value) - position.costs
        book.opened -= 1
        book.exposed -= position.is_new
        mine = [each for each in book.changes if each.position_id == position_id]
        if any(each.part > 0 for each in mine):
            self._take_back(mine)
        else:
            self._change(UnitChange(position.opened_at, position_id, -position.open_part, None))
        self._reduce(position, position.open_part)
        book.bets[position.instrument].count -= 1
        self._end(position, None)

    def _pay(self, position: MarkedPosition, part: int) -> int:
        cost = cost_of(self._cost_bps, position.instrument[0], part)
        position.costs += cost
        self.book.gain -= cost
        return cost

    def _reduce(self, position: MarkedPosition, part: int) -> None:
        rest = position.open_part - part
        position.accrued = rounded(position.accrued * rest, position.open_part)
        position.open_part = rest

    def _end(self, position: MarkedPosition, at: datetime | None) -> None:
        """End a position, a voided one without a time, and its bet with the last of its positions."""
        book = self.book
        del book.positions[position.id]
        bet = book.bets[position.instrument]
        bet.open_count -= 1
        if at is not None:
            bet.result_sum += position.realised - position.costs
            position.ended_at = at
            self._count_holding(position, 1)
        if bet.open_count:
            return
        del book.bets[position.instrument]
        if not bet.count:
            return
        book.closed.add(rounded(bet.result_sum, bet.count))
        recent = self._last_close(position.instrument)
        if recent is not None and recent.bet is None:
            recent.bet = bet

    def _count_holding(self, position: MarkedPosition, times_counted: int) -> None:
        holding, ended_at = self.book.holding, position.ended_at or position.opened_at
        seconds = three_digits(max(int((ended_at - position.opened_at).total_seconds()), 0))
        holding[seconds] = holding.get(seconds, 0) + times_counted
        if not holding[seconds]:
            del holding[seconds]

    def advance(self, at: datetime) -> None:
        """Forget what can no longer be retracted, now that a signal was received at this time."""
        book = self.book
        if book.newest is not None and at <= book.newest:
            return
        book.newest, until = at, at - RECENT
        while book.closes and next(iter(book.closes.values())).at < until:
            del book.closes[next(iter(book.closes))]
        while book.unverified_openings and next(iter(book.unverified_openings.values())) < until:
            del book.unverified_openings[next(iter(book.unverified_openings))]
        past = next((place for place, each in enumerate(book.changes) if each.at >= until), len(book.changes))
        for each in book.changes[:past]:
            book.units_before += each.part
            book.peak_before = max(book.peak_before, book.units_before)
        del book.changes[:past]


def with_open_bets(book: Book, marks: Marks) -> Bets:
    """Return the bets of a provider, those that are open at the mark among them: a loss is a loss, closed or not."""
    closed = book.closed
    bets = Bets(closed.count, closed.wins, closed.losses, closed.gain_sum, closed.loss_sum)
    sums = {instrument: bet.result_sum for instrument, bet in book.bets.items()}
    for position in book.positions.values():
        sums[position.instrument] += position.result_at(marks)
    for instrument, bet in book.bets.items():
        bets.add(rounded(sums[instrument], bet.count))
    return bets


def divided(price: Decimal, new: int, old: int) -> Decimal:
    """Return a price from before a split as one of today's shares."""
    return _EXACTLY.divide(_EXACTLY.multiply(price, old), new)


def three_digits(seconds: int) -> int:
    """Return the seconds rounded down to three digits: what a median of many is counted in."""
    unit: int = 10 ** max(len(str(seconds)) - 3, 0)
    return seconds // unit * unit


def _drawdown(book: Book) -> int:
    """Return how far the equity is below its highest, as a part of that, in units of 1e-12."""
    return rounded((book.highest - book.equity) * UNIT, book.highest)
