"""The indicators are TA-Lib's of the real prices, warmed up, and hold for prices at which TA-Lib itself gives up."""

from __future__ import annotations

import gc
import statistics

import numpy as np
import pytest
import talib
from hypothesis import given
from hypothesis import strategies as st

from actors.lens.indicators import (
    _frames,
    _hours,
    _levels,
    change_in_an_hour,
    frame_of,
    hourly_of,
    imbalance,
    middle_of,
    spread_bps,
    support_and_resistance,
)
from actors.lens.market import CANDLE_COUNT
from actors.lens.model import OrderBook
from tests.unit.lens.factories import NOW_MS, any_candles, ask, make_candles, make_request, priced, walk

HOUR_MS = 3_600_000


@pytest.mark.parametrize("price", [0.01, 1.0, 42000.5, 1e9])
@pytest.mark.parametrize("interval", ["15m", "1h", "4h"])
def test_the_indicators_equal_talib_on_the_candles_themselves(price, interval):
    snapshot = ask(make_request(entry_price=price))
    _, high, low, close, _ = priced(snapshot, interval).ohlcv
    macd, signal, histogram = talib.MACD(close, 12, 26, 9)
    frame = frame_of(snapshot.candles[interval], snapshot.candle_unit)
    assert frame.close == close[-1]
    assert frame.close == pytest.approx(price, rel=0.01)
    assert frame.ema_9 == pytest.approx(talib.EMA(close, 9)[-1], rel=1e-9)
    assert frame.ema_21 == pytest.approx(talib.EMA(close, 21)[-1], rel=1e-9)
    assert frame.ema_50 == pytest.approx(talib.EMA(close, 50)[-1], rel=1e-9)
    assert frame.macd == pytest.approx(macd[-1], rel=1e-9)
    assert frame.macd_signal == pytest.approx(signal[-1], rel=1e-9)
    assert frame.macd_histogram == pytest.approx(histogram[-1], rel=1e-9, abs=1e-12 * price)  # a difference
    assert frame.rsi_14 == pytest.approx(talib.RSI(close, 14)[-1], rel=1e-9)
    assert frame.atr_14 == pytest.approx(talib.ATR(high, low, close, 14)[-1], rel=1e-9)


def test_the_hours_details_equal_talib_and_the_statistics_module():
    snapshot = ask(make_request())
    candles, unit = snapshot.candles["1h"], snapshot.candle_unit
    opened, high, low, close, volume = priced(snapshot, "1h").ohlcv
    upper, _, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    frame, hourly = hourly_of(candles, NOW_MS, unit)
    assert frame == frame_of(candles, unit)
    assert hourly.rsi_14_previous == pytest.approx(talib.RSI(close, 14)[-2], rel=1e-9)
    assert hourly.macd_histogram_previous == pytest.approx(talib.MACD(close, 12, 26, 9)[2][-2], rel=1e-9)
    assert hourly.percent_b == pytest.approx((close[-1] - lower[-1]) / (upper[-1] - lower[-1]), rel=1e-6)
    assert hourly.percent_b_previous == pytest.approx((close[-2] - lower[-2]) / (upper[-2] - lower[-2]), rel=1e-6)
    assert hourly.price_change == pytest.approx(close[-2] / close[-3] - 1)
    returns = [float((c - o) / o) for o, c in zip(opened[-24:], close[-24:], strict=True)]
    assert hourly.volatility == pytest.approx(statistics.stdev(returns), rel=1e-9)
    # The last candle still forms: the one before it counts, against the twenty before that.
    assert hourly.volume_ratio == pytest.approx(volume[-2] / volume[-22:-2].mean())
    assert hourly.volume_change == pytest.approx(close[-2] / opened[-2] - 1)
    assert (hourly.channel_high, hourly.channel_low) == (high[-22:-2].max(), low[-22:-2].min())


def test_shared_and_scaled_indicators_equal_those_computed_of_the_candles_themselves():
    snapshot = ask(make_request(entry_price=1234.5))
    for interval, candles in snapshot.candles.items():
        own = priced(snapshot, interval)
        frame, hourly = hourly_of(candles, NOW_MS, snapshot.candle_unit)
        own_frame, own_hourly = hourly_of(own, NOW_MS)
        assert hourly.macd_cross_age == own_hourly.macd_cross_age
        for scaled, computed in ((frame, own_frame), (hourly, own_hourly)):
            expected = {name: value for name, value in computed.to_dict().items() if value is not None}
            actual = {name: value for name, value in scaled.to_dict().items() if value is not None}
            assert actual == pytest.approx(expected, rel=1e-9, abs=1e-9)
        levels = support_and_resistance(candles, 1234.5, snapshot.candle_unit)
        assert levels == pytest.approx(support_and_resistance(own, 1234.5), rel=1e-9)


