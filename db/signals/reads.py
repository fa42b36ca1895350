"""SQL of published signals, as the API reads them: lists, whose JSON Postgres assembles, and one signal in full."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from config.documents import Document
from db._instruments import key_of
from db._postgres import Connection
from db._rows import row_of
from db._totals import Totals
from db._where import WHERE, Condition, filtered, given
from db.signals.document import ITEM_JSON, PROVIDER_JSON, REACTIONS, REACTIONS_JSON, TODAY

_TABLE = "signals s"


@dataclass(frozen=True, slots=True)
class SignalFilters:
    """Filters on signals; every one that is not None must match.

    `symbol` finds every spelling of its instrument: `BTC`, `btc/usd`. `action` is lower-case. An empty set of asset
    types matches no signal.
    """

    symbol: str | None = None
    action: str | None = None
    min_score: int | None = None
    provider_id: UUID | None = None
    asset_types: tuple[str, ...] | None = None

    def conditions(self) -> list[Condition]:
        """Return each filter as SQL over signals `s`."""
        found = given(
            self,
            symbol=f"s.symbol_key = {key_of('{}')}",
            action="s.action = {}",
            min_score="s.score >= {}",
            provider_id="s.provider_id = {}",
        )
        if self.asset_types is not None:
            one = len(self.asset_types) == 1
            found.append(
                ("s.asset_type = {}", self.asset_types[0]) if one else ("s.asset_type = ANY ({})", self.asset_types)
            )
        return found


# The page is found in an index alone; only then are its rows looked up. Its bounds are hidden from the planner in
# sub-selects, and it is bounded once more: or else each call is planned anew for its numbers, at twice the cost.
_PAGE = f"""
page AS MATERIALIZED (
    SELECT * FROM (
        SELECT s.created_at, s.id FROM signals s {WHERE} ORDER BY s.created_at DESC, s.id DESC
        LIMIT (SELECT $1::bigint) OFFSET (SELECT $2::bigint)
    ) AS whole LIMIT 100
)
"""
_AGGREGATE = f"string_agg({ITEM_JSON}, ',' ORDER BY page.created_at DESC, page.id DESC)"
_ITEMS = f"{_AGGREGATE} FROM page JOIN signals s USING (id) {TODAY}"
LIST_SIGNALS = f"WITH {_PAGE} SELECT {_ITEMS}"


RECENT_SIGNALS = 10

RECENT_OF_PROVIDER = f"""(
    SELECT {_AGGREGATE}
    FROM (
        SELECT s.created_at, s.id FROM signals s WHERE s.provider_id = w.provider_id
        ORDER BY s.created_at DESC, s.id DESC LIMIT {RECENT_SIGNALS}
    ) AS page
    JOIN signals s USING (id) {TODAY}
)"""
"""The items of a profile of the provider in `w`, for LATERAL."""


async def list_signals(conn: Connection, filters: SignalFilters, *, limit: int, offset: int = 0) -> bytes:
    """Return the JSON array of signals that match every given filter, newest first, as `GET /api/signals` does."""
    statement, values = filtered(LIST_SIGNALS, filters.conditions(), first=3)
    return json_array(await conn.fetchval(statement, limit, offset, *values))


FRESH = 100  # signals above the last count that a page counts along the way

READ_PAGE = f"""
WITH {_PAGE}, fresh AS MATERIALIZED (
    SELECT s.feed_seq, s.symbol, s.symbol_key, s.asset_type, s.action, s.score, s.provider_id FROM signals s
    WHERE s.feed_seq > (SELECT $3::bigint) ORDER BY s.feed_seq LIMIT {FRESH}
)
SELECT (SELECT {_ITEMS}), (SELECT count(*) FROM fresh s {WHERE}), (SELECT count(*) FROM fresh),
       (SELECT max(feed_seq) FROM signals)
