"""Make messages durable: signals through `lens/publish`, everything else in the dead-letter queue."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from actors._runtime.context import ActorContext
from actors.ingest.received import Received, lost, read
from actors.lens._results import StageFailure, cause
from actors.lens.market.receipt import quotes_at_receipt
from actors.lens.market.source import PricesByType
from actors.lens.messages import PUBLISH, Placed, PublishScored, Scored
from actors.lens.scored import declared, quoted
from config import clock, metrics
from config.backoff import Backoff
from config.bisection import bisect_failures
from db.ingest import LostMessage, Resent, find_resent, finish_resent, keep_messages
from schemas._vocabulary import Broker
from schemas.errors import Fenced, Unavailable

log = logging.getLogger(__name__)

MOST_MESSAGES = 500  # in one transaction: some 50 ms of Postgres's time
MOST_BYTES = 1 << 20
PUBLISH_SECONDS = 8.0  # longer than the owner's own deadline: giving up earlier would only repeat its work
RETRY_SECONDS = (0.1, 5.0)

_NOT_AT_FAULT = (Unavailable, Fenced)  # errors that any message would meet now


@dataclass(frozen=True, slots=True)
class _Item:
    message: Received
    outcome: Scored | LostMessage


@dataclass(slots=True)
class _Verdict:
    """The outcome of publishing signals: counts, and the errors of those that cannot be stored, by their index."""

    published: int = 0
    known: int = 0
    refused: dict[int, StageFailure] = field(default_factory=dict)


class Acceptance:
    """Make messages durable. `accept` retries until it is done; every repetition is harmless."""

    def __init__(self, context: ActorContext, prices: PricesByType) -> None:
        self._context = context
        self._prices = prices
        self._limit = MOST_MESSAGES  # lower for a while after a batch that was not answered in time

    async def accept(self, messages: Sequence[Received]) -> None:
        """Return once all are published or dead letters. Waits while Postgres or `lens/publish` is unavailable.

        Before, it waits up to 2 s for the quotes of their receipt, of all of them at once.
        """
        waiting = deque(await self._with_quotes([_Item(each, read(each)) for each in messages]))
        backoff = Backoff(*RETRY_SECONDS)
        while waiting:
            chunk = self._take(waiting)
            try:
                await self._accept_once(chunk)
            except Unavailable as error:
                log.warning("%d messages wait: %s", len(chunk) + len(waiting), error)
                waiting.extendleft(reversed(chunk))
                self._limit = max(self._limit // 2, 1)
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()
                self._limit = min(self._limit * 2, MOST_MESSAGES)

    async def resend(self) -> int:
        """Accept messages retried from the dead-letter queue; return how many. Raises Unavailable."""
        async with self._context.connection() as conn:
            rows = await find_resent(conn, MOST_MESSAGES)
        if not rows:
            return 0
        outcomes = [read(_again(row)) for row in rows]
        signals = [(index, each) for index, each in enumerate(outcomes) if isinstance(each, Scored)]
        verdict = await self._publish([each for _, each in signals])
        failures = {index: each.attempts[0] for index, each in enumerate(outcomes) if isinstance(each, LostMessage)}
        for index, failure in verdict.refused.items():
            failures[signals[index][0]] = cause(failure, clock.now())
        finished = [
            (row, orjson.dumps(failures[index]).decode() if index in failures else None)
            for index, row in enumerate(rows)
        ]
        async with self._context.transaction() as conn:
            await finish_resent(conn, finished)
        for way in {row.way for row in rows}:
            count = sum(row.way == way and failure is None for row, failure in finished)
            metrics.INGEST_MESSAGES.labels(way, "resent").inc(count)
        return len(rows)

    async def _with_quotes(self, items: Sequence[_Item]) -> Sequence[_Item]:
        scored = [(place, each.outcome) for place, each in enumerate(items) if isinstance(each.outcome, Scored)]
        declarations = [declared(signal, items[place].message.received_at) for place, signal in scored]
        quotes = await quotes_at_receipt(self._prices, declarations)
        found = list(items)
        for (place, signal), declaration, quote in zip(scored, declarations, quotes, strict=True):
            if quote is not None:
                found[place] = _Item(items[place].message, quoted(signal, quote, declaration.instrument))
        return found

    def _take(self, waiting: deque[_Item]) -> list[_Item]:
        chunk: list[_Item] = []
        size = 0
        while waiting and len(chunk) < self._limit:
            size += len(waiting[0].message.data)
            if chunk and size > MOST_BYTES:
                break
            chunk.append(waiting.popleft())
        return chunk

    async def _accept_once(self, chunk: Sequence[_Item]) -> None:
        # The dead letters first: a batch that is repeated after its signals were published would count them as known.
        dead_letters = [each.outcome for each in chunk if isinstance(each.outcome, LostMessage)]
        scored = [(each.message, each.outcome) for each in chunk if isinstance(each.outcome, Scored)]
        await self._keep(dead_letters)
        verdict = await self._publish([signal for _, signal in scored])
        refused = [(scored[index][0], failure) for index, failure in verdict.refused.items()]
        await self._keep([lost(message, each.reason_code, each.message) for message, each in refused])
        way = chunk[0].message.way
        for result, count in (
            ("published", verdict.published),
            ("known", verdict.known),
            ("invalid", len(dead_letters)),
            ("refused", len(refused)),
        ):
            if count:
                metrics.INGEST_MESSAGES.labels(way, result).inc(count)

    async def _publish(self, signals: Sequence[Scored]) -> _Verdict:
        """Publish a batch; one that `lens/publish` fails on is sent in halves, down to the signals at fault."""
        verdict = _Verdict()

        async def publish(part: Sequence[tuple[int, Scored]]) -> None:
            placed: Placed = await self._context.ref(PUBLISH, "").ask(
                "", PublishScored(tuple(signal for _, signal in part)), deadline_seconds=PUBLISH_SECONDS
            )
            verdict.published += placed.published
            verdict.known += placed.known
            for index, reason in placed.refused.items():
                verdict.refused[part[index][0]] = StageFailure("PUBLISH_ERROR", reason)

        for (index, _), error in await bisect_failures(list(enumerate(signals)), publish, passing=_NOT_AT_FAULT):
            verdict.refused[index] = StageFailure("INTERNAL_ERROR", str(error))
        return verdict

    async def _keep(self, dead_letters: Sequence[LostMessage]) -> None:
        async def keep(part: Sequence[LostMessage]) -> None:
            async with self._context.transaction() as conn:
                await keep_messages(conn, part)

        for message, error in await bisect_failures(dead_letters, keep, passing=_NOT_AT_FAULT):
            # No known error leads here: the payload was checked. It must not block the messages behind it.
            log.error("a message of %s can neither be published nor kept", message.way, exc_info=error)
            metrics.INGEST_MESSAGES.labels(message.way, "lost").inc()


def _again(row: Resent) -> Received:
    data = row.payload.encode()
    # Its size was checked when it arrived, and Postgres writes JSON with more spaces.
    way: Broker = "kafka" if row.way == "kafka" else "redis"
    return Received(way, data, 0, row.id, row.created_at, row.created_at)
