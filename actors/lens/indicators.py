"""Compute indicators of candles and order books: TA-Lib's numbers at the last candle, as plain floats.

TA-Lib gets the whole history: its streaming calls see only the last period, which makes an EMA a simple mean. It gets
prices divided by the last close, and its results are multiplied back: it takes anything below 1e-14 for zero, so that
at a price of 0.00001 it would see no Bollinger band and at 1e-12 no RSI.
"""

from __future__ import annotations

import math
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from actors.lens.model import INTERVAL_SECONDS, Candles, Frame, Hourly, OrderBook
from config.imports import without

with without("pandas", "polars"):  # half a second of a start, 30 MB, and a wrapper around each call
    import talib

Array = NDArray[np.float64]

CROSS_CANDLES: Final = 3
"""A MACD cross counts as recent for this many candles."""

_BAND_CANDLES: Final = 20
_CHANNEL_CANDLES: Final = 20
_VOLATILITY_CANDLES: Final = 24
_LEVEL_CANDLES: Final = 120  # five days of hours
_SWING_CANDLES: Final = 3  # a swing low is the lowest of itself and three candles on either side
_BOOK_LEVELS: Final = 10
_HOUR_MS: Final = 3_600_000

# The results for a run of candles, for as long as the run is referenced: venues and the simulated market give the same
# run to every signal of a symbol until its next candle.
_frames: WeakKeyDictionary[Candles, Frame] = WeakKeyDictionary()
_hours: WeakKeyDictionary[Candles, tuple[bool, Frame, Hourly]] = WeakKeyDictionary()
_levels: WeakKeyDictionary[Candles, tuple[tuple[list[float], float], tuple[list[float], float]]] = WeakKeyDictionary()


def frame_of(candles: Candles, unit: float = 1.0) -> Frame:
    """Compute EMA 9/21/50, MACD 12/26/9, RSI 14 and ATR 14 of candles whose prices are in units of `unit`."""
    frame = _frames.get(candles)
    if frame is None:
        frame = _frames[candles] = _indicators(candles)[0]
    return frame if unit == 1.0 else _scale_frame(frame, unit)


def hourly_of(candles: Candles, now_ms: int, unit: float = 1.0) -> tuple[Frame, Hourly]:
    """Compute the frame of the 1h candles and the other values that the strategies and the score read from them."""
    # A candle that is still forming has only a part of its volume.
    is_complete = candles.last_open_ms + INTERVAL_SECONDS[candles.interval] * 1000 <= now_ms
    known = _hours.get(candles)
    if known is None or known[0] != is_complete:
        known = _hours[candles] = (is_complete, *_hour(candles, is_complete))
    _, frame, hourly = known
    return (frame, hourly) if unit == 1.0 else (_scale_frame(frame, unit), _scale_hourly(hourly, unit))


