"""Define a provider's book: its open positions, its equity, and the sums that its figures follow from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from actors.records.returns import UNIT, return_of, times
from schemas._vocabulary import Side

Instrument = tuple[str, str]
"""Asset type and canonical instrument."""

Marks = Mapping[Instrument, Decimal]
"""The mid of each instrument at one moment. One that is missing leaves its positions at their last value."""

PositionId = UUID | int
"""The id of the signal that opened the position; simulations count."""


@dataclass(slots=True)
class MarkedPosition:
    """An open position: one unit of notional value at entry, of which `open_part` is left.

    `value` is the return of a whole unit at the end of the last day, `accrued` what that made of the provider's equity,
    `realised` what its legs returned and `costs` what its trades cost, all in units of 1e-12. `is_new`: since that day.
    """

    id: PositionId
    instrument: Instrument
    side: Side
    entry: Decimal
    opened_at: datetime
    open_part: int = UNIT
    value: int = 0
    accrued: int = 0
    realised: int = 0
    costs: int = 0
    is_new: bool = True
    ended_at: datetime | None = None

    def value_at(self, marks: Marks) -> int:
        """Return what a whole unit returns at its instrument's mark."""
        mark = marks.get(self.instrument)
        return self.value if mark is None else return_of(self.instrument[0], self.side, self.entry, mark)

    def result_at(self, marks: Marks) -> int:
        """Return the result of the position: its legs, what is open at the mark, less costs."""
        return self.realised + times(self.open_part, self.value_at(marks)) - self.costs


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

    def add(self, result: int, times_counted: int = 1) -> None:
        """Count one bet by its result; with −1, no longer."""
        self.count += times_counted
        if result > 0:
            self.wins += times_counted
            self.gain_sum += times_counted * result
        elif result < 0:
            self.losses += times_counted
            self.loss_sum += times_counted * result


@dataclass(slots=True)
class UnitChange:
    """A recent change of the number of open units, by an opening (`closed_by` None), a close or an end."""

    at: datetime
    position_id: PositionId
    part: int
    closed_by: PositionId | None


@dataclass(slots=True)
class RecentClose:
    """A close that may still be retracted, with all that it changed. `bet` is the one that ended with it."""

    at: datetime
    position: MarkedPosition
    part: int
    value: int
    gain: int
    realised: int
    cost: int
    accrued: int
    bet: Bet | None = None


@dataclass(frozen=True, slots=True)
class WaitingOrder:
    """A limit order that has not been filled."""

    instrument: Instrument
    side: Side


@dataclass(slots=True)
class UnquotedClose:
    """A close without a quote: it takes effect with the first mark after it, or at its price if that is worse."""

    position_id: PositionId
    part: int
    price: Decimal
    at: datetime


@dataclass(slots=True)
class Book:
    """Everything that the rest of a provider's record depends on.

    `gain` is the sum of the day's changes in value less costs, so far, and `exposed` the number of positions that were
    open at its beginning or have been opened since. What is recent is known for a minute of the provider's own signals:
    whatever can be retracted stands within it.
    """

    positions: dict[PositionId, MarkedPosition] = field(default_factory=dict)
    bets: dict[Instrument, Bet] = field(default_factory=dict)
    closed: Bets = field(default_factory=Bets)
    holding: dict[int, int] = field(default_factory=dict)  # closed positions by seconds, of three digits
    orders: dict[PositionId, WaitingOrder] = field(default_factory=dict)
    unquoted: dict[PositionId, UnquotedClose] = field(default_factory=dict)  # by the closing signal
    newest: datetime | None = None  # signal; what follows is recent as of then
    closes: dict[PositionId, RecentClose] = field(default_factory=dict)  # by the closing signal
    changes: list[UnitChange] = field(default_factory=list)
    units_before: int = 0  # before the first of them
    peak_before: int = 0  # and the greatest number until then, and until the last day's end
    unverified_openings: dict[PositionId, datetime] = field(default_factory=dict)
    opened: int = 0  # positions ever
    unverified: int = 0  # and those without a quote
    units: int = 0  # open now
    peak_units: int = 0  # the greatest number of units that was open at once
    gain: int = 0
    exposed: int = 0
    stale: int = 0  # positions that the last day's end had no mark for
    equity: int = UNIT
    highest: int = UNIT
    deepest: int = 0  # the largest drawdown so far
    worst_day: int | None = None
    days: int = 0  # with exposure
    day_sum: int = 0
    day_square_sum: int = 0
    first_day: date | None = None

    @property
    def is_ruined(self) -> bool:
        """Return whether nothing is left."""
        return self.equity == 0

    @property
    def is_active(self) -> bool:
        """Return whether a day without an entry changes anything."""
        return bool(self.positions or self.orders or self.exposed)
