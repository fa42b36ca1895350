"""Judge a signal by its enriched features alone, without a key, a network or chance: the `technical` model.

Each indicator gives evidence from −1 (falling) to 1 (rising) with a weight; their weighted mean, signed by the side of
the position, is the *support*. Missing data has no weight, and lowers the confidence instead.
"""

from __future__ import annotations

import math
from typing import Final

from actors.lens.features import STALE_ENTRY_BPS, drift_of
from actors.lens.model import EntryOrder, FeatureProfile, Features, Frame, Interval, Judgement, RawSignal, StopRule
from config.values import Value
from schemas._vocabulary import DecisionKind

MODEL: Final = "technical"
MODEL_VERSION: Final = "technical-1"

ENTER_SUPPORT: Final = 0.15  # an OPEN is followed from this support on
HOLD_SUPPORT: Final = 0.45  # a CLOSE is not followed while the trend still supports the position this well …
EXIT_SUPPORT: Final = 0.10  # … and is followed below this; in between the stop is tightened

_TREND_WEIGHTS: Final[dict[Interval, float]] = {"15m": 0.10, "1h": 0.20, "4h": 0.20}
_MACD_WEIGHTS: Final[dict[Interval, float]] = {"1h": 0.15, "4h": 0.10}
_RSI_WEIGHT: Final = 0.15
_VOLUME_WEIGHT: Final = 0.10
_TREND_PROFILE_WEIGHT: Final = 1.00  # of the indicators above together
_FUNDING_WEIGHT: Final = 0.05
_BOOK_WEIGHT: Final = 0.05
_ROOM_WEIGHT: Final = 0.05
_PROFILE_WEIGHTS: Final[dict[FeatureProfile, float]] = {
    "trend_follow_v1": _TREND_PROFILE_WEIGHT,
    "crypto_perps_v1": _TREND_PROFILE_WEIGHT + _FUNDING_WEIGHT,
    "full_v1": _TREND_PROFILE_WEIGHT + _FUNDING_WEIGHT + _BOOK_WEIGHT + _ROOM_WEIGHT,
}
_MOST_REASONS: Final = 5
_STALE_DISCOUNT: Final = 0.8  # of the confidence above a coin toss, for each kind of stale data
_RISK_BUDGET: Final = 0.01  # of the equity, lost when the stop is hit
_LARGEST_SIZE_PCT: Final = 25
_MARKET_SPREAD_BPS: Final = 10.0  # a wider spread costs more than waiting does: a limit order


class _Evidence(Value):
    weight: float
    value: float
    rising: str
    falling: str


def evaluate(signal: RawSignal, features: Features) -> Judgement:
    """Return the decision: FOLLOW_ENTER or IGNORE on an OPEN signal, FOLLOW_EXIT, TIGHTEN_STOP or HOLD on a CLOSE.

    `size_pct` is the share of the equity to enter with, or of the position to leave: 100 for FOLLOW_EXIT, else 0.
    """
    side = 1 if signal.signal_direction in ("long", "close_long") else -1
    evidence = _weigh(features)
    weight = math.fsum(each.weight for each in evidence)
    support = side * math.fsum(each.weight * each.value for each in evidence) / weight if evidence else 0.0
    if signal.event_type == "OPEN_SIGNAL":
        kind, margin = _judge_open(support, features)
    else:
        kind, margin = _judge_close(support)
    confidence = _confidence(margin, weight / _PROFILE_WEIGHTS[features.profile], features)
    risk_plan, stop_distance = _risk_plan(kind, side, support, signal, features)
    return Judgement(
        decision=kind,
        confidence=confidence,
        entry_plan=_entry_plan(kind, side, features),
        risk_plan=risk_plan,
        size_pct=_size_pct(kind, confidence, stop_distance),
        reasons=_reasons(kind, side, evidence, features),
    )


def _judge_open(support: float, features: Features) -> tuple[DecisionKind, float]:
    if "entry_price" in features.flags.stale_data:
        return "IGNORE", 0.3  # the signalled price is no longer available
    return ("FOLLOW_ENTER" if support >= ENTER_SUPPORT else "IGNORE"), abs(support - ENTER_SUPPORT)


