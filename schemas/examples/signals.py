"""Examples of the public signals, and of the demo's backfill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas import assets, backfill, problem, signals
from schemas._fields import Schema
from schemas._symbols import describe_assets
from schemas.examples._ids import EVENT, OPTION, PREDICTION, PROVIDER, SIGNAL, USER

_AT = "2026-02-15T12:34:56.000Z"


def provider_card(name: str, win_rate: int, followers: int) -> dict[str, Any]:
    """Make the example of a signal's provider."""
    return {
        "id": PROVIDER,
        "name": name,
        "avatar_url": "https://images.example.com/provider.png",
        "win_rate": win_rate,
        "followers": followers,
        "verified": True,
    }


KING = provider_card("CryptoKing_42", 67, 12400)
CRYPTO = {
    "id": SIGNAL,
    "asset_type": "crypto",
    "asset_category": "crypto",
    "symbol": "BTC",
    "action": "buy",
    "score": 87,
    "reasoning": "RSI oversold bounce with MACD turning positive. 4/5 strategies agree.",
    "provider": KING,
    "asset_data": {"price": 67420.00, "price_change_24h": 0.032},
    "reactions": {"like": 42, "fire": 15, "rocket": 8},
    "comment_count": 12,
    "created_at": _AT,
}
_OPTION = {
    "id": OPTION,
    "asset_type": "option",
    "asset_category": "equities",
    "symbol": "AAPL 195C 3/15",
    "action": "buy",
    "score": 84,
    "reasoning": "Unusual call volume. IV crush opportunity post-earnings.",
    "provider": provider_card("OptionsFlow", 71, 9200),
    "asset_data": {
        "underlying": "AAPL",
        "strike": 195.00,
        "option_type": "call",
        "expiry": "2026-03-15",
        "premium": 4.20,
        "greeks": {"delta": 0.45, "theta": -0.08, "gamma": 0.03, "vega": 0.12, "iv": 0.28},
        "open_interest": 12500,
        "volume": 8200,
    },
    "reactions": {"fire": 21},
    "comment_count": 8,
    "created_at": _AT,
}
_PREDICTION = {
    "id": PREDICTION,
    "asset_type": "prediction",
    "asset_category": "prediction",
    "symbol": "Fed cuts rates in March",
    "action": "yes",
    "score": 78,
    "reasoning": "Implied odds lag the futures curve.",
    "provider": provider_card("MacroOracle", 69, 7300),
    "asset_data": {
        "platform": "polymarket",
        "market_id": "fed-march-2026",
        "market_question": "Will the Fed cut rates in March 2026?",
        "probability": 0.62,
        "prob_change_24h": 0.05,
        "volume_usd": 2500000,
        "resolution_date": "2026-03-20",
    },
    "reactions": {},
    "comment_count": 0,
    "created_at": _AT,
}
_FACTORS = {
    "confidence": {"value": 0.82, "contribution": 20.5},
    "expected_return": {"value": 0.032, "contribution": 30.0},
    "consensus": {"value": 0.80, "contribution": 16.0},
    "volatility": {"value": 0.021, "contribution": 10.5},
    "freshness": {"value": 2, "contribution": 10.0},
}
_VOTES = [
    {"name": "RSI_REVERSAL", "signal": "BUY", "score": 0.89},
    {"name": "MACD_CROSS", "signal": "BUY", "score": 0.85},
    {"name": "BOLLINGER_BOUNCE", "signal": "BUY", "score": 0.78},
    {"name": "EMA_TREND", "signal": "BUY", "score": 0.72},
    {"name": "VOLUME_BREAKOUT", "signal": "SELL", "score": 0.65},
]
_MARKET = {"current_price": 2345.67, "price_change_1h": 0.023, "volume_ratio": 1.5, "volatility_1h": 0.021}
_REASONING = "Strong consensus among top strategies. RSI shows oversold recovery at 28, MACD just crossed bullish."

EXAMPLES: Mapping[type[Schema], dict[str, Any]] = {
    assets.Assets: describe_assets(),
    signals.PageOfSignals: {"signals": [CRYPTO, _OPTION, _PREDICTION], "total": 1247, "limit": 50, "offset": 0},
    signals.Signal: {
        "signal_id": SIGNAL,
        "id": SIGNAL,
        "asset_type": "crypto",
        "asset_category": "crypto",
        "symbol": "ETH/USD",
        "action": "BUY",
        "score": 87,
        "confidence": 0.82,
        "opportunity_score": 87,
        "opportunity_tier": "HOT",
        "opportunity_factors": _FACTORS,
        "strategy_breakdown": _VOTES,
        "reasoning": _REASONING,
        "market_context": _MARKET,
        "asset_data": {"price": 2345.67, "price_change_24h": 0.032},
        "outcome": {"status": "PENDING", "return": None, "closed_at": None, "closed_by": None},
        "provider": KING,
        "reactions": {"like": 42, "fire": 15, "rocket": 8},
        "user_reactions": ["fire"],
        "comments": [],
        "created_at": _AT,
    },
    signals.NewSignal: {
        "symbol": "ETH/USD",
        "action": "buy",
        "asset_type": "crypto",
        "entry_price": 2345.67,
        "size": 1.5,
        "asset_data": {"price": 2345.67, "price_change_24h": 0.032},
        "commentary": "Strong setup here.",
    },
    backfill.DemoServer: {"instance": "a3f1c09e5b7d2468", "rate_limited": "no"},
    backfill.PastSignals: {
        "signals": [
            {
                "id": EVENT,
                "event_type": "OPEN_SIGNAL",
                "signal_direction": "long",
                "symbol": "ETH/USD",
                "entry_price": 2345.67,
                "size": 1.5,
                "source": USER,
                "asset_type": "crypto",
                "asset_data": {"price": 2345.67},
                "commentary": "Strong setup here.",
                "published_at": "2025-02-01T12:34:56.000Z",
                "score": {
                    "action": "buy",
                    "confidence": 0.82,
                    "opportunity_score": 87,
                    "opportunity_tier": "HOT",
                    "opportunity_factors": _FACTORS,
                    "strategy_breakdown": _VOTES,
                    "reasoning": _REASONING,
                    "market_context": _MARKET,
                },
            }
        ]
    },
    backfill.PastPlaced: {"published": 1, "known": 0},
    problem.Problem: {
        "detail": "entry_price: must be greater than 0",
        "error": {
            "code": "VALIDATION_ERROR",
            "message": "Invalid request body",
            "details": [{"field": "entry_price", "message": "must be greater than 0"}],
            "request_id": "0194f3a2-7c1e-7d32-9b54-3f0c8a6d1e2f",
        },
    },
}
