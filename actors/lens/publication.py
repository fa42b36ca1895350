"""Attribute signals to providers, give them their `feed_seq`, and announce them to the gateways."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import orjson
from msgspec.structs import asdict

from actors._runtime.context import ActorContext
from actors.lens.model import Features, Judgement, RawSignal, Score, side_of
from actors.lens.quote import ReceiptQuote
from config.clock import rfc3339
from config.documents import Document
from config.ids import parse_uuid, time_of
from config.values import Value, replace
from db._orders import OrderTerms
from db._postgres import Connection
from db.signals.document import feed_document
from db.signals.writes import (
    ProviderSummary,
    Publication,
    PublishedSignal,
    ensure_system_providers,
    get_providers,
)
from schemas._instruments import instrument_of, is_expired
from schemas._symbols import asset_category
from schemas._vocabulary import WayIn
from schemas.feed import DECISIONS_CHANNEL, FEED_CHANNEL, FeedDecision, FeedSignal, encode_batch, encode_decisions

_SYSTEM_PROVIDERS = uuid.UUID("6ba26a43-6b9f-5d2b-8f0c-6f1f3f6b9d10")
"""The UUIDv5 namespace of providers that exist only as the `source` of Lens events. Never to be changed."""

PRICED = frozenset({"crypto", "stock", "etf", "forex"})
"""Asset types whose entry price is the price of the asset itself, not a premium or a probability."""


NO_TERMS = OrderTerms()


class Arrival(Value):
    """The way in of a signal, and the market's quote at its receipt; None: it is unverified."""

    way_in: WayIn
    quote: ReceiptQuote | None = None


def system_provider_id(source: str) -> UUID:
    """Return the id of the system provider that stands for `source`."""
    return uuid.uuid5(_SYSTEM_PROVIDERS, source)


def provider_candidates(source: str) -> tuple[UUID, ...]:
    """Return the providers that `source` may name, the first that exists wins: a user's id, or the system provider."""
    user_id = parse_uuid(source)
    return (system_provider_id(source),) if user_id is None else (user_id, system_provider_id(source))


async def find_or_make_providers(conn: Connection, named: Mapping[str, str]) -> dict[str, ProviderSummary]:
    """Return the providers of these sources; a system provider that is missing is made, under the name given for it."""
    candidates = {source: provider_candidates(source) for source in named}
    known = await get_providers(conn, list({each for ids in candidates.values() for each in ids}))
    unknown = {
        system_provider_id(source): named[source]
        for source, ids in candidates.items()
        if not any(each in known for each in ids)
    }
    if unknown:
        await ensure_system_providers(conn, unknown)
        known |= await get_providers(conn, list(unknown))
    return {source: next(known[each] for each in ids if each in known) for source, ids in candidates.items()}


def place_in_feed(
    signal: Publication,
    arrival: Arrival,
    provider: ProviderSummary,
    feed_seq: int,
    *,
    entry_price: float | None = None,
    price: float | None = None,
) -> PublishedSignal:
    """Return the row of a signal that is being published; the prices to show default to those of the signal itself."""
    quote = arrival.quote
    about = (signal.symbol, signal.asset_type, signal.asset_data, signal.received_at)
    category, instrument = asset_category(signal.asset_type), instrument_of(*about)
    placed = PublishedSignal(
        **asdict(signal),
        feed_seq=feed_seq,
        provider_id=provider.user_id,
        asset_category=category,
        feed_data="",
        way_in=arrival.way_in,
        instrument=None if instrument == signal.symbol else instrument,
        is_ranked=not is_expired(*about),
    )
    if quote is not None:
        placed = replace(
            placed,
            quote_bid=quote.bid,
            quote_ask=quote.ask,
            quote_mid=quote.mid,
            quote_at=quote.at,
            quote_source=quote.source,
            record_price=quote.record_price,
        )
    return replace(placed, feed_data=feed_document(placed, provider, entry_price=entry_price, price=price))


def make_signal(
    signal: RawSignal,
    features: Features,
    score: Score,
    *,
    provider: ProviderSummary,
    feed_seq: int,
    published_at: datetime,
    prices: tuple[Decimal, Decimal] | None = None,
    terms: OrderTerms | None = None,
    received_at: datetime | None = None,
    way_in: WayIn = "lens",
) -> PublishedSignal:
    """Return the row of a signal that is being published, its feed JSON included.

    `prices` are the exact entry price and size, with the exact `terms`; None: those of the event, copied in Postgres.
    `received_at` defaults to the time of the event's id.
    """
    entry_price, size = prices or (None, None)
    asset_data = dict(signal.asset_data or {})
    if signal.asset_type in PRICED:
        asset_data.setdefault("price", features.price)
    publication = Publication(
        id=signal.event_id,
        asset_type=signal.asset_type,
        symbol=signal.symbol,
        action=score.action,
        event_type=signal.event_type,
        direction=side_of(signal.signal_direction),
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
        created_at=published_at,
        received_at=received_at or time_of(signal.event_id),
        **asdict(terms or NO_TERMS),
    )
    arrival = Arrival(way_in, features.quote)
    return place_in_feed(publication, arrival, provider, feed_seq, entry_price=signal.entry_price)


def feed_item(signal: PublishedSignal) -> FeedSignal:
    """Return the published signal as the gateways are notified of it."""
    return FeedSignal(
        signal.feed_seq,
        signal.asset_category,
        signal.asset_type,
        signal.score_to_pass,
        str(signal.provider_id),
        signal.feed_data.encode(),
    )


def decision_item(signal: RawSignal, model: str, decision: Judgement, published_at: datetime) -> FeedDecision:
    """Return the message to internal subscribers about one model's decision."""
    message: Document = {
        "type": "decision",
        "event_id": str(signal.event_id),
        "symbol": signal.symbol,
        "event_type": signal.event_type,
        "model": model,
        "decision": decision.to_dict(),
        "published_at": rfc3339(published_at),
    }
    return FeedDecision(model, signal.symbol, signal.event_type, orjson.dumps(message))


async def announce(
    context: ActorContext, signals: Sequence[PublishedSignal], decisions: Sequence[FeedDecision] = ()
) -> None:
    """Send what is committed to the gateways. A message that is lost is a gap, which they fetch from Postgres."""
    messages = {FEED_CHANNEL: encode_batch([feed_item(each) for each in signals])} if signals else {}
    if decisions:
        messages[DECISIONS_CHANNEL] = encode_decisions(decisions)
    await context.redis.announce(messages)