"""


async def read_page(
    conn: Connection, totals: Totals, filters: SignalFilters, *, limit: int, offset: int
) -> tuple[bytes, int]:
    """Return `list_signals` and `count_signals`, usually in one round trip, continuing the last count."""
    conditions = filters.conditions()
    counted = totals.counted_dense(_TABLE, conditions)
    if not counted.last or offset >= counted.rows:
        total = await count_signals(conn, totals, filters)
        # Searching for a page past the end would read the whole index.
        return (await list_signals(conn, filters, limit=limit, offset=offset) if offset < total else b"[]"), total
    rows, last = counted.rows, counted.last
    statement, values = filtered(READ_PAGE, conditions, first=4)
    found = await conn.fetchrow(statement, limit, offset, last, *values)
    assert found is not None
    items, matching, fresh, newest = found
    if fresh < FRESH and newest is not None and newest >= last:
        counted.advance(rows + matching, newest)
        return json_array(items), rows + matching
    return json_array(items), await count_signals(conn, totals, filters)


def json_array(items: str | None) -> bytes:
    """Return the array of items that Postgres has assembled; an empty one for None."""
    return b"[]" if items is None else f"[{items}]".encode()


async def count_signals(conn: Connection, totals: Totals, filters: SignalFilters) -> int:
    """Return how many signals match every given filter."""
    return await totals.count_dense(conn, _TABLE, "feed_seq", filters.conditions())


@dataclass(frozen=True, slots=True)
class SignalRow:
    """A signal in full; `provider` and `reactions` are documents; the outcome's fields are None where there is none."""

    id: UUID
    asset_type: str
    asset_category: str
    symbol: str
    action: str
    event_type: str
    direction: str | None
    entry_price: Decimal | None
    commentary: str | None
    received_at: datetime | None
    record_price: Decimal | None
    quote_bid: Decimal | None
    quote_ask: Decimal | None
    quote_mid: Decimal | None
    quote_at: datetime | None  # None: it has no quote
    quote_source: str | None
    retracted_at: datetime | None
    order_type: str | None
    take_profit: list[float] | None
    stop_loss: Decimal | None
    liquidation_price: Decimal | None
    valid_until: datetime | None
    close_fraction: Decimal | None
    is_position: bool  # it opened, or closes, a position whose return can be computed
    score: int
    tier: str
    confidence: float | None
    factors: Document | None
    strategy_breakdown: list[Document] | None
    market_context: Document | None
    reasoning: str
    asset_data: Document
    created_at: datetime
    provider: Document
    reactions: dict[str, int]
    user_reactions: list[str]  # in the order in which they are shown
    outcome: str | None
    outcome_return: Decimal | None
    closed_at: datetime | None
    closed_by: UUID | None
    record_return: Decimal | None
    close_reason: str | None
    legs: str | None  # JSON: see db.providers.outcomes
    is_awaiting: bool | None
    is_read: bool  # the track record has read it: without an outcome it counts as if it had opened nothing
    closes: UUID | None


GET_SIGNAL = f"""
SELECT s.id, s.asset_type, s.asset_category, s.symbol, s.action, s.event_type, s.direction,
       CASE WHEN s.entry_price < 'Infinity' THEN s.entry_price END, s.commentary, s.received_at,
       s.record_price, s.quote_bid, s.quote_ask, s.quote_mid, s.quote_at, s.quote_source,
       s.retracted_at, s.order_type, s.take_profit, s.stop_loss, s.liquidation_price, s.valid_until, s.close_fraction,
       s.direction IS NOT NULL AND s.entry_price IS NOT NULL AND s.is_ranked, s.score, s.tier, s.confidence, s.factors,
       s.strategy_breakdown, s.market_context, s.reasoning, s.asset_data, s.created_at,
       ({PROVIDER_JSON})::json, ({REACTIONS_JSON})::json,
       ARRAY(SELECT r.reaction_type FROM reactions r WHERE r.user_id = $2 AND r.signal_id = s.id AND r.is_active
             ORDER BY array_position($3::text[], r.reaction_type)),
       o.status, o.return, o.closed_at, o.closed_by, o.record_return, o.close_reason, o.legs::text,
       o.status = 'PENDING' AND o.open_part = 0, coalesce(t.applied_seq >= s.feed_seq, false),
       CASE WHEN s.event_type = 'CLOSE_SIGNAL' THEN coalesce(
           (SELECT closed.signal_id FROM signal_outcomes closed WHERE closed.closed_by = s.id),
           (SELECT (convert_from(e.body, 'UTF8')::json ->> 'closes')::uuid FROM log_entries e
            WHERE e.signal_id = s.id AND e.kind = 'signal')) END
FROM signals s {TODAY} LEFT JOIN signal_outcomes o ON o.signal_id = s.id
WHERE s.id = $1
"""


async def get_signal(conn: Connection, signal_id: UUID, viewer: UUID | None) -> SignalRow | None:
    """Return one signal as `viewer` (None: anonymous) sees it, or None."""
    return row_of(SignalRow, await conn.fetchrow(GET_SIGNAL, signal_id, viewer, list(REACTIONS)))


SIGNAL_EXISTS = "SELECT EXISTS (SELECT FROM signals WHERE id = $1)"


async def signal_exists(conn: Connection, signal_id: UUID) -> bool:
    """Return whether there is a signal of this id."""
    found: bool = await conn.fetchval(SIGNAL_EXISTS, signal_id)
    return found
