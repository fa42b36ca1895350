"""Backfill past signals, for development: placed in the feed with their own times, without notifications."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from actors._runtime.context import ActorContext
from actors.lens.messages import BackfilledSignal, Placed
from actors.lens.model import Features
from actors.lens.openers import with_passing_scores
from actors.lens.publication import find_or_make_providers, make_signal
from actors.lens.scored import WRITE_SECONDS
from db._postgres import Connection
from db.backfill import begin_before
from db.signals.writes import ProviderSummary, PublishedSignal, insert_signals, known_signals, take_feed_seq
from schemas.errors import ValidationFailed


async def publish_backfill(context: ActorContext, signals: Sequence[BackfilledSignal]) -> Placed:
    """Store the new ones among past signals, in order; part of `lens/publish`, the only writer of the feed's order.

    Their providers count as having begun before the first of them. Nothing is notified: readers of the log find them
    there, and apply them by their own times. An open stream gets them with the next signal that is announced, like any
    gap. Raises DatabaseUnavailable, and ValidationFailed in production.
    """
    if context.settings.is_production:
        raise ValidationFailed("Production has no other past than its own")
    async with context.transaction(deadline_seconds=WRITE_SECONDS) as conn:
        known = await known_signals(conn, [each.signal.event_id for each in signals])
        fresh = list({each.signal.event_id: each for each in signals if each.signal.event_id not in known}.values())
        if fresh:
            rows = await with_passing_scores(conn, await _rows(conn, fresh))
            await insert_signals(conn, rows)
            await begin_before(conn, _first(rows))
    return Placed(len(fresh), len(signals) - len(fresh), {})


async def _rows(conn: Connection, fresh: Sequence[BackfilledSignal]) -> list[PublishedSignal]:
    sources = {each.signal.source: each.signal.source for each in fresh}
    cards = await find_or_make_providers(conn, sources)
    first = await take_feed_seq(conn, len(fresh))
    return [_row(each, cards[each.signal.source], first + index) for index, each in enumerate(fresh)]


def _first(rows: Sequence[PublishedSignal]) -> dict[UUID, datetime]:
    first: dict[UUID, datetime] = {}
    for row in rows:
        first[row.provider_id] = min(first.get(row.provider_id, row.created_at), row.created_at)
    return first


def _row(past: BackfilledSignal, provider: ProviderSummary, feed_seq: int) -> PublishedSignal:
    # Of the features only the price is public; the inputs of the score are in the score.
    features = Features(profile="trend_follow_v1", price=past.signal.entry_price, age_seconds=0.0)
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
