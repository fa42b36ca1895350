"""The five strategies: when each votes, how strongly, and that any input gives valid votes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.lens.indicators import hourly_of
from actors.lens.model import Frame, Hourly, Vote
from actors.lens.strategies import (
    STRATEGIES,
    bollinger_bounce,
    consensus,
    ema_trend,
    macd_cross,
    rsi_reversal,
    volume_breakout,
    vote,
)
from tests.unit.lens.factories import NOW_MS, bare_features, make_candles, make_features, make_signal, rising_frame

NAMES = ["RSI_REVERSAL", "MACD_CROSS", "BOLLINGER_BOUNCE", "EMA_TREND", "VOLUME_BREAKOUT"]


@pytest.mark.parametrize(
    ("rsi", "before", "evidence"),
    [(50, 50, 0.0), (30, 35, 0.5), (70, 65, -0.5), (10, 12, 1.0), (34, 30, 0.5), (66, 70, -0.5), (30, None, 0.5)],
)
def test_rsi_reversal_buys_at_thirty_sells_at_seventy_and_sooner_when_it_turns(rsi, before, evidence):
    assert rsi_reversal(Frame(rsi_14=rsi), Hourly(rsi_14_previous=before)) == pytest.approx(evidence)


@pytest.mark.parametrize(
    ("histogram", "before", "age", "evidence"),
    [
        (0.3, -0.1, 0, 0.95),
        (-0.15, 0.1, 2, -0.75),
        (0.3, 0.2, None, 0.65),
        (0.09, 0.05, None, 0.37),
        (-0.3, -0.4, None, -0.3),
        (0.0, 0.1, None, 0.0),
    ],
)
def test_macd_cross_votes_on_a_cross_or_on_strong_expanding_momentum(histogram, before, age, evidence):
    hourly = Hourly(macd_histogram_previous=before, macd_cross_age=age)
    assert macd_cross(Frame(macd_histogram=histogram, atr_14=1.0), hourly) == pytest.approx(evidence)


@pytest.mark.parametrize(
    ("band", "before", "evidence"),
    [(0.5, 0.5, 0.0), (0.0, 0.3, 0.5), (1.0, 0.7, -0.5), (0.2, 0.05, 0.6), (0.8, 0.95, -0.6), (0.2, None, 0.3)],
)
def test_bollinger_bounce_votes_at_a_line_and_sooner_after_touching_it(band, before, evidence):
    assert bollinger_bounce(Frame(), Hourly(percent_b=band, percent_b_previous=before)) == pytest.approx(evidence)


@pytest.mark.parametrize(
    ("fast", "middle", "slow", "close", "evidence"),
    [
        (104.0, 102.0, 100.0, 105.0, 1.0),
        (102.0, 101.0, 100.0, 101.0, 0.7),
        (96.0, 98.0, 100.0, 95.0, -1.0),
        (102.0, 100.0, 101.0, 103.0, 0.4),
        (101.0, 102.0, None, 100.0, -0.25),
    ],
)
def test_ema_trend_votes_when_the_averages_are_in_line(fast, middle, slow, close, evidence):
    frame = Frame(close=close, ema_9=fast, ema_21=middle, ema_50=slow, atr_14=1.0)
    assert ema_trend(frame, Hourly()) == pytest.approx(evidence)


@pytest.mark.parametrize(
    ("close", "ratio", "evidence"),
    [
        (111.0, 2.0, 1.0),
        (110.5, 1.5, 0.65),
        (89.0, 3.0, -1.0),
        (110.5, 0.5, 0.45),
        (100.0, 5.0, 0.0),
        (109.0, 2.0, 0.27),
        (109.0, 1.0, 0.0),
    ],
)
def test_volume_breakout_votes_outside_the_channel_on_volume(close, ratio, evidence):
    hourly = Hourly(volume_ratio=ratio, channel_high=110.0, channel_low=90.0)
    assert volume_breakout(Frame(close=close, atr_14=1.0), hourly) == pytest.approx(evidence)


@pytest.mark.parametrize(("change", "evidence"), [(0.02, 0.65), (None, 0.65), (0.0, 0.65), (-0.02, 0.45)])
def test_a_volume_confirms_the_side_to_which_its_own_candle_went(change, evidence):
    hourly = Hourly(volume_ratio=1.5, channel_high=110.0, channel_low=90.0, volume_change=change)
    assert volume_breakout(Frame(close=110.5, atr_14=1.0), hourly) == pytest.approx(evidence)


def test_a_vote_is_buy_or_sell_from_a_half_on_and_hold_below():
    def rsi(value):
        return vote(bare_features({"1h": Frame(rsi_14=value)}))[0]

    assert rsi(30.0) == Vote("RSI_REVERSAL", "BUY", 0.5)
    assert rsi(30.4) == Vote("RSI_REVERSAL", "HOLD", 0.49)
    assert rsi(70.0) == Vote("RSI_REVERSAL", "SELL", 0.5)
    assert rsi(0.0) == Vote("RSI_REVERSAL", "BUY", 1.0)


def test_all_five_hold_at_zero_without_data():
    assert vote(bare_features()) == tuple(Vote(name, "HOLD", 0.0) for name in NAMES)
    assert vote(bare_features({"1h": Frame()})) == vote(bare_features({"4h": rising_frame()})) == vote(bare_features())


def test_the_votes_are_of_the_hour():
    assert vote(bare_features({"1h": rising_frame()}))[3] == Vote("EMA_TREND", "BUY", 0.9)


def test_a_crash_and_a_recovery_are_seen_through_real_candles():
    crash = np.concatenate((np.full(60, 100.0) + np.sin(np.arange(60)), np.linspace(99, 70, 15)))
    votes = {each.name: each for each in _votes_on(crash)}
    assert votes["RSI_REVERSAL"].signal == "BUY"
    assert votes["EMA_TREND"].signal == "SELL"
    recovery = np.concatenate((crash, [77.0, 84.0, 92.0]))
    assert {each.name: each for each in _votes_on(recovery)}["MACD_CROSS"].signal == "BUY"


def _votes_on(closes):
    frame, hourly = hourly_of(make_candles(closes), NOW_MS)
    return vote(bare_features({"1h": frame}, hourly))


numbers = st.none() | st.floats(-1e12, 1e12)
positive = st.none() | st.floats(0, 1e12)
frames = st.builds(Frame, *[numbers] * 7, st.none() | st.floats(0, 100), positive)
hours = st.builds(
    Hourly, st.none() | st.floats(0, 100), numbers, st.none() | st.integers(0, 2), numbers, numbers, positive,
    numbers, numbers, numbers, positive,
)  # fmt: skip


@given(frames, hours)
def test_votes_are_in_bounds_and_repeatable_for_any_indicators(frame, hourly):
    features = bare_features({"1h": frame}, hourly)
    votes = vote(features)
    assert [each.name for each in votes] == NAMES
    for each in votes:
        assert 0 <= each.score <= 1
        assert each.score == round(each.score, 2)
        assert (each.signal == "HOLD") == (each.score < 0.5)
    assert vote(features) == votes


@given(frames)
def test_a_mirrored_market_gets_mirrored_votes(frame):
    mirrored = Frame(
        **{
            name: value if value is None or name == "atr_14" else 100 - value if name == "rsi_14" else -value
            for name, value in frame.to_dict().items()
        }
    )
    for name, evidence in STRATEGIES:
        assert evidence(mirrored, Hourly()) == pytest.approx(-evidence(frame, Hourly())), name


@pytest.mark.parametrize(
    ("signals", "side", "share"),
    [
        (["BUY", "BUY", "BUY", "BUY", "SELL"], "BUY", 0.8),
        (["BUY", "BUY", "BUY", "BUY", "SELL"], "SELL", 0.2),
        (["BUY", "HOLD", "HOLD", "HOLD", "HOLD"], "BUY", 1.0),
        (["HOLD"] * 5, "BUY", 0.0),
    ],
)
def test_consensus_is_the_share_of_those_who_vote(signals, side, share):
    votes = [Vote(name, signal, 0.7) for name, signal in zip(NAMES, signals, strict=True)]
    assert consensus(votes, side) == pytest.approx(share)


def test_the_simulated_market_brings_every_kind_of_vote():
    seen = {
        (each.name, each.signal)
        for number in range(150)
        for each in vote(make_features(make_signal(symbol=f"S{number}")))
    }
    assert seen == {(name, side) for name in NAMES for side in ("BUY", "SELL", "HOLD")}
