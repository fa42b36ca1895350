"""The rules of track records: against figures worked out anew from all closed signals at once, and at every border."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.providers import positions
from actors.providers import record as rules
from actors.providers.record import counted, earned_level, figures_of, followed, is_deeper, recounted, with_given_level
from actors.records.returns import return_of as market_return
from db.providers.outcomes import WHOLE, Leg, OutcomeRow
from db.providers.records import Figures, RecordRow
from schemas._vocabulary import AssetType, OutcomeStatus, Side
from tests.support.users_factory import NOON

EMPTY = RecordRow(UUID(int=1), is_system=False)
UNIT = Fraction(1, 10**12)

prices = st.decimals(min_value=Decimal("1e-18"), max_value=Decimal("1e15"), allow_nan=False, places=18).filter(bool)
ordinary = st.decimals(min_value=Decimal("0.01"), max_value=Decimal(100_000), places=2)
histories = st.lists(st.tuples(st.sampled_from(["long", "short"]), ordinary, ordinary), max_size=60)


def rounded(value: Fraction) -> float:
    return float(round(value, 4))


def recomputed(ends: Sequence[tuple[int, OutcomeStatus]]) -> Figures:
    """The figures by the definitions, from the returns of all closed signals in their order."""
    returns = [returned * UNIT for returned, _ in ends]
    if not returns:
        return Figures(None, None, 0.0, None, 0.0)
    wins = sum(status == "PROFIT" for _, status in ends)
    value = peak = Fraction(1)
    deepest = Fraction(0)
    for each in returns:
        value += each
        peak = max(peak, value)
        deepest = max(deepest, (peak - value) / peak)
    return Figures(
        win_rate=rounded(Fraction(wins, len(ends))),
        avg_return=rounded(statistics.mean(returns)),
        total_return=rounded(sum(returns, Fraction(0))),
        sharpe_ratio=sharpe(returns),
        max_drawdown=rounded(deepest),
    )


def sharpe(returns: Sequence[Fraction]) -> float | None:
    """The mean by the sample standard deviation, rounded half to even: found by trying, without a root."""
    if len(returns) < 2 or statistics.variance(returns) == 0:
        return None
    square = statistics.mean(returns) ** 2 / statistics.variance(returns)
    low, high = 0, 10**30
    while high - low > 1:  # the greatest n with n/10000 <= the root
        middle = (low + high) // 2
        low, high = (middle, high) if Fraction(middle, 10**4) ** 2 <= square else (low, middle)
    half = Fraction(2 * low + 1, 2 * 10**4) ** 2
    if square > half or (square == half and low % 2):
        low += 1
    return low / 10**4 if statistics.mean(returns) >= 0 else -low / 10**4


def return_of(
    side: Side, entry: Decimal, price: Decimal, asset_type: AssetType = "crypto"
) -> tuple[int, OutcomeStatus]:
    """The return and the status of a position that was closed at once."""
    position = OutcomeRow(UUID(int=2), UUID(int=1), "BTC", side, entry, 1, NOON, asset_type=asset_type)
    leg = Leg(NOON, price, WHOLE, market_return(asset_type, side, entry, price), None, "signal", UUID(int=3))
    positions.with_legs(position, (leg,), 2)
    assert position.returned is not None
    return position.returned, position.status


def closed(record: RecordRow, feed_seq: int, at: datetime, returned: int, status: OutcomeStatus) -> RecordRow:
    """The record after a signal that closed a position."""
    return rules.closed(counted(record, feed_seq, at), at, returned, status)


def record_of(ends: Sequence[tuple[int, OutcomeStatus]]) -> RecordRow:
    record = EMPTY
    for place, (returned, status) in enumerate(ends, 1):
        record = closed(record, place, NOON, returned, status)
    return record


@settings(max_examples=120, deadline=None)
@given(histories)
def test_a_record_kept_signal_by_signal_equals_one_of_all_signals(history: Any) -> None:
    ends = [return_of(*each) for each in history]
    record = record_of(ends)
    assert figures_of(record) == recomputed(ends)
    assert record.return_sum == sum(returned for returned, _ in ends)
    assert record.return_square_sum == sum(returned**2 for returned, _ in ends)
    runs = "".join("W" if status == "PROFIT" else " " for _, status in ends)
    assert record.longest_streak == max(map(len, runs.split(" ")))
    assert record.current_streak == len(runs.split(" ")[-1])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["long", "short"]), prices, prices), max_size=12))
def test_the_most_extreme_prices_are_exact_too(history: Any) -> None:
    ends = [return_of(*each) for each in history]
    assert figures_of(record_of(ends)) == recomputed(ends)


@given(ordinary, ordinary)
def test_a_short_is_the_opposite_of_a_long_and_loses_no_more_than_all(entry: Decimal, end: Decimal) -> None:
    (gained, won), (lost, status) = return_of("long", entry, end), return_of("short", entry, end)
    assert lost == max(-gained, -(10**12))
    assert {won, status} in ({"PROFIT", "LOSS"}, {"BREAKEVEN"})
    assert abs(gained * UNIT - (Fraction(end) - Fraction(entry)) / Fraction(entry)) <= UNIT / 2


@pytest.mark.parametrize(
    ("side", "price", "expected"),
    [("long", "0.40", -411764705882), ("short", "0.40", 875 * 10**9), ("long", "0", -(10**12))],
)
def test_a_predictions_price_is_the_probability_of_yes(side: Side, price: str, expected: int) -> None:
    assert return_of(side, Decimal("0.68"), Decimal(price), "prediction")[0] == expected


@given(histories, st.integers(0, 59))
def test_what_a_retraction_takes_back_had_never_counted(history: Any, which: int) -> None:
    ends = [return_of(*each) for each in history]
    left = [end for place, end in enumerate(ends) if place != which]
    again = recounted(record_of(ends), left)
    assert figures_of(again) == figures_of(record_of(left))
    assert again.total_signals == len(ends)


def test_half_of_the_last_place_is_rounded_to_the_even() -> None:
    entry = Decimal(2)
    assert return_of("long", entry, entry + Decimal("1e-12")) == (0, "PROFIT")
    assert return_of("long", entry, entry + Decimal("3e-12")) == (2, "PROFIT")
    assert return_of("long", entry, entry - Decimal("1e-12")) == (0, "LOSS")
    assert return_of("long", entry, entry + Decimal("1.000001e-12")) == (1, "PROFIT")


def test_a_close_with_nothing_open_counts_as_a_signal_and_nowhere_else() -> None:
    record = counted(EMPTY, 7, NOON)
    assert record == replace(EMPTY, applied_seq=7, total_signals=1)
    assert figures_of(record) == Figures(None, None, 0.0, None, 0.0)


def test_the_drawdown_is_the_deepest_fall_from_a_peak_not_the_last() -> None:
    ends: list[tuple[int, OutcomeStatus]] = [
        (5 * 10**11, "PROFIT"),  # 1.5
        (-3 * 10**11, "LOSS"),  # 1.2: a fifth down
        (9 * 10**11, "PROFIT"),  # 2.1
        (-4 * 10**11, "LOSS"),  # 1.7: more, but less of it
    ]
    assert figures_of(record_of(ends)).max_drawdown == 0.2
    assert figures_of(record_of([(-15 * 10**11, "LOSS")])).max_drawdown == 1.5  # a short may lose more than all


@given(*(st.integers(0, 10**14) for _ in range(2)), *(st.integers(-(10**14), 0) for _ in range(2)))
def test_falls_are_compared_exactly(peak: int, other: int, low: int, other_low: int) -> None:
    def fall(high: int, end: int) -> Fraction:
        return (high - end) * UNIT / (1 + high * UNIT)

    assert is_deeper(peak, low, other, other_low) == (fall(peak, low) > fall(other, other_low))


ELIGIBLE = NOON.date() - timedelta(days=2)


def winner(*, wins: int, losses: int, opens: int, followers: int) -> RecordRow:
    record = replace(EMPTY, follower_count=followers)
    for n in range(wins + losses):
        record = closed(record, n, NOON, 1, "PROFIT" if n < wins else "LOSS")
    for n in range(opens):
        record = counted(record, wins + losses + n, NOON)
    return record


@pytest.mark.parametrize(
    ("numbers", "level"),
    [
        ({"wins": 0, "losses": 0, "opens": 9, "followers": 9999}, "none"),
        ({"wins": 0, "losses": 0, "opens": 10, "followers": 0}, "basic"),
        ({"wins": 0, "losses": 0, "opens": 200, "followers": 500}, "basic"),  # no win rate yet
        ({"wins": 30, "losses": 19, "opens": 99, "followers": 30}, "basic"),  # closed signals count
        ({"wins": 30, "losses": 20, "opens": 0, "followers": 29}, "basic"),
        ({"wins": 30, "losses": 20, "opens": 0, "followers": 30}, "pro"),
        ({"wins": 29, "losses": 21, "opens": 0, "followers": 30}, "basic"),
        ({"wins": 599, "losses": 401, "opens": 0, "followers": 499}, "basic"),
        ({"wins": 130, "losses": 70, "opens": 0, "followers": 499}, "pro"),
        ({"wins": 130, "losses": 69, "opens": 9, "followers": 500}, "pro"),
        ({"wins": 130, "losses": 70, "opens": 0, "followers": 500}, "elite"),
    ],
)
def test_a_level_needs_all_of_its_conditions_at_once(numbers: dict[str, int], level: str) -> None:
    # The order in which signals come matters not here: losses come last, so that no level is earned on the way.
    record = replace(winner(**numbers), eligible_since=ELIGIBLE)
    assert earned_level(record, NOON) == level


@pytest.mark.parametrize(
    ("since", "level"), [(None, "basic"), (NOON.date() - timedelta(days=1), "basic"), (ELIGIBLE, "pro")]
)
def test_from_pro_on_a_level_needs_a_record_that_was_eligible_two_days_ago(since: date | None, level: str) -> None:
    record = replace(winner(wins=30, losses=20, opens=0, followers=30), eligible_since=since)
    assert earned_level(record, NOON) == level


def test_a_level_that_was_given_stays_when_a_record_is_computed_anew() -> None:
    anew = winner(wins=0, losses=0, opens=10, followers=0)
    given = replace(anew, verification_level="pro", verified_at=NOON - timedelta(days=9))
    assert with_given_level(anew, given) == given
    assert with_given_level(given, anew) == given
    wrong = replace(anew, verification_level="basic", verified_at=NOON - timedelta(days=9))
    assert with_given_level(anew, wrong) == anew  # what earns it has not changed


def test_a_level_is_never_lost_and_verified_once() -> None:
    record = replace(EMPTY, eligible_since=ELIGIBLE)
    for n in range(10):
        record = counted(record, n, NOON + timedelta(minutes=n))
    assert (record.verification_level, record.verified_at) == ("basic", NOON + timedelta(minutes=9))
    for n in range(60):
        record = closed(record, 10 + n, NOON + timedelta(hours=1), 1, "PROFIT")
    for _ in range(30):
        record = followed(record, 1, NOON + timedelta(hours=2))
    assert record.verification_level == "pro"
    for n in range(200):
        record = closed(record, 70 + n, NOON + timedelta(hours=3), -1, "LOSS")
    for _ in range(30):
        record = followed(record, -1, NOON + timedelta(hours=4))
    assert (record.verification_level, record.verified_at) == ("pro", NOON + timedelta(minutes=9))
    assert (record.follower_count, record.most_followers) == (0, 30)


def test_a_first_level_that_followers_bring_is_dated_by_them() -> None:
    record = followed(replace(EMPTY, total_signals=10), 1, NOON)
    assert (record.verification_level, record.verified_at) == ("basic", NOON)


@pytest.mark.parametrize(
    ("mean", "ratio"),
    [(0, 0.0), (12_345, 0.1234), (12_346, 0.1235), (12_355, 0.1236), (-12_345, -0.1234), (-12_355, -0.1236)],
)
def test_a_sharpe_ratio_between_two_figures_is_rounded_to_the_even_one(mean: int, ratio: float) -> None:
    record = EMPTY
    for place, returned in enumerate((mean - 100_000, mean, mean + 100_000)):  # their standard deviation is 100 000
        record = closed(record, place + 1, NOON, returned, "PROFIT" if returned > 0 else "LOSS")
    assert (figures_of(record).sharpe_ratio, record.applied_seq) == (ratio, 3)
