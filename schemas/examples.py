"""An example of each schema, as the documents show it: for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas import health, lens
from schemas._fields import Schema

_ID = "550e8400-e29b-41d4-a716-446655440000"
_ITEM = {
    "event_id": _ID,
    "event_type": "OPEN_SIGNAL",
    "symbol": "BTC",
    "signal_direction": "long",
    "entry_price": 42000.5,
    "size": 0.1,
    "status": "PUBLISHED",
    "source": "strategy_alpha",
    "received_at": "2024-01-15T10:30:00.123Z",
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
    lens.SignalAccepted: {"event_id": _ID, "status": "ENQUEUED", "received_at": "2024-01-15T10:30:00.123Z"},
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
    lens.EventStatus: {"event_id": _ID, "status": "PUBLISHED", "current_stage": "COMPLETE", "duration_ms": 4387},
}
