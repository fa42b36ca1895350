"""Compute a provider's value on each board, and by how much it changed over a window, as pure functions.

Rates and returns are whole numbers of 1e-4, as they are shown; followers and runs are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from actors.records.gates import MissingGate
from db.leaderboards import BoardRecord, TotalsRow
from schemas._vocabulary import LiveBoard, Period

LEAST_CLOSED = 10
"""The least number of closed signals, in the board's period, for which a win rate counts."""

LEAST_BASE = 10
"""The least number of followers that growth is compared with: else newcomers would rise fastest."""

_SHOWN = 10**4
_RETURN_UNITS = 10**12


@dataclass(slots=True)
class Beginning:
    """A provider's record at the beginning of a window."""

    followers: int
    closed: int
    wins: int
    return_sum: int


class BoardTotals:
    """A provider's board totals: its current record, and its record at the beginning of each window."""

    __slots__ = (
        "month",
        "month_before_best",
        "month_best",
        "record",
        "two_months",
        "two_weeks",
        "week",
        "week_before_best",
        "week_best",
        "week_old_streak",
    )  # fmt: skip

    def __init__(self, row: TotalsRow) -> None:
        self.record = BoardRecord(
            row.provider_id, row.total_signals, row.followers, row.closed, row.wins, row.return_sum, row.current_streak
        )
        self.week = self._before(row.week_follows, row.week_closed, row.week_wins, row.week_returns)
        self.two_weeks = self._before(
            row.two_weeks_follows, row.two_weeks_closed, row.two_weeks_wins, row.two_weeks_returns
        )
        self.month = self._before(row.month_follows, row.month_closed, row.month_wins, row.month_returns)
        self.two_months = self._before(
            row.two_months_follows, row.two_months_closed, row.two_months_wins, row.two_months_returns
        )
        self.week_best = row.week_best
        self.week_before_best = row.week_before_best
        self.month_best = row.month_best
        self.month_before_best = row.month_before_best
        self.week_old_streak = row.week_old_streak

    def _before(self, follows: int, closed: int, wins: int, returns: int) -> Beginning:
        now = self.record
        return Beginning(now.followers - follows, now.closed - closed, now.wins - wins, now.return_sum - returns)

    @classmethod
    def beginning(cls, provider_id: UUID) -> BoardTotals:
        """Return the totals of a new provider."""
        return cls(TotalsRow(provider_id, *[0] * 27))

    def take(self, record: BoardRecord) -> bool:
        """Apply a newer record; False: several signals were closed at once, so it does not determine the best runs."""
        closed, wins = record.closed - self.record.closed, record.wins - self.record.wins
        self.record, streak = record, record.current_streak
        self.week_best = max(self.week_best, min(streak, record.closed - self.week.closed))
        self.month_best = max(self.month_best, min(streak, record.closed - self.month.closed))
        # All won: the run continued. None won: it ended. All wins came last: no other run is hidden in between.
        return closed >= 0 and (closed == wins or wins == 0 or streak == wins)


BOARDS: tuple[tuple[LiveBoard, Period], ...] = (
    ("followers", "all"),
    ("followers", "month"),
    ("followers", "week"),
    ("win_rate", "all"),
    ("win_rate", "month"),
    ("win_rate", "week"),
    ("return", "all"),
    ("return", "month"),
    ("return", "week"),
    ("streak", "all"),
    ("streak", "month"),
    ("streak", "week"),
    ("rising", "month"),
    ("rising", "week"),
)
"""Every ranking there is; `rising` of all time is that of the week."""

_NUMBERS: Mapping[tuple[LiveBoard, Period], int] = {
    **{key: number for number, key in enumerate(BOARDS)},
    ("rising", "all"): BOARDS.index(("rising", "week")),
}
_IN_UNITS: frozenset[LiveBoard] = frozenset({"win_rate", "return", "rising"})


def number_of(board: LiveBoard, period: Period) -> int:
    """Return the index in BOARDS that serves a board and a period."""
    return _NUMBERS[board, period]


