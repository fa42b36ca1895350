"""Backfill past signals, for development: placed in the feed with their own times, without notifications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from actors._runtime.context import ActorContext
from actors.lens.market.quotes import Declaration, PricedInstrument
from actors.lens.market.receipt import priced, receipt_quote
from actors.lens.market.source import PricesByType, open_prices
from actors.lens.messages import BackfilledSignal, Placed
from actors.lens.model import Features, side_of
from actors.lens.openers import with_passing_scores
from actors.lens.publication import find_or_make_providers, make_signal
from actors.lens.quote import ReceiptQuote
from actors.lens.scored import WRITE_SECONDS
from db._postgres import Connection
from db.backfill import begin_before
from db.signals.writes import ProviderSummary, PublishedSignal, insert_signals, known_signals, take_feed_seq
from schemas.errors import ValidationFailed

Quotes = Mapping[UUID, ReceiptQuote]


class Backfill:
    """Publish past signals; part of `lens/publish`, the only writer of the feed's order."""

    def __init__(self, context: ActorContext) -> None:
        self._context = context
        self._prices: PricesByType | None = None

    async def publish(self, signals: Sequence[BackfilledSignal]) -> Placed:
        """Store the new ones among past signals, in order.

        Their quotes are those of the simulated market at their own times, if that is the source of their asset type.
        Their providers count as having begun before the first of them. Nothing is notified: readers of the log find
        them there, and apply them by their own times. An open stream gets them with the next signal that is announced,
        like any gap. Raises DatabaseUnavailable, and ValidationFailed in production.
        """
        context = self._context
        if context.settings.is_production:
            raise ValidationFailed("Production has no other past than its own")
        if self._prices is None:
            self._prices = open_prices(context.settings, context.pool)
        quotes = await _past_quotes(self._prices, signals)
        async with context.transaction(deadline_seconds=WRITE_SECONDS) as conn:
            known = await known_signals(conn, [each.signal.event_id for each in signals])
            fresh = list({each.signal.event_id: each for each in signals if each.signal.event_id not in known}.values())
            if fresh:
                rows = await with_passing_scores(conn, await _rows(conn, fresh, quotes))
                await insert_signals(conn, rows)
                await begin_before(conn, _first(rows))
        return Placed(len(fresh), len(signals) - len(fresh), {})

    async def close(self) -> None:
        """Close the prices, which may have been opened."""
        if self._prices is not None:
            await self._prices.close()


async def _past_quotes(prices: PricesByType, signals: Sequence[BackfilledSignal]) -> Quotes:
    declarations = [_declared(each) for each in signals]
    await prices.declare(declarations)
    found: dict[UUID, ReceiptQuote] = {}
    for past, each in zip(signals, declarations, strict=True):
        quote = await prices.past_quote(each.instrument, each.at)
        if quote is not None:
            signal, receipt = past.signal, receipt_quote(quote, each.instrument)
            opens = signal.event_type == "OPEN_SIGNAL"
            found[signal.event_id] = priced(receipt, each.price, side_of(signal.signal_direction), opens=opens)
    return found


def _declared(past: BackfilledSignal) -> Declaration:
    signal = past.signal
    instrument = PricedInstrument.of(signal.symbol, signal.asset_type, signal.asset_data, past.published_at)
    return Declaration(instrument, past.entry_price, past.published_at)


async def _rows(conn: Connection, fresh: Sequence[BackfilledSignal], quotes: Quotes) -> list[PublishedSignal]:
    sources = {each.signal.source: each.signal.source for each in fresh}
    cards = await find_or_make_providers(conn, sources)
    first = await take_feed_seq(conn, len(fresh))
    return [
        _row(each, quotes.get(each.signal.event_id), cards[each.signal.source], first + index)
        for index, each in enumerate(fresh)
    ]


def _first(rows: Sequence[PublishedSignal]) -> dict[UUID, datetime]:
    first: dict[UUID, datetime] = {}
    for row in rows:
        first[row.provider_id] = min(first.get(row.provider_id, row.created_at), row.created_at)
    return first


def _row(
    past: BackfilledSignal, quote: ReceiptQuote | None, provider: ProviderSummary, feed_seq: int
) -> PublishedSignal:
    # Of the features only the price is public; the inputs of the score are in the score.
    features = Features(profile="trend_follow_v1", price=past.signal.entry_price, age_seconds=0.0, quote=quote)
    return make_signal(
        past.signal,
        features,
        past.score,
        provider=provider,
        feed_seq=feed_seq,
        published_at=past.published_at,
        received_at=past.published_at,
        prices=(past.entry_price, past.size),
        terms=past.terms,
        way_in="backfill",
    )
