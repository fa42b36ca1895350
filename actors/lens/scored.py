"""Publish signals that other systems have scored: attribute, place in the feed, store once, announce."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from actors._runtime.context import ActorContext
from actors.lens.messages import Placed, Scored
from actors.lens.openers import with_passing_scores
from actors.lens.publication import (
    PRICED,
    describe_provider,
    describe_terms,
    feed_item,
    provider_candidates,
    system_provider_id,
)
from actors.lens.scoring import tier_of
from config.bisection import bisect_failures
from config.clock import rfc3339
from config.masking import redact
from db._postgres import CONTENDED, Connection
from db.signals.writes import (
    NewSignal,
    ProviderCard,
    ensure_system_providers,
    get_providers,
    insert_signals,
    known_signals,
    take_feed_seq,
)
from schemas._instruments import instrument_of, is_expired
from schemas._symbols import asset_category
from schemas.errors import AppError, DatabaseUnavailable
from schemas.feed import FEED_CHANNEL, encode_batch

log = logging.getLogger(__name__)

WRITE_SECONDS = 5.0
"""For one batch: 500 rows take 50 ms, but they wait for the stage's own commits."""

_DIRECTIONS = {"buy": "long", "yes": "long", "sell": "short", "no": "short", "hold": None}
_CLOSED = {"buy": "short", "yes": "short", "sell": "long", "no": "long"}
_ENTRIES = {"option": "premium", "prediction": "probability"}
_SAFE_INTEGER = 2**53


class ScoredSignals:
    """Publish signals that need no pipeline; part of `lens/publish`, the only writer of the feed's order."""

    def __init__(self, context: ActorContext) -> None:
        self._context = context
        self._turn = asyncio.Lock()  # a batch that is sent again waits for its first copy, and finds its signals stored

    async def publish(self, signals: Sequence[Scored]) -> Placed:
        """Store the new ones, in order, and notify the gateways. Raises DatabaseUnavailable."""
        async with self._turn:
            return await self._publish(signals)

    async def _publish(self, signals: Sequence[Scored]) -> Placed:
        published = 0

        async def attempt(part: Sequence[tuple[int, Scored]]) -> None:
            nonlocal published
            stored = await self._store([signal for _, signal in part])
            await self._announce(stored)
            published += len(stored)

        refused: dict[int, str] = {}
        try:
            failed = await bisect_failures(list(enumerate(signals)), attempt, passing=(AppError, *CONTENDED))
        except CONTENDED as contention:
            raise DatabaseUnavailable("The database is contended") from contention
        for (index, signal), error in failed:  # a constraint, a text, a value that no codec takes
            log.error("the scored signal %s cannot be stored", signal.id, exc_info=error)
            refused[index] = redact(f"{type(error).__name__}: {error}")
        return Placed(published, len(signals) - published - len(refused), refused)

    async def _store(self, signals: Sequence[Scored]) -> Sequence[NewSignal]:
        async with self._context.transaction(deadline_seconds=WRITE_SECONDS) as conn:
            known = await known_signals(conn, [each.id for each in signals])
            fresh: dict[UUID, Scored] = {}
            for each in signals:
                if each.id not in known:
                    fresh.setdefault(each.id, each)
            if not fresh:
                return []
            # The last pair of a source would win: so in reverse, as the first name of a source counts.
            named = {each.source: each.provider_name for each in reversed(fresh.values())}
            cards = await find_or_make_providers(conn, named)
            first = await take_feed_seq(conn, len(fresh))
            made = [_make(each, cards[each.source], first + index) for index, each in enumerate(fresh.values())]
            rows = await with_passing_scores(conn, made)
            await insert_signals(conn, rows)
        return rows

    async def _announce(self, stored: Sequence[NewSignal]) -> None:
        if not stored:
            return
        items = [feed_item(s) for s in stored]
        await self._context.redis.announce({FEED_CHANNEL: encode_batch(items)})


async def find_or_make_providers(conn: Connection, named: Mapping[str, str]) -> dict[str, ProviderCard]:
    """Return the providers of these signals, by source; a system provider that is missing is made, under its name."""
    candidates = {source: provider_candidates(source) for source in named}
    cards = await get_providers(conn, [each for ids in candidates.values() for each in ids])
    unknown = {
        system_provider_id(source): named[source]
        for source, ids in candidates.items()
        if not any(each in cards for each in ids)
    }
    if unknown:
        await ensure_system_providers(conn, unknown)
        cards |= await get_providers(conn, list(unknown))
    return {source: next(cards[each] for each in ids if each in cards) for source, ids in candidates.items()}


def _make(signal: Scored, provider: ProviderCard, feed_seq: int) -> NewSignal:
    asset_data = dict(signal.asset_data)
    if signal.price is not None and signal.asset_type in PRICED:
        asset_data.setdefault("price", _number(signal.price))
    category = asset_category(signal.asset_type)
    instrument = instrument_of(signal.symbol, signal.asset_type, asset_data, signal.created_at)
    item: dict[str, Any] = {
        "id": str(signal.id),
        "asset_type": signal.asset_type,
        "asset_category": category,
        "symbol": signal.symbol,
        "action": signal.action,
        "score": signal.score,
        "reasoning": signal.reasoning,
        "provider": describe_provider(provider),
        "asset_data": asset_data,
        "reactions": {},
        "comment_count": 0,
        "created_at": rfc3339(signal.created_at),
    }
    entry_price, direction, received_at = _entry_price(signal), _direction(signal), signal.received_at
    item |= describe_terms(
        signal.event_type, direction, entry_price, signal.commentary, received_at or signal.created_at
    )
    if signal.price is not None:
        item["price"] = _number(signal.price)
    elif "price" in asset_data:
        item["price"] = asset_data["price"]
    return NewSignal(
        id=signal.id,
        feed_seq=feed_seq,
        provider_id=provider.user_id,
        asset_type=signal.asset_type,
        asset_category=category,
        symbol=signal.symbol,
        action=signal.action,
        event_type=signal.event_type,
        direction=direction,
        entry_price=entry_price,
        size=None,
        score=signal.score,
        tier=tier_of(signal.score),
        confidence=signal.confidence,
        factors=None,
        strategy_breakdown=None,
        market_context=None,
        reasoning=signal.reasoning,
        commentary=signal.commentary,
        asset_data=asset_data,
        feed_data=orjson.dumps(item).decode(),
        created_at=signal.created_at,
        received_at=received_at or signal.created_at,
        instrument=None if instrument == signal.symbol else instrument,
        is_ranked=not is_expired(signal.symbol, signal.asset_type, asset_data, signal.created_at),
    )


def _direction(signal: Scored) -> str | None:
    """Return the side of the position that it opens or closes: a SELL of a holding closes a long position."""
    return (_DIRECTIONS if signal.event_type == "OPEN_SIGNAL" else _CLOSED)[signal.action]


def _entry_price(signal: Scored) -> Decimal | None:
    """Return the price at which the position is opened or closed: the price, or its substitute by asset type."""
    if (price := signal.entry_price or signal.price) is not None:
        return price
    value = signal.asset_data.get(_ENTRIES.get(signal.asset_type, "price"))
    if not value:
        return None
    if signal.asset_type == "prediction" and value >= 1 and signal.event_type == "OPEN_SIGNAL":
        return None  # an outcome that is decided can be left, not entered
    return Decimal(repr(value))


def _number(price: Decimal) -> int | float:
    return int(price) if price == price.to_integral_value() and price < _SAFE_INTEGER else float(price)
