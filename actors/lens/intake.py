"""Accept raw signals durably, each once per idempotency key, and retry or resolve dead letters: the enqueue stage."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from actors._runtime.context import ActorContext, Behaviour
from actors._runtime.messages import Envelope
from actors.lens._commits import LEASE_SECONDS
from actors.lens._fingerprint import fingerprint
from actors.lens._handover import HandOver
from actors.lens._results import entry
from actors.lens._retention import FORGET_EVERY_SECONDS, forget_old
from actors.lens._retries import UNKNOWN, Results, RetryOrder, retry
from actors.lens.messages import (
    ENRICH,
    Counts,
    Receipt,
    ResolveDeadLetter,
    ResolveDeadLetters,
    RetryDeadLetter,
    RetryDeadLetters,
    Retrying,
    Submit,
    Work,
)
from actors.lens.model import RawSignal
from config import clock, metrics
from config.ids import key_hash, time_of
from db._postgres import Connection
from db.lens import retries
from db.lens.dlq import count_open
from db.lens.intake import Accepted, NewEvent, expire_keys, find_keys, insert_events
from db.lens.stages import open_by_stage
from schemas._vocabulary import DeadLetterStage, values_of
from schemas.errors import AppError, IdempotencyMismatch, NotFound, ValidationFailed

MEASURE_EVERY_SECONDS = 5.0
EXPIRE_EVERY_SECONDS = 300.0
EXPIRE_AT_ONCE = 5_000  # keys deleted in one transaction: some 20 ms
WORKING_STAGES = ("ENRICH", "EVALUATE", "PUBLISH")
ALREADY_RESOLVED = "DLQ entry is already resolved"


class Intake(Behaviour):
    """Accept events. Owns the acceptance of raw signals, their idempotency keys, and operations on dead letters.

    Success: the event is committed as ENQUEUED, or as returned to the stage that gave it up, and will be worked on
    whatever crashes. A crash loses nothing that was answered. Repeating is harmless: the sender chose the event's id,
    and a retry or resolution is a command that is applied once.
    """

    async def start(self, context: ActorContext) -> None:
        """Begin to delete expired data."""
        await super().start(context)
        # One batch after another, so that two uses of one key never meet; the next batch grows meanwhile.
        self._turn = asyncio.Lock()
        self._hand_over = HandOver(context.peer(ENRICH))
        self._forgotten = UUID(int=0)  # the documents of events up to here were deleted
        if context.shard > 0:  # what concerns all shards is done by the first
            return
        context.every(MEASURE_EVERY_SECONDS, self._measure, name="measure the pipeline")
        context.every(EXPIRE_EVERY_SECONDS, self._expire, name="expire idempotency keys")
        context.every(FORGET_EVERY_SECONDS, self._forget, name="forget what is past its retention")

    async def stop(self) -> None:
        """Hand over the last accepted events."""
        self._hand_over.flush()

    async def _measure(self) -> None:
        async with self.context.connection() as conn:
            waiting = await open_by_stage(conn)
            dead = await count_open(conn)
        for stage in WORKING_STAGES:
            metrics.STAGE_DEPTH.labels(stage).set(waiting.get(stage, 0))
        for stage in values_of(DeadLetterStage):
            metrics.DEAD_LETTERS.labels(stage.upper()).set(dead.get(stage, 0))

    async def process(self, batch: Sequence[Envelope]) -> Sequence[Any]:
        """Store the batch, then hand the new events to the enrich stage."""
        async with self._turn:
            replies = await self.context.write(batch, self._apply)
        fresh = tuple(
            Work(RawSignal.of(envelope.message.facts), exact_price=envelope.message.entry_price)
            for envelope, reply in zip(batch, replies, strict=True)
            if isinstance(envelope.message, Submit) and isinstance(reply, Receipt) and not reply.replayed
        )
        if fresh:
            metrics.EVENTS_ACCEPTED.inc(len(fresh))
            self._hand_over.add(fresh)
        return replies

    async def _apply(self, conn: Connection, batch: Sequence[Envelope]) -> Sequence[Any]:
        messages = [envelope.message for envelope in batch]
        submitted = [each for each in messages if isinstance(each, Submit)]
        if len(submitted) == len(messages):
            return await self._accept(conn, submitted)
        retried = [each for each in messages if isinstance(each, RetryDeadLetter)]
        receipts = iter(await self._accept(conn, submitted))
        replies = iter(await self._retry(conn, [RetryOrder(each.id, each.payload) for each in retried]))
        answers: list[Any] = []
        for message in messages:
            if isinstance(message, Submit):
                answers.append(next(receipts))
            elif isinstance(message, RetryDeadLetter):
                answers.append(next(replies))
            elif isinstance(message, ResolveDeadLetter):
                answers.append(await _resolve(conn, message))
            elif isinstance(message, RetryDeadLetters):
                answers.append(await self._retry_many(conn, message))
            elif isinstance(message, ResolveDeadLetters):
                answers.append(await _resolve_many(conn, message))
        return answers

    async def _accept(self, conn: Connection, submitted: Sequence[Submit]) -> Sequence[Receipt | IdempotencyMismatch]:
        keys = [(each.source, each.idempotency_key) for each in submitted if each.idempotency_key is not None]
        known = await find_keys(conn, keys) if keys else {}
        enqueued_at = clock.now()
        replies: list[Receipt | IdempotencyMismatch] = []
        events: list[NewEvent] = []
        for each in submitted:
            event = _event(each, enqueued_at)
            if each.idempotency_key is not None and event.body_hash is not None:
                first = known.get((each.source, each.idempotency_key))
                if first is not None:
                    replies.append(_again(event, first))
                    continue
                known[each.source, each.idempotency_key] = Accepted(
                    each.source, each.idempotency_key, event.body_hash, event.event_id, event.received_at
                )
            events.append(event)
            replies.append(Receipt(event.event_id, "ENQUEUED", event.received_at, replayed=False))
        if events:
            await insert_events(conn, events, lease_seconds=LEASE_SECONDS)
        return replies

    async def _retry(self, conn: Connection, orders: Sequence[RetryOrder]) -> Sequence[Retrying | AppError]:
        return (await self._take_back(conn, orders, in_bulk=False)).replies if orders else []

    async def _retry_many(self, conn: Connection, message: RetryDeadLetters) -> Counts:
        matched, ids = await retries.match_dead_letters(conn, message.filters, message.most, under_way=False)
        if message.is_dry or not ids:
            return Counts(matched, 0, 0)
        pause = 0.0 if message.per_second is None else 1 / message.per_second
        orders = [RetryOrder(dead_letter_id, delay_seconds=index * pause) for index, dead_letter_id in enumerate(ids)]
        results = await self._take_back(conn, orders, in_bulk=True)
        return Counts(matched, results.begun, len(ids) - results.begun)

    async def _take_back(self, conn: Connection, orders: Sequence[RetryOrder], *, in_bulk: bool) -> Results:
        results = await retry(conn, orders, in_bulk=in_bulk)
        if results.accepted:
            enqueued_at = clock.now()
            await insert_events(conn, [_event(each, enqueued_at) for each, _ in results.accepted], lease_seconds=0)
            await retries.ungate(conn, {each.event_id: delay for each, delay in results.accepted})
        return results

    async def _expire(self) -> None:
        async with self.context.transaction() as conn:
            await expire_keys(conn, EXPIRE_AT_ONCE)

    async def _forget(self) -> None:
        self._forgotten = await forget_old(self.context, self._forgotten)


async def _resolve(conn: Connection, message: ResolveDeadLetter) -> datetime | AppError:
    resolved = await retries.resolve(conn, [message.id], message.resolution_note)
    if message.id in resolved:
        return resolved[message.id]
    return ValidationFailed(ALREADY_RESOLVED) if await retries.exists(conn, message.id) else NotFound(UNKNOWN)


async def _resolve_many(conn: Connection, message: ResolveDeadLetters) -> Counts:
    matched, ids = await retries.match_dead_letters(conn, message.filters, message.most, under_way=True)
    if message.is_dry or not ids:
        return Counts(matched, 0, 0)
    resolved = await retries.resolve(conn, ids, message.resolution_note)
    return Counts(matched, len(resolved), len(ids) - len(resolved))


def _again(event: NewEvent, first: Accepted) -> Receipt | IdempotencyMismatch:
    if first.body_hash != event.body_hash:
        return IdempotencyMismatch()
    # A batch delivered again meets its own key: that is the first answer, not a replay.
    return Receipt(first.event_id, "ENQUEUED", first.received_at, replayed=first.event_id != event.event_id)


def _event(submit: Submit, enqueued_at: datetime) -> NewEvent:
    received_at = time_of(submit.event_id)
    return NewEvent(
        **submit.facts,
        received_at=received_at,
        body_hash=fingerprint(submit) if submit.idempotency_key is not None else None,
        timeline=[entry("RECEIVED", received_at), entry("ENQUEUED", max(enqueued_at, received_at))],
        source_hash=key_hash(submit.source),
    )
