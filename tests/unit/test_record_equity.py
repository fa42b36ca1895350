"""Test periods, months and the thinning of a curve."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from actors.records.curve import DayResult
from actors.records.equity import Month, curve_since, thinned
from actors.records.returns import UNIT, rounded, times

FIRST = date(2026, 1, 30)


def days_of(results: Sequence[int]) -> list[DayResult]:
    """Return days that compound these results, in units of 1e-12, all of them realised."""
    days, equity, highest = [], UNIT, UNIT
    for number, result in enumerate(results):
        equity = max(equity + times(equity, result), 0)
        highest = max(highest, equity)
        drawdown = rounded((highest - equity) * UNIT, highest)
        days.append(DayResult(FIRST + timedelta(number), result, equity, equity - UNIT, 0, UNIT, drawdown))
    return days


def test_months_compound_their_own_days() -> None:
    curve = curve_since(days_of([UNIT // 10, UNIT // 10, -UNIT // 2, UNIT // 5]), None)
    assert curve.months == (Month("2026-01", UNIT * 21 // 100), Month("2026-02", -UNIT * 4 // 10))
    assert curve.max_drawdown == UNIT // 2
    assert not curve.is_ruined


def test_a_period_begins_at_one_and_has_its_own_drawdown() -> None:
    days = days_of([-UNIT // 2, UNIT // 10, -UNIT // 10])
    curve = curve_since(days, FIRST + timedelta(1))
    assert [day.equity for day in curve.days] == [UNIT * 11 // 10, UNIT * 99 // 100]
    assert curve.max_drawdown == UNIT // 10
    assert curve_since(days, FIRST + timedelta(9)).days == ()


def test_nothing_comes_after_ruin() -> None:
    curve = curve_since(days_of([-UNIT, UNIT]), None)
    assert curve.is_ruined
    assert curve.max_drawdown == UNIT
    later = curve_since(days_of([-UNIT, UNIT]), FIRST + timedelta(1))
    assert (later.is_ruined, later.days[0].equity) == (True, 0)


@given(st.lists(st.integers(-UNIT // 2, UNIT // 2), min_size=1, max_size=120), st.integers(2, 50))
def test_thinning_keeps_what_a_reader_would_miss(results: list[int], most: int) -> None:
    days = days_of(results)
    kept = thinned(days, most)
    assert kept == sorted(kept, key=lambda day: day.day)
    assert len(kept) == min(len(days), most) or (len(kept) > most and len(kept) <= 6)
    equities = [day.equity for day in days]
    assert {kept[0].day, kept[-1].day} == {days[0].day, days[-1].day}
    assert {max(equities), min(equities)} <= {day.equity for day in kept}
    deepest = max(days, key=lambda day: day.drawdown)
    assert deepest.drawdown in {day.drawdown for day in kept}
    # The deepest fall can be read off the points that are left (its beginning may be the 1 before the first day).
    fall = max((_fall(kept, index) for index in range(len(kept))), default=0)
    from_one = rounded((UNIT - deepest.equity) * UNIT, UNIT)
    assert max(fall, from_one) == deepest.drawdown


def _fall(days: Sequence[DayResult], index: int) -> int:
    high = max(day.equity for day in days[: index + 1])
    return rounded((high - days[index].equity) * UNIT, high) if high else 0
