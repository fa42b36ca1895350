"""SQL of retractions: what decides on one, and its place in the feed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from config.documents import Document
from db._postgres import Connection
from db._rows import row_of
from schemas._vocabulary import AssetType


@dataclass(frozen=True, slots=True)
class RetractableSignal:
    """A published signal as its retraction needs it: the quote of its receipt, and how a stream filters it."""

    id: UUID
    provider_id: UUID
    symbol: str
    asset_type: AssetType
    asset_category: str
    asset_data: Document
    score_to_pass: int
    received_at: datetime
    retracted_at: datetime | None
    quote_bid: Decimal | None
    quote_ask: Decimal | None
    quote_mid: Decimal | None


GET_RETRACTABLE = """
SELECT s.id, s.provider_id, s.symbol, s.asset_type, s.asset_category, s.asset_data, coalesce(s.passing_score, s.score),
       coalesce(s.received_at, s.created_at), s.retracted_at, s.quote_bid, s.quote_ask, s.quote_mid
FROM signals s WHERE s.id = $1
"""
# The provider's row makes its retractions follow one another, in whatever shard: each sees those before it. A signal
# that refers to the provider takes a weaker lock, and waits for none.
LOCK_PROVIDER = "SELECT FROM providers WHERE user_id = $1 FOR NO KEY UPDATE"


async def get_retractable(conn: Connection, signal_id: UUID) -> RetractableSignal | None:
    """Return the published signal of this id, or None."""
    return row_of(RetractableSignal, await conn.fetchrow(GET_RETRACTABLE, signal_id))


async def lock_retractable(conn: Connection, signal_id: UUID, provider_id: UUID) -> RetractableSignal | None:
    """Return the signal of this id once every other retraction of its provider is over, until the transaction ends."""
    await conn.execute(LOCK_PROVIDER, provider_id)
    return await get_retractable(conn, signal_id)


IS_ACCEPTED = "SELECT EXISTS (SELECT FROM lens_events WHERE event_id = $1 AND source = $2)"


async def is_accepted(conn: Connection, signal_id: UUID, source: str) -> bool:
    """Return whether a raw signal of this id was accepted from `source`, published or not."""
    found: bool = await conn.fetchval(IS_ACCEPTED, signal_id, source)
    return found


COUNT_RETRACTIONS = "SELECT count(*) FROM retractions WHERE provider_id = $1 AND retracted_at > $2"


async def count_retractions(conn: Connection, provider_id: UUID, since: datetime) -> int:
    """Return how many signals a provider has retracted since a time."""
    return int(await conn.fetchval(COUNT_RETRACTIONS, provider_id, since))


# The document that replays send of the signal says so, too. No text in it can look like that key: see `document`.
STORE_RETRACTION = """
WITH stored AS (
    INSERT INTO retractions (feed_seq, signal_id, provider_id, retracted_at) VALUES ($1, $2, $3, $4)
)
UPDATE signals
SET retracted_at = $4, feed_data = replace(feed_data, ',"retracted_at":null', ',"retracted_at":"' || $5 || '"')
WHERE id = $2
"""


async def store_retraction(
    conn: Connection, feed_seq: int, signal: RetractableSignal, retracted_at: datetime, shown_at: str
) -> None:
    """Store a retraction at its place in the feed; `shown_at` is its time as documents write it."""
    await conn.execute(STORE_RETRACTION, feed_seq, signal.id, signal.provider_id, retracted_at, shown_at)
