"""Mark a provider's positions day by day: the daily return, the equity that compounds it, and the bets it consists of.

A `Book` is everything that the next day depends on; `close_day` and `apply` are the whole of its rules. What was kept
day by day and what is computed anew from the log are the same digits, because both are this fold over the same events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from actors.records.returns import UNIT, cost_of, return_of, rounded, times
from schemas._vocabulary import Side

Instrument = tuple[str, str]
"""Asset type and canonical instrument."""

Marks = Mapping[Instrument, Decimal]
"""The mid of each instrument at one moment. One that is missing leaves its positions at their last value."""


@dataclass(slots=True)
class MarkedPosition:
    """An open position: one unit of notional value at entry, of which `open_part` is left.

    `value` is the return of a whole unit at the end of the last day, `accrued` what that made of the provider's equity,
    `realised` what its legs returned and `costs` what its trades cost, all in units of 1e-12.
    """

    id: int
    instrument: Instrument
    side: Side
    entry: Decimal
    opened_at: datetime
    open_part: int = UNIT
    value: int = 0
    accrued: int = 0
    realised: int = 0
    costs: int = 0

    def value_at(self, marks: Marks) -> int:
        """Return what a whole unit returns at its instrument's mark."""
        mark = marks.get(self.instrument)
        return self.value if mark is None else return_of(self.instrument[0], self.side, self.entry, mark)

    def result_at(self, marks: Marks) -> int:
        """Return the result of the position: its legs, what is open at the mark, less costs."""
        return self.realised + times(self.open_part, self.value_at(marks)) - self.costs


@dataclass(frozen=True, slots=True)
class Opened:
    """A position was opened at the price of its record."""

    position_id: int
    instrument: Instrument
    side: Side
    entry: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Left:
    """A part of a position was closed, by a signal or an end. `part` is in units of 1e-12 of the whole position."""

    position_id: int
    part: int
    exit_price: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Voided:
    """A position counts as if it had never been: its signal was retracted, or its market resolved to nothing."""

    position_id: int


Event = Opened | Left | Voided


@dataclass(slots=True)
class Bet:
    """Positions on one instrument whose lives overlap, as long as one of them is open: they count as one.

    `result_sum` is that of those that are closed, in units of 1e-12.
    """

    count: int = 0
    open_count: int = 0
    result_sum: int = 0


@dataclass(slots=True)
class Bets:
    """The closed bets of a provider. Sums are in units of 1e-12."""

    count: int = 0
    wins: int = 0
    losses: int = 0
    gain_sum: int = 0
    loss_sum: int = 0  # ≤ 0

    def add(self, result: int) -> None:
        """Count one bet by its result."""
        self.count += 1
        if result > 0:
            self.wins += 1
            self.gain_sum += result
        elif result < 0:
            self.losses += 1
            self.loss_sum += result


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


@dataclass(slots=True)
class Book:
    """A provider's open positions, its equity, and the sums from which the figures of its record follow."""

    positions: dict[int, MarkedPosition] = field(default_factory=dict)
    bets: dict[Instrument, Bet] = field(default_factory=dict)
    closed: Bets = field(default_factory=Bets)
    peak_units: int = 0  # the greatest number of units that was open at once, up to the last day
    equity: int = UNIT
    highest: int = UNIT
    deepest: int = 0  # the largest drawdown so far
    days: int = 0  # with exposure
    day_sum: int = 0
    day_square_sum: int = 0
    first_day: date | None = None

    @property
    def is_ruined(self) -> bool:
        """Return whether nothing is left."""
        return self.equity == 0


def close_day(
    book: Book, day: date, events: Iterable[Event], marks: Marks, cost_bps: Mapping[str, Decimal]
) -> DayResult:
    """Apply a day's events, mark what is open at its end, and return the day; the book is then that of the day's end.

    `events` are those that stand in the log before the mark of the day's end and after that of the day before.
    """
    events = [*events]
    work = _Day(book, cost_bps)
    for event in _without_taken_back(book, events):
        work.apply(event)
    work.mark(marks)
    return work.finish(day)


def _without_taken_back(book: Book, events: Sequence[Event]) -> Iterable[Event]:
    """Leave out positions that were opened and voided on the same day."""
    voided = {event.position_id for event in events if isinstance(event, Voided)} - book.positions.keys()
    return (event for event in events if event.position_id not in voided)


