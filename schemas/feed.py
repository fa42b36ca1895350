"""The public feed on the wire between the publish stage and the gateways: one encoded signal, shared by every reader.

A Redis message holds one batch: a JSON line of headers, then the signals' encoded data one after another, so that a
gateway slices bytes and never decodes a signal. `feed_seq` is dense: a hole means a lost message, fetched from Postgres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

FEED_CHANNEL = "tradestream:feed"
DECISIONS_CHANNEL = "tradestream:decisions"


@dataclass(frozen=True, slots=True)
class FeedItem:
    """A published signal as the fan-out needs it: its place, what filters look at, and its JSON."""

    feed_seq: int
    asset_category: str
    asset_type: str
    score: int
    provider_id: str
    data: bytes


def encode_batch(items: Sequence[FeedItem]) -> bytes:
    """The Redis message for a batch of published signals."""
    headers = [(i.feed_seq, i.asset_category, i.asset_type, i.score, i.provider_id, len(i.data)) for i in items]
    return b"\n".join((orjson.dumps(headers), b"".join(item.data for item in items)))


def decode_batch(message: bytes) -> list[FeedItem]:
    """The signals of a Redis message. Raises ValueError for anything that `encode_batch` did not make."""
    head, separator, body = message.partition(b"\n")
    if not separator:
        raise ValueError("not a feed message")
    items: list[FeedItem] = []
    start = 0
    try:
        for feed_seq, category, asset_type, score, provider_id, size in orjson.loads(head):
            items.append(FeedItem(feed_seq, category, asset_type, score, provider_id, body[start : start + size]))
            start += size
    except (TypeError, ValueError) as error:
        raise ValueError("not a feed message") from error
    if start != len(body):
        raise ValueError("a feed message of another length than its headers say")
    return items
