"""Retract signals: decide by time, number and the market's move, and give the retraction its place in the feed."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Final

from actors._runtime.context import ActorContext
from actors.lens.market._http import CallFailed
from actors.lens.market.quotes import RECEIPT, PricedInstrument, PriceSource
from actors.lens.market.source import open_prices
from actors.lens.messages import Retract, Retracted
from actors.lens.quote import VenueQuote
from config.clock import now, rfc3339
from db._postgres import Connection
from db.signals.document import retraction_document
from db.signals.retractions import (
    RetractableSignal,
    count_retractions,
    get_retractable,
    is_accepted,
    lock_retractable,
    store_retraction,
)
from db.signals.writes import take_feed_seq
from schemas.errors import AppError, Conflict, DeadlineExceeded, Forbidden, Internal, NotFound, Unavailable
from schemas.feed import FEED_CHANNEL, RETRACTION, FeedSignal, encode_batch

log = logging.getLogger(__name__)

WITHIN: Final = timedelta(seconds=10)  # of the signal's receipt
MOST: Final = 3
PERIOD: Final = timedelta(days=30)
LEAST_MOVE: Final = Decimal(2) / 10_000
"""The move of the mid that is always allowed. Beyond it half the receipt's spread is: what the retraction saves then is
less than what closing the position would cost."""

QUOTE_SECONDS: Final = 1.2
"""How long a quote of the request's time is waited for: longer than a source shares an answer, and within the 2 s in
which the whole request is answered."""
_ASK_AGAIN_SECONDS: Final = 0.1
_MOST_AT_ONCE: Final = 4  # look-ups in Postgres: the stage needs the pool's other connections
_LATE: Final = timedelta(seconds=10)  # of a request: track records count on retractions within a minute

TOO_LATE = f"A signal can be retracted within {WITHIN.seconds} s of its receipt"
TOO_MANY = f"A provider can retract {MOST} signals in {PERIOD.days} days"
UNPUBLISHED = "The signal is not published: only what is in the feed can be retracted"
UNQUOTED = "The signal has no quote of its receipt, so nothing tells whether the market has moved since"
NO_QUOTE = "The market's source has no quote of now, so nothing tells whether the market has moved"
MOVED = "The market has moved since the signal's receipt, by more than 2 bps and half the spread"


class Retractions:
    """Retract signals; part of `lens/publish`, the only writer of the feed's order.

    Success: the retraction is committed, with a `feed_seq` of its own. Repeating is harmless: it answers as the first
    time. Nothing is held in memory, and several shards may be asked at once: the database decides.
    """

    def __init__(self, context: ActorContext) -> None:
        self._context = context
        self._turns = asyncio.Semaphore(_MOST_AT_ONCE)

    @cached_property
    def _prices(self) -> PriceSource:
        return open_prices(self._context.settings, self._context.pool)

    async def close(self) -> None:
        """Close the sources of prices, if they were ever asked."""
        if "_prices" in vars(self):
            await self._prices.close()

    async def answer(self, asked: Retract) -> Retracted | AppError:
        """Retract a signal; an error is the answer to this request alone."""
        try:
            return await self.retract(asked)
        except AppError as error:
            return error
        except Exception:
            log.exception("the signal %s cannot be retracted", asked.signal_id)
            return Internal()

    async def retract(self, asked: Retract) -> Retracted:
        """Retract a signal. Raises NotFound, Forbidden, Conflict with the condition that fails, and Unavailable."""
        async with self._turns, self._context.connection() as conn:
            signal = await get_retractable(conn, asked.signal_id)
            if signal is None and await is_accepted(conn, asked.signal_id, str(asked.provider_id)):
                raise Conflict(UNPUBLISHED)
            signal = _own(signal, asked)
            if signal.retracted_at is not None:
                return Retracted(signal.id, signal.retracted_at)
            await _check(conn, signal, asked)
        _check_move(signal, await self._quote(signal, asked.asked_at))
        if now() - asked.asked_at > _LATE:
            raise DeadlineExceeded
        return await self._store(asked)

    async def _store(self, asked: Retract) -> Retracted:
        async with self._turns, self._context.transaction() as conn:
            signal = _own(await lock_retractable(conn, asked.signal_id, asked.provider_id), asked)
            if signal.retracted_at is not None:  # meanwhile, by another request
                return Retracted(signal.id, signal.retracted_at)
            await _check(conn, signal, asked)
            feed_seq = await take_feed_seq(conn, 1)
            await store_retraction(conn, feed_seq, signal, asked.asked_at, rfc3339(asked.asked_at))
        item = _item(signal, feed_seq, asked.asked_at)
        await self._context.redis.announce({FEED_CHANNEL: encode_batch([item])})
        return Retracted(signal.id, asked.asked_at)

    async def _quote(self, signal: RetractableSignal, asked_at: datetime) -> VenueQuote | None:
        """Return a quote of the request's time or later, else the last that the source gave; None: none, or too old.

        An answer that is shared, from before the request, does not say what whoever asks has seen since.
        """
        instrument = PricedInstrument.of(signal.symbol, signal.asset_type, signal.asset_data, signal.received_at)
        newest: VenueQuote | None = None
        try:
            async with asyncio.timeout(QUOTE_SECONDS):
                while newest is None or newest.at < asked_at:
                    newest = await self._prices.quote(instrument)
                    if newest is None:
                        return None
                    await asyncio.sleep(_ASK_AGAIN_SECONDS if newest.at < asked_at else 0)
        except (CallFailed, TimeoutError, Unavailable) as error:
            log.info("no newer quote for the retraction of signal %s: %r", signal.id, error)
        return newest if newest is not None and newest.at >= asked_at - RECEIPT.max_age else None


def _own(signal: RetractableSignal | None, asked: Retract) -> RetractableSignal:
    if signal is None:
        raise NotFound("Signal not found")
    if signal.provider_id != asked.provider_id:
        raise Forbidden("Only its own provider can retract a signal")
    return signal


async def _check(conn: Connection, signal: RetractableSignal, asked: Retract) -> None:
    if asked.asked_at - signal.received_at > WITHIN:
        raise Conflict(TOO_LATE)
    if await count_retractions(conn, signal.provider_id, asked.asked_at - PERIOD) >= MOST:
        raise Conflict(TOO_MANY)
    if signal.quote_mid is None:
        raise Conflict(UNQUOTED)


def _check_move(signal: RetractableSignal, quote: VenueQuote | None) -> None:
    """Check that the mid has moved by at most 2 bps, or half the receipt's spread. Raises Conflict."""
    if quote is None:
        raise Conflict(NO_QUOTE)
    bid, ask, mid = signal.quote_bid, signal.quote_ask, signal.quote_mid
    assert bid is not None
    assert ask is not None
    assert mid is not None
    if abs(quote.mid - mid) > max(mid * LEAST_MOVE, (ask - bid) / 2):
        raise Conflict(MOVED)


def _item(signal: RetractableSignal, feed_seq: int, retracted_at: datetime) -> FeedSignal:
    return FeedSignal(
        feed_seq,
        signal.asset_category,
        signal.asset_type,
        signal.score_to_pass,
        str(signal.provider_id),
        retraction_document(signal.id, signal.provider_id, retracted_at),
        RETRACTION,
    )
