"""The lists of the Lens API in Postgres: each filter by an index, totals that are exact and counted once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from config.clock import now
from config.ids import uuid7
from config.settings import Settings
from db import _totals
from db._postgres import create_pool
from db._totals import MOST_COUNTS, Totals
from db._where import filtered
from db.lens.decisions import LIST_DECISIONS, DecisionFilters, list_decisions
from db.lens.dlq import COUNT_DEAD_LETTERS, LIST_DEAD_LETTERS, DeadLetterFilters
from db.lens.reads import COUNT_EVENTS, LIST_EVENTS, EventFilters, list_events
from db.lens.retries import MATCH_DEAD_LETTERS

AT = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
VALUES: dict[str, Any] = {
    "model": "claude",
    "symbol": "BTC",
    "event_type": "OPEN_SIGNAL",
    "decision": "HOLD",
    "min_confidence": 0.5,
    "source": "alpha",
    "status": "FAILED",
    "stage": "enrich",
    "reason_code": "TIMEOUT",
    "event_id": uuid7(),
    "resolved": False,
    "since": AT,
    "until": AT + timedelta(hours=1),
}
FILL_DECISIONS = """
INSERT INTO lens_decisions
SELECT (lpad(to_hex(1768473000000 + n), 12, '0') || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid,
       gen_random_uuid(),
       (ARRAY['chatgpt', 'gemini', 'claude', 'technical'])[1 + n % 4], 'S' || n % 200,
       CASE WHEN n % 1000 = 0 THEN 'CLOSE_SIGNAL' ELSE 'OPEN_SIGNAL' END,
       CASE WHEN n % 1000 = 0 THEN 'HOLD' ELSE 'FOLLOW_ENTER' END, n % 1000 / 1000.0, NULL, NULL, 1, '[]', 'v', 1, 1,
       NULL, to_timestamp((1768473000000 + n) / 1000.0)
FROM generate_series(1, 20000) n
"""
FILL_EVENTS = """
INSERT INTO lens_events
SELECT id, evaluated_at, event_type, 'long', symbol, 1, 1, NULL, evaluated_at, 'source ' || right(symbol, 2), 'crypto'
FROM lens_decisions
"""
FILL_PROGRESS = """
INSERT INTO lens_progress (event_id, status, stage, due_at, lease_until, timeline, finished_at, source_hash)
SELECT id, CASE WHEN decision = 'HOLD' THEN 'FAILED' ELSE 'PUBLISHED' END, 'COMPLETE', now(), now(), '[]', now(), 0
FROM lens_decisions
"""
FILL_DEAD_LETTERS = """
INSERT INTO lens_dlq (id, event_id, stage, model, reason_code, error_message, payload, attempts, retry_count,
                      created_at, resolved_at)
SELECT id, event_id, CASE WHEN decision = 'HOLD' THEN 'publish' ELSE 'evaluate' END, model,
       CASE WHEN decision = 'HOLD' THEN 'PUBLISH_ERROR' ELSE 'TIMEOUT' END, 'x', '{}', '[]', 3, evaluated_at,
       CASE WHEN decision = 'HOLD' THEN NULL ELSE now() END
FROM lens_decisions
"""


@asynccontextmanager
async def connected(settings: Settings, *fill: str) -> AsyncIterator[Any]:
    """A connection to a database that these statements have filled."""
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 1, name="test")
    try:
        async with pool.acquire() as conn:
            for statement in fill:
                await conn.execute(statement)
            if fill:
                await conn.execute("VACUUM ANALYZE lens_events, lens_progress, lens_decisions, lens_dlq")
            yield conn
    finally:
        await pool.close()


@pytest.mark.parametrize(
    ("kind", "statements"),
    [
        (DecisionFilters, {LIST_DECISIONS: 3}),
        (EventFilters, {LIST_EVENTS: 3, COUNT_EVENTS: 1}),
        (DeadLetterFilters, {LIST_DEAD_LETTERS: 3, COUNT_DEAD_LETTERS: 1, MATCH_DEAD_LETTERS: 2}),
    ],
)
async def test_every_combination_of_filters_is_a_statement_that_postgres_takes(
    settings: Settings, kind: Any, statements: dict[str, int]
) -> None:
    names = [each.name for each in fields(kind)]
    async with connected(settings) as conn:
        for count in range(len(names) + 1):
            for chosen in itertools.combinations(names, count):
                conditions = list(kind(**{name: VALUES[name] for name in chosen}).conditions())
                assert len(conditions) == len(chosen)
                for statement, first in statements.items():
                    await conn.prepare(filtered(statement, conditions, first=first)[0])


async def plan(conn: Any, statement: str, conditions: Any, *values: Any) -> str:
    """Return Postgres's plan: its nodes and indexes, one a line."""
    text, given = filtered(statement, conditions, first=len(values) + 1)
    rows = await conn.fetch(f"EXPLAIN (COSTS OFF) {text}", *values, *given)
    return "\n".join(row[0] for row in rows)


async def test_every_filter_of_decisions_is_served_by_an_index_in_the_order_of_the_list(settings: Settings) -> None:
    async with connected(settings, FILL_DECISIONS) as conn:
        for given, index in (
            ({}, "lens_decisions_pkey"),
            ({"symbol": "s7"}, "lens_decisions_symbol"),
            ({"model": "claude"}, "lens_decisions_"),
            ({"decision": "HOLD"}, "lens_decisions_decision"),
            ({"event_type": "CLOSE_SIGNAL"}, "lens_decisions_event_type"),
            ({"min_confidence": 0.9991}, "lens_decisions_confidence"),
            ({"since": AT + timedelta(seconds=19), "until": AT + timedelta(seconds=20)}, "lens_decisions_pkey"),
            ({"symbol": "s7", "model": "claude", "since": AT}, "lens_decisions_symbol"),
        ):
            steps = await plan(conn, LIST_DECISIONS, DecisionFilters(**given).conditions(), 50, 0)
            assert index in steps, (given, steps)
            assert "Seq Scan" not in steps, (given, steps)
            assert "Sort" not in steps or "min_confidence" in given or "symbol" in given, (given, steps)


async def test_the_first_pages_of_events_and_dead_letters_read_no_more_than_they_show(settings: Settings) -> None:
    async with connected(settings, FILL_DECISIONS, FILL_EVENTS, FILL_PROGRESS, FILL_DEAD_LETTERS) as conn:
        for statement, conditions, index in (
            (LIST_EVENTS, EventFilters(), "lens_events_pkey"),
            (LIST_EVENTS, EventFilters(symbol="s7"), "lens_events_symbol"),
            (LIST_EVENTS, EventFilters(source="source S7"), "lens_events_source"),
            (LIST_EVENTS, EventFilters(status="FAILED"), "lens_progress_status"),
            (LIST_DEAD_LETTERS, DeadLetterFilters(), "lens_dlq_pkey"),
            (LIST_DEAD_LETTERS, DeadLetterFilters(resolved=False), "lens_dlq_open"),
            (LIST_DEAD_LETTERS, DeadLetterFilters(stage="publish"), "lens_dlq_"),
            (LIST_DEAD_LETTERS, DeadLetterFilters(reason_code="PUBLISH_ERROR"), "lens_dlq_"),
            (LIST_DEAD_LETTERS, DeadLetterFilters(event_id=uuid7()), "lens_dlq_event"),
            (LIST_DEAD_LETTERS, DeadLetterFilters(stage="publish", resolved=False), "lens_dlq_o"),
        ):
            steps = await plan(conn, statement, conditions.conditions(), 50, 0)
            assert index in steps, (conditions, steps)
            assert "Seq Scan" not in steps, (conditions, steps)


async def test_plans_that_are_made_once_for_all_values_use_the_indexes_too(settings: Settings) -> None:
    async with connected(settings, FILL_DECISIONS) as conn:
        await conn.execute("SET plan_cache_mode = force_generic_plan")
        for given, index in (
            ({"symbol": "s7"}, "lens_decisions_symbol"),
            ({"decision": "HOLD"}, "lens_decisions_decision"),
            ({"event_type": "CLOSE_SIGNAL"}, "lens_decisions_"),
            ({}, "lens_decisions_pkey"),
        ):
            steps = await plan(conn, LIST_DECISIONS, DecisionFilters(**given).conditions(), 50, 0)
            assert index in steps, (given, steps)
            assert "Seq Scan" not in steps, (given, steps)


class Counting:
    """A connection that records how many rows each count read."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self.counted: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)

    async def fetchrow(self, statement: str, *values: Any) -> Any:
        row = await self._conn.fetchrow(statement, *values)
        if "count(*)" in statement:
            self.counted.append(row[0])
        return row


async def add(conn: Any, count: int, *, age: timedelta = timedelta(0), model: str = "claude") -> None:
    """Insert decisions that were made a while ago."""
    back = int(age / timedelta(milliseconds=1)) << 80
    ids = [type(each)(int=each.int - back) for each in (uuid7() for _ in range(count))]
    await conn.execute(
        """INSERT INTO lens_decisions
           SELECT id, gen_random_uuid(), $2, 'BTC', 'OPEN_SIGNAL', 'IGNORE', 0.5, NULL, NULL, 1, '[]', 'v', 1, 1, NULL,
                  now()
           FROM unnest($1::uuid[]) id""",
        ids,
        model,
    )


async def test_a_total_is_exact_though_only_what_is_new_is_counted(settings: Settings) -> None:
    async with connected(settings) as conn:
        counting, totals = Counting(conn), Totals()

        async def total(**filters: Any) -> int:
            found = await list_decisions(counting, totals, DecisionFilters(**filters), limit=1, offset=0)  # type: ignore[arg-type]
            return found[1]

        await add(conn, 100, age=timedelta(hours=1))
        await add(conn, 5)
        assert [await total() for _ in range(3)] == [105, 105, 105]
        assert counting.counted == [105, 5, 5], "what is final is counted once"
        await add(conn, 3)
        await add(conn, 2, age=timedelta(seconds=_totals.FINAL_SECONDS - 2), model="gemini")
        assert (await total(), counting.counted[-1]) == (110, 10)
        assert (await total(model="gemini"), counting.counted[-1]) == (2, 2), "each combination has its own count"
        assert (await total(model="gemini"), await total()) == (2, 110)
        assert await total(model="chatgpt") == 0


async def test_a_count_is_made_anew_from_time_to_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(settings) as conn:
        counting, totals = Counting(conn), Totals()
        await add(conn, 10, age=timedelta(hours=1))
        for expected, seconds in ((10, 300), (10, 300), (14, -1), (14, -1)):
            monkeypatch.setattr(_totals, "RECOUNT_SECONDS", seconds)
            if seconds < 0 and counting.counted == [10, 0]:
                await add(conn, 4, age=timedelta(hours=1))  # of a machine whose clock is an hour late
                totals._counts[("lens_decisions", ())].expires = 0
            assert await totals.count(counting, "lens_decisions", "id", []) == expected  # type: ignore[arg-type]
        assert counting.counted == [10, 0, 14, 14]


async def test_a_clock_that_is_set_back_counts_nothing_twice(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(settings) as conn:
        totals, real = Totals(), now()
        await add(conn, 10, age=timedelta(minutes=5))
        for hours in (0, -1, -1, 0, 1):
            monkeypatch.setattr(_totals, "now", lambda hours=hours: real + timedelta(hours=hours))
            assert await totals.count(conn, "lens_decisions", "id", []) == 10


async def test_totals_that_are_asked_for_at_once_are_counted_one_after_another(settings: Settings) -> None:
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 4, name="test")
    totals, counted = Totals(), []
    try:
        async with pool.acquire() as conn:
            await add(conn, 50, age=timedelta(hours=1))

        async def ask() -> int:
            async with pool.acquire() as conn:
                counting = Counting(conn)
                total = await totals.count(counting, "lens_decisions", "id", [])  # type: ignore[arg-type]
                counted.extend(counting.counted)
                return total

        assert await asyncio.gather(*(ask() for _ in range(20))) == [50] * 20
        assert sorted(counted) == [0] * 19 + [50]
    finally:
        await pool.close()


async def test_the_counts_that_are_remembered_are_bounded(settings: Settings) -> None:
    async with connected(settings) as conn:
        totals = Totals()
        for n in range(MOST_COUNTS + 50):
            await list_events(conn, totals, EventFilters(symbol=f"S{n}"), limit=1, offset=0)
        assert len(totals._counts) == MOST_COUNTS


async def test_a_status_changes_and_is_counted_each_time(settings: Settings) -> None:
    async with connected(settings, FILL_DECISIONS, FILL_EVENTS, FILL_PROGRESS) as conn:
        totals = Totals()

        async def total(**filters: Any) -> int:
            return (await list_events(conn, totals, EventFilters(**filters), limit=1, offset=0))[1]

        assert (await total(), await total(status="FAILED")) == (20_000, 20)
        assert await total(status="FAILED", symbol="s0") == 20
        await conn.execute("UPDATE lens_progress SET status = 'PUBLISHED' WHERE status = 'FAILED'")
        assert (await total(), await total(status="FAILED"), await total(status="PUBLISHED")) == (20_000, 0, 20_000)
        half = AT + timedelta(seconds=10)
        assert await total(status="PUBLISHED", until=half) == await total(until=half) == 10_000
