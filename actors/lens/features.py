"""Turn a market snapshot into the features of a profile and the flags of their quality. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

import numpy as np
from msgspec.structs import asdict

from actors.lens.indicators import (
    change_in_an_hour,
    frame_of,
    hourly_of,
    imbalance,
    middle_of,
    number,
    spread_bps,
    support_and_resistance,
)
from actors.lens.model import (
    CANDLES_QUERY,
    INTERVAL_SECONDS,
    AssetContext,
    Candles,
    DataQuality,
    FeatureProfile,
    Features,
    Frame,
    Hourly,
    Interval,
    MarketSnapshot,
    OrderBook,
    Query,
    RawSignal,
)
from actors.lens.quote import ReceiptQuote
from config.values import replace
from schemas._instruments import is_expired

STALE_SIGNAL_SECONDS: Final = 300
STALE_ENTRY_BPS: Final = 200
STALE_QUOTE_SECONDS: Final = 60  # by its own time; one that could not be renewed is flagged however young it is

_TREND_QUERIES: Final[tuple[Query, ...]] = ("mid", "order_book", *CANDLES_QUERY.values())
PROFILE_QUERIES: Final[Mapping[FeatureProfile, tuple[Query, ...]]] = MappingProxyType(
    {
        "trend_follow_v1": _TREND_QUERIES,
        "crypto_perps_v1": (*_TREND_QUERIES, "asset_context"),
        "full_v1": (*_TREND_QUERIES, "asset_context"),
    }
)
"""The market-data queries that each feature profile needs."""

_INDICATORS: Final = ("ema_9", "ema_21", "ema_50", "macd", "rsi_14", "atr_14")
_NO_CONTEXT: Final = AssetContext(None, None, None)


def build_features(
    signal: RawSignal,
    snapshot: MarketSnapshot,
    profile: FeatureProfile,
    now: datetime,
    quote: ReceiptQuote | None = None,
) -> Features:
    """Compute the features of `profile` at `now` (aware). Data missing in the snapshot is None and flagged, no error.

    `drift_bps` and `spread_bps` are basis points, `age_seconds` counts from `ts_utc` and is 0 for a future time. The
    mid is that of `quote`, the one at the receipt, where there is one.
    """
    now_ms = int(now.timestamp() * 1000)
    flags = _Flags()
    if quote is None:
        flags.missing.append("quote")
        if not snapshot.has_data:
            return _without_market(signal, snapshot, profile, now)
    mid, book = _mid_and_book(snapshot, quote, now_ms, flags)
    candles = {interval: _usable(snapshot, interval, now_ms, flags) for interval in CANDLES_QUERY}
    with np.errstate(all="ignore"):  # an overflow is not finite, and so becomes None
        frames, hourly = _frames(candles, snapshot.candle_unit, now_ms, flags)
    price = mid or next((frame.close for frame in frames.values() if frame.close), signal.entry_price)
    drift_bps = drift_of(mid, signal.entry_price) if mid is not None and signal.entry_price else None
    age_seconds = age_of(signal, now)
    flags.check_signal(signal, age_seconds, drift_bps, now)
    context = _NO_CONTEXT if profile == "trend_follow_v1" else _context(snapshot, flags)
    support = resistance = order_book_imbalance = None
    if profile == "full_v1":
        hours = candles["1h"]
        support, resistance = (
            (None, None) if hours is None else support_and_resistance(hours, price, snapshot.candle_unit)
        )
        order_book_imbalance = None if book is None else imbalance(book)
    return Features(
        profile=profile,
        price=price,
        age_seconds=age_seconds,
        mid=mid,
        spread_bps=None if book is None else spread_bps(book),
        drift_bps=drift_bps,
        frames=frames,
        hourly=hourly,
        funding_rate=context.funding_rate,
        open_interest=context.open_interest,
        mark_price=context.mark_price,
        support=support,
        resistance=resistance,
        order_book_imbalance=order_book_imbalance,
        flags=flags.collect(snapshot),
        failures=snapshot.failures,
        quote=quote,
    )


def _without_market(signal: RawSignal, snapshot: MarketSnapshot, profile: FeatureProfile, now: datetime) -> Features:
    """Return the features where no source has data on the asset: one flag for all that is missing but the quote."""
    flags = _Flags()
    flags.missing += ["quote", "market"]
    age_seconds = age_of(signal, now)
    flags.check_signal(signal, age_seconds, None, now)
    return Features(profile, price=signal.entry_price, age_seconds=age_seconds, flags=flags.collect(snapshot))


def drift_of(mid: float, entry_price: float) -> float:
    """Return the drift of the mid from the entry price, in basis points: of a logarithm, since market prices multiply.

    By (mid − entry)/mid no entry below the market would drift by more than 10 000, not even a millionth of it.
    """
    ratio = mid / entry_price
    # By their own logarithms only where a float cannot hold the ratio: their difference has fewer digits.
    return 1e4 * (math.log(ratio) if 0 < ratio < math.inf else math.log(mid) - math.log(entry_price))


def age_of(signal: RawSignal, now: datetime) -> float:
    """Return the seconds from `ts_utc` to `now` (aware), to the millisecond; 0 for a future time."""
    return max(0.0, round((now - signal.ts_utc).total_seconds(), 3))


def age_rejection(age_seconds: float, limit_seconds: float | None) -> str | None:
    """Return why the gate of age refuses a signal, for its timeline; None without a limit, or if the signal passes."""
    if limit_seconds is not None and age_seconds > limit_seconds:
        return f"signal is {age_seconds:.0f} s old, the limit is {limit_seconds:g} s"
    return None


def drift_rejection(drift_bps: float | None, limit_bps: float | None) -> str | None:
    """Return why the gate of drift refuses a signal, for its timeline; None without a limit or mid, or if it passes."""
    if limit_bps is not None and drift_bps is not None and abs(drift_bps) > limit_bps:
        return f"entry price is {abs(drift_bps):.1f} bps from the market, the limit is {limit_bps:g} bps"
    return None


class _Flags:
    """Collect the quality flags, in the order in which the data is examined."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.stale: list[str] = []

    def check_signal(self, signal: RawSignal, age_seconds: float, drift_bps: float | None, now: datetime) -> None:
        if age_seconds > STALE_SIGNAL_SECONDS:
            self.stale.append("signal")
        if drift_bps is not None and abs(drift_bps) > STALE_ENTRY_BPS:
            self.stale.append("entry_price")
        if is_expired(signal.symbol, signal.asset_type, signal.asset_data, now):
            self.stale.append("expiry")

    def check_frame(self, interval: Interval, frame: Frame) -> None:
        self.missing += [f"{name}_{interval}" for name in _INDICATORS if getattr(frame, name) is None]

    def collect(self, snapshot: MarketSnapshot) -> DataQuality:
        failed = tuple(dict.fromkeys(failure.query for failure in snapshot.failures))
        return DataQuality(tuple(self.missing), tuple(self.stale), failed)