def _judge_close(support: float) -> tuple[DecisionKind, float]:
    if support >= HOLD_SUPPORT:
        return "HOLD", support - HOLD_SUPPORT
    if support < EXIT_SUPPORT:
        return "FOLLOW_EXIT", EXIT_SUPPORT - support
    return "TIGHTEN_STOP", min(HOLD_SUPPORT - support, support - EXIT_SUPPORT)


def _confidence(margin: float, coverage: float, features: Features) -> float:
    """Return 0.5 to 0.95: 0.55 at the edge of a decision, 0.95 from 0.5 past it; less with missing or stale data."""
    certainty = 0.05 + 0.4 * min(margin / 0.5, 1.0)
    certainty *= min(coverage, 1.0) * _STALE_DISCOUNT ** min(len(features.flags.stale_data), 3)
    return round(0.5 + certainty, 2)


def _weigh(features: Features) -> list[_Evidence]:
    evidence = []
    for interval, weight in _TREND_WEIGHTS.items():
        trend = _trend(features.frames.get(interval))
        suffix = "" if interval == "1h" else f"_{interval}"
        if trend is not None:
            evidence.append(
                _Evidence(weight, trend, f"bullish_ema_alignment{suffix}", f"bearish_ema_alignment{suffix}")
            )
    evidence += _momentum(features)
    evidence += _market(features)
    return evidence


def _trend(frame: Frame | None) -> float | None:
    """Return 1 or −1 with the three averages in line, else half of (EMA 9 − EMA 50)/2 ATR."""
    if frame is None or frame.ema_9 is None or frame.ema_21 is None or frame.ema_50 is None or not frame.atr_14:
        return None
    if frame.ema_9 > frame.ema_21 > frame.ema_50:
        return 1.0
    if frame.ema_9 < frame.ema_21 < frame.ema_50:
        return -1.0
    return 0.5 * _clamp((frame.ema_9 - frame.ema_50) / frame.atr_14 / 2)


def _momentum(features: Features) -> list[_Evidence]:
    evidence = []
    hourly = features.hourly
    for interval, weight in _MACD_WEIGHTS.items():
        frame = features.frames.get(interval)
        if frame is not None and frame.macd_histogram is not None and frame.atr_14:
            what = "crossover" if interval == "1h" and hourly.macd_cross_age is not None else f"momentum_{interval}"
            value = _clamp(frame.macd_histogram / frame.atr_14 / 0.3)
            evidence.append(_Evidence(weight, value, f"positive_macd_{what}", f"negative_macd_{what}"))
    rsi = features.frames["1h"].rsi_14 if "1h" in features.frames else None
    if rsi is not None and 30 < rsi < 70:
        evidence.append(_Evidence(_RSI_WEIGHT, (rsi - 50) / 20 * 0.6, "rsi_above_midline", "rsi_below_midline"))
    elif rsi is not None:  # overstretched: it tends to come back
        value = math.copysign(0.4 + 0.6 * (abs(rsi - 50) - 20) / 30, 50 - rsi)
        evidence.append(_Evidence(_RSI_WEIGHT, value, "rsi_oversold", "rsi_overbought"))
    change = hourly.price_change if hourly.volume_change is None else hourly.volume_change
    if hourly.volume_ratio is not None and change is not None:
        value = math.copysign(_clamp(max(hourly.volume_ratio - 1, 0.0)), change) if change else 0.0
        evidence.append(_Evidence(_VOLUME_WEIGHT, value, "volume_confirms_rise", "volume_confirms_fall"))
    return evidence


