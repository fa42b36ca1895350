"""SQL of publishing signals: the feed's dense order, and the providers they are attributed to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from config.values import Value
from db._json import json_texts
from db._postgres import Connection
from db.providers.outcomes import Place


class ProviderCard(Value):
    """The card of a provider in a signal."""

    user_id: UUID
    display_name: str
    avatar_url: str | None
    win_rate: float | None
    follower_count: int
    verification_level: str


ENSURE_SYSTEM_PROVIDERS = """
INSERT INTO providers (user_id, display_name, is_system)
SELECT user_id, display_name, true FROM unnest($1::uuid[], $2::text[]) AS u (user_id, display_name)
ON CONFLICT (user_id) DO NOTHING
"""


async def ensure_system_providers(conn: Connection, named: dict[UUID, str]) -> None:
    """Insert the system providers (id → name) that do not exist yet."""
    # In one order, so that two transactions that insert the same ones do not deadlock.
    ids = sorted(named)
    await conn.execute(ENSURE_SYSTEM_PROVIDERS, ids, [named[each] for each in ids])


GET_PROVIDERS = """
SELECT p.user_id, p.display_name, p.avatar_url, s.win_rate, coalesce(s.follower_count, 0),
       coalesce(s.verification_level, 'none')
FROM providers p LEFT JOIN provider_stats s ON s.provider_id = p.user_id
WHERE p.user_id = ANY ($1::uuid[])
"""


async def get_providers(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, ProviderCard]:
    """Return the providers among `ids`."""
    return {row[0]: ProviderCard(*row) for row in await conn.fetch(GET_PROVIDERS, ids)}


KNOWN_SIGNALS = "SELECT id FROM signals WHERE id = ANY ($1::uuid[])"


async def known_signals(conn: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Return those of `ids` that are published."""
    return {row[0] for row in await conn.fetch(KNOWN_SIGNALS, ids)}


# The row lock on the counter makes the order of feed_seq the order of commits: a reader that sees n sees n - 1.
TAKE_FEED_SEQ = "UPDATE feed_counter SET last_seq = last_seq + $1 RETURNING last_seq"


async def take_feed_seq(conn: Connection, count: int) -> int:
    """Reserve `count` numbers of the feed's order until the transaction ends; return the first of them."""
    last: int = await conn.fetchval(TAKE_FEED_SEQ, count)
    return last - count + 1


class NewSignal(Value):
    """A signal at its publication."""

    id: UUID
    feed_seq: int
    provider_id: UUID
    asset_type: str
    asset_category: str
    symbol: str
    action: str
    event_type: str
    direction: str | None
    entry_price: Decimal | None
    size: Decimal | None
    score: int
    tier: str
    confidence: float | None
    factors: dict[str, Any] | None
    strategy_breakdown: list[dict[str, Any]] | None
    market_context: dict[str, Any] | None
    reasoning: str
    commentary: str | None
    asset_data: dict[str, Any]
    feed_data: str
    created_at: datetime
    received_at: datetime | None = None
    instrument: str | None = None  # what the symbol stands for; None: itself
    is_ranked: bool = True  # whether it opens or closes a position of its provider
    passing_score: int | None = None  # what a stream's min_score is compared with; None: `score`

    @property
    def place(self) -> Place | None:
        """Return the key of the position that the signal opens or closes; None: it does neither."""
        if self.direction is None or not self.is_ranked:
            return None
        return self.provider_id, self.asset_type, self.instrument or self.symbol, self.direction

    @property
    def score_to_pass(self) -> int:
        """Return what a stream's `min_score` is compared with."""
        return self.score if self.passing_score is None else self.passing_score


INSERT_SIGNALS = """
INSERT INTO signals (id, feed_seq, provider_id, asset_type, asset_category, symbol, action, event_type, direction,
                     entry_price, size, score, tier, confidence, factors, strategy_breakdown, market_context, reasoning,
                     commentary, asset_data, feed_data, created_at, received_at, passing_score, instrument, is_ranked)
SELECT s.id, s.feed_seq, s.provider_id, s.asset_type, s.asset_category, s.symbol, s.action, s.event_type, s.direction,
       coalesce(s.entry_price, e.entry_price), coalesce(s.size, e.size), s.score, s.tier, s.confidence, s.factors,
       s.strategy_breakdown::jsonb, s.market_context, s.reasoning, s.commentary, s.asset_data, s.feed_data,
       s.created_at, s.received_at, s.passing_score, s.instrument, s.is_ranked
FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::numeric[], $11::numeric[], $12::smallint[], $13::text[], $14::float8[],
            $15::jsonb[], $16::text[], $17::jsonb[], $18::text[], $19::text[], $20::jsonb[], $21::text[],
            $22::timestamptz[], $23::timestamptz[], $24::smallint[], $25::text[], $26::bool[])
     AS s (id, feed_seq, provider_id, asset_type, asset_category, symbol, action, event_type, direction, entry_price,
           size, score, tier, confidence, factors, strategy_breakdown, market_context, reasoning, commentary,
           asset_data, feed_data, created_at, received_at, passing_score, instrument, is_ranked)
LEFT JOIN lens_events e ON e.event_id = s.id
"""


async def insert_signals(conn: Connection, rows: Sequence[NewSignal]) -> None:
    """Store published signals; a Lens signal's prices are None here: the exact ones are its event's."""
    await conn.execute(
        INSERT_SIGNALS,
        [r.id for r in rows],
        [r.feed_seq for r in rows],
        [r.provider_id for r in rows],
        [r.asset_type for r in rows],
        [r.asset_category for r in rows],
        [r.symbol for r in rows],
        [r.action for r in rows],
        [r.event_type for r in rows],
        [r.direction for r in rows],
        [r.entry_price for r in rows],
        [r.size for r in rows],
        [r.score for r in rows],
        [r.tier for r in rows],
        [r.confidence for r in rows],
        [r.factors for r in rows],
        json_texts(r.strategy_breakdown for r in rows),
        [r.market_context for r in rows],
        [r.reasoning for r in rows],
        [r.commentary for r in rows],
        [r.asset_data for r in rows],
        [r.feed_data for r in rows],
        [r.created_at for r in rows],
        [r.received_at for r in rows],
        [r.passing_score for r in rows],
        [r.instrument for r in rows],
        [r.is_ranked for r in rows],
    )
