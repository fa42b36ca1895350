"""Published signals for tests, made as the publish stage makes them; and accounts that comment on them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from actors.lens.model import Features, RawSignal, Score, Vote
from actors.lens.publication import make_signal
from actors.lens.scoring import public_action, tier_of
from config.ids import uuid7
from db._postgres import Connection, Pool, transaction
from db.signals.writes import PublishedSignal, ensure_system_providers, get_providers, insert_signals, take_feed_seq
from tests.support.users_factory import NOON

_numbers = itertools.count(1)
FACTORS: dict[str, dict[str, float | None]] = {
    "confidence": {"value": 0.82, "contribution": 20.5},
    "expected_return": {"value": 0.032, "contribution": 30.0},
    "consensus": {"value": 0.80, "contribution": 16.0},
    "volatility": {"value": 0.021, "contribution": 10.5},
    "freshness": {"value": 2, "contribution": 10.0},
}
VOTES = (Vote("RSI_REVERSAL", "BUY", 0.89), Vote("VOLUME_BREAKOUT", "SELL", 0.65))
CONTEXT: dict[str, float | None] = {
    "current_price": 2345.67,
    "price_change_1h": 0.023,
    "volume_ratio": 1.5,
    "volatility_1h": 0.021,
}


async def publish(pool: Pool, drafts: Sequence[dict[str, Any]]) -> list[PublishedSignal]:
    """Put signals into the feed, a minute after one another. Of each draft: fields of a raw signal, and

    `provider_id` (a system provider's of its own where it is not there yet), `score`, `at`, `reasoning`.
    """
    async with transaction(pool) as conn:
        first = await take_feed_seq(conn, len(drafts))
        rows = [await make(conn, first + place, **draft) for place, draft in enumerate(drafts)]
        await insert_signals(conn, rows)
    return rows


async def make(
    conn: Connection,
    feed_seq: int,
    *,
    provider_id: UUID | None = None,
    score: int = 70,
    at: datetime | None = None,
    reasoning: str = "RSI oversold bounce. 4/5 strategies agree.",
    **changes: Any,
) -> PublishedSignal:
    """Return a signal that is not stored yet, with its feed_seq."""
    provider_id = provider_id or uuid7()
    await ensure_system_providers(conn, {provider_id: f"source {next(_numbers)}"})
    cards = await get_providers(conn, [provider_id])
    fields: dict[str, Any] = {
        "event_id": uuid7(),
        "event_type": "OPEN_SIGNAL",
        "symbol": "BTC",
        "signal_direction": "long",
        "entry_price": 42000.5,
        "size": 0.1,
        "ts_utc": NOON,
        "source": str(provider_id),
    }
    signal = RawSignal(**fields | changes)
    judged = Score(
        action=public_action(signal.signal_direction, signal.asset_type),
        confidence=0.82,
        opportunity_score=score,
        opportunity_tier=tier_of(score),
        opportunity_factors=FACTORS,
        strategy_breakdown=VOTES,
        reasoning=reasoning,
        market_context=CONTEXT,
    )
    return make_signal(
        signal,
        Features("trend_follow_v1", 42001.5, 1.0),
        judged,
        provider=cards[provider_id],
        feed_seq=feed_seq,
        published_at=at or NOON + timedelta(minutes=feed_seq),
        prices=(Decimal(str(signal.entry_price)), Decimal(str(signal.size))),
    )