def test_indicators_of_candles_go_when_the_candles_go():
    before = len(_frames), len(_hours), len(_levels)
    candles = make_candles(walk(1))
    frame_of(candles), hourly_of(candles, NOW_MS), support_and_resistance(candles, 100.0)
    assert (len(_frames), len(_hours), len(_levels)) == tuple(count + 1 for count in before)
    del candles
    gc.collect()
    assert len(_frames) <= before[0]


def test_the_volume_of_a_complete_last_candle_counts():
    volume = np.full(40, 100.0)
    volume[-1] = 250.0
    candles = make_candles(walk(1, 40), volume=volume)
    assert hourly_of(candles, NOW_MS)[1].volume_ratio == pytest.approx(1.0)
    assert hourly_of(candles, NOW_MS + HOUR_MS)[1].volume_ratio == pytest.approx(2.5)


def test_a_volume_has_the_sign_of_its_own_candle():
    """The kind: two numbers of two candles that are read as one."""
    closes = np.full(40, 100.0)
    closes[-2:] = 90.0, 99.0  # fell on high volume; the hour that is under way rises
    volume = np.full(40, 100.0)
    volume[-2] = 300.0
    hourly = hourly_of(make_candles(closes, volume=volume), NOW_MS)[1]
    assert (hourly.volume_ratio, hourly.volume_change) == pytest.approx((3.0, -0.1))
    complete = hourly_of(make_candles(closes[:-1], volume=volume[:-1]), NOW_MS + HOUR_MS)[1]
    assert complete.volume_change == pytest.approx(-0.1)


def test_the_change_of_an_hour_needs_candles_that_reach_back_so_far():
    quarters = make_candles([100.0, 101.0, 102.0, 103.0, 104.0], "15m")
    begin = quarters.last_open_ms
    assert change_in_an_hour(quarters, begin) == pytest.approx(104 / 100 - 1)
    assert change_in_an_hour(quarters, begin + 15 * 60_000) == pytest.approx(104 / 100 - 1)
    assert change_in_an_hour(make_candles([100.0] * 4, "15m"), begin) is None
    assert change_in_an_hour(quarters, begin + HOUR_MS) is None, "nothing is known of that hour"


def test_three_hundred_candles_warm_the_slowest_average_up():
    closes = walk(3, 5000)
    long, short = frame_of(make_candles(closes)), frame_of(make_candles(closes[-CANDLE_COUNT:]))
    for name in long.__struct_fields__:
        if name != "rsi_14":
            assert abs(getattr(long, name) - getattr(short, name)) < 1e-5 * long.close, name
    assert short.rsi_14 == pytest.approx(long.rsi_14, abs=1e-5)


def test_a_price_that_never_moved_is_neutral_and_not_oversold():
    frame, hourly = hourly_of(make_candles([100.0] * 60, wick=0.0), NOW_MS)
    assert (frame.rsi_14, hourly.rsi_14_previous) == (50.0, 50.0)
    assert (frame.ema_50, frame.macd, frame.atr_14) == (100.0, 0.0, 0.0)
    assert hourly.percent_b is None
    assert hourly.macd_cross_age is None


def test_a_price_that_only_fell_has_an_rsi_of_zero():
    assert frame_of(make_candles(100.0 * 0.99 ** np.arange(60))).rsi_14 == 0.0


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6])
def test_the_indicators_scale_with_the_price_even_where_talib_takes_it_for_zero(scale):
    usual, usual_hour = hourly_of(make_candles(walk(5)), NOW_MS)
    scaled, scaled_hour = hourly_of(make_candles(walk(5) * scale), NOW_MS)
    assert scaled.rsi_14 == pytest.approx(usual.rsi_14, rel=1e-9)
    assert scaled.atr_14 == pytest.approx(usual.atr_14 * scale, rel=1e-9)
    assert scaled.macd == pytest.approx(usual.macd * scale, rel=1e-9)
    assert scaled_hour.percent_b == pytest.approx(usual_hour.percent_b, rel=1e-6)


