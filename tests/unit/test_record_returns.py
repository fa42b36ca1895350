"""Test the prices and returns of records against fractions, worked examples and the definitions' own numbers."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.records.returns import (
    UNIT,
    Side,
    Touch,
    buys,
    can_enter,
    can_exit,
    cost_of,
    floor_price,
    part_of,
    record_price,
    return_of,
    rounded,
)

PRICES = st.decimals("1e-12", "1e12", allow_nan=False, allow_infinity=False)
PROBABILITIES = st.decimals("0.000001", "0.999999", allow_nan=False, places=6)
SIDES = st.sampled_from(["long", "short"])


@pytest.mark.parametrize(
    ("asset_type", "side", "entry", "exit_price", "expected"),
    [
        ("crypto", "long", "100", "110", "0.1"),
        ("crypto", "short", "100", "90", "0.1"),
        ("crypto", "short", "1", "3.5", "-1"),  # floored: more than everything cannot be lost
        ("stock", "long", "3", "4", "0.333333333333"),
        ("forex", "long", "100", "110", "0.1"),
        ("option", "long", "2.50", "0", "-1"),
        ("prediction", "short", "0.68", "0.40", "0.875"),  # NO paid 0.32, is worth 0.60
        ("prediction", "short", "0.05", "0.9999", "-0.999894736842"),
        ("prediction", "long", "0.25", "1", "3"),
        ("prediction", "short", "0.25", "1", "-1"),
    ],
)
def test_returns_of_worked_examples(asset_type: str, side: Side, entry: str, exit_price: str, expected: str) -> None:
    assert return_of(asset_type, side, Decimal(entry), Decimal(exit_price)) == Decimal(expected) * UNIT


@given(side=SIDES, entry=PRICES, exit_price=PRICES)
def test_a_return_is_the_fraction_rounded_once_half_to_even(side: Side, entry: Decimal, exit_price: Decimal) -> None:
    change = Fraction(exit_price) / Fraction(entry) - 1
    exact = change if side == "long" else -change
    assert return_of("crypto", side, entry, exit_price) == max(round(exact * UNIT), -UNIT)


@given(side=SIDES, entry=PROBABILITIES, exit_price=st.one_of(PROBABILITIES, st.sampled_from([Decimal(0), Decimal(1)])))
def test_a_prediction_returns_what_its_side_paid_and_got(side: Side, entry: Decimal, exit_price: Decimal) -> None:
    paid, got = Fraction(entry), Fraction(exit_price)
    if side == "short":
        paid, got = 1 - paid, 1 - got
    assert return_of("prediction", side, entry, exit_price) == round((got / paid - 1) * UNIT)


@given(declared=PRICES, bid=PRICES, spread=PRICES, is_buy=st.booleans())
def test_no_price_that_can_be_named_is_better_than_the_market(
    declared: Decimal, bid: Decimal, spread: Decimal, is_buy: bool
) -> None:
    touch = Touch(bid, bid + spread)
    price = record_price(declared, touch, is_buy=is_buy)
    assert price >= max(touch.ask, declared) if is_buy else price <= min(touch.bid, declared)
    assert price in (declared, touch.bid, touch.ask)


def test_sides_buy_when_a_long_opens_or_a_short_closes() -> None:
    assert [buys("long", opens=True), buys("short", opens=False)] == [True, True]
    assert [buys("long", opens=False), buys("short", opens=True)] == [False, False]


def test_prices_at_which_a_position_may_begin_and_end() -> None:
    zero, one, two = Decimal(0), Decimal(1), Decimal(2)
    assert not can_enter("crypto", zero)
    assert not can_enter("prediction", one)
    assert can_enter("prediction", Decimal("0.999"))
    assert can_exit("prediction", zero)
    assert can_exit("prediction", one)
    assert not can_exit("prediction", two)
    assert can_exit("option", zero)
    assert not can_exit("crypto", zero)


def test_the_floor_is_twice_a_shorts_entry_and_nothing_elsewhere() -> None:
    assert floor_price("crypto", "short", Decimal(3)) == 6
    assert floor_price("crypto", "long", Decimal(3)) is None
    assert floor_price("prediction", "short", Decimal("0.3")) is None
    assert return_of("crypto", "short", Decimal(3), Decimal(6)) == -UNIT


def test_costs_are_of_the_part_that_is_traded() -> None:
    costs = {"crypto": Decimal(10), "forex": Decimal("2.5")}
    assert cost_of(costs, "crypto", UNIT) == UNIT // 1000
    assert cost_of(costs, "forex", UNIT // 2) == 125_000_000


@given(open_part=st.integers(1, UNIT), fraction=st.decimals("0.000001", 1, places=6))
def test_a_part_is_never_nothing_and_never_more_than_is_open(open_part: int, fraction: Decimal) -> None:
    part = part_of(open_part, fraction)
    assert 1 <= part <= open_part
    assert part_of(open_part, Decimal(1)) == open_part


@given(numerator=st.integers(), denominator=st.integers(min_value=1))
def test_rounding_is_that_of_fractions(numerator: int, denominator: int) -> None:
    assert rounded(numerator, denominator) == round(Fraction(numerator, denominator))
