"""What the publish stage sends to the gateways: encoded once, sliced and shared by every reader, never decoded again.

A Redis message holds one batch: a JSON line of headers, then the encoded bodies one after another. On the public feed
`feed_seq` is dense: a hole means a lost message, fetched from Postgres.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from config.values import Value

FEED_CHANNEL = "tradestream:feed"
DECISIONS_CHANNEL = "tradestream:decisions"


class FeedItem(Value):
    """A published signal as the fan-out needs it: its place, what filters look at, and its JSON.

    `score` is what `min_score` is compared with: of a close, that of the signal which it closes if that is higher.
    """

    feed_seq: int
    asset_category: str
    asset_type: str
    score: int
    provider_id: str
    data: bytes


class DecisionItem(Value):
    """A model's published decision: what filters look at, and the JSON of the whole `decision` message."""

    model: str
    symbol: str
    event_type: str
    data: bytes


def encode_batch(items: Sequence[FeedItem]) -> bytes:
    """The Redis message for a batch of published signals."""
    headers = [(i.feed_seq, i.asset_category, i.asset_type, i.score, i.provider_id, len(i.data)) for i in items]
    return _join(headers, [item.data for item in items])


def decode_batch(message: bytes) -> list[FeedItem]:
    """The signals of a Redis message. Raises ValueError for anything that `encode_batch` did not make."""
    return [FeedItem(*values) for values in _split(message, (int, str, str, int, str))]


def encode_decisions(items: Sequence[DecisionItem]) -> bytes:
    """The Redis message for a batch of published decisions; `data` is the document's `{"type":"decision", …}`."""
    return _join([(i.model, i.symbol, i.event_type, len(i.data)) for i in items], [item.data for item in items])


def decode_decisions(message: bytes) -> list[DecisionItem]:
    """The decisions of a Redis message. Raises ValueError for anything that `encode_decisions` did not make."""
    return [DecisionItem(*values) for values in _split(message, (str, str, str))]


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
