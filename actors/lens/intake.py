"""The enqueue stage: durable acceptance of raw signals, each once per idempotency key."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from actors._behaviour import Behaviour, Room
from actors._messages import Delivery
from actors.lens._outcomes import entry
from actors.lens._stage import LEASE_SECONDS
from actors.lens.messages import ENRICH, Process, Receipt, Submit, Work
from actors.lens.model import RawSignal
from config import clock, metrics
from db._postgres import Connection
from db.lens.intake import Accepted, NewEvent, expire_keys, find_keys, insert_events
from schemas.errors import IdempotencyMismatch

EXPIRE_EVERY_SECONDS = 300.0
EXPIRE_AT_ONCE = 5_000  # keys deleted in one transaction: some 20 ms


class Intake(Behaviour):
    """Owns the acceptance of raw signals and their idempotency keys.

    Success: the event is committed as ENQUEUED and will be worked on whatever dies. A crash loses nothing that was
    answered. Repeating is harmless: the sender chose the event's id.
    """

    async def start(self, room: Room) -> None:
        """Begin to expire old idempotency keys."""
        await super().start(room)
        # One batch after another, so that two uses of one key never meet; the next batch grows meanwhile.
        self._turn = asyncio.Lock()
        room.every(EXPIRE_EVERY_SECONDS, self._expire, name="expire idempotency keys")

    async def process(self, batch: Sequence[Delivery]) -> Sequence[Any]:
        """Store the batch, then hand what is new to the enrich stage."""
        async with self._turn:
            replies = await self.room.write(batch, self._accept)
        fresh = tuple(
            Work(_raw(delivery.message))
            for delivery, reply in zip(batch, replies, strict=True)
            if isinstance(delivery.message, Submit) and isinstance(reply, Receipt) and not reply.replayed
        )
        if fresh:
            metrics.EVENTS_ACCEPTED.inc(len(fresh))
            self.room.mailbox(ENRICH, "").tell("", Process(fresh))
        return replies

    async def _accept(self, conn: Connection, batch: Sequence[Delivery]) -> Sequence[Any]:
        submitted = [delivery.message for delivery in batch if isinstance(delivery.message, Submit)]
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

    async def _expire(self) -> None:
        async with self.room.transaction() as conn:
            await expire_keys(conn, EXPIRE_AT_ONCE)


def _again(event: NewEvent, first: Accepted) -> Receipt | IdempotencyMismatch:
    if first.body_hash != event.body_hash:
        return IdempotencyMismatch()
    # A batch delivered again meets its own key: that is the first answer, not a replay.
    return Receipt(first.event_id, "ENQUEUED", first.received_at, replayed=first.event_id != event.event_id)


def _event(submit: Submit, enqueued_at: datetime) -> NewEvent:
    received_at = _time_of(submit.event_id)
    return NewEvent(
        event_id=submit.event_id,
        received_at=received_at,
        event_type=submit.event_type,
        signal_direction=submit.signal_direction,
        symbol=submit.symbol,
        entry_price=submit.entry_price,
        size=submit.size,
        liquidation_price=submit.liquidation_price,
        ts_utc=submit.ts_utc,
        source=submit.source,
        asset_type=submit.asset_type,
        asset_data=submit.asset_data,
        commentary=submit.commentary,
        idempotency_key=submit.idempotency_key,
        body_hash=_body_hash(submit) if submit.idempotency_key is not None else None,
        timeline=[entry("RECEIVED", received_at), entry("ENQUEUED", max(enqueued_at, received_at))],
    )


def _time_of(event_id: UUID) -> datetime:
    return datetime.fromtimestamp((event_id.int >> 80) / 1000, UTC)


def _body_hash(submit: Submit) -> bytes:
    body = replace(submit, event_id=UUID(int=0), idempotency_key=None)
    _, fields = body.__reduce__()
    text = orjson.dumps(fields, default=str, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=16).digest()


def _raw(submit: Submit) -> RawSignal:
    return RawSignal(
        event_id=submit.event_id,
        event_type=submit.event_type,
        symbol=submit.symbol,
        signal_direction=submit.signal_direction,
        entry_price=float(submit.entry_price),
        size=float(submit.size),
        ts_utc=submit.ts_utc,
        source=submit.source,
        liquidation_price=None if submit.liquidation_price is None else float(submit.liquidation_price),
        asset_type=submit.asset_type,
        asset_data=submit.asset_data,
        commentary=submit.commentary,
    )
