"""Scoring: the contract's formula, its roundings, its example, and the public words for it."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.lens.model import Hourly, Vote
from actors.lens.scoring import (
    describe,
    freshness,
    model_confidence,
    opportunity_factors,
    opportunity_score,
    public_action,
    round_half_up,
    score_signal,
    side_of,
    tier_of,
)
from config.values import replace
from schemas.decisions import DECISIONS_ON
from tests.unit.lens.factories import (
    NOW,
    assert_is_json,
    bare_features,
    make_evaluation,
    make_features,
    make_signal,
    rising_frame,
)
from tests.unit.lens.test_strategies import NAMES, frames, hours


def test_the_documents_example_comes_out_exactly():
    factors = opportunity_factors(confidence=0.82, expected_return=0.032, consensus=0.80, volatility=0.021, minutes=2.0)
    assert factors == {
        "confidence": {"value": 0.82, "contribution": 20.5},
        "expected_return": {"value": 0.032, "contribution": 30.0},
        "consensus": {"value": 0.80, "contribution": 16.0},
        "volatility": {"value": 0.021, "contribution": 10.5},
        "freshness": {"value": 2, "contribution": 10.0},
    }
    assert type(factors["freshness"]["value"]) is int
    assert opportunity_score(factors) == 87
    assert tier_of(87) == "HOT"


@given(st.floats(0, 1), st.floats(0, 10), st.floats(0, 1), st.floats(0, 10), st.floats(-1e6, 1e6))
def test_the_contributions_follow_from_the_stored_values_by_the_contracts_formula(
    confidence, expected_return, consensus, volatility, minutes
):
    factors = opportunity_factors(
        confidence=confidence,
        expected_return=expected_return,
        consensus=consensus,
        volatility=volatility,
        minutes=minutes,
    )
    value = {name: Fraction(str(factor["value"])) for name, factor in factors.items()}
    cap = Fraction(3, 100)
    exact = {
        "confidence": 25 * value["confidence"],
        "expected_return": 30 * min(value["expected_return"] / cap, 1),
        "consensus": 20 * value["consensus"],
        "volatility": 15 * min(value["volatility"] / cap, 1),
        "freshness": 10 * max(0, min((60 - value["freshness"]) / 55, 1)),
    }
    for name, contribution in exact.items():
        rounded = Fraction(int(contribution * 10 + Fraction(1, 2)), 10)
        assert factors[name]["contribution"] == pytest.approx(float(rounded), abs=1e-12), name
    assert 0 <= opportunity_score(factors) <= 100


@pytest.mark.parametrize(
    ("value", "digits", "rounded"),
    [(20.25, 1, 20.3), (20.2499999999, 1, 20.3), (20.2499, 1, 20.2), (86.5, 0, 87), (86.49, 0, 86), (0.05, 1, 0.1)],
)
def test_halves_are_rounded_up(value, digits, rounded):
    assert round_half_up(value, digits) == rounded


@pytest.mark.parametrize(("minutes", "share"), [(-10, 1.0), (0, 1.0), (5, 1.0), (32.5, 0.5), (60, 0.0), (1e9, 0.0)])
def test_freshness_is_full_for_five_minutes_and_gone_at_sixty(minutes, share):
    assert freshness(minutes) == pytest.approx(share)


def test_a_time_to_come_counts_as_now():
    factors = opportunity_factors(confidence=0, expected_return=0, consensus=0, volatility=0, minutes=-3)
    assert factors["freshness"] == {"value": 0, "contribution": 10.0}


def test_a_value_that_could_not_be_had_is_null_and_contributes_nothing():
    factors = opportunity_factors(confidence=1, expected_return=None, consensus=0, volatility=None, minutes=61)
    assert factors["expected_return"] == factors["volatility"] == {"value": None, "contribution": 0.0}
    assert opportunity_score(factors) == 25


@pytest.mark.parametrize(
    ("score", "tier"),
    [(100, "HOT"), (80, "HOT"), (79, "GOOD"), (60, "GOOD"), (59, "NEUTRAL"), (40, "NEUTRAL"), (39, "LOW"), (0, "LOW")],
)
def test_the_tiers(score, tier):
    assert tier_of(score) == tier


@pytest.mark.parametrize(
    ("direction", "side", "action", "prediction"),
    [
        ("long", "BUY", "buy", "yes"),
        ("short", "SELL", "sell", "no"),
        ("close_long", "SELL", "sell", "no"),
        ("close_short", "BUY", "buy", "yes"),
    ],
)
def test_the_public_action_of_each_direction(direction, side, action, prediction):
    assert side_of(direction) == side
    assert public_action(direction, "crypto") == action
    assert public_action(direction, "prediction") == prediction


def test_the_confidence_of_a_model_that_does_not_follow_counts_reversed():
    follows, ignores = make_evaluation("FOLLOW_ENTER", 0.8), make_evaluation("IGNORE", 0.9)
    assert model_confidence("OPEN_SIGNAL", [follows]) == 0.8
    assert model_confidence("OPEN_SIGNAL", [ignores]) == pytest.approx(0.1)
    assert model_confidence("OPEN_SIGNAL", [follows, ignores]) == pytest.approx(0.45)


@pytest.mark.parametrize(("kind", "share"), [("FOLLOW_EXIT", 0.7), ("HOLD", 0.15), ("TIGHTEN_STOP", 0.15)])
def test_a_close_is_followed_by_an_exit_only(kind, share):
    """A decision that is no exit gives the exit half of what its confidence leaves."""
    assert model_confidence("CLOSE_SIGNAL", [make_evaluation(kind, 0.7)]) == pytest.approx(share)


def test_shares_of_models_add_up_to_no_more_than_the_whole():
    """The kind: shares of one whole that add up to more than it."""
    for event_type, kinds in DECISIONS_ON.items():
        shares = [model_confidence(event_type, [make_evaluation(kind, 1 / len(kinds))]) for kind in kinds]
        assert shares == pytest.approx([1 / len(kinds)] * len(kinds))


def test_a_failed_model_has_no_say():
    failed = replace(make_evaluation(), status="TIMEOUT", decision=None, error="no answer in 30 s")
    assert model_confidence("OPEN_SIGNAL", [make_evaluation(confidence=0.6), failed]) == 0.6
    assert model_confidence("OPEN_SIGNAL", [failed]) == 0.0
    thirds = [make_evaluation(confidence=each) for each in (0.5, 0.5, 0.6)]
    assert model_confidence("OPEN_SIGNAL", thirds) == 0.533333


def test_the_score_of_a_signal_is_made_of_its_features():
    hourly = Hourly(volatility=0.0214567, price_change=0.0231, volume_ratio=1.51239)
    features = bare_features({"1h": rising_frame(atr_14=1.6)}, hourly)
    score = score_signal(make_signal(), features, [make_evaluation()], NOW + timedelta(minutes=2))
    factors = score.opportunity_factors
    assert factors["expected_return"] == {"value": 0.032, "contribution": 30.0}
    assert factors["volatility"] == {"value": 0.021457, "contribution": 10.7}
    assert factors["freshness"] == {"value": 2, "contribution": 10.0}
    assert factors["confidence"]["value"] == score.confidence == 0.82
    assert score.opportunity_score == round_half_up(sum(each["contribution"] for each in factors.values()))
    assert score.market_context == {
        "current_price": 100.0,
        "price_change_1h": 0.0231,
        "volume_ratio": 1.5124,
        "volatility_1h": 0.021457,
    }


def test_consensus_is_with_the_public_action():
    features = bare_features({"1h": rising_frame()})  # EMA_TREND and MACD_CROSS can only buy here
    buying = score_signal(make_signal(), features, [make_evaluation()], NOW)
    closing = make_signal(event_type="CLOSE_SIGNAL", signal_direction="close_long")
    selling = score_signal(closing, features, [make_evaluation("FOLLOW_EXIT")], NOW)
    assert buying.opportunity_factors["consensus"]["value"] == 1.0
    assert selling.opportunity_factors["consensus"]["value"] == 0.0


def test_the_action_of_a_prediction_is_yes_or_no():
    assert score_signal(make_signal(asset_type="prediction"), bare_features(), [], NOW).action == "yes"
    assert score_signal(make_signal(), bare_features(), [], NOW).action == "buy"


def test_a_signal_without_hourly_candles_is_scored_all_the_same():
    score = score_signal(make_signal(), bare_features(), [make_evaluation()], NOW)
    assert score.opportunity_factors["expected_return"]["value"] is None
    assert score.opportunity_score == 31  # 20.5 and 10.0, half up
    assert score.market_context["volatility_1h"] is None


@given(
    frames,
    hours,
    st.sampled_from(["long", "short", "close_long", "close_short"]),
    st.floats(0.5, 1),
    st.floats(-1e4, 1e4),
)
def test_the_score_is_in_bounds_and_its_document_finite_for_any_features(frame, hourly, direction, confidence, seconds):
    signal = make_signal(
        event_type="CLOSE_SIGNAL" if direction.startswith("close") else "OPEN_SIGNAL", signal_direction=direction
    )
    features = bare_features({"1h": frame}, hourly)
    now = NOW + timedelta(seconds=seconds)
    score = score_signal(signal, features, [make_evaluation("FOLLOW_ENTER", confidence)], now)
    assert 0 <= score.opportunity_score <= 100
    assert score.opportunity_tier == tier_of(score.opportunity_score)
    assert list(score.opportunity_factors) == ["confidence", "expected_return", "consensus", "volatility", "freshness"]
    assert_is_json(score.to_dict())
    assert score_signal(signal, features, [make_evaluation("FOLLOW_ENTER", confidence)], now) == score


def test_the_simulated_market_spreads_the_scores_over_the_tiers():
    tiers = {
        score_signal(signal, make_features(signal), [make_evaluation(confidence=confidence)], NOW).opportunity_tier
        for signal in (make_signal(symbol=f"S{number}") for number in range(50))
        for confidence in (0.6, 0.9)
    }
    assert tiers >= {"HOT", "GOOD", "NEUTRAL"}


def _votes(*signals):
    return [
        Vote(name, signal, 0.9 - place / 10) for place, (name, signal) in enumerate(zip(NAMES, signals, strict=True))
    ]


@pytest.mark.parametrize(
    ("signals", "side", "confidence", "text"),
    [
        (("BUY", "BUY", "BUY", "BUY", "SELL"), "BUY", 0.8,
         "RSI oversold bounce with MACD turning positive. 4/5 strategies agree. 1 disagrees."),
        (("HOLD", "HOLD", "HOLD", "SELL", "HOLD"), "SELL", 0.5, "EMAs aligned downwards. 1/5 strategies agree."),
        (("BUY", "BUY", "HOLD", "HOLD", "HOLD"), "SELL", 0.3,
         "No strategy confirms the sell side. 0/5 strategies agree. 2 disagree. The models advise against it."),
    ],
)  # fmt: skip
def test_the_reasoning_says_what_speaks_for_the_signal_and_who_agrees(signals, side, confidence, text):
    assert describe(_votes(*signals), side, confidence) == text
