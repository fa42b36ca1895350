"""Records against libraries that are not ours: the same days, months and bets, with the conventions that agree.

| Quantity | Library | Convention |
|---|---|---|
| Sharpe ratio | empyrical, quantstats, ffn | sample deviation (ddof 1), not annualised, no riskless rate |
| drawdown | empyrical, quantstats, ffn | of the compounded equity, which begins at 1; positive here, negative there |
| months | empyrical | compounded |
| worst day | quantstats | the smallest daily return |
| profit factor, payoff | quantstats | gains by losses; mean gain by mean loss, positive |
| win rate's interval | statsmodels | Wilson |
| p-values | scipy, statsmodels | one-sided Student; Benjamini and Hochberg |
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from actors.records.book import Book
from actors.records.curve import DayResult, Left, Opened, close_day
from actors.records.equity import curve_since
from actors.records.figures import figures_of_book
from actors.records.returns import UNIT
from actors.records.skill import assess, wilson

pandas = import_module("pandas")
empyrical = import_module("empyrical")
quantstats = import_module("quantstats")
ffn = import_module("ffn")
proportion = import_module("statsmodels.stats.proportion")
multitest = import_module("statsmodels.stats.multitest")

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own, about each other

FIRST = date(2026, 1, 1)
AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
FREE = {"crypto": Decimal(0)}


def kept(seed: int) -> tuple[Book, list[DayResult], list[int]]:
    """Return a book of a position a day, its days, and the results of its bets."""
    chance = np.random.default_rng(seed)
    book, days, results = Book(), [], []
    for number in range(250):
        price = Decimal(int(chance.normal(1004, 30)))
        instrument = ("crypto", "BTC")
        events = [Opened(number, instrument, "long", Decimal(1000), AT), Left(number, UNIT, price, AT)]
        days.append(close_day(book, FIRST + timedelta(number), events, {}, FREE))
        results.append(int(price) - 1000)
    return book, days, results


def series(days: Sequence[DayResult]) -> Any:
    index = pandas.DatetimeIndex([pandas.Timestamp(day.day) for day in days])
    return pandas.Series([(day.result or 0) / UNIT for day in days], index=index)


@pytest.mark.parametrize("seed", range(5))
def test_sharpe_ratios_drawdowns_months_and_days_are_those_of_other_libraries(seed: int) -> None:
    book, days, _ = kept(seed)
    returns, curve = series(days), curve_since(days, None)
    sums = np.array([book.day_sum / UNIT]), np.array([book.day_square_sum / UNIT**2])
    sharpe = assess(np.array([float(book.days)]), *sums).sharpe[0]
    assert sharpe == pytest.approx(empyrical.sharpe_ratio(returns, annualization=1), rel=1e-9)
    assert sharpe == pytest.approx(quantstats.stats.sharpe(returns, annualize=False), rel=1e-9)
    assert sharpe == pytest.approx(float(ffn.calc_sharpe(returns, annualize=False)), rel=1e-9)
    drawdown = curve.max_drawdown / UNIT
    assert drawdown == pytest.approx(-empyrical.max_drawdown(returns), abs=1e-9)
    assert drawdown == pytest.approx(-quantstats.stats.max_drawdown(returns), abs=1e-9)
    equity = pandas.concat([pandas.Series([1.0], index=[pandas.Timestamp("2025-12-31")]), (1 + returns).cumprod()])
    assert drawdown == pytest.approx(-float(ffn.calc_max_drawdown(equity)), abs=1e-9)
    months = empyrical.aggregate_returns(returns, "monthly")
    assert [each.result / UNIT for each in curve.months] == pytest.approx(list(months), abs=1e-9)
    assert days[-1].equity / UNIT == pytest.approx(1 + empyrical.cum_returns_final(returns), abs=1e-9)
    assert (book.worst_day or 0) / UNIT == pytest.approx(quantstats.stats.worst(returns), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_profit_factor_and_payoff_are_those_of_quantstats(seed: int) -> None:
    book, _, results = kept(seed)
    figures = figures_of_book(book, {}, AT)
    bets = pandas.Series([each / 1000 for each in results])
    assert figures.profit_factor == pytest.approx(quantstats.stats.profit_factor(bets), abs=5.1e-5)
    assert figures.payoff == pytest.approx(quantstats.stats.payoff_ratio(bets), abs=5.1e-5)
    assert figures.expectancy == pytest.approx(float(bets.mean()), abs=5.1e-5)


@pytest.mark.parametrize(("wins", "count"), [(1, 2), (0, 7), (7, 7), (55, 100), (1, 5000)])
def test_the_interval_of_the_win_rate_is_statsmodels(wins: int, count: int) -> None:
    expected = proportion.proportion_confint(wins, count, method="wilson")
    assert wilson(wins, count) == pytest.approx(expected, abs=1e-12)


def test_the_chance_of_luck_is_that_of_scipy_and_statsmodels() -> None:
    from scipy import stats

    chance = np.random.default_rng(3)
    worlds = [chance.normal(0.05 * (n % 5), 1, 30 + n) for n in range(40)]
    found = assess(
        np.array([float(len(each)) for each in worlds]),
        np.array([each.sum() for each in worlds]),
        np.array([(each**2).sum() for each in worlds]),
    )
    # t = SR·√(D − 1), not √D: the definition's own convention.
    tests = [(each.mean() / each.std(ddof=1) * np.sqrt(len(each) - 1), len(each) - 1) for each in worlds]
    p = [float(stats.t.sf(t, freedom)) for t, freedom in tests]
    assert found.luck == pytest.approx(multitest.multipletests(p, method="fdr_bh")[1], abs=1e-12)
