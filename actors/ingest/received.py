"""Parse one received message into a scored signal, or into the dead letter that it becomes. Pure."""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from actors.lens._results import StageFailure, cause
from actors.lens.messages import Scored
from config import clock
from config.documents import Document, Loaded
from config.ids import derived_uuid7, time_of, uuid7
from db.ingest import LostMessage
from schemas._json import is_plain, parse_object
from schemas._vocabulary import Broker, ReasonCode
from schemas.errors import ValidationFailed
from schemas.ingest import MESSAGE_BYTES, load_scored

log = logging.getLogger(__name__)


KEPT_BYTES = 1 << 20
"""The part kept of a message that is too large: all that Kafka lets through by default."""

_CLOCKS_DIFFER_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Received:
    """A message, at most KEPT_BYTES of it, and the id of the dead letter that it may become (a UUIDv7).

    `arrived_at` is a broker's time where that has one; `received_at` is always ours.
    """

    way: Broker
    data: bytes
    size_bytes: int
    dead_letter_id: UUID
    arrived_at: datetime
    received_at: datetime

    @classmethod
    def by_redis(cls, data: bytes) -> Received:
        """Make a message that is delivered once."""
        dead_letter_id = uuid7()
        at = time_of(dead_letter_id)
        return cls("redis", data[:KEPT_BYTES], len(data), dead_letter_id, at, at)

    @classmethod
    def by_kafka(cls, data: bytes, origin: str, milliseconds: int) -> Received:
        """Make a message that may be delivered again: the same `origin` and time give the same dead letter."""
        now_ms = int(clock.now().timestamp() * 1000)
        if not 0 < milliseconds <= now_ms + _CLOCKS_DIFFER_MS:  # the producer gave no time, or an impossible one
            milliseconds = now_ms
        dead_letter_id = derived_uuid7(milliseconds, origin.encode())
        now = clock.now()
        arrived_at = min(time_of(dead_letter_id), now)
        return cls("kafka", data[:KEPT_BYTES], len(data), dead_letter_id, arrived_at, now)


def read(message: Received) -> Scored | LostMessage:
    """Return the signal, or else its dead letter. Raises nothing for any message."""
    document: Loaded | None = None
    try:
        if message.size_bytes > MESSAGE_BYTES:
            raise ValidationFailed(f"Message has {message.size_bytes} bytes; {MESSAGE_BYTES} are allowed")
        document = parse_object(message.data, "Message")
        return as_scored(load_scored(document), message)
    except ValidationFailed as error:
        return lost(message, "VALIDATION_ERROR", describe(error), document)
    except Exception as error:  # an unforeseen error in one message must not block those behind it
        log.exception("a message of %s cannot be read", message.way)
        return lost(message, "INTERNAL_ERROR", f"{type(error).__name__}: {error}")


def as_scored(fields: Loaded, message: Received) -> Scored:
    """Return the signal of a message's loaded fields."""
    created_at = fields["created_at"] or message.arrived_at
    about = {"created_at": created_at, "received_at": message.received_at, "way_in": message.way}
    return Scored(**{**fields, **about})


def describe(error: ValidationFailed) -> str:
    """Describe what is wrong, each field by its name."""
    return "; ".join(f"{each.field}: {each.message}" for each in error.details) or error.message


def lost(
    message: Received, reason_code: ReasonCode, error_message: str, document: Document | None = None
) -> LostMessage:
    """Return the message's dead letter. The payload is the message as written where JSON and Postgres can hold it.

    Else it is `{"raw": text}` or, where it is not text, `{"raw_base64": …}`; with `bytes`, its length, if it is cut.
    """
    if document is not None and is_plain(document):
        payload = message.data.decode()
    else:
        payload = orjson.dumps(_raw(message)).decode()
    failure = cause(StageFailure(reason_code, error_message), clock.now())
    return LostMessage(message.dead_letter_id, message.way, payload, [failure], time_of(message.dead_letter_id))


def _raw(message: Received) -> Document:
    cut = {"bytes": message.size_bytes} if message.size_bytes > len(message.data) else {}
    try:
        text = message.data.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return {"raw_base64": base64.b64encode(message.data).decode(), **cut}
    return {"raw": text, **cut}
