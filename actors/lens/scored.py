"""Publish signals that other systems have scored: attribute, number, store once, announce."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from actors._runtime.context import ActorContext
from actors.lens.market.quotes import Declaration, PricedInstrument
from actors.lens.market.receipt import priced, receipt_quote
from actors.lens.messages import Placed, Scored
from actors.lens.openers import with_passing_scores
from actors.lens.publication import PRICED, Arrival, announce, find_or_make_providers, place_in_feed
from actors.lens.quote import VenueQuote
from actors.lens.scoring import tier_of
from config.bisection import bisect_failures
from config.masking import redact
from config.texts import escape_unstorable
from config.values import replace
from db._orders import OrderTerms
from db._postgres import CONTENDED
from db.signals.writes import (
    ProviderSummary,
    Publication,
    PublishedSignal,
    insert_signals,
    known_signals,
    take_feed_seq,
)
from schemas._orders import valid_until
from schemas._vocabulary import MAY_END_WORTHLESS, OPENED_BY, Side
from schemas.errors import AppError, DatabaseUnavailable

log = logging.getLogger(__name__)

WRITE_SECONDS = 5.0
"""For one batch: 500 rows take 50 ms, but they wait for the stage's own commits."""

_CLOSED_BY: Final[Mapping[str, Side]] = {"buy": "short", "yes": "short", "sell": "long", "no": "long"}
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
            await announce(self._context, stored)
            published += len(stored)

        refused: dict[int, str] = {}
        try:
            failed = await bisect_failures(list(enumerate(signals)), attempt, passing=(AppError, *CONTENDED))
        except CONTENDED as contention:
            raise DatabaseUnavailable("The database is contended") from contention
        for (index, signal), error in failed:  # a constraint, a text, a value that no codec takes
            log.error("the scored signal %s cannot be stored", signal.id, exc_info=error)
            refused[index] = escape_unstorable(redact(f"{type(error).__name__}: {error}"))
        return Placed(published, len(signals) - published - len(refused), refused)

    async def _store(self, signals: Sequence[Scored]) -> Sequence[PublishedSignal]:
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


def _make(signal: Scored, provider: ProviderSummary, feed_seq: int) -> PublishedSignal:
    asset_data = dict(signal.asset_data)
    if signal.price is not None and signal.asset_type in PRICED:
        asset_data.setdefault("price", _number(signal.price))
    received_at = signal.received_at or signal.created_at
    terms = {name: getattr(signal, name) for name in OrderTerms.__struct_fields__}
    terms["valid_until"] = valid_until(signal.order_type, signal.valid_until, received_at)
    publication = Publication(
        id=signal.id,
        asset_type=signal.asset_type,
        symbol=signal.symbol,
        action=signal.action,
        event_type=signal.event_type,
        direction=_direction(signal),
        entry_price=_entry_price(signal),
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
        created_at=signal.created_at,
        received_at=received_at,
        **terms,
    )
    price = None if signal.price is None else _number(signal.price)
    return place_in_feed(publication, Arrival(signal.way_in, signal.quote), provider, feed_seq, price=price)


def declared(signal: Scored, received_at: datetime) -> Declaration:
    """Return what a signal says about the price of its instrument; a price of 0 where it says none."""
    instrument = PricedInstrument.of(signal.symbol, signal.asset_type, signal.asset_data, received_at)
    return Declaration(instrument, _entry_price(signal) or Decimal(0), received_at)


def quoted(signal: Scored, quote: VenueQuote, instrument: PricedInstrument) -> Scored:
    """Return the signal with the quote of its receipt."""
    found = receipt_quote(quote, instrument)
    opens = signal.event_type == "OPEN_SIGNAL"
    return replace(signal, quote=priced(found, _entry_price(signal), _direction(signal), opens=opens))


def _direction(signal: Scored) -> Side | None:
    """Return the side of the position that it opens or closes: a SELL of a holding closes a long position."""
    return (OPENED_BY if signal.event_type == "OPEN_SIGNAL" else _CLOSED_BY).get(signal.action)


def _entry_price(signal: Scored) -> Decimal | None:
    """Return the price at which the position is opened or closed: the price, or its substitute by asset type."""
    for price in (signal.entry_price, signal.price):
        if price is not None:
            return price
    value = signal.asset_data.get(_ENTRIES.get(signal.asset_type, "price"))
    can_be_zero = signal.event_type == "CLOSE_SIGNAL" and signal.asset_type in MAY_END_WORTHLESS
    if value is None or (value == 0 and not can_be_zero):
        return None
    if signal.asset_type == "prediction" and value >= 1 and signal.event_type == "OPEN_SIGNAL":
        return None  # an outcome that is decided can be left, not entered
    return Decimal(repr(value))


def _number(price: Decimal) -> int | float:
    return int(price) if price == price.to_integral_value() and price < _SAFE_INTEGER else float(price)
