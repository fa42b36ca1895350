"""Test the statistics of skill against scipy and statsmodels, and their behaviour at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from actors.records.skill import adjusted, assess, daily_loss, wilson


def sums_of(series: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.array([len(each) for each in series], float),
        np.array([each.sum() for each in series]),
        np.array([(each**2).sum() for each in series]),
    )


def test_sharpe_and_significance_are_those_of_the_t_test() -> None:
    """scipy's t is SR·√D; ours takes √(D − 1), which is the smaller one, as records.md has it."""
    random = np.random.default_rng(7)
    series = [random.normal(0.001 * number, 0.01, 40 + 10 * number) for number in range(8)]
    board = assess(*sums_of(series))
    for number, each in enumerate(series):
        sharpe = each.mean() / each.std(ddof=1)
        assert board.sharpe[number] == pytest.approx(sharpe, rel=1e-9)
    p = np.array([stats.t.sf(board.sharpe[n] * np.sqrt(len(s) - 1), len(s) - 1) for n, s in enumerate(series)])
    assert board.luck == pytest.approx(stats.false_discovery_control(p), rel=1e-9)
    assert board.is_listed.tolist() == [bool(each <= 0.1) for each in board.luck]


def test_the_shrunk_ratio_is_between_its_own_and_the_median_and_bounds_enclose_it() -> None:
    random = np.random.default_rng(8)
    board = assess(*sums_of([random.normal(0.002 * (n % 5), 0.01, 60) for n in range(50)]))
    low, high = np.minimum(board.sharpe, board.median), np.maximum(board.sharpe, board.median)
    assert ((low <= board.shrunk) & (board.shrunk <= high)).all()
    assert ((board.lower < board.shrunk) & (board.shrunk < board.upper)).all()


def test_a_crowd_without_differences_lists_nobody() -> None:
    series = np.tile([0.01, -0.01], 30)
    board = assess(*sums_of([series] * 10))
    assert board.spread == 0
    assert not board.is_listed.any()


@pytest.mark.parametrize("value", [0.0, 0.01, -0.01])
def test_days_that_are_all_alike_are_no_skill(value: float) -> None:
    board = assess(*sums_of([np.full(60, value), np.random.default_rng(1).normal(0, 0.01, 60)]))
    assert board.sharpe[0] == 0
    assert not board.is_listed[0]


def test_nobody_is_an_empty_board() -> None:
    assert len(assess(np.empty(0), np.empty(0), np.empty(0)).is_listed) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_adjusted_values_are_those_of_scipy(values: list[float]) -> None:
    p = np.array(values)
    assert adjusted(p) == pytest.approx(stats.false_discovery_control(p), rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(
    ("wins", "count", "low"), [(9, 10, 0.596), (18, 20, 0.699), (60, 100, 0.502), (65, 100, 0.553), (650, 1000, 0.620)]
)
def test_wilson_is_that_of_scipy_and_of_the_worked_examples(wins: int, count: int, low: float) -> None:
    interval = wilson(wins, count)
    assert interval is not None
    expected = stats.binomtest(wins, count).proportion_ci(method="wilson")
    assert interval == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert round(interval[0], 3) == low
    assert wilson(0, 0) is None


def test_the_daily_loss_is_the_twentieth_part_of_days() -> None:
    assert daily_loss([]) is None
    assert daily_loss([-5]) == 5
    assert daily_loss([*range(-20, 0)]) == 20
    assert daily_loss([*range(-21, 0)]) == 20
    assert daily_loss([3, 4]) == 0
    days = sorted(np.random.default_rng(3).integers(-1000, 1000, 77).tolist())
    assert daily_loss(days) == max(-int(np.percentile(days, 5, method="inverted_cdf")), 0)
