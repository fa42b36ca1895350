"""SQL of publishing signals: the feed's dense order, and the providers they are attributed to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from config.documents import Document
from config.values import Value, replace
from db._orders import OrderTerms
from db._postgres import Connection
from db._rows import columns, insert, rows_of
from db.providers.outcomes import PositionKey
from schemas._vocabulary import AssetType, OrderType, WayIn

Figures = dict[str, int | float | None]


class ProviderSummary(Value):
    """A provider's facts, as a signal shows them."""

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
    await conn.execute(ENSURE_SYSTEM_PROVIDERS, *zip(*sorted(named.items()), strict=True))


GET_PROVIDERS = """
SELECT p.user_id, p.display_name, p.avatar_url, s.win_rate, coalesce(s.follower_count, 0),
       coalesce(s.verification_level, 'none')
FROM providers p LEFT JOIN provider_stats s ON s.provider_id = p.user_id
WHERE p.user_id = ANY ($1::uuid[])
"""


async def get_providers(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, ProviderSummary]:
    """Return the providers among `ids`."""
    return {each.user_id: each for each in rows_of(ProviderSummary, await conn.fetch(GET_PROVIDERS, ids))}


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


class Publication(Value):
    """A signal that is to be published; its prices are None where they, and its terms, are those of its event."""

    id: UUID
    asset_type: AssetType
    symbol: str
    action: str
    event_type: str
    direction: str | None
    entry_price: Decimal | None
    size: Decimal | None
    score: int
    tier: str
    confidence: float | None
    factors: dict[str, Figures] | None
    strategy_breakdown: list[Document] | None
    market_context: Figures | None
    reasoning: str
    commentary: str | None
    asset_data: Document
    created_at: datetime
    received_at: datetime
    order_type: OrderType | None  # from here on as in `db._orders.OrderTerms`
    take_profit: list[Decimal] | None
    stop_loss: Decimal | None
    liquidation_price: Decimal | None
    valid_until: datetime | None
    close_fraction: Decimal | None


class PublishedSignal(Publication):
    """A signal with its `feed_seq`, its provider, and the document that is sent of it.

    The quote is the market's at its receipt, and `record_price` what counts for its record; all None: there was none.
    """

    feed_seq: int
    provider_id: UUID
    asset_category: str
    feed_data: str
    way_in: WayIn
    instrument: str | None = None  # what the symbol stands for; None: itself
    is_ranked: bool = True  # whether it opens or closes a position of its provider
    passing_score: int | None = None  # what a stream's min_score is compared with; None: `score`
    quote_bid: Decimal | None = None
    quote_ask: Decimal | None = None
    quote_mid: Decimal | None = None
    quote_at: datetime | None = None
    quote_source: str | None = None
    record_price: Decimal | None = None

    @property
    def position_key(self) -> PositionKey | None:
        """Return the key of the position that the signal opens or closes; None: it does neither."""
        if self.direction is None or not self.is_ranked:
            return None
        return self.provider_id, self.asset_type, self.instrument or self.symbol, self.direction

    @property
    def score_to_pass(self) -> int:
        """Return what a stream's `min_score` is compared with."""
        return self.score if self.passing_score is None else self.passing_score


_OF_EVENT = dict.fromkeys(OrderTerms.__struct_fields__, "CASE WHEN n.entry_price IS NULL THEN e.{0} ELSE n.{0} END")
_OF_EVENT |= dict.fromkeys(("entry_price", "size"), "coalesce(n.{0}, e.{0})")


def _insert_signals(**values: str) -> str:
    values |= {name: text.format(name) for name, text in _OF_EVENT.items()}
    return f"{insert('signals', PublishedSignal, **values)} LEFT JOIN lens_events e ON e.event_id = n.id"


INSERT_SIGNALS = _insert_signals()


async def insert_signals(conn: Connection, rows: Sequence[PublishedSignal]) -> None:
    """Store published signals; a Lens signal's prices are None here: the exact ones are its event's."""
    await conn.execute(INSERT_SIGNALS, *columns(PublishedSignal, rows))


# One statement, as the other lanes wait from here until the commit. $1 are the ids.
INSERT_NEXT_SIGNALS = f"""
WITH taken AS (
    UPDATE feed_counter SET last_seq = last_seq + cardinality($1::uuid[])
    RETURNING last_seq - cardinality($1::uuid[]) AS before
), stored AS ({_insert_signals(feed_seq="(SELECT before FROM taken) + n.feed_seq")})
SELECT before FROM taken
"""


async def insert_next_signals(conn: Connection, rows: Sequence[PublishedSignal]) -> list[PublishedSignal]:
    """Store signals as the next ones of the feed, in their order; return them with their `feed_seq`."""
    numbered = [replace(row, feed_seq=place) for place, row in enumerate(rows, 1)]
    before: int = await conn.fetchval(INSERT_NEXT_SIGNALS, *columns(PublishedSignal, numbered))
    return [replace(row, feed_seq=before + row.feed_seq) for row in numbered]


LAST_FEED_SEQ = "SELECT last_seq FROM feed_counter"


async def last_feed_seq(conn: Connection) -> int:
    """Return the newest committed number of the feed's order."""
    return int(await conn.fetchval(LAST_FEED_SEQ))


PUBLISHED_BETWEEN = """
SELECT EXISTS (SELECT FROM signals WHERE feed_seq > $1 AND feed_seq < $2 AND provider_id = ANY ($3::uuid[]))
"""


async def published_between(conn: Connection, after: int, before: int, providers: Collection[UUID]) -> bool:
    """Return whether a signal of one of these providers is between two numbers of the feed's order."""
    return bool(await conn.fetchval(PUBLISHED_BETWEEN, after, before, providers))