def _mid_and_book(
    snapshot: MarketSnapshot, receipt: ReceiptQuote | None, now_ms: int, flags: _Flags
) -> tuple[float | None, OrderBook | None]:
    book = snapshot.order_book
    book_middle = None if book is None else middle_of(book)
    if book is not None and book_middle is None:
        book = None
    quote = snapshot.quote
    mid = quote.mid if quote is not None and number(quote.mid) and quote.mid > 0 else None
    oldest_ms = now_ms - STALE_QUOTE_SECONDS * 1000
    failed = {failure.query for failure in snapshot.failures}  # with an answer: an older one, for want of a newer
    if receipt is not None:
        mid = float(receipt.mid)
    elif mid is None and book_middle is None:
        flags.missing.append("mid")
    elif quote is not None and mid is not None and (quote.as_of_ms < oldest_ms or "mid" in failed):
        flags.stale.append("mid")
    if book is None:
        flags.missing.append("order_book")
    elif book.as_of_ms < oldest_ms or "order_book" in failed:
        flags.stale.append("order_book")
    return mid or book_middle, book


def _usable(snapshot: MarketSnapshot, interval: Interval, now_ms: int, flags: _Flags) -> Candles | None:
    candles = snapshot.candles.get(interval)
    if candles is None or len(candles) == 0:
        flags.missing.append(CANDLES_QUERY[interval])
        return None
    if candles.filled:
        flags.missing.append(CANDLES_QUERY[interval])  # some of them; the interval is worth more than what it lacks
    # The last candle closes one interval after it opened; when the next one has closed too, it should have been here.
    if now_ms - candles.last_open_ms > 2 * INTERVAL_SECONDS[interval] * 1000:
        flags.stale.append(CANDLES_QUERY[interval])
    return candles


def _frames(
    candles: Mapping[Interval, Candles | None], unit: float, now_ms: int, flags: _Flags
) -> tuple[dict[Interval, Frame], Hourly]:
    frames: dict[Interval, Frame] = {}
    hourly = Hourly()
    for interval, each in candles.items():
        if each is None:
            continue
        if interval == "1h":
            frames[interval], hourly = hourly_of(each, now_ms, unit)
        else:
            frames[interval] = frame_of(each, unit)
        flags.check_frame(interval, frames[interval])
    quarters = candles.get("15m")
    change = None if quarters is None else change_in_an_hour(quarters, now_ms)
    return frames, hourly if change is None else replace(hourly, price_change=change)


def _context(snapshot: MarketSnapshot, flags: _Flags) -> AssetContext:
    context = snapshot.asset_context or _NO_CONTEXT
    finite = {name: None if value is None else number(value) for name, value in asdict(context).items()}
    flags.missing += [name for name, value in finite.items() if value is None]
    return AssetContext(**finite)