def values(t: BoardTotals) -> tuple[int | None, ...]:
    """Return a provider's value on each of BOARDS; None: it is not on it."""
    r, week, month = t.record, t.week, t.month
    gained_week, gained_month = r.followers - week.followers, r.followers - month.followers
    return (
        r.followers,
        gained_month,
        gained_week,
        _rate(r.wins, r.closed),
        _rate(r.wins - month.wins, r.closed - month.closed),
        _rate(r.wins - week.wins, r.closed - week.closed),
        _mean(r.return_sum, r.closed),
        _mean(r.return_sum - month.return_sum, r.closed - month.closed),
        _mean(r.return_sum - week.return_sum, r.closed - week.closed),
        r.current_streak or None,
        t.month_best or None,
        t.week_best or None,
        _growth(gained_month, month.followers) if gained_month > 0 else None,
        _growth(gained_week, week.followers) if gained_week > 0 else None,
    )


def earlier_values(t: BoardTotals) -> tuple[int | None, ...]:
    """Return the earlier values on each of BOARDS: all-time figures a week ago, a window's one window ago."""
    week, weeks, month, months = t.week, t.two_weeks, t.month, t.two_months
    return (
        week.followers,
        month.followers - months.followers,
        week.followers - weeks.followers,
        _rate(week.wins, week.closed, least=1),
        _rate(month.wins - months.wins, month.closed - months.closed, least=1),
        _rate(week.wins - weeks.wins, week.closed - weeks.closed, least=1),
        _mean(week.return_sum, week.closed),
        _mean(month.return_sum - months.return_sum, month.closed - months.closed),
        _mean(week.return_sum - weeks.return_sum, week.closed - weeks.closed),
        t.week_old_streak,
        t.month_before_best,
        t.week_before_best,
        _growth(month.followers - months.followers, months.followers),
        _growth(week.followers - weeks.followers, weeks.followers),
    )


def missing_of(t: BoardTotals, board: LiveBoard, period: Period) -> tuple[MissingGate, ...]:
    """Return what keeps a provider off a board: nothing of one that is on it."""
    r = t.record
    begun = t.month if period == "month" else t.week
    closed = r.closed - (0 if period == "all" else begun.closed)
    runs = {"all": r.current_streak, "month": t.month_best, "week": t.week_best}
    gates: Mapping[LiveBoard, MissingGate] = {
        "win_rate": MissingGate("closed", closed, LEAST_CLOSED),
        "return": MissingGate("closed", closed, 1),
        "streak": MissingGate("streak", runs[period], 1),
        "rising": MissingGate("gained", r.followers - begun.followers, 1),
    }
    gate = gates.get(board)
    return () if gate is None or gate.have >= gate.need else (gate,)


def shown(board: LiveBoard, value: int) -> float:
    """Return a value as a board shows it."""
    return value / _SHOWN if board in _IN_UNITS else value


def change_since(t: BoardTotals, board: LiveBoard, period: Period, value: int) -> float | None:
    """Return the difference between a value and the provider's of a window before; None: it had none."""
    before = earlier_values(t)[number_of(board, period)]
    return None if before is None else shown(board, value - before)


def value_and_change(t: BoardTotals, board: LiveBoard, period: Period) -> tuple[float | None, float | None]:
    """Return what a board shows of a provider: its value, and the difference from a window before."""
    now = values(t)[number_of(board, period)]
    return (None, None) if now is None else (shown(board, now), change_since(t, board, period, now))


def _growth(gained: int, begun_with: int) -> int:
    return _shown(gained, max(begun_with, LEAST_BASE))


def _rate(wins: int, closed: int, least: int = LEAST_CLOSED) -> int | None:
    return _shown(wins, closed) if closed >= least else None


def _mean(total: int, count: int) -> int | None:
    return _shown(total, count * _RETURN_UNITS) if count > 0 else None


def _shown(numerator: int, denominator: int) -> int:
    """Return the quotient in units of 1e-4, a half rounded to even, as in a profile."""
    whole, rest = divmod(numerator * _SHOWN, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2))