@pytest.mark.parametrize(("after", "age"), [(1, 0), (2, 1), (3, 2), (6, None)])
def test_the_age_of_a_macd_cross_counts_the_candles_since(after, age):
    falling = 100 - 0.01 * np.arange(80) ** 2  # ever faster: the histogram stays below zero
    closes = np.concatenate((falling, falling[-1] * 1.3 ** np.arange(1, after + 1)))
    assert hourly_of(make_candles(closes), NOW_MS)[1].macd_cross_age == age


@pytest.mark.parametrize(
    ("count", "has"),
    [
        (1, set()),
        (9, {"ema_9"}),
        (15, {"ema_9", "rsi_14", "atr_14"}),
        (34, {"ema_9", "ema_21", "rsi_14", "atr_14", "macd", "macd_signal", "macd_histogram"}),
        (50, {"ema_9", "ema_21", "ema_50", "rsi_14", "atr_14", "macd", "macd_signal", "macd_histogram"}),
    ],
)
def test_a_short_history_gives_the_indicators_that_it_suffices_for(count, has):
    frame = frame_of(make_candles(walk(1, count)))
    assert {name for name, value in frame.to_dict().items() if value is not None} == has | {"close"}


@given(any_candles("1h"), st.booleans())
def test_indicators_are_finite_and_in_bounds_for_any_candles(candles, is_complete):
    now_ms = candles.last_open_ms + (HOUR_MS if is_complete else 0)
    frame, hourly = hourly_of(candles, now_ms)
    low, high = candles.ohlcv[2].min(), candles.ohlcv[1].max()
    for average in (frame.ema_9, frame.ema_21, frame.ema_50):
        assert average is None or low * (1 - 1e-9) <= average <= high * (1 + 1e-9)
    assert frame.rsi_14 is None or 0 <= frame.rsi_14 <= 100
    assert frame.atr_14 is None or 0 <= frame.atr_14 <= high * (1 + 1e-9)
    assert hourly.volume_ratio is None or hourly.volume_ratio >= 0
    assert hourly.volatility is None or hourly.volatility >= 0
    assert hourly.percent_b is None or -0.6 < hourly.percent_b < 1.6  # 20 values: within √19 deviations of their mean
    values = list(frame.to_dict().values()) + list(hourly.to_dict().values())
    assert all(value is None or (type(value) in (int, float) and np.isfinite(value)) for value in values)


def test_support_and_resistance_are_the_nearest_swings():
    closes = np.full(60, 100.0)
    closes[10], closes[20], closes[30], closes[40] = 90.0, 95.0, 108.0, 104.0
    support, resistance = support_and_resistance(make_candles(closes, wick=0.0), 100.0)
    assert (support, resistance) == (95.0, 104.0)


def test_the_level_of_a_side_without_a_swing_is_its_extreme():
    rising = make_candles(np.linspace(50, 100, 60), wick=0.0)
    assert support_and_resistance(rising, 100.0) == (50.0, None)
    assert support_and_resistance(rising, 20.0) == (None, 100.0)


@given(any_candles("1h"), st.floats(0.5, 2.0))
def test_support_is_below_the_price_and_resistance_above(candles, factor):
    price = float(candles.ohlcv[3, -1]) * factor
    support, resistance = support_and_resistance(candles, price)
    assert support is None or 0 < support < price
    assert resistance is None or resistance > price


def test_the_order_books_numbers():
    book = OrderBook(((99.0, 3.0), (98.0, 3.0)), ((101.0, 1.0), (102.0, 1.0)), NOW_MS)
    assert middle_of(book) == 100.0
    assert spread_bps(book) == pytest.approx(200.0)
    assert imbalance(book) == pytest.approx(0.5)


def test_the_imbalance_is_of_the_ten_best_levels():
    bids = tuple((100.0 - level, 1.0) for level in range(10))
    book = OrderBook((*bids, (50.0, 1e6)), ((101.0, 10.0),), NOW_MS)
    assert imbalance(book) == 0.0


@pytest.mark.parametrize(
    "book",
    [
        OrderBook((), ((101.0, 1.0),), NOW_MS),
        OrderBook(((99.0, 1.0),), (), NOW_MS),
        OrderBook(((101.0, 1.0),), ((101.0, 1.0),), NOW_MS),
        OrderBook(((0.0, 1.0),), ((101.0, 1.0),), NOW_MS),
    ],
)
def test_a_book_that_is_crossed_or_lacks_a_side_has_no_middle(book):
    assert middle_of(book) is None
    assert spread_bps(book) is None


def test_a_book_without_any_size_has_no_imbalance():
    assert imbalance(OrderBook(((99.0, 0.0),), ((101.0, 0.0),), NOW_MS)) is None
