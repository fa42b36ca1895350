"""Examples of health, and of Lens: events, decisions, dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas import dlq, health, lens
from schemas._fields import Schema
from schemas.examples._ids import DECISION, EVENT, LETTER

_ITEM = {
    "event_id": EVENT,
    "event_type": "OPEN_SIGNAL",
    "symbol": "BTC",
    "signal_direction": "long",
    "entry_price": 42000.5,
    "size": 0.1,
    "status": "PUBLISHED",
    "source": "strategy_alpha",
    "received_at": "2024-01-15T10:30:00.123Z",
}

_DECISION = {
    "id": DECISION,
    "event_id": EVENT,
    "symbol": "BTC",
    "event_type": "OPEN_SIGNAL",
    "model": "chatgpt",
    "decision": "FOLLOW_ENTER",
    "confidence": 0.78,
    "entry_plan": {"type": "limit", "offset_bps": -5},
    "risk_plan": {"stop_method": "atr", "atr_multiple": 2.0},
    "size_pct": 15,
    "reasons": ["bullish_ema_alignment", "positive_macd_crossover"],
    "evaluated_at": "2024-01-15T10:30:04.200Z",
}
_LETTER = {
    "id": LETTER,
    "event_id": EVENT,
    "stage": "enrich",
    "reason_code": "PROVIDER_ERROR",
    "error_message": "Hyperliquid API timeout",
    "retry_count": 3,
    "created_at": "2024-01-15T10:30:00.000Z",
    "resolved_at": None,
}

EXAMPLES: Mapping[type[Schema], dict[str, Any]] = {
    health.Health: {"status": "ok"},
    health.Readiness: {
        "status": "ready",
        "dependencies": {"redis": "ok", "postgres": "ok", "ray": "ok"},
        "timestamp": "2024-01-15T10:30:00.000Z",
    },
    lens.SignalSubmission: {
        "event_type": "OPEN_SIGNAL",
        "symbol": "BTC",
        "signal_direction": "long",
        "entry_price": 42000.5,
        "size": 0.1,
        "liquidation_price": 38000.0,
        "ts_utc": "2024-01-15T10:30:00Z",
        "source": "strategy_alpha",
    },
    lens.SignalAccepted: {"event_id": EVENT, "status": "ENQUEUED", "received_at": "2024-01-15T10:30:00.123Z"},
    lens.PageOfEvents: {"items": [_ITEM], "total": 150, "limit": 50, "offset": 0},
    lens.Event: _ITEM
    | {
        "liquidation_price": 38000.0,
        "ts_utc": "2024-01-15T10:30:00.000Z",
        "asset_type": "crypto",
        "asset_data": None,
        "commentary": None,
        "timeline": [
            {"status": "RECEIVED", "timestamp": "2024-01-15T10:30:00.123Z"},
            {"status": "ENQUEUED", "timestamp": "2024-01-15T10:30:00.125Z"},
            {"status": "ENRICHED", "timestamp": "2024-01-15T10:30:01.850Z"},
            {"status": "MODEL_DONE", "timestamp": "2024-01-15T10:30:04.200Z", "details": {"model": "chatgpt"}},
            {"status": "PUBLISHED", "timestamp": "2024-01-15T10:30:04.510Z"},
        ],
        "enriched": {
            "feature_profile": "trend_follow_v1",
            "quality_flags": {"missing_data": [], "stale_data": [], "provider_errors": []},
        },
        "decisions": [{"model": "chatgpt", "decision": "FOLLOW_ENTER", "confidence": 0.78}],
    },
    lens.EventStatus: {"event_id": EVENT, "status": "PUBLISHED", "current_stage": "COMPLETE", "duration_ms": 4387},
    lens.PageOfDecisions: {"items": [_DECISION], "total": 500, "limit": 50, "offset": 0},
    lens.Decision: _DECISION
    | {
        "model_meta": {
            "model_name": "chatgpt",
            "model_version": "gpt-4o",
            "latency_ms": 1850,
            "status": "SUCCESS",
            "tokens_used": 1250,
        }
    },
    lens.PageOfDeadLetters: {"items": [_LETTER], "total": 15, "limit": 50, "offset": 0},
    lens.DeadLetter: _LETTER
    | {
        "model": None,
        "error_message": "Hyperliquid API returned 503 Service Unavailable",
        "payload": {"symbol": "BTC", "entry_price": 42000.5, "signal_direction": "long"},
        "edited_payload": None,
        "attempts": [
            {
                "at": "2024-01-15T10:30:00.000Z",
                "reason_code": "PROVIDER_ERROR",
                "error_message": "Hyperliquid API returned 503 Service Unavailable",
            }
        ],
        "last_retry_at": "2024-01-15T10:35:00.000Z",
        "resolution_note": None,
    },
    lens.RetryRequest: {"payload": {"entry_price": 41950.0}},
    lens.RetryAccepted: {
        "id": LETTER,
        "status": "retrying",
        "message": "Entry re-enqueued for enrich processing",
        "retry_count": 4,
    },
    lens.Resolution: {"resolution_note": "Manually fixed data issue and re-submitted signal"},
    lens.Resolved: {"id": LETTER, "status": "resolved", "resolved_at": "2024-01-15T11:00:00.000Z"},
    dlq.RetryMany: {"stage": "enrich", "reason_code": "PROVIDER_ERROR", "max": 100, "per_second": 5},
    dlq.RetriedMany: {"matched": 130, "selected": 100, "retried": 98, "skipped": 2, "dry_run": False},
    dlq.ResolveMany: {"stage": "evaluate", "resolution_note": "The models' vendor was away for a day"},
    dlq.ResolvedMany: {"matched": 12, "selected": 12, "resolved": 12, "dry_run": False},
}
