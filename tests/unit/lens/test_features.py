"""Enrichment: the contents of each profile; missing, stale and failing data is flagged instead of failing."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.lens.features import PROFILE_QUERIES, age_of, age_rejection, build_features, drift_of, drift_rejection
from actors.lens.model import (
    INTERVAL_SECONDS,
    AssetContext,
    DataQuality,
    MarketSnapshot,
    OrderBook,
    QueryFailure,
    Quote,
)
from config.values import replace
from tests.unit.lens.factories import (
    NOW,
    NOW_MS,
    any_candles,
    ask,
    assert_is_json,
    make_candles,
    make_features,
    make_request,
    make_signal,
    receipt_of,
    walk,
)

BOOK = OrderBook(((99.0, 3.0),), ((101.0, 1.0),), NOW_MS)


def _build(snapshot, profile="full_v1", **signal):
    return build_features(make_signal(**signal), snapshot, profile, NOW, receipt_of(snapshot))


@pytest.mark.parametrize("profile", PROFILE_QUERIES)
def test_each_profile_is_complete_and_unflagged_in_the_simulated_market(profile):
    features = make_features(profile=profile)
    assert features.flags == DataQuality()
    assert features.mid == features.price == 42000.5
    assert features.drift_bps == 0.0
    assert 0 < features.spread_bps < 10
    assert all(value is not None for frame in features.frames.values() for value in frame.to_dict().values())


def test_a_profile_holds_nothing_that_another_one_adds():
    trend, perps, full = (make_features(profile=profile) for profile in PROFILE_QUERIES)
    assert (trend.funding_rate, trend.open_interest, trend.mark_price, trend.support) == (None, None, None, None)
    assert None not in (perps.funding_rate, perps.open_interest, perps.mark_price)
    assert (perps.support, perps.resistance, perps.order_book_imbalance) == (None, None, None)
    assert full.support < full.price < full.resistance
    assert -1 <= full.order_book_imbalance <= 1
    assert "asset_context" not in PROFILE_QUERIES["trend_follow_v1"]


def test_features_that_no_query_brought_are_named_as_missing():
    features = _build(MarketSnapshot())
    assert features.flags.missing_data == ("quote", "market")
    assert features.price == 42000.5
    assert features.frames == {}
    some = _build(MarketSnapshot(candles={"4h": make_candles(walk(1), "4h")}))
    assert some.flags.missing_data == (
        "quote", "mid", "order_book", "candles_15m", "candles_1h", "funding_rate", "open_interest", "mark_price",
    )  # fmt: skip


def test_the_mid_is_that_of_the_receipt_where_there_is_one():
    snapshot = ask(make_request())
    quote = replace(receipt_of(snapshot), mid=Decimal("42100.5"))
    stale = replace(snapshot, quote=Quote(41_000.0, NOW_MS - 60_001))
    features = build_features(make_signal(), stale, "full_v1", NOW, quote)
    assert (features.mid, features.price, features.quote) == (42100.5, 42100.5, quote)
    assert features.flags == DataQuality()
    alone = build_features(make_signal(), MarketSnapshot(), "trend_follow_v1", NOW, quote)
    assert alone.mid == 42100.5
    assert alone.flags.missing_data == ("order_book", "candles_15m", "candles_1h", "candles_4h")


def test_indicators_that_a_short_history_cannot_give_are_named_with_their_interval():
    snapshot = replace(
        ask(make_request()), candles={"1h": make_candles(walk(1, 40)), "15m": make_candles([1.0], "15m")}
    )
    assert _build(snapshot).flags.missing_data == (
        "candles_4h", "ema_9_15m", "ema_21_15m", "ema_50_15m", "macd_15m", "rsi_14_15m", "atr_14_15m", "ema_50_1h",
    )  # fmt: skip


def test_a_failing_query_is_named_once_and_its_cause_is_kept():
    failures = (
        QueryFailure("candles_1h", "TIMEOUT", "no answer in 10 s"),
        QueryFailure("candles_1h", "RATE_LIMITED", "429"),
        QueryFailure("mid", "NETWORK_ERROR", "connection refused"),
    )
    features = _build(MarketSnapshot(order_book=BOOK, failures=failures), entry_price=100.0)
    assert features.flags.provider_errors == ("candles_1h", "mid")
    assert features.failures == failures
    assert features.mid == 100.0  # the book's middle stands in for it


@pytest.mark.parametrize("interval", ["15m", "1h", "4h"])
def test_candles_are_stale_by_their_own_interval(interval):
    candles = make_candles(walk(1), interval)
    interval_ms = INTERVAL_SECONDS[interval] * 1000
    edge = replace(candles, last_open_ms=NOW_MS - 2 * interval_ms)
    late = replace(candles, last_open_ms=NOW_MS - 2 * interval_ms - 1)
    assert _build(MarketSnapshot(candles={interval: edge})).flags.stale_data == ()
    assert _build(MarketSnapshot(candles={interval: late})).flags.stale_data == (f"candles_{interval}",)


def test_a_quote_and_a_book_are_stale_past_a_minute():
    fresh = MarketSnapshot(quote=Quote(42000.5, NOW_MS - 60_000), order_book=replace(BOOK, as_of_ms=NOW_MS - 60_000))
    stale = MarketSnapshot(quote=Quote(42000.5, NOW_MS - 60_001), order_book=replace(BOOK, as_of_ms=NOW_MS - 60_001))
    assert _build(fresh).flags.stale_data == ()
    assert _build(stale).flags.stale_data == ("mid", "order_book")


def test_a_quote_and_a_book_that_could_not_be_renewed_are_stale_however_young():
    failures = tuple(QueryFailure(query, "TIMEOUT", "no answer in 10 s") for query in ("mid", "order_book"))
    flags = _build(MarketSnapshot(Quote(42000.5, NOW_MS - 2000), BOOK, failures=failures)).flags
    assert (flags.stale_data, flags.provider_errors) == (("mid", "order_book"), ("mid", "order_book"))
    flags = _build(MarketSnapshot(failures=failures)).flags
    assert flags.stale_data == ()
    assert flags.missing_data == ("quote", "market")


@pytest.mark.parametrize(("seconds", "stale"), [(300, ()), (300.001, ("signal",)), (-50, ())])
def test_a_signal_is_stale_past_three_hundred_seconds(seconds, stale):
    features = _build(ask(make_request()), ts_utc=NOW - timedelta(seconds=seconds))
    assert features.flags.stale_data == stale
    assert features.age_seconds == max(seconds, 0)


@pytest.mark.parametrize(
    ("entry", "drift", "stale"),
    [
        (98.02, 199.99, ()),
        (98.01, 201.01, ("entry_price",)),
        (102.02, -199.99, ()),
        (102.03, -200.97, ("entry_price",)),
    ],
)
def test_an_entry_price_is_stale_past_two_hundred_basis_points_from_the_mid(entry, drift, stale):
    snapshot = replace(ask(make_request(entry_price=100.0)), quote=Quote(100.0, NOW_MS))
    features = _build(snapshot, entry_price=entry)
    assert features.drift_bps == pytest.approx(drift, abs=0.01)
    assert features.flags.stale_data == stale


@pytest.mark.parametrize(("mid", "entry"), [(42_000.0, 41_000.0), (0.123, 0.124), (67_420.0, 67_419.99), (1e-6, 1e6)])
def test_drift_is_the_logarithm_of_the_ratio_to_the_last_digit(mid, entry):
    assert drift_of(mid, entry) == 1e4 * math.log(mid / entry)
    assert drift_of(1e300, 1e-18) == pytest.approx(1e4 * 318 * math.log(10)), "a ratio that no float can hold"


@pytest.mark.parametrize(("entry", "drift"), [(10.0, 1e4 * math.log(10)), (1000.0, -1e4 * math.log(10)), (100.0, 0.0)])
def test_a_tenth_of_the_price_and_ten_times_it_are_equally_far(entry, drift):
    """The kind: a distance that is capped on one side, so that anything past the cap passes a bound farther out."""
    snapshot = replace(ask(make_request(entry_price=100.0)), quote=Quote(100.0, NOW_MS))
    assert _build(snapshot, entry_price=entry).drift_bps == pytest.approx(drift)


@pytest.mark.parametrize("entry", [1e-6, 1e-18, 1e14])
def test_no_entry_price_is_too_far_for_the_gate(entry):
    snapshot = replace(ask(make_request(entry_price=1.0)), quote=Quote(1.0, NOW_MS))
    features = _build(snapshot, entry_price=entry)
    assert abs(features.drift_bps) > 1e5
    assert drift_rejection(features.drift_bps, 10_000) is not None


def test_the_change_of_an_hour_is_one_hours_at_every_minute_of_it():
    """The kind: a number that is named after an interval and spans a part of it."""
    path = np.exp(np.arange(60) * 0.0025)  # one per cent an hour
    for minutes in (0.1, 5, 14.9):
        now = datetime(2026, 2, 15, 12, 0, tzinfo=UTC) + timedelta(minutes=minutes)
        open_ms = int(datetime(2026, 2, 15, 12, 0, tzinfo=UTC).timestamp() * 1000)
        closes = path.copy()
        closes[-1] = path[-2] * math.exp(0.0025 * minutes / 15)
        quarters = replace(make_candles(closes, "15m"), last_open_ms=open_ms)
        hours = replace(make_candles([1.0, 1.02, 1.02 * 1.01, 1.02 * 1.01 * 1.0001]), last_open_ms=open_ms)
        snapshot = MarketSnapshot(candles={"15m": quarters, "1h": hours})
        change = build_features(make_signal(), snapshot, "full_v1", now).hourly.price_change
        assert change == pytest.approx(math.exp(0.01) - 1, rel=1e-3)
        alone = build_features(make_signal(), MarketSnapshot(candles={"1h": hours}), "full_v1", now)
        assert alone.hourly.price_change == pytest.approx(0.01), "the last hour that is complete"


def test_candles_that_were_filled_are_flagged_and_used():
    candles = make_candles(walk(1), "4h")
    features = _build(replace(ask(make_request()), candles={"4h": replace(candles, filled=2)}))
    assert "candles_4h" in features.flags.missing_data
    assert features.frames["4h"].ema_50 is not None


def test_the_price_is_the_mid_else_the_freshest_close_else_the_entry_price():
    candles = {"15m": make_candles([50.0, 51.0], "15m"), "1h": make_candles([52.0, 53.0])}
    assert _build(MarketSnapshot(quote=Quote(49.0, NOW_MS), candles=candles)).price == 49.0
    assert _build(MarketSnapshot(candles=candles)).price == 51.0
    assert _build(MarketSnapshot(candles={"1h": candles["1h"]})).price == 53.0
    assert _build(MarketSnapshot()).price == 42000.5


@pytest.mark.parametrize("mid", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_mid_that_cannot_be_true_is_missing(mid):
    features = _build(MarketSnapshot(quote=Quote(mid, NOW_MS)))
    assert features.mid is None
    assert "mid" in features.flags.missing_data


def test_a_crossed_book_is_missing():
    features = _build(MarketSnapshot(order_book=OrderBook(((101.0, 1.0),), ((100.0, 1.0),), NOW_MS)))
    assert (features.mid, features.spread_bps, features.order_book_imbalance) == (None, None, None)
    assert "order_book" in features.flags.missing_data


def test_a_context_that_lacks_a_number_names_it():
    snapshot = replace(ask(make_request()), asset_context=AssetContext(1e-5, None, float("nan")))
    features = _build(snapshot)
    assert features.flags.missing_data == ("open_interest", "mark_price")
    assert (features.funding_rate, features.open_interest, features.mark_price) == (1e-5, None, None)


snapshots = st.builds(
    MarketSnapshot,
    quote=st.none() | st.builds(Quote, st.floats(), st.integers(0, 2**50)),
    order_book=st.none()
    | st.builds(
        OrderBook,
        st.lists(st.tuples(st.floats(0, 1e300), st.floats(0, 1e300)), max_size=12).map(tuple),
        st.lists(st.tuples(st.floats(0, 1e300), st.floats(0, 1e300)), max_size=12).map(tuple),
        st.integers(0, 2**50),
    ),
    candles=st.fixed_dictionaries({}, optional={each: any_candles(each) for each in INTERVAL_SECONDS}),
    asset_context=st.none() | st.builds(AssetContext, *[st.none() | st.floats()] * 3),
    candle_unit=st.just(1.0) | st.floats(1e-300, 1e300),
)


@given(snapshots, st.sampled_from(sorted(PROFILE_QUERIES)), st.floats(1e-300, 1e300))
def test_the_document_holds_finite_numbers_only_for_any_market(snapshot, profile, entry_price):
    features = _build(snapshot, profile, entry_price=entry_price)
    assert features.price > 0
    assert_is_json(features.to_dict())
    assert _build(snapshot, profile, entry_price=entry_price) == features


def test_the_gates_are_open_unless_they_are_set():
    assert age_rejection(1e9, None) is None
    assert drift_rejection(1e4, None) is None


def test_the_age_gate_refuses_what_is_older_than_its_limit():
    assert age_rejection(age_of(make_signal(ts_utc=NOW - timedelta(seconds=600)), NOW), 600) is None
    reason = age_rejection(age_of(make_signal(ts_utc=NOW - timedelta(seconds=601)), NOW), 600)
    assert reason == "signal is 601 s old, the limit is 600 s"


@pytest.mark.parametrize("drift", [150.5, -150.5])
def test_the_drift_gate_refuses_what_is_further_than_its_limit_on_either_side(drift):
    assert drift_rejection(drift, 150.5) is None
    reason = drift_rejection(drift, 150)
    assert reason == "entry price is 150.5 bps from the market, the limit is 150 bps"


def test_the_drift_gate_lets_pass_what_has_no_mid():
    assert drift_rejection(None, 1) is None
