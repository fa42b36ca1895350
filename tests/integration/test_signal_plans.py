"""Lists over 100 000 signals: the rows that Postgres reads for a page, a total, a feed of 500 providers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from config.settings import Settings
from db._postgres import create_pool
from db._totals import Totals
from db._where import filtered
from db.signals.reads import LIST_SIGNALS, SignalFilters, count_signals, list_signals
from db.social_feed import LIST_FEED, count_feed, list_feed
from tests.benchmarks.community_data import fill
from tests.conftest import Servers, _execute, database_on
from tests.support.services import drop_database

SIGNALS = 100_000
PROVIDERS = 1_000
FOLLOWED = [UUID(f"00000000-0000-7000-8000-{n:012}") for n in range(1, 501)]
KING = FOLLOWED[6]


@pytest.fixture(scope="module")
def community(servers: Servers, template: str) -> Iterator[str]:
    """A database with 100 000 signals, half of them of the 500 that are followed: filled once, only read."""
    name = "test_community"
    _execute(servers.postgres_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    url = database_on(servers.postgres_url, name)

    async def run() -> None:
        conn = await asyncpg.connect(url)
        await fill(conn, providers=PROVIDERS, signals=SIGNALS)
        await conn.close()

    asyncio.run(run())
    yield url
    drop_database(servers.postgres_url, name)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    pool = await create_pool(url, 1, name="test")
    try:
        async with pool.acquire() as conn:
            yield conn
    finally:
        await pool.close()


async def plan(conn: Any, statement: str, values: Sequence[Any]) -> dict[str, Any]:
    """Return the executed plan, by EXPLAIN ANALYZE."""
    [[found]] = await conn.fetch(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}", *values)
    result: dict[str, Any] = found[0]["Plan"]
    return result


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


def scans(found: dict[str, Any]) -> set[tuple[str, str]]:
    """Return (kind, index or table) of every scan."""
    return {
        (each["Node Type"], each.get("Index Name", each.get("Relation Name", "")))
        for each in nodes(found)
        if each["Node Type"].endswith("Scan") and ("Index Name" in each or "Relation Name" in each)
    }


def pages_read(found: dict[str, Any]) -> int:
    """Return the blocks of 8 KiB that were read."""
    return int(found["Shared Hit Blocks"] + found["Shared Read Blocks"])


@pytest.mark.parametrize("is_generic", [False, True], ids=["for these values", "for all values"])
async def test_a_page_is_found_in_an_index_and_only_its_rows_are_read(community: str, is_generic: bool) -> None:
    async with connected(community) as conn:
        if is_generic:
            await conn.execute("SET plan_cache_mode = force_generic_plan")
        for given, index in (
            ({}, "signals_newest"),
            ({"min_score": 90}, "signals_newest"),
            ({"symbol": "sym7"}, "signals_symbol"),
            ({"symbol": "SYM9/USD"}, "signals_symbol"),
            ({"provider_id": KING}, "signals_of_provider"),
            ({"provider_id": KING, "symbol": "SYM7"}, "signals_of_provider"),
            ({"asset_types": ("prediction",)}, "signals_asset_type"),
            ({"asset_types": ("prediction",), "action": "sell"}, "signals_asset_type"),
        ):
            statement, values = filtered(LIST_SIGNALS, SignalFilters(**given).conditions(), first=3)  # type: ignore[arg-type]
            found = await plan(conn, statement, (50, 0, *values))
            assert not [each for each in scans(found) if each[0] == "Seq Scan"], (given, scans(found))
            used = {name for kind, name in scans(found) if kind == "Index Only Scan"}
            assert len(used) == 1, (given, scans(found))
            assert used == {index} or "symbol" in given, (given, used)
            assert pages_read(found) < 1_200, (given, pages_read(found))


async def test_every_combination_of_filters_finds_and_counts_what_a_plain_scan_does(community: str) -> None:
    values: dict[str, Any] = {
        "symbol": "sym7",
        "action": "sell",
        "min_score": 50,
        "provider_id": KING,
        "asset_types": ("crypto", "forex"),
    }
    plain = {
        "symbol": "upper(symbol) IN ('SYM7', 'SYM7/USD')",
        "action": "action = 'sell'",
        "min_score": "score >= 50",
        "provider_id": f"provider_id = '{KING}'",
        "asset_types": "asset_type IN ('crypto', 'forex')",
    }
    async with connected(community) as conn:
        totals = Totals()
        for count in range(len(values) + 1):
            for chosen in itertools.combinations(values, count):
                filters = SignalFilters(**{name: values[name] for name in chosen})
                where = " AND ".join(plain[name] for name in chosen) or "true"
                expected = await conn.fetchval(f"SELECT count(*) FROM signals WHERE {where}")
                assert await count_signals(conn, totals, filters) == expected, chosen
                rows = await conn.fetch(
                    f"SELECT id::text FROM signals WHERE {where} ORDER BY created_at DESC, id DESC LIMIT 20 OFFSET 3"
                )
                page = orjson.loads(await list_signals(conn, filters, limit=20, offset=3))
                assert [each["id"] for each in page] == [row[0] for row in rows], chosen


class Explaining:
    """A connection that records the plans of its counts."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self.plans: list[dict[str, Any]] = []

    async def fetchrow(self, statement: str, *values: Any) -> Any:
        self.plans.append(await plan(self._conn, statement, values))
        return await self._conn.fetchrow(statement, *values)


