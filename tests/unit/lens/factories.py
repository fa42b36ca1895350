"""Make values for the tests of the Lens domain, any field changed by name."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from hypothesis import strategies as st

from actors.lens.features import PROFILE_QUERIES, build_features
from actors.lens.market import MarketRequest
from actors.lens.market._moving import Anchor, SimulatedPrices
from actors.lens.market._moving_data import MovingMarketData
from actors.lens.market.quotes import Declaration, PricedInstrument
from actors.lens.market.receipt import receipt_quote
from actors.lens.model import (
    INTERVAL_SECONDS,
    Candles,
    EntryOrder,
    Evaluation,
    Features,
    Frame,
    Hourly,
    Judgement,
    MarketSnapshot,
    RawSignal,
    StopRule,
)
from actors.lens.quote import ReceiptQuote
from config.values import replace

NOW = datetime(2026, 2, 15, 12, 34, 56, 789000, tzinfo=UTC)
NOW_MS = 1771158896789
EVERY_QUERY = PROFILE_QUERIES["full_v1"]


def make_signal(**changes: Any) -> RawSignal:
    signal = RawSignal(
        event_id=uuid.UUID(int=7),
        event_type="OPEN_SIGNAL",
        symbol="BTC",
        signal_direction="long",
        entry_price=42000.5,
        size=0.1,
        ts_utc=NOW,
        source="strategy_alpha",
    )
    return replace(signal, **changes)


def make_request(**changes: Any) -> MarketRequest:
    return replace(MarketRequest("BTC", "crypto", 42000.5, EVERY_QUERY, NOW), **changes)


class KnownAnchors:
    """Anchors in memory."""

    def __init__(self, known: dict[PricedInstrument, Anchor] | None = None) -> None:
        self.known = known or {}

    async def of(self, instrument: PricedInstrument) -> Anchor | None:
        return self.known.get(instrument)

    async def declare_all(self, declarations: Sequence[Declaration]) -> None:
        for each in declarations:
            self.known.setdefault(each.instrument, Anchor(float(each.price), each.at.timestamp()))


def simulated_market() -> MovingMarketData:
    """Return a simulated market of its own, in which nothing has a price yet."""
    return MovingMarketData(SimulatedPrices(KnownAnchors()))


def ask(request: MarketRequest) -> MarketSnapshot:
    """Return the snapshot of a market that starts at the entry price. It never waits, so no event loop is needed."""
    coroutine = simulated_market().snapshot(request)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the simulated market waited for something")


def priced(snapshot: MarketSnapshot, interval: Any) -> Candles:
    """Return the snapshot's candles at their real prices."""
    candles = snapshot.candles[interval]
    ohlcv = candles.ohlcv * np.array([[snapshot.candle_unit]] * 4 + [[1.0]])
    return Candles.checked(interval, candles.last_open_ms, ohlcv)


def make_features(signal: RawSignal | None = None, profile: Any = "full_v1", **changes: Any) -> Features:
    """Return the features of a signal in the simulated market."""
    signal = signal or make_signal()
    request = MarketRequest(signal.symbol, signal.asset_type, signal.entry_price, PROFILE_QUERIES[profile], NOW)
    snapshot = ask(request)
    return replace(build_features(signal, snapshot, profile, NOW, receipt_of(snapshot)), **changes)


def receipt_of(snapshot: MarketSnapshot) -> ReceiptQuote | None:
    """Return the snapshot's quote as that of a signal's receipt."""
    quote = snapshot.venue_quote
    return None if quote is None else receipt_quote(quote, PricedInstrument("crypto", "BTC"))


def bare_features(frames: dict[Any, Frame] | None = None, hourly: Hourly | None = None, **changes: Any) -> Features:
    """Return features with only the given values, at a price of 100."""
    features = Features("trend_follow_v1", price=100.0, age_seconds=0.0, frames=frames or {}, hourly=hourly or Hourly())
    return replace(features, **changes)


def rising_frame(**changes: Any) -> Frame:
    """Return features of a market that rises in every respect, at 100 with an ATR of 1."""
    return replace(
        Frame(close=100.0, ema_9=99.0, ema_21=98.0, ema_50=96.0, macd=1.0, macd_signal=0.7, macd_histogram=0.3,
              rsi_14=62.0, atr_14=1.0), **changes
    )  # fmt: skip


def falling_frame(**changes: Any) -> Frame:
    """Return the mirror image of `rising_frame`."""
    return replace(
        Frame(close=100.0, ema_9=101.0, ema_21=102.0, ema_50=104.0, macd=-1.0, macd_signal=-0.7, macd_histogram=-0.3,
              rsi_14=38.0, atr_14=1.0), **changes
    )  # fmt: skip


def make_decision(**changes: Any) -> Judgement:
    plans = (EntryOrder("limit", -5), StopRule("atr", atr_multiple=2.0))
    decision = Judgement("FOLLOW_ENTER", 0.82, *plans, 15, ("bullish_ema_alignment",))
    return replace(decision, **changes)


def make_evaluation(kind: Any = "FOLLOW_ENTER", confidence: float = 0.82) -> Evaluation:
    return Evaluation("technical", "technical-1", "SUCCESS", 0, make_decision(decision=kind, confidence=confidence))


def make_candles(closes: Any, interval: Any = "1h", *, wick: float = 0.001, volume: Any = 1000.0) -> Candles:
    """Return candles through these closes, each opening at the close before; the last one forms at NOW."""
    closes = np.asarray(closes, dtype=np.float64)
    opens = np.concatenate((closes[:1], closes[:-1]))
    highs, lows = np.maximum(opens, closes) * (1 + wick), np.minimum(opens, closes) * (1 - wick)
    ohlcv = np.array([opens, highs, lows, closes, np.broadcast_to(volume, closes.shape)])
    interval_ms = INTERVAL_SECONDS[interval] * 1000
    return Candles.checked(interval, NOW_MS // interval_ms * interval_ms, ohlcv)


def walk(seed: int, count: int = 300, deviation: float = 0.01, price: float = 100.0) -> Any:
    """A random walk of closes that ends at `price`."""
    path = np.cumsum(np.random.default_rng(seed).normal(0, deviation, count))
    return np.exp(path - path[-1]) * price


@st.composite
def any_candles(draw: Any, interval: Any) -> Candles:
    """Candles of any length and price: flat, calm, wild, tiny or huge, with and without volume."""
    closes = walk(
        draw(st.integers(0, 2**32)),
        draw(st.integers(1, 320)),
        draw(st.sampled_from([0.0, 1e-9, 1e-4, 0.01, 0.3])),
        10 ** draw(st.floats(-12, 12)),
    )
    return make_candles(
        closes, interval, wick=draw(st.sampled_from([0.0, 1e-6, 0.01])), volume=draw(st.floats(0, 1e12))
    )


def assert_is_json(value: Any) -> None:
    """Assert that every number is finite, and every part of a type that JSON has."""
    if isinstance(value, dict):
        for name, each in value.items():
            assert type(name) is str
            assert_is_json(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            assert_is_json(each)
    else:
        assert value is None or type(value) in (str, bool, int, float), f"{value!r} is a {type(value)}"
        assert not isinstance(value, float) or math.isfinite(value)
