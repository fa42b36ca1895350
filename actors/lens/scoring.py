"""Score a signal's opportunity at its publication: five factors, their contributions, and an explanation in words.

Rounding is half up, to the decimal that the contract names, of values that are rounded themselves: a contribution
recomputed from the stored value equals the stored contribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from actors.lens.model import Evaluation, Features, RawSignal, Score, Vote
from actors.lens.strategies import consensus, vote
from schemas._vocabulary import (
    AssetType,
    DecisionKind,
    Direction,
    EventType,
    OpportunityTier,
    PublishedAction,
    VoteSide,
)
from schemas.decisions import DECISIONS_ON

CONFIDENCE_POINTS: Final = 25
EXPECTED_RETURN_POINTS: Final = 30
CONSENSUS_POINTS: Final = 20
VOLATILITY_POINTS: Final = 15
FRESHNESS_POINTS: Final = 10
FULL_EXPECTED_RETURN: Final = 0.03
FULL_VOLATILITY: Final = 0.03
FRESH_MINUTES: Final = 5.0
STALE_MINUTES: Final = 60.0

FOLLOWING: Final[dict[EventType, DecisionKind]] = {"OPEN_SIGNAL": "FOLLOW_ENTER", "CLOSE_SIGNAL": "FOLLOW_EXIT"}
"""The decision that follows a signal; any other decision is against it."""

_TIERS: Final[tuple[tuple[int, OpportunityTier], ...]] = ((80, "HOT"), (60, "GOOD"), (40, "NEUTRAL"))
_BUYING: Final[frozenset[Direction]] = frozenset({"long", "close_short"})
_PHRASES: Final[dict[tuple[str, VoteSide], str]] = {
    ("RSI_REVERSAL", "BUY"): "RSI oversold bounce",
    ("RSI_REVERSAL", "SELL"): "RSI overbought reversal",
    ("MACD_CROSS", "BUY"): "MACD turning positive",
    ("MACD_CROSS", "SELL"): "MACD turning negative",
    ("BOLLINGER_BOUNCE", "BUY"): "price bouncing off the lower Bollinger band",
    ("BOLLINGER_BOUNCE", "SELL"): "price rejected at the upper Bollinger band",
    ("EMA_TREND", "BUY"): "EMAs aligned upwards",
    ("EMA_TREND", "SELL"): "EMAs aligned downwards",
    ("VOLUME_BREAKOUT", "BUY"): "breakout on rising volume",
    ("VOLUME_BREAKOUT", "SELL"): "breakdown on rising volume",
}


def score_signal(signal: RawSignal, features: Features, evaluations: Sequence[Evaluation], now: datetime) -> Score:
    """Compute the score that is stored with the signal and never changes. `now` is the publication, aware."""
    action = public_action(signal.signal_direction, signal.asset_type)
    side = side_of(signal.signal_direction)
    votes = vote(features)
    frame = features.frames.get("1h")
    atr = None if frame is None else frame.atr_14
    volatility = features.hourly.volatility
    confidence = model_confidence(signal.event_type, evaluations)
    factors = opportunity_factors(
        confidence=confidence,
        expected_return=None if atr is None else 2 * atr / features.price,
        consensus=consensus(votes, side),
        volatility=volatility,
        minutes=(now - signal.ts_utc).total_seconds() / 60,
    )
    total = opportunity_score(factors)
    return Score(
        action=action,
        confidence=confidence,
        opportunity_score=total,
        opportunity_tier=tier_of(total),
        opportunity_factors=factors,
        strategy_breakdown=votes,
        reasoning=describe(votes, side, confidence),
        market_context={
            "current_price": features.price,
            "price_change_1h": _rounded(features.hourly.price_change),
            "volume_ratio": _rounded(features.hourly.volume_ratio, 4),
            "volatility_1h": _rounded(volatility),
        },
    )


def side_of(direction: Direction) -> VoteSide:
    """Return the market side of acting on the signal: closing a short is buying."""
    return "BUY" if direction in _BUYING else "SELL"


def public_action(direction: Direction, asset_type: AssetType) -> PublishedAction:
    """Return the public action: buy or sell, of a prediction yes or no."""
    if asset_type == "prediction":
        return "yes" if direction in _BUYING else "no"
    return "buy" if direction in _BUYING else "sell"


def model_confidence(event_type: EventType, evaluations: Sequence[Evaluation]) -> float:
    """Return the successful models' mean confidence: as stated if the model follows the signal, else what is left of 1.

    An OPEN is followed by FOLLOW_ENTER, a CLOSE by FOLLOW_EXIT; 0 without any model. What a confidence leaves of 1 is
    shared by the other decisions: an OPEN, to which IGNORE is the only other, has all of it, a CLOSE half of it.
    """
    following, others = FOLLOWING[event_type], len(DECISIONS_ON[event_type]) - 1
    shares = [
        each.decision.confidence if each.decision.decision == following else (1 - each.decision.confidence) / others
        for each in evaluations
        if each.decision is not None
    ]
    return round(math.fsum(shares) / len(shares), 6) if shares else 0.0


def opportunity_factors(
    *, confidence: float, expected_return: float | None, consensus: float, volatility: float | None, minutes: float
) -> dict[str, dict[str, float | None]]:
    """Return the five factors as in the document: `{"confidence": {"value": 0.82, "contribution": 20.5}, …}`.

    A missing value is None and contributes nothing. `minutes` is the age, its value a whole number where it is one; a
    future time is 0.
    """
    confidence, consensus = round(confidence, 6), round(consensus, 6)
    expected_return, volatility = _rounded(expected_return), _rounded(volatility)
    minutes = round(max(minutes, 0.0), 2)
    return {
        "confidence": _factor(confidence, CONFIDENCE_POINTS * confidence),
        "expected_return": _factor(
            expected_return, EXPECTED_RETURN_POINTS * min((expected_return or 0.0) / FULL_EXPECTED_RETURN, 1.0)
        ),
        "consensus": _factor(consensus, CONSENSUS_POINTS * consensus),
        "volatility": _factor(volatility, VOLATILITY_POINTS * min((volatility or 0.0) / FULL_VOLATILITY, 1.0)),
        "freshness": _factor(
            int(minutes) if minutes == int(minutes) else minutes, FRESHNESS_POINTS * freshness(minutes)
        ),
    }


def freshness(minutes: float) -> float:
    """Return 1 up to five minutes of age, then linear to 0 at sixty."""
    return max(0.0, min((STALE_MINUTES - minutes) / (STALE_MINUTES - FRESH_MINUTES), 1.0))


def opportunity_score(factors: dict[str, dict[str, float | None]]) -> int:
    """Return the sum of the contributions, rounded half up; 0–100."""
    return int(round_half_up(math.fsum(each["contribution"] or 0.0 for each in factors.values())))


def tier_of(score: int) -> OpportunityTier:
    """Return HOT from 80, GOOD from 60, NEUTRAL from 40, else LOW."""
    return next((tier for least, tier in _TIERS if score >= least), "LOW")


def round_half_up(value: float, digits: int = 0) -> float:
    """Return `value` ≥ 0 rounded half up. A float a billionth short of a half counts as one, whatever its last bit."""
    power = 10.0**digits
    return math.floor(value * power + 0.5 + 1e-9) / power


def describe(votes: Sequence[Vote], side: VoteSide, confidence: float) -> str:
    """Explain the score in a few sentences: the evidence for it, how many strategies agree, whether the models do."""
    agreeing = sorted((each for each in votes if each.signal == side), key=lambda each: -each.score)
    phrases = [_PHRASES[each.name, side] for each in agreeing[:2]]
    opinion = " with ".join(phrases) or f"no strategy confirms the {side.lower()} side"
    against = sum(each.signal not in (side, "HOLD") for each in votes)
    sentences = [f"{opinion[0].upper()}{opinion[1:]}.", f"{len(agreeing)}/{len(votes)} strategies agree."]
    if against:
        sentences.append(f"{against} {'disagrees' if against == 1 else 'disagree'}.")
    if confidence < 0.5:
        sentences.append("The models advise against it.")
    return " ".join(sentences)


def _factor(value: float | None, contribution: float) -> dict[str, float | None]:
    return {"value": value, "contribution": round_half_up(contribution, 1)}


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None else round(value, digits)
