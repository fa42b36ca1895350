"""The feed's messages from the publish stage to the gateways: encoded once, shared by all readers, not decoded again.

A Redis message holds one batch: a JSON line of headers, then the encoded bodies one after another. On the public feed
`feed_seq` is dense: a gap means a lost message, which is fetched from Postgres.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from config.values import Value

FEED_CHANNEL = "tradestream:feed"
DECISIONS_CHANNEL = "tradestream:decisions"
LOG_CHANNEL = "tradestream:log"
"""Announces, without content, that the log of records has grown."""


SIGNAL: Final = "signal"
RETRACTION: Final = "retraction"


class FeedSignal(Value):
    """A published signal for the fan-out: its position in the feed, the fields that filters read, and its JSON.

    Or its retraction (`event`), which has a position and a JSON of its own, and passes the filters of its signal.
    `score` is compared with `min_score`: of a close, it is the score of the signal that it closes if that is higher.
    """

    feed_seq: int
    asset_category: str
    asset_type: str
    score: int
    provider_id: str
    data: bytes
    event: str = SIGNAL


class FeedDecision(Value):
    """A model's published decision: the fields that filters read, and the JSON of the whole `decision` message."""

    model: str
    symbol: str
    event_type: str
    data: bytes


def encode_batch(items: Sequence[FeedSignal]) -> bytes:
    """Encode a batch of published signals as a Redis message."""
    headers = [
        (i.feed_seq, i.asset_category, i.asset_type, i.score, i.provider_id, i.event, len(i.data)) for i in items
    ]
    return _join(headers, [item.data for item in items])


def decode_batch(message: bytes) -> list[FeedSignal]:
    """Decode the signals of a Redis message. Raises ValueError for anything that `encode_batch` did not make."""
    found = []
    for *fields, event, data in _split(message, (int, str, str, int, str, str)):
        seq, category, asset_type, score, provider_id = fields
        found.append(FeedSignal(seq, category, asset_type, score, provider_id, data, event))
    return found


def encode_decisions(items: Sequence[FeedDecision]) -> bytes:
    """Encode a batch of published decisions as a Redis message; `data` is the document's `{"type":"decision", …}`."""
    return _join([(i.model, i.symbol, i.event_type, len(i.data)) for i in items], [item.data for item in items])


def decode_decisions(message: bytes) -> list[FeedDecision]:
    """Decode the decisions of a Redis message. Raises ValueError for anything that `encode_decisions` did not make."""
    return [FeedDecision(*values) for values in _split(message, (str, str, str))]


def _join(headers: Sequence[tuple[object, ...]], bodies: Sequence[bytes]) -> bytes:
    return b"\n".join((orjson.dumps(headers), b"".join(bodies)))


def _split(message: bytes, kinds: tuple[type, ...]) -> Iterator[list[Any]]:
    # Each header is fields of these kinds and the length of the body, which is yielded in the length's place.
    head, separator, body = message.partition(b"\n")
    if not separator:
        raise ValueError("not a feed message")
    start = 0
    try:
        for *fields, size in orjson.loads(head):
            if tuple(map(type, fields)) != kinds or type(size) is not int or size < 0:
                raise ValueError("not a feed message")
            yield [*fields, body[start : start + size]]
            start += size
    except (TypeError, ValueError) as error:
        raise ValueError("not a feed message") from error
    if start != len(body):
        raise ValueError("a feed message of another length than its headers say")
