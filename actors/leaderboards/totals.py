"""Compute a provider's value on each board, and by how much it changed over a window, as pure functions.

Rates and returns are whole numbers of 1e-4, as they are shown; followers and runs are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from actors.leaderboards.messages import Record
from db.leaderboards import StandingRow
from schemas._vocabulary import Board, Period

LEAST_CLOSED = 10
"""The least number of closed signals, in the board's period, for which a win rate counts."""

LEAST_BASE = 10
"""The least number of followers that growth is compared with: else newcomers would rise fastest."""

_SHOWN = 10**4
_RETURN_UNITS = 10**12


@dataclass(slots=True)
class Mark:
    """A provider's record at the beginning of a window."""

    followers: int
    closed: int
    wins: int
    return_sum: int


class BoardTotals:
    """A provider's board totals: its current record, and its record at each mark."""

    __slots__ = (
        "closed",
        "followers",
        "id",
        "month",
        "month_before_best",
        "month_best",
        "return_sum",
        "signals",
        "streak",
        "two_months",
        "two_weeks",
        "week",
        "week_before_best",
        "week_best",
        "week_old_streak",
        "wins",
    )  # fmt: skip

    def __init__(self, row: StandingRow) -> None:
        self.id: UUID = row.provider_id
        self.signals = row.total_signals
        self.followers = row.followers
        self.closed = row.closed
        self.wins = row.wins
        self.return_sum = row.return_sum
        self.streak = row.current_streak
        self.week = self._mark(row.week_follows, row.week_closed, row.week_wins, row.week_returns)
        self.two_weeks = self._mark(
            row.two_weeks_follows, row.two_weeks_closed, row.two_weeks_wins, row.two_weeks_returns
        )
        self.month = self._mark(row.month_follows, row.month_closed, row.month_wins, row.month_returns)
        self.two_months = self._mark(
            row.two_months_follows, row.two_months_closed, row.two_months_wins, row.two_months_returns
        )
        self.week_best = row.week_best
        self.week_before_best = row.week_before_best
        self.month_best = row.month_best
        self.month_before_best = row.month_before_best
        self.week_old_streak = row.week_old_streak

    def _mark(self, follows: int, closed: int, wins: int, returns: int) -> Mark:
        return Mark(self.followers - follows, self.closed - closed, self.wins - wins, self.return_sum - returns)

    @classmethod
    def beginning(cls, provider_id: UUID) -> BoardTotals:
        """Return the totals of a new provider."""
        return cls(StandingRow(provider_id, *[0] * 27))

    def is_like(self, record: Record) -> bool:
        """Return whether the record changes nothing."""
        return (
            self.signals == record.total_signals
            and self.followers == record.followers
            and self.closed == record.closed
            and self.wins == record.wins
            and self.return_sum == record.return_sum
            and self.streak == record.current_streak
        )

    def take(self, record: Record) -> bool:
        """Apply a newer record; False: several signals were closed at once, so it does not determine the best runs."""
        closed, wins = record.closed - self.closed, record.wins - self.wins
        self.signals = record.total_signals
        self.followers = record.followers
        self.closed = record.closed
        self.wins = record.wins
        self.return_sum = record.return_sum
        self.streak = record.current_streak
        self.week_best = max(self.week_best, min(self.streak, self.closed - self.week.closed))
        self.month_best = max(self.month_best, min(self.streak, self.closed - self.month.closed))
        # All won: the run continued. None won: it ended. All wins came last: no other run is hidden in between.
        return closed >= 0 and (closed == wins or wins == 0 or self.streak == wins)


BOARDS: tuple[tuple[Board, Period], ...] = (
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

_NUMBERS: Mapping[tuple[Board, Period], int] = {
    **{key: number for number, key in enumerate(BOARDS)},
    ("rising", "all"): BOARDS.index(("rising", "week")),
}
_IN_UNITS: frozenset[Board] = frozenset({"win_rate", "return", "rising"})


def number_of(board: Board, period: Period) -> int:
    """Return the index in BOARDS that serves a board and a period."""
    return _NUMBERS[board, period]


def values(t: BoardTotals) -> tuple[int | None, ...]:
    """Return a provider's value on each of BOARDS; None: it is not on it."""
    week, month = t.week, t.month
    gained_week, gained_month = t.followers - week.followers, t.followers - month.followers
    return (
        t.followers,
        gained_month,
        gained_week,
        _rate(t.wins, t.closed),
        _rate(t.wins - month.wins, t.closed - month.closed),
        _rate(t.wins - week.wins, t.closed - week.closed),
        _mean(t.return_sum, t.closed),
        _mean(t.return_sum - month.return_sum, t.closed - month.closed),
        _mean(t.return_sum - week.return_sum, t.closed - week.closed),
        t.streak or None,
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


def value_and_change(t: BoardTotals, board: Board, period: Period) -> tuple[float | None, float | None]:
    """Return what a board shows of a provider: its value, and the difference from a window before."""
    number = number_of(board, period)
    now, before = values(t)[number], earlier_values(t)[number]
    change = None if now is None or before is None else now - before
    if board in _IN_UNITS:
        return None if now is None else now / _SHOWN, None if change is None else change / _SHOWN
    return now, change


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
