"""Build a published signal's public form: the feed's JSON, made once, and the provider it is attributed to. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from actors.lens.model import Features, Judgement, RawSignal, Score
from config.clock import rfc3339
from config.ids import parse_uuid, time_of
from db.signals.writes import NewSignal, ProviderCard
from schemas._instruments import instrument_of, is_expired
from schemas._symbols import asset_category
from schemas.feed import DecisionItem, FeedItem

_SYSTEM_PROVIDERS = uuid.UUID("6ba26a43-6b9f-5d2b-8f0c-6f1f3f6b9d10")
"""The UUIDv5 namespace of providers that exist only as the `source` of Lens events. Never to be changed."""

PRICED = frozenset({"crypto", "stock", "etf", "forex"})
"""Asset types whose entry price is the price of the asset itself, not a premium or a probability."""


def system_provider_id(source: str) -> UUID:
    """Return the id of the system provider that stands for `source`."""
    return uuid.uuid5(_SYSTEM_PROVIDERS, source)


def provider_candidates(source: str) -> tuple[UUID, ...]:
    """Return the providers that `source` may name, the first that exists wins: a user's id, or the system provider."""
    user_id = parse_uuid(source)
    return (system_provider_id(source),) if user_id is None else (user_id, system_provider_id(source))


def asset_data_of(signal: RawSignal, features: Features) -> dict[str, Any]:
    """Return the producer's data on the asset, with its price where it has one and the producer gave none."""
    data = dict(signal.asset_data or {})
    if signal.asset_type in PRICED:
        data.setdefault("price", features.price)
    return data


def describe_provider(card: ProviderCard) -> dict[str, Any]:
    """Return the provider as a signal shows it; `win_rate` in whole percent, null until one of their signals closed."""
    return {
        "id": str(card.user_id),
        "name": card.display_name,
        "avatar_url": card.avatar_url,
        "win_rate": None if card.win_rate is None else round(card.win_rate * 100),
        "followers": card.follower_count,
        "verified": card.verification_level != "none",
    }


def describe_terms(
    event_type: str, direction: str | None, entry_price: Decimal | float | None, commentary: str | None, at: datetime
) -> dict[str, Any]:
    """Return a signal's terms of the position that it opens or closes, as always shown; `at`: the time of receipt."""
    return {
        "event_type": event_type,
        "direction": direction,
        "entry_price": None if entry_price is None else float(entry_price),
        "commentary": commentary,
        "received_at": rfc3339(at),
    }


def make_signal(
    signal: RawSignal,
    features: Features,
    score: Score,
    *,
    provider: ProviderCard,
    feed_seq: int,
    published_at: datetime,
    prices: tuple[Decimal, Decimal] | None = None,
    received_at: datetime | None = None,
) -> NewSignal:
    """Return the row of a signal that is being published, its feed JSON included.

    `prices` are the exact entry price and size; None: those of the event, copied in Postgres. `received_at` defaults to
    the time of the event's id.
    """
    entry_price, size = prices or (None, None)
    asset_data = asset_data_of(signal, features)
    category = asset_category(signal.asset_type)
    direction = "long" if signal.signal_direction.endswith("long") else "short"
    received_at = received_at or time_of(signal.event_id)
    instrument = instrument_of(signal.symbol, signal.asset_type, signal.asset_data, published_at)
    item: dict[str, Any] = {
        "id": str(signal.event_id),
        "asset_type": signal.asset_type,
        "asset_category": category,
        "symbol": signal.symbol,
        "action": score.action,
        "score": score.opportunity_score,
        "reasoning": score.reasoning,
        "provider": describe_provider(provider),
        "asset_data": asset_data,
        "reactions": {},
        "comment_count": 0,
        "created_at": rfc3339(published_at),
        **describe_terms(signal.event_type, direction, signal.entry_price, signal.commentary, received_at),
    }
    if "price" in asset_data:
        item["price"] = asset_data["price"]
    return NewSignal(
        id=signal.event_id,
        feed_seq=feed_seq,
        provider_id=provider.user_id,
        asset_type=signal.asset_type,
        asset_category=category,
        symbol=signal.symbol,
        action=score.action,
        event_type=signal.event_type,
        direction=direction,
        entry_price=entry_price,
        size=size,
        score=score.opportunity_score,
        tier=score.opportunity_tier,
        confidence=score.confidence,
        factors=score.opportunity_factors,
        strategy_breakdown=[vote.to_dict() for vote in score.strategy_breakdown],
        market_context=score.market_context,
        reasoning=score.reasoning,
        commentary=signal.commentary,
        asset_data=asset_data,
        feed_data=orjson.dumps(item).decode(),
        created_at=published_at,
        received_at=received_at,
        instrument=None if instrument == signal.symbol else instrument,
        is_ranked=not is_expired(signal.symbol, signal.asset_type, signal.asset_data, published_at),
    )


def feed_item(signal: NewSignal) -> FeedItem:
    """Return the published signal as the gateways are notified of it."""
    return FeedItem(
        signal.feed_seq,
        signal.asset_category,
        signal.asset_type,
        signal.score_to_pass,
        str(signal.provider_id),
        signal.feed_data.encode(),
    )


def decision_item(signal: RawSignal, model: str, decision: Judgement, published_at: datetime) -> DecisionItem:
    """Return the message to internal subscribers about one model's decision."""
    message: Mapping[str, Any] = {
        "type": "decision",
        "event_id": str(signal.event_id),
        "symbol": signal.symbol,
        "event_type": signal.event_type,
        "model": model,
        "decision": decision.to_dict(),
        "published_at": rfc3339(published_at),
    }
    return DecisionItem(model, signal.symbol, signal.event_type, orjson.dumps(message))