def _market(features: Features) -> list[_Evidence]:
    evidence = []
    if features.funding_rate is not None:  # the paying side is the crowded one; a basis point an hour is a full crowd
        value = -_clamp(features.funding_rate / 1e-4)
        evidence.append(_Evidence(_FUNDING_WEIGHT, value, "shorts_pay_funding", "longs_pay_funding"))
    if features.order_book_imbalance is not None:
        evidence.append(
            _Evidence(_BOOK_WEIGHT, features.order_book_imbalance, "bid_side_pressure", "ask_side_pressure")
        )
    support, resistance, price = features.support, features.resistance, features.price
    if support is not None and resistance is not None and support < price < resistance:
        value = _clamp(1 - 2 * ((price - support) / (resistance - support)))
        evidence.append(_Evidence(_ROOM_WEIGHT, value, "near_support", "near_resistance"))
    return evidence


def _reasons(kind: DecisionKind, side: int, evidence: list[_Evidence], features: Features) -> tuple[str, ...]:
    """Return the evidence for the decision, the heaviest first, after reasons about missing data."""
    reasons = []
    if kind == "IGNORE" and "entry_price" in features.flags.stale_data:
        reasons.append("entry_price_out_of_reach")
    if not evidence:
        reasons.append("insufficient_data")
    wanted = side if kind in ("FOLLOW_ENTER", "HOLD") else -side
    speaking = [each for each in evidence if each.value * wanted > 0.1]
    speaking.sort(key=lambda each: -each.weight * abs(each.value))
    reasons += [each.rising if wanted > 0 else each.falling for each in speaking[:_MOST_REASONS]]
    return tuple(reasons) or ("mixed_evidence",)


def _entry_plan(kind: DecisionKind, side: int, features: Features) -> EntryOrder:
    if kind != "FOLLOW_ENTER" or features.spread_bps is None or features.spread_bps <= _MARKET_SPREAD_BPS:
        return EntryOrder("market")
    offset = min(max(round(features.spread_bps / 2), 1), 100)
    return EntryOrder("limit", -side * offset)


def _risk_plan(
    kind: DecisionKind, side: int, support: float, signal: RawSignal, features: Features
) -> tuple[StopRule, float]:
    """Return the plan, and the distance of its stop from the price, as a fraction of it."""
    price = features.price
    base = _losing_side(price, signal.entry_price, side)
    hour = features.frames.get("1h")
    atr_share = 0.0 if hour is None or not hour.atr_14 else hour.atr_14 / price
    multiple = 1.0 if kind == "TIGHTEN_STOP" else 2.0
    distance = multiple * atr_share
    if not 1e-6 <= distance < 0.5:  # no ATR, a negligible one, or one that would put the stop out of range
        distance = 0.01 * multiple
        return StopRule("fixed", stop_level=_stop_level(signal, base, side * distance)), distance
    context = None if signal.liquidation_price is None or not base else side * (base - signal.liquidation_price) / base
    if context is not None and 0 < context <= distance:
        return StopRule("fixed", stop_level=_stop_level(signal, base, side * context / 2)), context / 2
    if kind in ("FOLLOW_ENTER", "HOLD") and support >= HOLD_SUPPORT:
        return StopRule("trailing", trail_pct=max(0.01, round(distance * 150, 2))), distance * 1.5
    return StopRule("atr", atr_multiple=multiple), distance


def _losing_side(price: float, entry_price: float, side: int) -> float:
    """Return the losing one of the current price and the entry that is still available: a stop is beyond both."""
    if not entry_price or abs(drift_of(price, entry_price)) > STALE_ENTRY_BPS:
        return price
    return min(price, entry_price) if side > 0 else max(price, entry_price)


def _stop_level(signal: RawSignal, price: float, below: float) -> float:
    """Return the price less a share of it, to eight digits; a probability's stop stays under 1."""
    level = price * (1 - below)
    if signal.asset_type == "prediction" and level >= 1 > price:
        level = (1 + price) / 2
    return float(f"{level:.8g}")


def _size_pct(kind: DecisionKind, confidence: float, stop_distance: float) -> int:
    if kind == "FOLLOW_EXIT":
        return 100
    if kind != "FOLLOW_ENTER":
        return 0
    edge = 2 * (confidence - 0.5)
    return min(max(round(100 * _RISK_BUDGET * edge / stop_distance), 1), _LARGEST_SIZE_PCT)


def _clamp(value: float) -> float:
    return max(-1.0, min(value, 1.0))
