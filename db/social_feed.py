"""SQL of the social feed: the signals of the providers that a user follows, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from uuid import UUID

from db._postgres import Connection
from db._totals import Totals
from db._where import WHERE, Condition, filtered
from db.signals.document import CREATED_JSON, PROVIDER_JSON, REACTIONS_JSON, TERMS_JSON_BUT_COMMENTARY, TODAY

GET_FOLLOWED = "SELECT array_agg(provider_id ORDER BY provider_id) FROM follows WHERE follower_id = $1"


async def get_followed(conn: Connection, user_id: UUID) -> list[UUID]:
    """Return the providers that a user follows, in the order of ids."""
    found: list[UUID] | None = await conn.fetchval(GET_FOLLOWED, user_id)
    return found or []


# The newest n signals are by those n providers whose newest ones are the newest, so one look at each provider's index
# entries tells whose signals to read. That takes the same time however many signals there are: a scan of the newest
# ones is unbounded where the followed providers are silent, and a sort of all their signals reads all of them.
LIST_FEED = f"""
WITH lately AS MATERIALIZED (
    SELECT f.provider_id
    FROM unnest($3::uuid[]) AS f (provider_id)
    CROSS JOIN LATERAL (
        SELECT s.created_at, s.id FROM signals s {WHERE} ORDER BY s.created_at DESC, s.id DESC LIMIT 1
    ) AS newest
    ORDER BY newest.created_at DESC, newest.id DESC
    LIMIT (SELECT $1::bigint + $2::bigint)
), page AS MATERIALIZED (
    SELECT * FROM (
        SELECT each.created_at, each.id
        FROM lately AS f
        CROSS JOIN LATERAL (
            SELECT s.created_at, s.id FROM signals s {WHERE}
            ORDER BY s.created_at DESC, s.id DESC LIMIT (SELECT $1::bigint + $2::bigint)
        ) AS each
        ORDER BY each.created_at DESC, each.id DESC LIMIT (SELECT $1::bigint) OFFSET (SELECT $2::bigint)
    ) AS whole LIMIT 100
)
SELECT '{{"signal_id":"' || s.id || '","provider":' || {PROVIDER_JSON}
    || ',"symbol":' || to_json(s.symbol) || ',"action":"' || upper(s.action)
    || '","opportunity_score":' || s.score || ',"commentary":' || coalesce(to_json(s.commentary)::text, 'null')
    || ',"reactions":' || {REACTIONS_JSON} || ',"comment_count":' || coalesce(c.comments, 0)
    || {CREATED_JSON} || {TERMS_JSON_BUT_COMMENTARY} || '}}'
FROM page JOIN signals s USING (id) {TODAY}
ORDER BY page.created_at DESC, page.id DESC
"""


async def list_feed(
    conn: Connection, followed: Sequence[UUID], action: str | None, *, limit: int, offset: int = 0
) -> bytes:
    """Return the JSON array of the signals of these providers, newest first, as `GET /api/social/feed` shows them."""
    statement, values = filtered(LIST_FEED, [("s.provider_id = f.provider_id", None), *_of_action(action)], first=4)
    rows = await conn.fetch(statement, limit, offset, followed, *values)
    return f"[{','.join([row[0] for row in rows])}]".encode()


async def count_feed(conn: Connection, totals: Totals, followed: Sequence[UUID], action: str | None) -> int:
    """Return how many signals these providers, in the order of ids, have published."""
    digest = blake2b(b"".join([each.bytes for each in followed]), digest_size=16).digest()
    conditions = [("s.provider_id = ANY ({})", followed), *_of_action(action)]
    return await totals.count_dense(conn, "signals s", "feed_seq", conditions, key=(digest, action))


def _of_action(action: str | None) -> list[Condition]:
    return [] if action is None else [("s.action = {}", action)]
