"""Compute track records (pure): the effect of a signal, the figures that follow, the level that is earned.

Everything is counted in whole numbers (see RecordRow), so the order of additions does not matter, nothing is ever
rounded twice, and a record that is kept signal by signal equals one that is computed from all of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isqrt

from db.providers.records import RETURN_UNITS, Figures, RecordRow
from schemas._vocabulary import OutcomeStatus, VerificationLevel

_FIGURE_UNITS = 10**4  # figures have 4 decimals

LEVELS: Sequence[tuple[VerificationLevel, int, int, int]] = (
    ("elite", 200, 65, 500),
    ("pro", 50, 60, 30),
    ("basic", 10, 0, 0),
)
"""The highest first: signals (from `pro` on closed ones), win rate in percent, followers that each needs at least."""

ELIGIBLE_FOR = timedelta(days=2)
"""From `pro` on a record must have been eligible (actors/records/gates.py), for so long that the end of that day is
known wherever a level is computed."""

_RANKS: dict[VerificationLevel, int] = {"none": 0, "basic": 1, "pro": 2, "elite": 3}


def return_of(direction: str, entry_price: Decimal, exit_price: Decimal) -> tuple[int, OutcomeStatus]:
    """Return a position's return in units of 1e-12, half a unit rounded to even, and its signal's status.

    ±(exit - entry)/entry; the sign of what is rounded to 0 still counts.
    """
    # In whole numbers, not as Fractions, which would be reduced at every step: a third of the time.
    entry, entry_parts = entry_price.as_integer_ratio()
    end, end_parts = exit_price.as_integer_ratio()
    whole = entry * end_parts
    change = end * entry_parts - whole if direction == "long" else whole - end * entry_parts
    status: OutcomeStatus = "PROFIT" if change > 0 else "LOSS" if change < 0 else "BREAKEVEN"
    return _rounded(change * RETURN_UNITS, whole), status


def counted(record: RecordRow, feed_seq: int, at: datetime) -> RecordRow:
    """Return the record after a signal that closed nothing: an opening, or a close with nothing open."""
    return promoted(replace(record, applied_seq=feed_seq, total_signals=record.total_signals + 1), at)


def closed(record: RecordRow, feed_seq: int, at: datetime, returned: int, status: OutcomeStatus) -> RecordRow:
    """Return the record after a signal that closed a position."""
    total = record.return_sum + returned
    peak = max(record.return_peak, total)
    streak = record.current_streak + 1 if status == "PROFIT" else 0
    fell_from, fell_to = record.drawdown_peak, record.drawdown_low
    if is_deeper(peak, total, fell_from, fell_to):
        fell_from, fell_to = peak, total
    after = replace(
        record,
        applied_seq=feed_seq,
        total_signals=record.total_signals + 1,
        win_count=record.win_count + (status == "PROFIT"),
        loss_count=record.loss_count + (status == "LOSS"),
        breakeven_count=record.breakeven_count + (status == "BREAKEVEN"),
        return_sum=total,
        return_square_sum=record.return_square_sum + returned * returned,
        return_peak=peak,
        drawdown_peak=fell_from,
        drawdown_low=fell_to,
        current_streak=streak,
        longest_streak=max(record.longest_streak, streak),
    )
    return promoted(after, at)


def followed(record: RecordRow, delta: int, at: datetime) -> RecordRow:
    """Return the record with `delta` more followers."""
    count = record.follower_count + delta
    return promoted(
        replace(record, follower_count=count, most_followers=max(record.most_followers, count)),
        at,
    )


def promoted(record: RecordRow, at: datetime) -> RecordRow:
    """Return the record with the level that it has earned; never lost; verified once, at the first level."""
    level = earned_level(record, at)
    if _RANKS[level] <= _RANKS[record.verification_level]:
        return record
    return replace(record, verification_level=level, verified_at=record.verified_at or at)


def with_given_level(record: RecordRow, stored: RecordRow) -> RecordRow:
    """Return a record that was computed anew with the level of the stored one if that is higher.

    Such a level was given when signals that were open, and records that were not eligible, were enough for it.
    """
    if _RANKS[stored.verification_level] <= max(_RANKS["basic"], _RANKS[record.verification_level]):
        return record
    return replace(record, verification_level=stored.verification_level, verified_at=stored.verified_at)


def earned_level(record: RecordRow, at: datetime) -> VerificationLevel:
    """Return the highest level whose every condition holds at a time."""
    decided, since = record.closed_count, record.eligible_since
    is_eligible = since is not None and at.astimezone(UTC).date() >= since + ELIGIBLE_FOR
    for level, signals, percent, followers in LEVELS:
        is_basic = level == "basic"
        count = record.total_signals if is_basic else decided
        has_rate = record.win_count * 100 >= percent * decided
        if (is_basic or is_eligible) and count >= signals and has_rate and record.follower_count >= followers:
            return level
    return "none"


def is_deeper(peak: int, low: int, than_peak: int, than_low: int) -> bool:
    """Return whether the fall from 1 + peak to 1 + low is the larger fraction of its peak; units of 1e-12."""
    high, other = RETURN_UNITS + peak, RETURN_UNITS + than_peak  # at least 1 each: a peak is never below 0
    return (peak - low) * other > (than_peak - than_low) * high


def figures_of(record: RecordRow) -> Figures:
    """Return what the API shows of a record, each figure rounded once from the exact sums."""
    decided, total = record.closed_count, record.return_sum
    return Figures(
        win_rate=_ratio(record.win_count, decided) if decided else None,
        avg_return=_ratio(total, decided * RETURN_UNITS) if decided else None,
        total_return=_ratio(total, RETURN_UNITS),
        sharpe_ratio=_sharpe(decided, total, record.return_square_sum),
        max_drawdown=_ratio(record.drawdown_peak - record.drawdown_low, RETURN_UNITS + record.drawdown_peak),
    )


def _ratio(numerator: int, denominator: int) -> float:
    return _rounded(numerator * _FIGURE_UNITS, denominator) / _FIGURE_UNITS


def _rounded(numerator: int, denominator: int) -> int:
    """Return numerator / denominator (> 0) as a whole number, a half rounded to even."""
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2))


def _sharpe(count: int, total: int, squares: int) -> float | None:
    """Return mean / sample deviation: total/n by sqrt((squares - total²/n)/(n - 1)), as one root of one fraction."""
    spread = count * squares - total * total  # n² times the variance of the whole; 0: all are alike
    if count < 2 or spread <= 0:
        return None
    numerator, denominator = total * total * (count - 1) * _FIGURE_UNITS**2, count * spread
    # Twice the root, truncated: its last bit says on which side of the half the root is; only a perfect square is on
    # it.
    twice = isqrt(4 * numerator // denominator)
    root = twice // 2
    if twice % 2 and (twice * twice * denominator != 4 * numerator or root % 2):
        root += 1
    return (root if total >= 0 else -root) / _FIGURE_UNITS
