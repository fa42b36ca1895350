"""SQL of the models' decisions, as the API reads them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from config.documents import Document
from db._instruments import key_of
from db._postgres import Connection
from db._rows import names, row_of, rows_of
from db._totals import Totals
from db._where import WHERE, Condition, filtered, given


@dataclass(frozen=True, slots=True)
class DecisionFilters:
    """Filters on decisions; every one that is not None must match.

    `since` and `until` are inclusive. `symbol` finds every spelling of its instrument.
    """

    model: str | None = None
    symbol: str | None = None
    event_type: str | None = None
    decision: str | None = None
    min_confidence: float | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[Condition]:
        """Return each filter as SQL that an index serves; confidence alone is compared row by row."""
        return given(
            self,
            model="model = {}",
            symbol=f"{key_of('symbol')} = {key_of('{}')}",
            event_type="event_type = {}",
            decision="decision = {}",
            min_confidence="confidence >= {}",
            since="id >= {}",
            until="id <= {}",
        )


@dataclass(slots=True)  # not frozen: a frozen one takes four times as long to make, and a page has a hundred
class ListedDecisionRow:
    """One decision as lists show it."""

    id: UUID
    event_id: UUID
    symbol: str
    event_type: str
    model: str
    decision: str
    confidence: float
    entry_plan: Document | None
    risk_plan: Document | None
    size_pct: float
    reasons: list[str]
    evaluated_at: datetime


# id is a UUIDv7 of evaluated_at: its order is the order of time, ties included.
LIST_DECISIONS = f"SELECT {names(ListedDecisionRow)} FROM lens_decisions {WHERE} ORDER BY id DESC LIMIT $1 OFFSET $2"


async def list_decisions(
    conn: Connection, totals: Totals, filters: DecisionFilters, *, limit: int, offset: int
) -> tuple[list[ListedDecisionRow], int]:
    """Return the decisions that match every given filter, newest first, and their total number."""
    conditions = filters.conditions()
    total = await totals.count(conn, "lens_decisions", "id", conditions)
    if offset >= total:
        return [], total  # searching in vain would read the whole table
    statement, values = filtered(LIST_DECISIONS, conditions, first=3)
    rows = await conn.fetch(statement, limit, offset, *values)
    return rows_of(ListedDecisionRow, rows), max(total, offset + len(rows))


@dataclass(slots=True)
class DecisionDetail(ListedDecisionRow):
    """One decision, and how its model ran."""

    model_version: str
    latency_ms: int
    tokens_used: int


GET_DECISION = f"SELECT {names(DecisionDetail)} FROM lens_decisions WHERE id = $1"


async def get_decision(conn: Connection, decision_id: UUID) -> DecisionDetail | None:
    """Return one decision, or None."""
    return row_of(DecisionDetail, await conn.fetchrow(GET_DECISION, decision_id))