class _Day:
    """One day of a book that is being closed. `gain` is the sum of its units' changes in value less costs."""

    def __init__(self, book: Book, cost_bps: Mapping[str, Decimal]) -> None:
        self._book = book
        self._cost_bps = cost_bps
        self._had_exposure = bool(book.positions)
        self._gain = 0
        self._units = sum(position.open_part for position in book.positions.values())
        self._peak = max(book.peak_units, self._units)

    def apply(self, event: Event) -> None:
        """Apply one event in its order."""
        self._had_exposure = True
        if isinstance(event, Opened):
            self._open(event)
            return
        position = self._book.positions.get(event.position_id)
        if position is None:  # ended before: what comes later for it changes nothing
            return
        if isinstance(event, Left):
            self._leave(position, event)
        else:
            self._void(position)

    def mark(self, marks: Marks) -> None:
        """Value every open unit at its mark."""
        self._marked = {}
        for position in self._book.positions.values():
            value = position.value_at(marks)
            gained = times(position.open_part, value - position.value)
            self._marked[position.id] = gained
            self._gain += gained
            position.value = value

    def finish(self, day: date) -> DayResult:
        """Compound the day's result into the equity."""
        book = self._book
        if not self._had_exposure:
            return DayResult(day, None, book.equity, book.equity - UNIT, 0, 0, _drawdown(book))
        before, book.peak_units = book.equity, self._peak
        result = self._share(self._gain)
        book.equity = max(before + times(before, result), 0)
        book.highest = max(book.highest, book.equity)
        book.deepest = max(book.deepest, _drawdown(book))
        book.days += 1
        book.day_sum += result
        book.day_square_sum += result * result
        book.first_day = book.first_day or day
        open_result = 0
        for position in book.positions.values():
            position.accrued += times(before, self._share(self._marked[position.id]))
            open_result += position.accrued
        exposure = self._share(self._units)
        realised = book.equity - UNIT - open_result
        return DayResult(day, result, book.equity, realised, open_result, exposure, _drawdown(book))

    def _share(self, amount: int) -> int:
        return rounded(amount * UNIT, self._peak) if self._peak else 0

    def _open(self, event: Opened) -> None:
        position = MarkedPosition(event.position_id, event.instrument, event.side, event.entry, event.at)
        self._book.positions[position.id] = position
        bet = self._book.bets.setdefault(position.instrument, Bet())
        bet.count += 1
        bet.open_count += 1
        self._pay(position, UNIT)
        self._units += UNIT
        self._peak = max(self._peak, self._units)

    def _leave(self, position: MarkedPosition, event: Left) -> None:
        part = min(event.part, position.open_part)
        left = return_of(position.instrument[0], position.side, position.entry, event.exit_price)
        self._gain += times(part, left - position.value)
        position.realised += times(part, left)
        self._pay(position, part)
        self._reduce(position, part)
        if not position.open_part:
            self._end(position, position.realised - position.costs)

    def _void(self, position: MarkedPosition) -> None:
        """Take back what earlier days counted."""
        self._gain -= position.realised + times(position.open_part, position.value) - position.costs
        self._reduce(position, position.open_part)
        self._book.bets[position.instrument].count -= 1
        self._end(position, 0)

    def _pay(self, position: MarkedPosition, part: int) -> None:
        cost = cost_of(self._cost_bps, position.instrument[0], part)
        position.costs += cost
        self._gain -= cost

    def _reduce(self, position: MarkedPosition, part: int) -> None:
        rest = position.open_part - part
        position.accrued = rounded(position.accrued * rest, position.open_part)
        position.open_part = rest
        self._units -= part

    def _end(self, position: MarkedPosition, result: int) -> None:
        book = self._book
        del book.positions[position.id]
        bet = book.bets[position.instrument]
        bet.open_count -= 1
        bet.result_sum += result
        if not bet.open_count:
            del book.bets[position.instrument]
            if bet.count:
                book.closed.add(rounded(bet.result_sum, bet.count))


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


def _drawdown(book: Book) -> int:
    """Return how far the equity is below its highest, as a part of that, in units of 1e-12."""
    return rounded((book.highest - book.equity) * UNIT, book.highest)
