"""Vote by five strategies: each reads the 1h indicators and votes BUY, SELL or HOLD. Pure and deterministic.

A strategy weighs its evidence as a number from −1 (sell) to 1 (buy). The score is its size to two decimals; from 0.50
on it is a vote, below it HOLD, so that a HOLD's score shows how near it came. A strategy whose data is missing holds
at 0. Lengths are in ATRs, so that no rule depends on the price or the volatility of the asset.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from actors.lens.model import Features, Frame, Hourly, Vote
from schemas._vocabulary import VoteSide

VOTE_THRESHOLD: Final = 0.5

_NO_FRAME: Final = Frame()


def vote(features: Features) -> tuple[Vote, ...]:
    """Return the votes of all strategies, in the document's order."""
    frame, hourly = features.frames.get("1h", _NO_FRAME), features.hourly
    return tuple([_vote(name, evidence(frame, hourly)) for name, evidence in STRATEGIES])


def consensus(votes: Sequence[Vote], side: VoteSide) -> float:
    """Return the share of the BUY and SELL voters that vote `side`, 0–1; 0 without a vote."""
    voters: list[VoteSide] = [each.signal for each in votes if each.signal != "HOLD"]
    return voters.count(side) / len(voters) if voters else 0.0


def rsi_reversal(frame: Frame, hourly: Hourly) -> float:
    """Weigh an overstretched RSI: (50 − RSI)/40, so 0.5 at RSI 30 and −0.5 at 70, and 0.1 more once it turns back."""
    rsi, before = frame.rsi_14, hourly.rsi_14_previous
    if rsi is None:
        return 0.0
    stretch = (50 - rsi) / 40
    has_turned = before is not None and (rsi - before) * stretch > 0
    return stretch + math.copysign(0.1, stretch) if has_turned else stretch


def macd_cross(frame: Frame, hourly: Hourly) -> float:
    """Weigh a MACD that crosses its signal line. With m = |histogram| / 0.3 ATR, at most 1, and the histogram's sign:

    crossed within the last three candles 0.55 + 0.4·m; else while it expands 0.25 + 0.4·m; else 0.3·m.
    """
    histogram, atr, before = frame.macd_histogram, frame.atr_14, hourly.macd_histogram_previous
    if not histogram or not atr:
        return 0.0
    momentum = min(abs(histogram) / atr / 0.3, 1.0)
    if hourly.macd_cross_age is not None:
        strength = 0.55 + 0.4 * momentum
    elif before is not None and abs(histogram) > abs(before):
        strength = 0.25 + 0.4 * momentum
    else:
        strength = 0.3 * momentum
    return math.copysign(strength, histogram)


def bollinger_bounce(_: Frame, hourly: Hourly) -> float:
    """Weigh a price that leaves a Bollinger line towards the middle: 0.5 − %B, so 0.5 at the lower, −0.5 at the upper.

    0.3 more, away from the line, if the candle before closed within a tenth of the band's width from it or beyond it.
    """
    band, before = hourly.percent_b, hourly.percent_b_previous
    if band is None:
        return 0.0
    evidence = 0.5 - band
    if before is not None and before <= 0.1 and band > before:
        evidence += 0.3
    elif before is not None and before >= 0.9 and band < before:
        evidence -= 0.3
    return evidence


def ema_trend(frame: Frame, _: Hourly) -> float:
    """Weigh EMA 9, 21, 50 in line: 0.5 + 0.4·min(|EMA 9 − EMA 50| / 4 ATR, 1), 0.1 more if the price is ahead of EMA 9.

    Out of line, the fast pair alone weighs (EMA 9 − EMA 21)/4 ATR, at most 0.4.
    """
    fast, middle, slow, atr = frame.ema_9, frame.ema_21, frame.ema_50, frame.atr_14
    if fast is None or middle is None or not atr:
        return 0.0
    if slow is not None and (fast > middle > slow or fast < middle < slow):
        direction = math.copysign(1.0, fast - slow)
        is_ahead = frame.close is not None and (frame.close - fast) * direction > 0
        return direction * (0.5 + 0.4 * min(abs(fast - slow) / atr / 4, 1.0) + (0.1 if is_ahead else 0.0))
    return max(-0.4, min((fast - middle) / atr / 4, 0.4))


def volume_breakout(frame: Frame, hourly: Hourly) -> float:
    """Weigh a breakout of the 20-candle channel: 0.3 + 0.4·min(volume ratio − 1, 1) + 0.3·min(excess/ATR, 1).

    Inside the channel the position in it, −1 to 1, weighs 0.3 at twice the usual volume and nothing at the usual one.
    Volume counts for the side to which its own candle went, and for no other.
    """
    close, atr, ratio = frame.close, frame.atr_14, hourly.volume_ratio
    high, low = hourly.channel_high, hourly.channel_low
    if close is None or not atr or ratio is None or high is None or low is None:
        return 0.0
    volume = max(0.0, min(ratio - 1, 1.0))
    excess = close - high if close > high else close - low if close < low else 0.0
    side = excess or (close - low) - (high - close)
    if hourly.volume_change is not None and hourly.volume_change * side < 0:
        volume = 0.0
    if excess:
        return math.copysign(0.3 + 0.4 * volume + 0.3 * min(abs(excess) / atr, 1.0), excess)
    if high == low:
        return 0.0
    return 0.3 * volume * ((close - low) / (high - low) * 2 - 1)


STRATEGIES: Final[tuple[tuple[str, Callable[[Frame, Hourly], float]], ...]] = (
    ("RSI_REVERSAL", rsi_reversal),
    ("MACD_CROSS", macd_cross),
    ("BOLLINGER_BOUNCE", bollinger_bounce),
    ("EMA_TREND", ema_trend),
    ("VOLUME_BREAKOUT", volume_breakout),
)


def _vote(name: str, evidence: float) -> Vote:
    score = min(round(abs(evidence), 2), 1.0)
    if score < VOTE_THRESHOLD:
        return Vote(name, "HOLD", score)
    return Vote(name, "BUY" if evidence > 0 else "SELL", score)
