"""The reads of providers in Postgres with ten thousand providers: by an index, in bounded time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from db._postgres import Connection, create_pool
from db._where import filtered
from db.lens.positions import OPENING_PRICES
from db.providers.follows import LIST_FOLLOWING, list_following
from db.providers.profiles import LIST_PROVIDERS, LOAD_DETAILS, ORDER, SORTS, list_providers
from tests.benchmarks.community_data import fill
from tests.support.users_factory import account_row

PROVIDERS = 10_000
SECONDS = 0.5  # many times what it takes: a scan of all takes longer
FILL_MORE = """
UPDATE provider_stats SET win_rate = NULL, avg_return = NULL, verification_level = 'none'
WHERE follower_count % 100 <> 0;
INSERT INTO signal_outcomes (signal_id, provider_id, symbol, direction, entry_price, opened_seq, opened_at, status)
SELECT id, provider_id, symbol, direction, entry_price, feed_seq, created_at,
       CASE WHEN feed_seq % 5 = 0 THEN 'PENDING' ELSE 'PROFIT' END
FROM signals;
INSERT INTO follows SELECT u.id, p.user_id, true, now() - n * interval '1 hour'
FROM users u, (SELECT user_id, row_number() OVER () AS n FROM providers LIMIT 500) p
"""


@asynccontextmanager
async def a_crowd(url: str, signals: int) -> AsyncIterator[tuple[Any, UUID]]:
    """The filled database, and a user who follows 500."""
    pool = await create_pool(url, 1, name="test")
    row = account_row()
    try:
        async with pool.acquire() as conn:
            await conn.execute(
                "INSERT INTO users VALUES ($1, $2, true, NULL, 'Fan', NULL, NULL, $3, now())",
                row.id,
                row.email,
                row.referral_code,
            )
            await fill(conn, providers=PROVIDERS, signals=signals)
            await conn.execute(FILL_MORE)
            for table in ("provider_stats", "signal_outcomes", "follows"):
                await conn.execute(f"VACUUM ANALYZE {table}")
            yield conn, row.id
    finally:
        pool.terminate()


async def plan_of(conn: Connection, statement: str, *arguments: Any) -> str:
    rows = await conn.fetch(f"EXPLAIN (ANALYZE, COSTS off, TIMING off) {statement}", *arguments)
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize("signals", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
async def test_every_read_of_providers_takes_an_index_and_little_time(database_url: str, signals: int) -> None:
    async with a_crowd(database_url, signals) as (conn, fan):
        for sort, order in SORTS.items():
            for verified_only in (False, True):
                conditions = [("s.verification_level <> 'none'", None)] if verified_only else []
                statement = filtered(LIST_PROVIDERS, conditions)[0].replace(ORDER, order + ",")
                plan = await plan_of(conn, statement, 20, 0)
                assert "Seq Scan" not in plan, (sort, plan)
                for offset in (0, 9_000):
                    began = time.perf_counter()
                    items, total = await list_providers(
                        conn, sort=sort, verified_only=verified_only, limit=100, offset=offset
                    )
                    assert time.perf_counter() - began < SECONDS
                    assert len(items) == max(0, min(100, total - offset))
                    assert total == (PROVIDERS if not verified_only else total)
        plan = await plan_of(conn, LOAD_DETAILS, [UUID("00000000-0000-7000-8000-000000000007")], [fan])
        assert "Seq Scan" not in plan.replace("Seq Scan on provider_likes", ""), plan  # which is empty
        plan = await plan_of(conn, LIST_FOLLOWING, fan, 100, 0)
        assert "Seq Scan on provider" not in plan, plan
        rows, total = await list_following(conn, fan, limit=100, offset=450)
        assert (len(rows), total) == (50, 500)
        who = UUID("00000000-0000-7000-8000-000000000007")
        kind, symbol = await conn.fetchrow("SELECT asset_type, symbol FROM signals WHERE provider_id = $1 LIMIT 1", who)
        plan = await plan_of(conn, OPENING_PRICES, [who] * 50, [kind] * 50, [symbol] * 50, ["long"] * 50)
        assert "signal_outcomes_open" in plan, plan


@pytest.mark.parametrize("sort", ["name", ""])
async def test_an_unknown_sort_is_a_mistake_of_the_caller(database_url: str, sort: str) -> None:
    conn = await asyncpg.connect(database_url)
    try:
        await conn.execute("INSERT INTO providers VALUES (gen_random_uuid(), 'x')")
        await conn.execute("INSERT INTO provider_stats (provider_id) SELECT user_id FROM providers")
        with pytest.raises(KeyError):
            await list_providers(conn, sort=sort, verified_only=False, limit=1, offset=0)
    finally:
        await conn.close()
