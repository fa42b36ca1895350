"""SQL of the feed as the owner of the log reads it: signals and retractions in one order, with what leaves hold."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import orjson

from config.documents import Document
from db._postgres import Connection
from schemas._vocabulary import AssetType, EventType, OrderType, Side, WayIn


@dataclass(slots=True)  # not frozen: made for every signal
class FeedEntry:
    """A signal of the feed, or its retraction at `retracted_at`, which has a `feed_seq` of its own.

    `texts` is the SHA-256, in hexadecimal, of the salt (16 bytes), the reasoning, and, where there is a commentary, a
    zero byte and the commentary, both in UTF-8. `verdicts` are the SHA-256 of the models' decisions, in the order of
    the models' names; see `hash_of_decision`. The quote is whole, or None in all its parts.
    """

    feed_seq: int
    signal_id: UUID
    provider_id: UUID
    asset_type: AssetType
    instrument: str
    symbol: str
    asset_data: Document
    event_type: EventType
    direction: Side | None
    declared_price: Decimal | None  # Infinity or NaN in rows from before prices were checked
    is_ranked: bool
    received_at: datetime
    published_at: datetime
    score: int
    way_in: WayIn
    texts: str
    quote_bid: Decimal | None
    quote_ask: Decimal | None
    quote_mid: Decimal | None
    quote_at: datetime | None
    quote_source: str | None
    record_price: Decimal | None
    order_type: OrderType | None
    take_profit: tuple[Decimal, ...]
    stop_loss: Decimal | None
    liquidation_price: Decimal | None
    valid_until: datetime | None
    close_fraction: Decimal | None
    retracted_at: datetime | None = None
    verdicts: tuple[str, ...] = ()


_COLUMNS = r"""
    s.id, s.provider_id, s.asset_type, coalesce(s.instrument, s.symbol), s.symbol, s.asset_data, s.event_type,
    s.direction, s.entry_price, s.is_ranked, coalesce(s.received_at, s.created_at), s.created_at, s.score,
    coalesce(s.way_in, 'lens'),
    encode(sha256(
        uuid_send(s.text_salt) || convert_to(s.reasoning, 'UTF8')
        || coalesce('\x00'::bytea || convert_to(s.commentary, 'UTF8'), '')
    ), 'hex'),
    s.quote_bid, s.quote_ask, s.quote_mid, s.quote_at, s.quote_source, s.record_price, s.order_type,
    s.take_profit::text, s.stop_loss, s.liquidation_price, s.valid_until, s.close_fraction
"""
# One statement is one snapshot: what it shows of both tables has no gap below its last item.
READ_FEED = f"""
(
    SELECT s.feed_seq, {_COLUMNS}, NULL::timestamptz FROM signals s
    WHERE s.feed_seq > $1 ORDER BY s.feed_seq LIMIT $2
) UNION ALL (
    SELECT r.feed_seq, {_COLUMNS}, r.retracted_at FROM retractions r JOIN signals s ON s.id = r.signal_id
    WHERE r.feed_seq > $1 ORDER BY r.feed_seq LIMIT $2
)
ORDER BY 1 LIMIT $2
"""
_TAKE_PROFIT = FeedEntry.__match_args__.index("take_profit")


async def read_feed(conn: Connection, after_seq: int, limit: int) -> list[FeedEntry]:
    """Return the signals and retractions that follow `after_seq`, in order, at most `limit`.

    Complete up to the last one returned, as `db.signals.feed.fetch_after`.
    """
    found = []
    for row in await conn.fetch(READ_FEED, after_seq, limit):
        values = list(row)
        values[_TAKE_PROFIT] = _prices(values[_TAKE_PROFIT])
        found.append(FeedEntry(*values))
    verdicts = await read_verdicts(conn, [each.signal_id for each in found if each.retracted_at is None])
    for each in found:
        if each.retracted_at is None:
            each.verdicts = tuple(verdicts.get(each.signal_id, ()))
    return found


READ_VERDICTS = """
SELECT event_id, model, model_version, prompt_hash, decision, confidence, size_pct, entry_plan, risk_plan, reasons
FROM lens_decisions WHERE event_id = ANY ($1::uuid[]) ORDER BY event_id, model
"""


async def read_verdicts(conn: Connection, signal_ids: Sequence[UUID]) -> dict[UUID, list[str]]:
    """Return the hashes of the models' decisions on these signals, in the order of the models' names."""
    found: defaultdict[UUID, list[str]] = defaultdict(list)
    for row in await conn.fetch(READ_VERDICTS, signal_ids) if signal_ids else ():
        decision = dict(row)
        found[decision.pop("event_id")].append(hash_of_decision(decision))
    return found


def hash_of_decision(decision: Document) -> str:
    """Return the SHA-256, in hexadecimal, of a model's decision: of its JSON without spaces, its keys in order.

    The keys are `confidence, decision, entry_plan, model, model_version, prompt_hash, reasons, risk_plan, size_pct`.
    """
    return hashlib.sha256(orjson.dumps(decision, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _prices(text: str | None) -> tuple[Decimal, ...]:
    return () if text is None else tuple(map(Decimal, json.loads(text, parse_float=str, parse_int=str)))