def change_in_an_hour(candles: Candles, now_ms: int) -> float | None:
    """Return the last close against the price an hour before now, a fraction; None where the candles do not cover it.

    Within the candle in which that hour began, the price is taken to move straight from its open to its close.
    """
    interval_ms = INTERVAL_SECONDS[candles.interval] * 1000
    before = candles.last_open_ms + _HOUR_MS - now_ms  # the last candle opened so long after that moment
    if before <= 0:
        return None  # and nothing later is known
    back = -(-before // interval_ms)
    if back >= len(candles):
        return None
    opened, closed, last = (float(candles.ohlcv[row, at]) for row, at in ((0, -1 - back), (3, -1 - back), (3, -1)))
    return number(last / (opened + (closed - opened) * (back * interval_ms - before) / interval_ms) - 1)


def support_and_resistance(candles: Candles, price: float, unit: float = 1.0) -> tuple[float | None, float | None]:
    """Return the nearest swing low below and swing high above `price`; without one, the extreme of the window there."""
    levels = _levels.get(candles)
    if levels is None:
        levels = _levels[candles] = _swings(candles)
    (swing_lows, lowest), (swing_highs, highest) = levels
    below = [low * unit for low in swing_lows if low * unit < price]
    above = [high * unit for high in swing_highs if high * unit > price]
    support = max(below) if below else (lowest * unit if lowest * unit < price else None)
    resistance = min(above) if above else (highest * unit if highest * unit > price else None)
    return None if support is None else number(support), None if resistance is None else number(resistance)


def spread_bps(book: OrderBook) -> float | None:
    """Return best ask − best bid over their middle, in basis points; None if the book is crossed or lacks a side."""
    middle = middle_of(book)
    return None if middle is None else number((book.asks[0][0] - book.bids[0][0]) / middle * 1e4)


def middle_of(book: OrderBook) -> float | None:
    """Return the middle of the best bid and ask; None for a crossed book or one that lacks a side."""
    if not book.bids or not book.asks or not 0 < book.bids[0][0] < book.asks[0][0]:
        return None
    return number((book.bids[0][0] + book.asks[0][0]) / 2)


def imbalance(book: OrderBook) -> float | None:
    """Return (bid size − ask size)/(bid size + ask size) over the ten best levels of each side, −1 to 1."""
    bids = math.fsum(size for _, size in book.bids[:_BOOK_LEVELS])
    asks = math.fsum(size for _, size in book.asks[:_BOOK_LEVELS])
    return number((bids - asks) / (bids + asks)) if bids + asks > 0 else None


def number(value: float) -> float | None:
    """Return the value as a float, None if it is not finite."""
    return float(value) if math.isfinite(value) else None


def _hour(candles: Candles, is_complete: bool) -> tuple[Frame, Hourly]:
    frame, closes, rsi, histogram = _indicators(candles)
    scale = float(candles.ohlcv[3, -1])
    band, band_previous = _percent_b(closes)
    complete = closes.size - (1 if is_complete else 2)
    opened = float(candles.ohlcv[0, complete]) if complete >= 0 else None
    ratio, channel_high, channel_low = _channel(candles, is_complete)
    return frame, Hourly(
        rsi_14_previous=_at(rsi, -2),
        macd_histogram_previous=_at(histogram, -2, scale),
        macd_cross_age=_cross_age(histogram),
        percent_b=band,
        percent_b_previous=band_previous,
        volume_ratio=ratio,
        channel_high=channel_high,
        channel_low=channel_low,
        price_change=number(closes[complete] / closes[complete - 1] - 1) if complete > 0 else None,
        volatility=_volatility(candles),
        volume_change=None if opened is None else number(candles.ohlcv[3, complete] / opened - 1),
    )


def _indicators(candles: Candles) -> tuple[Frame, Array, Array, Array]:
    """Compute the frame, and in units of the last close: closes, RSI, MACD histogram."""
    close = float(candles.ohlcv[3, -1])
    _, highs, lows, closes = candles.ohlcv[:4] / close
    macd, signal, histogram = talib.MACD(closes, 12, 26, 9)
    rsi = talib.RSI(closes, 14)
    if rsi[-1] == 0.0 and closes.min() == closes.max():
        rsi[14:] = 50.0  # TA-Lib calls a price that never moved 0, the deepest fall there is
    frame = Frame(
        close=close,
        ema_9=_at(talib.EMA(closes, 9), -1, close),
        ema_21=_at(talib.EMA(closes, 21), -1, close),
        ema_50=_at(talib.EMA(closes, 50), -1, close),
        macd=_at(macd, -1, close),
        macd_signal=_at(signal, -1, close),
        macd_histogram=_at(histogram, -1, close),
        rsi_14=_at(rsi, -1),
        atr_14=_at(talib.ATR(highs, lows, closes, 14), -1, close),
    )
    return frame, closes, rsi, histogram


def _at(series: Array, index: int, scale: float = 1.0) -> float | None:
    return number(series[index] * scale) if series.size >= -index else None


def _cross_age(histogram: Array) -> int | None:
    recent = histogram[-CROSS_CANDLES - 1 :].tolist()
    if len(recent) <= CROSS_CANDLES or not all(map(math.isfinite, recent)):
        return None
    is_positive = recent[-1] > 0
    return next((age for age in range(CROSS_CANDLES) if (recent[-2 - age] > 0) != is_positive), None)


def _percent_b(closes: Array) -> tuple[float | None, float | None]:
    if closes.size <= _BAND_CANDLES:
        return None, None
    upper, _, lower = talib.BBANDS(closes[-_BAND_CANDLES - 1 :], _BAND_CANDLES, 2.0, 2.0)
    now, before = (
        number((closes[at] - lower[at]) / (upper[at] - lower[at])) if upper[at] > lower[at] else None for at in (-1, -2)
    )
    return now, before


def _channel(candles: Candles, is_complete: bool) -> tuple[float | None, float | None, float | None]:
    """Return the volume ratio of the last complete candle, and the high and low of the channel before it."""
    last = len(candles) - (1 if is_complete else 2)
    first = last - _CHANNEL_CANDLES
    if first < 0:
        return None, None, None
    _, highs, lows, _, volumes = candles.ohlcv[:, first:last].tolist()
    usual = math.fsum(volumes) / _CHANNEL_CANDLES
    ratio = number(candles.ohlcv[4, last] / usual) if usual > 0 else None
    return ratio, max(highs), min(lows)


def _volatility(candles: Candles) -> float | None:
    opens, closes = candles.ohlcv[0, -_VOLATILITY_CANDLES:], candles.ohlcv[3, -_VOLATILITY_CANDLES:]
    if opens.size < 2:
        return None
    returns = (closes - opens) / opens
    deviations = returns - returns.sum() / returns.size
    return number(math.sqrt(deviations.dot(deviations) / (returns.size - 1)))


def _swings(candles: Candles) -> tuple[tuple[list[float], float], tuple[list[float], float]]:
    """Return the swing lows and the lowest low, the swing highs and the highest high."""
    highs, lows = candles.ohlcv[1, -_LEVEL_CANDLES:], candles.ohlcv[2, -_LEVEL_CANDLES:]
    width = 2 * _SWING_CANDLES + 1
    swing_lows: list[float] = []
    swing_highs: list[float] = []
    if highs.size >= width:
        middle = slice(_SWING_CANDLES, highs.size - _SWING_CANDLES)
        swing_lows = lows[middle][talib.MIN(lows, width)[width - 1 :] == lows[middle]].tolist()
        swing_highs = highs[middle][talib.MAX(highs, width)[width - 1 :] == highs[middle]].tolist()
    return (swing_lows, float(lows.min())), (swing_highs, float(highs.max()))


def _scale_frame(frame: Frame, unit: float) -> Frame:
    return Frame(
        close=_times(frame.close, unit),
        ema_9=_times(frame.ema_9, unit),
        ema_21=_times(frame.ema_21, unit),
        ema_50=_times(frame.ema_50, unit),
        macd=_times(frame.macd, unit),
        macd_signal=_times(frame.macd_signal, unit),
        macd_histogram=_times(frame.macd_histogram, unit),
        rsi_14=frame.rsi_14,
        atr_14=_times(frame.atr_14, unit),
    )


def _scale_hourly(hourly: Hourly, unit: float) -> Hourly:
    return Hourly(
        rsi_14_previous=hourly.rsi_14_previous,
        macd_histogram_previous=_times(hourly.macd_histogram_previous, unit),
        macd_cross_age=hourly.macd_cross_age,
        percent_b=hourly.percent_b,
        percent_b_previous=hourly.percent_b_previous,
        volume_ratio=hourly.volume_ratio,
        channel_high=_times(hourly.channel_high, unit),
        channel_low=_times(hourly.channel_low, unit),
        price_change=hourly.price_change,
        volatility=hourly.volatility,
        volume_change=hourly.volume_change,
    )


def _times(value: float | None, unit: float) -> float | None:
    return None if value is None else number(value * unit)
