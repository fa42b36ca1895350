"""Connections to Postgres and Valkey: errors while they are unavailable, and recovery without a restart."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
import pytest
from prometheus_client import REGISTRY

from db import _outage, _postgres
from db._postgres import Pool, connection, create_pool, database_errors, loudness, show_pool, transaction
from db._redis import REDIS_ERRORS, create_redis
from schemas.errors import DatabaseUnavailable, DeadlineExceeded
from server.supervisor.instance import Instance
from tests.support.breakable import BreakablePostgres, breakable_postgres
from tests.support.services import valkey_server


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BreakablePostgres]:
    """A PostgreSQL of this module's own."""
    with breakable_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@asynccontextmanager
async def a_pool(url: str, size: int = 2) -> AsyncIterator[Pool]:
    """A pool of the test's own."""
    pool = await create_pool(url, size, name="test pool")
    try:
        yield pool
    finally:
        pool.terminate()


async def is_unavailable_within(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Assert that `work` fails as unavailable, in time."""
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable) as raised:
        await work()
    assert time.monotonic() - started < seconds
    assert (raised.value.status, raised.value.code, raised.value.retry_after) == (503, "SERVICE_UNAVAILABLE", 1)


async def select(pool: Pool) -> int:
    """A trivial statement."""
    async with connection(pool) as conn:
        value: int = await conn.fetchval("SELECT 1")
        return value


async def test_an_outage_is_told_once_now_and_then_and_when_it_is_over(
    postgres: BreakablePostgres, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_postgres, "_outage", _outage.Outage("Postgres"))
    caplog.set_level("INFO", "db._outage")
    async with a_pool(postgres.url) as pool:
        await select(pool)
        assert not caplog.messages
        postgres.crash()
        for _ in range(50):
            with pytest.raises(DatabaseUnavailable):
                await select(pool)
        [line] = caplog.messages
        assert line.startswith("Postgres is unavailable: ")
        # Callers that retry meanwhile need not log it, too.
        assert (loudness(DatabaseUnavailable()), loudness(DeadlineExceeded())) == (logging.DEBUG, logging.WARNING)
        monkeypatch.setattr(_outage, "REMIND_SECONDS", 0.0)
        with pytest.raises(DatabaseUnavailable):
            await select(pool)
        assert caplog.messages[1].startswith("Postgres is unavailable for 0 s: ")
        postgres.start()
        await recovers(pool)
        await select(pool)
        assert [each.partition(",")[0] for each in caplog.messages if "again" in each] == ["Postgres answers again"]
        assert "Postgres answers again" in caplog.messages[-1]


async def recovers(pool: Pool) -> None:
    """Assert that the pool works again soon."""
    deadline = time.monotonic() + 5
    while True:
        try:
            assert await select(pool) == 1
        except DatabaseUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        else:
            return


async def test_a_connection_shows_who_it_is_and_how_long_it_may_work(postgres: BreakablePostgres) -> None:
    async with a_pool(postgres.url) as pool, connection(pool) as conn:
        assert await conn.fetchval("SHOW application_name") == "test pool"
        assert await conn.fetchval("SHOW statement_timeout") == "30s"
        assert await conn.fetchval("SHOW idle_in_transaction_session_timeout") == "10s"
        assert await conn.fetchval("SELECT now()::timestamptz") > datetime(2024, 1, 1, tzinfo=UTC)


async def test_json_columns_are_python_values_in_both_directions(postgres: BreakablePostgres) -> None:
    value = {"a": [1, 2.5, None, "é"], "at": "2024-01-15T10:30:00.123Z"}
    async with a_pool(postgres.url) as pool, connection(pool) as conn:
        assert await conn.fetchval("SELECT $1::jsonb", value) == value
        assert await conn.fetchval("SELECT $1::json", value) == value
        assert await conn.fetchval("SELECT $1::jsonb->>'at'", value) == value["at"]
        assert await conn.fetch("SELECT unnest($1::jsonb[])", [{"b": 2}, "c", None]) == [({"b": 2},), ("c",), (None,)]
        assert await conn.fetchval("SELECT $1::numeric", Decimal("0.1")) == Decimal("0.1")


async def test_a_transaction_is_rolled_back_by_what_is_raised_in_it(postgres: BreakablePostgres) -> None:
    async def fail(pool: Pool) -> None:
        async with transaction(pool) as conn:
            await conn.execute("CREATE TABLE never (x int)")
            raise ZeroDivisionError

    async with a_pool(postgres.url) as pool:
        with pytest.raises(ZeroDivisionError):
            await fail(pool)
        async with transaction(pool) as conn:
            assert await conn.fetchval("SELECT to_regclass('never')") is None


async def test_the_error_of_a_statement_passes_unchanged_and_the_connection_is_kept(
    postgres: BreakablePostgres,
) -> None:
    async with a_pool(postgres.url, size=1) as pool:
        async with connection(pool) as conn:
            pid = conn.get_server_pid()
            with pytest.raises(asyncpg.DivisionByZeroError):
                await conn.fetchval("SELECT 1 / 0")
            with pytest.raises(asyncpg.DataError):
                await conn.fetchval("SELECT $1::int", "no number")
        async with connection(pool) as conn:
            assert conn.get_server_pid() == pid


async def test_a_pool_can_be_made_while_postgres_is_away(postgres: BreakablePostgres) -> None:
    postgres.stop()
    try:
        async with a_pool(postgres.url) as pool:
            await is_unavailable_within(2.0, lambda: select(pool))
            postgres.start()
            await recovers(pool)
    finally:
        postgres.start()


@pytest.mark.parametrize("how", [BreakablePostgres.stop, BreakablePostgres.crash])
async def test_a_pool_survives_a_restart(postgres: BreakablePostgres, how: Callable[[BreakablePostgres], None]) -> None:
    async with a_pool(postgres.url) as pool:
        assert await select(pool) == 1
        how(postgres)
        try:
            for _ in range(3):
                await is_unavailable_within(2.0, lambda: select(pool))
        finally:
            postgres.start()
        await recovers(pool)


async def test_a_server_that_hangs_costs_each_caller_less_than_two_seconds(postgres: BreakablePostgres) -> None:
    async def write(pool: Pool) -> None:
        async with transaction(pool) as conn, conn.transaction():
            await conn.execute("SELECT 1")

    async with a_pool(postgres.url) as pool:
        await asyncio.gather(select(pool), select(pool))
        with postgres.frozen():
            await asyncio.gather(*(is_unavailable_within(2.0, lambda: write(pool)) for _ in range(6)))
            await is_unavailable_within(2.0, lambda: select(pool))
        await recovers(pool)


async def test_a_connection_that_hangs_within_a_transaction_is_dropped_in_time(postgres: BreakablePostgres) -> None:
    async def write(pool: Pool) -> None:
        async with transaction(pool) as conn, conn.transaction():
            await conn.execute("SELECT 1")
            with postgres.frozen():
                await conn.execute("SELECT 1")

    async with a_pool(postgres.url) as pool:
        await is_unavailable_within(2.0, lambda: write(pool))
        await recovers(pool)


async def test_a_connection_that_is_lost_at_its_deadline_is_the_database_being_unavailable(
    postgres: BreakablePostgres,
) -> None:
    async def lose(pool: Pool) -> None:
        async with connection(pool, deadline_seconds=0.1) as conn:
            await pool.release(conn)  # as the pool does by itself when the server closes the connection
            await asyncio.sleep(5.0)

    async with a_pool(postgres.url, size=1) as pool:
        await is_unavailable_within(0.5, lambda: lose(pool))
        assert await select(pool) == 1


async def test_a_statement_that_takes_too_long_is_given_up(postgres: BreakablePostgres) -> None:
    async def slow(pool: Pool) -> None:
        async with connection(pool, deadline_seconds=0.1) as conn:
            await conn.execute("SELECT pg_sleep(5)")

    async with a_pool(postgres.url, size=1) as pool:
        await is_unavailable_within(0.5, lambda: slow(pool))
        assert await select(pool) == 1
        async with connection(pool, deadline_seconds=None) as conn:
            await conn.execute("SELECT pg_sleep(0.2)")


async def test_the_used_part_of_a_pool_is_reported(postgres: BreakablePostgres) -> None:
    def told(state: str) -> float | None:
        labels = {"owner": "test", "state": state}
        return REGISTRY.get_sample_value("tradestream_postgres_pool_connections", labels)

    async with a_pool(postgres.url, 3) as pool:
        async with connection(pool), connection(pool):
            show_pool(pool, "test")
            assert (told("open"), told("in_use")) == (2, 2)
        show_pool(pool, "test")
        assert (told("open"), told("in_use")) == (2, 0)


async def test_an_exhausted_pool_makes_callers_wait_a_bounded_time(postgres: BreakablePostgres) -> None:
    async with a_pool(postgres.url, size=1) as pool:
        async with connection(pool, deadline_seconds=None):
            await is_unavailable_within(2.0, lambda: select(pool))
        assert await select(pool) == 1


async def test_a_caller_that_is_cancelled_leaves_a_pool_that_works(postgres: BreakablePostgres) -> None:
    async with a_pool(postgres.url, size=1) as pool:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), transaction(pool) as conn:
                await conn.execute("SELECT pg_sleep(5)")
        assert await select(pool) == 1


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        asyncpg.CannotConnectNowError("starting"),
        asyncpg.AdminShutdownError("stopping"),
        asyncpg.TooManyConnectionsError("full"),
        asyncpg.QueryCanceledError("too slow"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InterfaceError("pool is closing"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}".strip(),
)
async def test_a_server_in_trouble_is_the_database_being_unavailable(error: Exception) -> None:
    with pytest.raises(DatabaseUnavailable) as raised:
        async with database_errors():
            raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UniqueViolationError("x"),
        asyncpg.UndefinedTableError("x"),
        asyncpg.InterfaceError("cannot perform operation: another operation is in progress"),
        ValueError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_faults_of_a_statement_or_a_program_are_no_outage(error: Exception) -> None:
    with pytest.raises(type(error)):
        async with database_errors():
            raise error


async def test_valkey_away_or_hanging_is_noticed_at_once_and_recovered_from(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("valkey")
    with valkey_server(root) as url:
        client = create_redis(url)
        assert await client.set("a", "é") is True
        assert await client.get("a") == "é".encode()
        stopped = Instance(root).processes()
        for each in stopped:
            each.suspend()
        try:
            await fails_within(2.0, lambda: client.get("a"))
        finally:
            for each in stopped:
                each.resume()
        assert await client.get("a") == "é".encode()
    await fails_within(1.0, lambda: client.get("a"))
    with valkey_server(root):
        assert await client.get("a") is None, "a new server, and the same client"
    await client.aclose()


async def fails_within(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Assert that `work` fails with one of the errors that callers expect, in time."""
    started = time.monotonic()
    with pytest.raises(REDIS_ERRORS):
        await work()
    assert time.monotonic() - started < seconds
