"""SQL of the public feed: what a gateway fetches of it, signals and retractions in its dense order."""

from __future__ import annotations

from db._postgres import Connection, Record
from db.signals.document import retraction_document
from schemas.feed import RETRACTION, FeedSignal

_COLUMNS = "s.asset_category, s.asset_type, coalesce(s.passing_score, s.score), s.provider_id::text"
_SIGNALS = f"SELECT s.feed_seq, {_COLUMNS}, s.feed_data, NULL::uuid, NULL::timestamptz FROM signals s"
_RETRACTIONS = f"""
SELECT r.feed_seq, {_COLUMNS}, NULL, r.signal_id, r.retracted_at FROM retractions r JOIN signals s ON s.id = r.signal_id
"""

# One statement is one snapshot: what it shows of both tables has no gap below its last item.
FETCH_AFTER = f"""
({_SIGNALS} WHERE s.feed_seq > $1 ORDER BY s.feed_seq LIMIT $2)
UNION ALL ({_RETRACTIONS} WHERE r.feed_seq > $1 ORDER BY r.feed_seq LIMIT $2)
ORDER BY 1 LIMIT $2
"""


async def fetch_after(conn: Connection, feed_seq: int, limit: int) -> list[FeedSignal]:
    """Return the signals and retractions that follow `feed_seq`, in order, at most `limit`; empty at the end.

    Complete up to the last one returned: a `feed_seq` is assigned under a row lock that is held until the commit, so a
    visible one has all before it.
    """
    return [_item(row) for row in await conn.fetch(FETCH_AFTER, feed_seq, limit)]


FETCH_LATEST = f"""
({_SIGNALS} ORDER BY s.feed_seq DESC LIMIT $1) UNION ALL ({_RETRACTIONS} ORDER BY r.feed_seq DESC LIMIT $1)
ORDER BY 1 DESC LIMIT $1
"""


async def fetch_latest(conn: Connection, limit: int) -> list[FeedSignal]:
    """Return the newest signals and retractions, at most `limit`, in order."""
    return [_item(row) for row in reversed(await conn.fetch(FETCH_LATEST, limit))]


LAST_SEQ = "SELECT last_seq FROM feed_counter"


async def last_seq(conn: Connection) -> int:
    """Return the newest `feed_seq`; 0 before the first."""
    return int(await conn.fetchval(LAST_SEQ))


def _item(row: Record) -> FeedSignal:
    seq, category, asset_type, score, provider_id, data, signal_id, retracted_at = row
    if signal_id is None:
        return FeedSignal(seq, category, asset_type, score, provider_id, data.encode())
    document = retraction_document(signal_id, provider_id, retracted_at)
    return FeedSignal(seq, category, asset_type, score, provider_id, document, RETRACTION)
