"""SQL of the signals that the next closes will close, including those that track records have not read yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from db._postgres import Connection
from db._rows import transposed
from db.providers.outcomes import PositionKey

MOST_UNREAD = 10_000
"""The most signals of one position key that track records have not read yet.

They are milliseconds behind; past this a close is compared with its own score alone.
"""


@dataclass(frozen=True, slots=True)
class Logged:
    """A signal that opens or closes a position, in the order of the feed."""

    opens: bool
    score: int


# Record and outcomes of a provider are written in one transaction, and this is one statement: so what the records have
# applied and what they have not adds up to the feed. The oldest is closed first.
LOGGED_OF = f"""
WITH wanted AS (
    SELECT w.*, coalesce(t.applied_seq, 0) AS applied_seq
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int[])
         AS w (provider_id, asset_type, symbol, direction, closes)
    LEFT JOIN provider_stats t ON t.provider_id = w.provider_id
), unread AS MATERIALIZED (
    SELECT w.provider_id, w.asset_type, w.symbol, w.direction, s.feed_seq,
           s.event_type = 'OPEN_SIGNAL' AS opens, s.score
    FROM wanted w CROSS JOIN LATERAL (
        SELECT s.feed_seq, s.event_type, s.score FROM signals s
        WHERE s.provider_id = w.provider_id AND s.feed_seq > w.applied_seq AND s.asset_type = w.asset_type
          AND coalesce(s.instrument, s.symbol) = w.symbol AND s.is_ranked AND s.direction = w.direction
          AND (s.entry_price > 0 OR (s.entry_price = 0 AND s.event_type = 'CLOSE_SIGNAL'))
          AND s.entry_price < 'Infinity' AND s.retracted_at IS NULL
        ORDER BY s.feed_seq LIMIT {MOST_UNREAD}
    ) s
), waiting AS (
    SELECT w.provider_id, w.asset_type, w.symbol, w.direction, o.opened_seq, true, s.score
    FROM wanted w CROSS JOIN LATERAL (
        SELECT o.signal_id, o.opened_seq FROM signal_outcomes o
        WHERE o.provider_id = w.provider_id AND o.asset_type = w.asset_type AND o.symbol = w.symbol
          AND o.direction = w.direction AND o.status = 'PENDING' AND o.open_part > 0
        ORDER BY o.opened_seq
        LIMIT w.closes + (
            SELECT count(*) FROM unread u WHERE NOT u.opens AND (u.provider_id, u.asset_type, u.symbol, u.direction)
                                                              = (w.provider_id, w.asset_type, w.symbol, w.direction))
    ) o JOIN signals s ON s.id = o.signal_id
)
SELECT * FROM waiting UNION ALL SELECT * FROM unread ORDER BY 5
"""


async def logged_of(conn: Connection, wanted: Mapping[PositionKey, int]) -> Mapping[PositionKey, list[Logged]]:
    """Return, per key, the signals that determine its next closes (as many as wanted), in the feed's order."""
    found: defaultdict[PositionKey, list[Logged]] = defaultdict(list)
    for row in await conn.fetch(LOGGED_OF, *transposed(wanted, 4), list(wanted.values())):
        found[row[0], row[1], row[2], row[3]].append(Logged(row[5], row[6]))
    return found
