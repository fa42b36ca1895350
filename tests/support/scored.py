"""Make scored signals as another system publishes them: the document's list items, as a message's bytes."""

from __future__ import annotations

from typing import Any

import orjson

LIST_ITEM: dict[str, Any] = {
    "id": "abc123",
    "asset_type": "crypto",
    "asset_category": "crypto",
    "symbol": "BTC",
    "action": "buy",
    "score": 87,
    "reasoning": "RSI oversold bounce with MACD turning positive. 4/5 strategies agree.",
    "provider": {
        "id": "crypto-king",
        "name": "CryptoKing_42",
        "avatar_url": "...",
        "win_rate": 67,
        "followers": 12400,
        "verified": True,
    },
    "asset_data": {"price": 67420.00, "price_change_24h": 0.032},
    "reactions": {"like": 42, "fire": 15, "rocket": 8},
    "comment_count": 12,
    "created_at": "2026-02-15T12:34:56Z",
}
"""The document's own example, but for the provider's id, of which it shows nothing."""


TERMS = (
    "event_type",
    "direction",
    "entry_price",
    "record_price",
    "verified",
    "commentary",
    "received_at",
    "retracted_at",
)
"""What an item shows beyond the document's, in this order."""


def scored(**changes: Any) -> dict[str, Any]:
    """Return the example with some fields changed; a field that is `...` is left out."""
    return {name: value for name, value in {**LIST_ITEM, **changes}.items() if value is not ...}


def message(**changes: Any) -> bytes:
    """Return `scored` as the bytes of a message."""
    return orjson.dumps(scored(**changes))


def numbered(count: int, *, start: int = 0, **changes: Any) -> list[bytes]:
    """Return messages of different signals, whose reasoning is their number."""
    return [message(id=f"signal-{n}", reasoning=str(n), **changes) for n in range(start, start + count)]