async def test_totals_are_counted_in_an_index_once_and_then_only_what_is_new(community: str) -> None:
    async with connected(community) as conn:
        for given in (
            {},
            {"action": "yes"},
            {"min_score": 99},
            {"symbol": "sym7"},
            {"symbol": "sym9/usd"},
            {"provider_id": KING, "action": "no"},
            {"asset_types": ("stock", "option", "etf"), "min_score": 10},
        ):
            explaining, totals, filters = Explaining(conn), Totals(), SignalFilters(**given)  # type: ignore[arg-type]
            first = await count_signals(explaining, totals, filters)  # type: ignore[arg-type]
            assert await count_signals(explaining, totals, filters) == first  # type: ignore[arg-type]
            whole, rest = explaining.plans
            assert {kind for kind, _ in scans(whole)} == {"Index Only Scan"}, (given, scans(whole))
            assert pages_read(whole) < 1_500, (given, pages_read(whole))
            assert pages_read(rest) < 20, (given, pages_read(rest))


@pytest.mark.parametrize("action", [None, "buy"])
async def test_a_feed_of_five_hundred_providers_is_one_look_for_each_however_many_signals(
    community: str, action: str | None
) -> None:
    conditions: list[tuple[str, Any]] = [("s.provider_id = f.provider_id", None)]
    plain = "provider_id = ANY ($1)"
    if action is not None:
        conditions.append(("s.action = {}", action))
        plain += f" AND action = '{action}'"
    async with connected(community) as conn:
        statement, values = filtered(LIST_FEED, conditions, first=4)
        found = await plan(conn, statement, (20, 0, FOLLOWED, *values))
        looks = [each for each in nodes(found) if each.get("Index Name") == "signals_of_provider"]
        assert {each["Node Type"] for each in looks} == {"Index Only Scan"}
        assert sorted(each["Actual Loops"] for each in looks) == [20, 500]
        assert not [each for each in scans(found) if each[0] == "Seq Scan"], scans(found)
        # Three blocks for a look at an index of 100 000; the 50 000 signals of these providers lie in 12 000.
        assert pages_read(found) < 500 * 3 + 20 * 20 + 100, pages_read(found)
        for limit, offset in ((20, 0), (20, 480), (100, 3_000), (20, 49_995)):
            rows = await conn.fetch(
                f"SELECT id::text FROM signals WHERE {plain} ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3",
                FOLLOWED,
                limit,
                offset,
            )
            page = orjson.loads(await list_feed(conn, FOLLOWED, action, limit=limit, offset=offset))
            assert [each["signal_id"] for each in page] == [row[0] for row in rows], offset
        explaining, totals = Explaining(conn), Totals()
        expected = await conn.fetchval(f"SELECT count(*) FROM signals WHERE {plain}", FOLLOWED)
        for _ in range(2):
            assert await count_feed(explaining, totals, FOLLOWED, action) == expected  # type: ignore[arg-type]
        assert {kind for kind, _ in scans(explaining.plans[0])} == {"Index Only Scan"}
        assert pages_read(explaining.plans[1]) < 20


async def test_a_feed_of_no_followed_provider_is_empty(community: str) -> None:
    async with connected(community) as conn:
        assert await list_feed(conn, [], None, limit=20) == b"[]"
        assert await count_feed(conn, Totals(), [], None) == 0


async def test_a_total_begins_anew_with_a_database_that_was_restored(settings: Settings) -> None:
    assert settings.database_url is not None
    async with connected(settings.database_url) as conn:
        await fill(conn, providers=1, signals=30)
        totals, filters = Totals(), SignalFilters(action="sell")
        before = await count_signals(conn, totals, filters)
        await conn.execute("DELETE FROM signal_counters")
        await conn.execute("DELETE FROM signals WHERE feed_seq > 10")
        after = await conn.fetchval("SELECT count(*) FROM signals WHERE action = 'sell'")
        assert 0 < after < before
        assert [await count_signals(conn, totals, filters) for _ in range(2)] == [after, after]
