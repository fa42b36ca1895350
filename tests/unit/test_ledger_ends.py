"""What minute candles do to a position: levels in the order that is worse for the provider, and nothing twice."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.ledger.ends import apply_minutes, opened_at, set_levels
from actors.ledger.linking import Linker
from actors.ledger.watch import MOST_MINUTES, minutes_of
from actors.lens.market.quotes import Bar
from actors.records.entries import EndEntry, FillEntry
from actors.records.returns import UNIT, return_of
from db.ledger import PositionRow
from tests.support.ledger_factory import NOON, bar, item

MINUTE = timedelta(minutes=1)
UNTIL = NOON + timedelta(hours=2)


def position(**changes: Any) -> PositionRow:
    """Return a position that was opened in the minute of noon."""
    linker = Linker([], {})
    linker.take(item(0, **changes))
    [found] = linker.changed.values()
    return found


def after(found: PositionRow, *prices: Sequence[float]) -> list[tuple[str, Decimal | None, int]]:
    """Return what candles after the minute of receipt do, in short."""
    bars = [bar(NOON + (1 + place) * MINUTE, *each) for place, each in enumerate(prices)]
    return [
        ("fill", each.price, each.at.minute)
        if isinstance(each, FillEntry)
        else (each.reason or each.note or "", each.price, each.at.minute)
        for each in apply_minutes(found, bars, UNTIL)
    ]


D = Decimal
LONG = {"stop_loss": D(90), "take_profit": (D(110), D(120)), "liquidation_price": D(80)}
SHORT = {"direction": "short", "stop_loss": D(110), "take_profit": (D(90), D(80)), "liquidation_price": D(120)}


@pytest.mark.parametrize(
    ("terms", "prices", "expected"),
    [
        (LONG, [(100, 109, 91, 100)], []),
        (LONG, [(100, 100, 90, 100)], [("stop_loss", D(90), 1)]),
        (LONG, [(85, 100, 80, 100)], [("stop_loss", D(85), 1)]),  # opened beyond its stop
        (LONG, [(100, 130, 89, 100)], [("stop_loss", D(90), 1)]),  # both in one candle
        (LONG, [(100, 115, 99, 100), (100, 125, 99, 100)], [("take_profit", D(110), 1), ("take_profit", D(120), 2)]),
        (LONG, [(130, 140, 130, 130)], [("take_profit", D(110), 1), ("take_profit", D(120), 1)]),
        ({"liquidation_price": D(80)}, [(70, 75, 60, 70)], [("liquidation", D(80), 1)]),
        (SHORT, [(100, 110, 100, 100)], [("stop_loss", D(110), 1)]),
        (SHORT, [(115, 116, 70, 100)], [("stop_loss", D(115), 1)]),
        (SHORT, [(100, 100, 85, 86), (86, 100, 79, 80)], [("take_profit", D(90), 1), ("take_profit", D(80), 2)]),
        ({"direction": "short"}, [(100, 199, 90, 100), (150, 500, 150, 400)], [("floor", D(200), 2)]),
        ({"direction": "short", "record_price": D(90)}, [(150, 180, 150, 160)], [("floor", D(180), 1)]),
        ({"direction": "short", "asset_type": "prediction", "declared_price": D("0.3")}, [(0.9, 0.9, 0.9, 0.9)], []),
    ],
)
def test_a_candle_ends_a_position_at_its_levels(terms: Any, prices: Any, expected: Any) -> None:
    assert after(position(**terms), *prices) == expected


def test_the_nearest_of_several_levels_comes_first() -> None:
    assert after(position(stop_loss=D(70), liquidation_price=D(80)), (100, 100, 50, 60)) == [("liquidation", D(80), 1)]
    assert after(position(direction="short", stop_loss=D(250)), (100, 300, 100, 300)) == [("floor", D(200), 1)]


def test_the_minute_of_receipt_does_nothing() -> None:
    found = position(stop_loss=D(90))
    assert apply_minutes(found, [bar(NOON, 50)], UNTIL) == []
    assert len(apply_minutes(found, [bar(NOON, 50), bar(NOON + MINUTE, 50)], UNTIL)) == 1


def test_an_order_is_filled_at_its_limit_and_can_be_stopped_in_the_same_candle_and_not_gain_in_it() -> None:
    terms = {"order_type": "limit", "declared_price": D(95), "stop_loss": D(90), "take_profit": (D(105),)}
    assert after(position(**terms), (100, 100, 96, 100)) == []
    assert after(position(**terms), (100, 110, 94, 100)) == [("fill", D(95), 1)]
    assert after(position(**terms), (100, 110, 94, 100), (100, 106, 99, 100)) == [
        ("fill", D(95), 1),
        ("take_profit", D(105), 2),
    ]
    assert after(position(**terms), (100, 110, 89, 100)) == [("fill", D(95), 1), ("stop_loss", D(90), 1)]
    short = {"order_type": "limit", "direction": "short", "declared_price": D(105)}
    assert after(position(**short), (100, 106, 99, 100)) == [("fill", D(105), 1)]


def test_an_order_lapses_and_only_a_whole_minute_before_that_fills_it() -> None:
    terms = {"order_type": "limit", "declared_price": D(95), "valid_until": NOON + 2 * MINUTE + timedelta(seconds=30)}
    assert after(position(**terms), (100, 100, 100, 100), (100, 100, 90, 90)) == [("lapsed", None, 2)]
    assert after(position(**terms), (100, 100, 90, 90)) == [("fill", D(95), 1)]


def walk(rng: random.Random, count: int) -> list[Bar]:
    """Return the candles of a random walk, a few of them missing."""
    price, bars = 100.0, []
    for minute in range(count):
        opened, price = price, price * rng.uniform(0.9, 1.11)
        low, high = min(opened, price) * rng.uniform(0.95, 1), max(opened, price) * rng.uniform(1, 1.05)
        if rng.random() < 0.9:
            bars.append(bar(NOON + minute * MINUTE, *(round(each, 2) for each in (opened, high, low, price))))
    return bars


def random_position(rng: random.Random) -> PositionRow:
    side = rng.choice(["long", "short"])
    sign = 1 if side == "long" else -1
    targets = tuple(D(100 + sign * rng.randint(1, 40)) for _ in range(rng.randint(0, 3)))
    return position(
        direction=side,
        take_profit=tuple(dict.fromkeys(targets)),
        stop_loss=rng.choice([None, D(100 - sign * rng.randint(1, 40))]),
        liquidation_price=rng.choice([None, D(100 - sign * rng.randint(1, 60))]),
        order_type=rng.choice([None, "limit"]),
        valid_until=rng.choice([None, NOON + rng.randint(1, 60) * MINUTE]),
    )


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 60), max_size=6))
def test_minutes_that_are_looked_at_in_pieces_or_again_give_the_same_ends(seed: int, cuts: list[int]) -> None:
    rng = random.Random(seed)
    whole, bars = random_position(rng), walk(rng, 60)
    pieces = copy.deepcopy(whole)
    until = NOON + 60 * MINUTE
    expected = apply_minutes(whole, bars, until)
    found = []
    for cut in [*sorted(cuts), 60]:
        found += apply_minutes(pieces, bars, NOON + cut * MINUTE)  # each time from the beginning
    assert found == expected
    assert pieces == whole


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_ends_add_up_and_are_within_what_the_market_reached(seed: int) -> None:
    rng = random.Random(seed)
    found, bars = random_position(rng), walk(rng, 60)

    entries = []
    for each in bars:
        set_levels(found)
        before = found.low_level, found.high_level, found.watched_from, found.open_part
        came = apply_minutes(found, [each], opened_at(each) + MINUTE)
        priced = [entry for entry in came if entry.price is not None]
        low, high, watched_from, was_open = before
        if priced:  # SQL would have found it
            assert was_open
            assert watched_from <= opened_at(each)
            assert (low is not None and each.low <= low) or (high is not None and each.high >= high)
        entries += came
    ends = [each for each in entries if isinstance(each, EndEntry)]
    assert sum(each.part for each in ends) == UNIT - found.open_part
    assert all(each.part > 0 for each in ends)
    for each in ends:
        if each.price is not None:
            assert return_of("crypto", found.side, found.entry, each.price) >= -UNIT


def test_a_level_that_is_near_is_looked_at_each_minute_and_a_far_one_rarely() -> None:
    assert minutes_of(D(100), D("99.6"), D(200)) == 1
    assert minutes_of(D(100), D(98), None) in (15, 16)
    assert minutes_of(D(100), D(50), D(200)) == MOST_MINUTES
    assert minutes_of(D(0), D(50), None) == 1
