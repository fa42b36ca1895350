"""Providers and the signals of the feed for tests, made behind everybody's back as lens/publish would make them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from config.ids import uuid7
from db._postgres import Connection
from db.signals import NewSignal, ensure_system_providers, insert_signals, take_feed_seq
from tests.users_factory import NOON

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Trade:
    """A signal in short: who opens or closes what, on which side, at which price."""

    provider_id: UUID
    opens: bool = True
    symbol: str = "BTC"
    direction: str | None = "long"
    price: Decimal | None = Decimal(100)
    minutes: float = 0  # after noon
    asset_type: str = "crypto"


async def add_system_provider(conn: Connection, name: str | None = None) -> UUID:
    """A provider that is nobody's account; its id."""
    provider_id = uuid7()
    await ensure_system_providers(conn, {provider_id: name or f"source {next(_numbers)}"})
    return provider_id


async def publish(conn: Connection, trades: Sequence[Trade], *, at: datetime = NOON) -> list[NewSignal]:
    """Put signals into the feed, in order; for a transaction's connection."""
    first = await take_feed_seq(conn, len(trades))
    rows = [_signal(trade, first + place, at) for place, trade in enumerate(trades)]
    await insert_signals(conn, rows)
    return rows


def _signal(trade: Trade, feed_seq: int, at: datetime) -> NewSignal:
    is_long = trade.direction != "short"
    category = {"crypto": "crypto", "prediction": "prediction"}.get(trade.asset_type, "equities")
    return NewSignal(
        id=uuid7(),
        feed_seq=feed_seq,
        provider_id=trade.provider_id,
        asset_type=trade.asset_type,
        asset_category=category,
        symbol=trade.symbol,
        action="hold" if trade.direction is None else "buy" if is_long == trade.opens else "sell",
        event_type="OPEN_SIGNAL" if trade.opens else "CLOSE_SIGNAL",
        direction=trade.direction,
        entry_price=trade.price,
        size=None,
        score=70,
        tier="GOOD",
        confidence=0.7,
        factors=None,
        strategy_breakdown=None,
        market_context=None,
        reasoning="because",
        commentary=None,
        asset_data={},
        feed_data="{}",
        created_at=at + timedelta(minutes=trade.minutes),
    )
