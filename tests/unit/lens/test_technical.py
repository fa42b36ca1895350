"""The technical model: it follows a trend, leaves a failing position, and stays valid when data is missing."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.lens.model import DataQuality, EntryOrder, Hourly, StopRule
from actors.lens.technical import evaluate
from config.values import replace
from schemas._symbols import CATEGORY_OF
from tests.unit.lens.factories import (
    assert_is_json,
    bare_features,
    falling_frame,
    make_features,
    make_signal,
    rising_frame,
)
from tests.unit.lens.test_strategies import frames, hours, numbers

RISING = bare_features({each: rising_frame() for each in ("15m", "1h", "4h")}, spread_bps=2.0)
FALLING = bare_features({each: falling_frame() for each in ("15m", "1h", "4h")}, spread_bps=2.0)
WEAKENING = replace(
    RISING,
    frames={"15m": falling_frame(), "1h": rising_frame(), "4h": rising_frame(ema_21=94.0, macd_histogram=-0.3)},
)
STALE_ENTRY = DataQuality(stale_data=("entry_price",))


def _close(direction):
    return make_signal(event_type="CLOSE_SIGNAL", signal_direction=direction)


@pytest.mark.parametrize(("direction", "features"), [("long", RISING), ("short", FALLING)])
def test_an_open_with_the_trend_is_followed(direction, features):
    decision = evaluate(make_signal(signal_direction=direction), features)
    assert decision.decision == "FOLLOW_ENTER"
    assert decision.confidence > 0.8
    assert decision.entry_plan == EntryOrder("market")
    assert 1 <= decision.size_pct <= 25


@pytest.mark.parametrize(("direction", "features"), [("short", RISING), ("long", FALLING)])
def test_an_open_against_the_trend_is_ignored(direction, features):
    decision = evaluate(make_signal(signal_direction=direction), features)
    assert (decision.decision, decision.size_pct) == ("IGNORE", 0)
    assert decision.confidence > 0.8


@pytest.mark.parametrize(
    ("direction", "features", "expected"),
    [
        ("close_long", RISING, "HOLD"),
        ("close_long", FALLING, "FOLLOW_EXIT"),
        ("close_short", RISING, "FOLLOW_EXIT"),
        ("close_short", FALLING, "HOLD"),
    ],
)
def test_a_close_is_followed_unless_the_trend_still_carries_the_position(direction, features, expected):
    decision = evaluate(_close(direction), features)
    assert decision.decision == expected
    assert decision.size_pct == (100 if expected == "FOLLOW_EXIT" else 0)


def test_a_close_in_a_trend_that_weakens_tightens_the_stop():
    decision = evaluate(_close("close_long"), WEAKENING)
    assert decision.decision == "TIGHTEN_STOP"
    assert decision.risk_plan == StopRule("atr", atr_multiple=1.0)


def test_the_reasons_are_the_evidence_for_the_decision():
    hourly = Hourly(macd_cross_age=1)
    followed = evaluate(make_signal(), replace(RISING, hourly=hourly))
    assert followed.reasons[:2] == ("bullish_ema_alignment", "bullish_ema_alignment_4h")
    assert "positive_macd_crossover" in followed.reasons
    ignored = evaluate(make_signal(), FALLING)
    assert ignored.reasons[0] == "bearish_ema_alignment"
    assert not any(reason.startswith(("bullish", "positive")) for reason in ignored.reasons)


def test_an_entry_price_that_is_gone_is_not_followed():
    decision = evaluate(make_signal(), replace(RISING, flags=STALE_ENTRY))
    assert (decision.decision, decision.reasons[0]) == ("IGNORE", "entry_price_out_of_reach")


def test_missing_and_stale_data_lower_the_confidence():
    full = evaluate(make_signal(), RISING).confidence
    partial = evaluate(make_signal(), replace(RISING, frames={"1h": rising_frame()})).confidence
    stale = evaluate(make_signal(), replace(RISING, flags=DataQuality(stale_data=("signal",)))).confidence
    assert 0.5 < partial < full
    assert 0.5 < stale < full


@pytest.mark.parametrize(("event", "expected"), [(make_signal(), "IGNORE"), (_close("close_long"), "FOLLOW_EXIT")])
def test_an_open_without_data_is_ignored_and_a_close_followed_at_a_coins_toss(event, expected):
    decision = evaluate(event, bare_features())
    assert (decision.decision, decision.confidence) == (expected, 0.5)
    assert decision.reasons == ("insufficient_data",)
    assert decision.risk_plan.stop_method == "fixed"


@pytest.mark.parametrize(("direction", "features", "offset"), [("long", RISING, -15), ("short", FALLING, 15)])
def test_a_wide_spread_is_entered_by_a_limit_order_on_the_better_side(direction, features, offset):
    decision = evaluate(make_signal(signal_direction=direction), replace(features, spread_bps=30.0))
    assert decision.entry_plan == EntryOrder("limit", offset)


def test_a_strong_trend_is_trailed_and_a_weak_one_stopped_by_atr():
    assert evaluate(make_signal(), RISING).risk_plan == StopRule("trailing", trail_pct=3.0)
    assert evaluate(make_signal(), WEAKENING).risk_plan == StopRule("atr", atr_multiple=2.0)


@pytest.mark.parametrize(
    ("direction", "features", "liquidation", "stop"), [("long", RISING, 99.0, 99.5), ("short", FALLING, 101.0, 100.5)]
)
def test_a_stop_comes_before_the_liquidation(direction, features, liquidation, stop):
    signal = make_signal(signal_direction=direction, liquidation_price=liquidation)
    assert evaluate(signal, features).risk_plan == StopRule("fixed", stop_level=stop)
    far = make_signal(signal_direction=direction, liquidation_price=200 - liquidation)
    assert evaluate(far, features).risk_plan.stop_method == "trailing"


def test_the_size_grows_with_confidence_and_shrinks_with_the_stops_distance():
    wild = replace(RISING, frames=RISING.frames | {"1h": rising_frame(atr_14=5.0, macd_histogram=1.5)})
    assert evaluate(make_signal(), wild).size_pct < evaluate(make_signal(), RISING).size_pct


def test_the_stop_of_a_prediction_is_a_probability():
    features = bare_features(price=0.995)
    decision = evaluate(make_signal(asset_type="prediction", signal_direction="short"), features)
    assert 0.995 < decision.risk_plan.stop_level < 1


directions = st.sampled_from([
    ("OPEN_SIGNAL", "long"), ("OPEN_SIGNAL", "short"), ("CLOSE_SIGNAL", "close_long"), ("CLOSE_SIGNAL", "close_short")
])  # fmt: skip


def _assert_valid(event_type, decision):
    allowed = {"OPEN_SIGNAL": {"FOLLOW_ENTER", "IGNORE"}, "CLOSE_SIGNAL": {"FOLLOW_EXIT", "HOLD", "TIGHTEN_STOP"}}
    assert decision.decision in allowed[event_type]
    assert 0.5 <= decision.confidence <= 0.95
    assert decision.confidence == round(decision.confidence, 2)
    assert 0 <= decision.size_pct <= 100
    assert decision.reasons
    assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", reason) for reason in decision.reasons)
    risk = decision.risk_plan
    assert risk.atr_multiple is None or 0.5 <= risk.atr_multiple <= 10
    assert risk.trail_pct is None or 0 < risk.trail_pct <= 100
    assert (risk.stop_level is not None) == (risk.stop_method == "fixed")
    assert risk.stop_level is None or risk.stop_level > 0
    assert_is_json(decision.to_dict())


@given(
    directions,
    st.dictionaries(st.sampled_from(["15m", "1h", "4h"]), frames),
    hours,
    st.floats(1e-9, 1e9),
    st.sampled_from([(), ("entry_price",), ("signal", "candles_1h", "mid", "candles_4h")]),
    st.tuples(numbers, numbers, numbers, numbers, st.none() | st.floats(-1, 1)),
    st.none() | st.floats(1e-9, 1e9),
)
def test_the_decision_is_valid_and_repeatable_for_any_features(
    kind, by_interval, hourly, price, stale, extras, liquidation
):
    funding, spread, support, resistance, imbalance = extras
    features = bare_features(
        by_interval, hourly, profile="full_v1", price=price, flags=DataQuality(stale_data=stale), funding_rate=funding,
        spread_bps=spread, support=support, resistance=resistance, order_book_imbalance=imbalance,
    )  # fmt: skip
    event_type, direction = kind
    signal = make_signal(event_type=event_type, signal_direction=direction, liquidation_price=liquidation)
    decision = evaluate(signal, features)
    _assert_valid(event_type, decision)
    assert evaluate(signal, features) == decision


@given(directions, st.sampled_from(sorted(CATEGORY_OF)), st.integers(0, 500), st.floats(1e-6, 1e6))
def test_every_asset_type_of_the_simulated_market_gets_a_valid_decision(kind, asset_type, number, price):
    event_type, direction = kind
    signal = make_signal(
        event_type=event_type, signal_direction=direction, asset_type=asset_type, symbol=f"S{number}", entry_price=price
    )
    _assert_valid(event_type, evaluate(signal, make_features(signal)))


def test_the_simulated_market_brings_every_decision():
    seen = {
        evaluate(replace(make_signal(symbol=f"S{number}"), event_type=event_type, signal_direction=direction),
                 make_features(make_signal(symbol=f"S{number}"))).decision
        for number in range(60)
        for event_type, direction in (("OPEN_SIGNAL", "long"), ("CLOSE_SIGNAL", "close_long"))
    }  # fmt: skip
    assert seen == {"FOLLOW_ENTER", "IGNORE", "FOLLOW_EXIT", "HOLD", "TIGHTEN_STOP"}
