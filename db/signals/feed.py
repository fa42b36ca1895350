"""SQL of the public feed: what a gateway fetches of it, by its dense order."""

from __future__ import annotations

from db._postgres import Connection
from schemas.feed import FeedSignal

_COLUMNS = "feed_seq, asset_category, asset_type, coalesce(passing_score, score), provider_id::text, feed_data"

FETCH_AFTER = f"SELECT {_COLUMNS} FROM signals WHERE feed_seq > $1 ORDER BY feed_seq LIMIT $2"


async def fetch_after(conn: Connection, feed_seq: int, limit: int) -> list[FeedSignal]:
    """Return the signals that follow `feed_seq`, in order, at most `limit`; empty when there is nothing newer.

    Complete up to the last one returned: a `feed_seq` is assigned under a row lock that is held until the commit, so a
    visible one has all before it.
    """
    return [_item(row) for row in await conn.fetch(FETCH_AFTER, feed_seq, limit)]


FETCH_LATEST = f"SELECT {_COLUMNS} FROM signals ORDER BY feed_seq DESC LIMIT $1"


async def fetch_latest(conn: Connection, limit: int) -> list[FeedSignal]:
    """Return the newest signals, at most `limit`, in order."""
    return [_item(row) for row in reversed(await conn.fetch(FETCH_LATEST, limit))]


LAST_SEQ = "SELECT last_seq FROM feed_counter"


async def last_seq(conn: Connection) -> int:
    """Return the `feed_seq` of the newest signal; 0 before the first."""
    return int(await conn.fetchval(LAST_SEQ))


def _item(row: tuple[int, str, str, int, str, str] | object) -> FeedSignal:
    feed_seq, category, asset_type, score, provider_id, data = row  # type: ignore[misc]
    return FeedSignal(feed_seq, category, asset_type, score, provider_id, data.encode())
