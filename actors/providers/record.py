"""Compute track records (pure): the effect of a signal, the figures that follow, the level that is earned.

Everything is counted in whole numbers (see RecordRow), so the order of additions does not matter, nothing is ever
rounded twice, and a record that is kept signal by signal equals one that is computed from all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import isqrt

from actors.records.returns import rounded
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

_OF_CLOSED = (
    *("win_count", "loss_count", "breakeven_count", "return_sum", "return_square_sum", "return_peak"),
    *("drawdown_peak", "drawdown_low", "current_streak", "longest_streak"),
)
"""What a record has of closed positions."""

_RANKS: dict[VerificationLevel, int] = {"none": 0, "basic": 1, "pro": 2, "elite": 3}


def counted(record: RecordRow, feed_seq: int, at: datetime) -> RecordRow:
    """Return the record after a signal, whatever else that does."""
    return promoted(replace(record, applied_seq=feed_seq, total_signals=record.total_signals + 1), at)


def closed(record: RecordRow, at: datetime, returned: int, status: OutcomeStatus) -> RecordRow:
    """Return the record after a position was closed, by a signal or by the market."""
    return promoted(_with_end(record, returned, status), at)


def _with_end(record: RecordRow, returned: int, status: OutcomeStatus) -> RecordRow:
    total = record.return_sum + returned
    peak = max(record.return_peak, total)
    streak = record.current_streak + 1 if status == "PROFIT" else 0
    fell_from, fell_to = record.drawdown_peak, record.drawdown_low
    if is_deeper(peak, total, fell_from, fell_to):
        fell_from, fell_to = peak, total
    return replace(
        record,
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


def recounted(record: RecordRow, ends: Iterable[tuple[int, OutcomeStatus]]) -> RecordRow:
    """Return the record after a retraction took back what a position had counted: these are all that are left.

    Levels that were given stay.
    """
    empty = RecordRow(record.provider_id, record.is_system)
    bare = replace(record, **{name: getattr(empty, name) for name in _OF_CLOSED})
    for returned, status in ends:
        bare = _with_end(bare, returned, status)
    return bare


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
    return rounded(numerator * _FIGURE_UNITS, denominator) / _FIGURE_UNITS


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
