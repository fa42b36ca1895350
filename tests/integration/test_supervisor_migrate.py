"""Migrations: once each, one process at a time, in order, and with dbmate's own words when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from db import _pooling
from db._migrate import _LOCK_KEY, MigrationError, migrate
from tests.conftest import Servers, database_on
from tests.support.services import drop_database, postgres_server

_numbers = count(1)


@pytest.fixture
def empty_url(servers: Servers) -> Iterator[str]:
    """Return the URL of a database without a table."""
    name = f"empty_{next(_numbers)}"
    asyncio.run(_execute(servers.postgres_url, f"CREATE DATABASE {name}"))
    yield database_on(servers.postgres_url, name)
    drop_database(servers.postgres_url, name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two migrations."""
    write(tmp_path, "0001_first", "CREATE TABLE first (id int)")
    write(tmp_path, "0002_second", "CREATE TABLE second (id int)")
    return tmp_path


def write(folder: Path, name: str, statement: str) -> None:
    (folder / f"{name}.sql").write_text(f"-- migrate:up\n{statement};\n-- migrate:down\n")


async def _execute(url: str, statement: str) -> None:
    conn = await asyncpg.connect(url)
    try:
        await conn.execute(statement)
    finally:
        await conn.close()


async def test_missing_migrations_are_applied_once_and_named(empty_url: str, folder: Path) -> None:
    assert await migrate(empty_url, folder) == ["0001_first.sql", "0002_second.sql"]
    assert await migrate(empty_url, folder) == []
    write(folder, "0003_third", "CREATE TABLE third (id int)")
    assert await migrate(empty_url, folder) == ["0003_third.sql"]


async def test_several_processes_migrate_once(empty_url: str, folder: Path) -> None:
    applied = await asyncio.gather(*(migrate(empty_url, folder) for _ in range(4)))
    assert sorted(applied) == [[], [], [], ["0001_first.sql", "0002_second.sql"]]


async def test_a_failure_is_told_in_dbmates_words_and_leaves_nothing_of_its_file(empty_url: str, folder: Path) -> None:
    write(folder, "0003_third", "CREATE TABLE third (id int); SELECT no_such_function()")
    with pytest.raises(MigrationError, match="no_such_function"):
        await migrate(empty_url, folder)
    await _execute(empty_url, "SELECT * FROM second")
    with pytest.raises(asyncpg.UndefinedTableError):
        await _execute(empty_url, "SELECT * FROM third")


async def test_a_file_that_comes_too_late_is_refused(empty_url: str, folder: Path) -> None:
    await migrate(empty_url, folder)
    write(folder, "0001_earlier", "CREATE TABLE earlier (id int)")
    (folder / "0001_earlier.sql").rename(folder / "0000_earlier.sql")
    with pytest.raises(MigrationError, match="out of order"):
        await migrate(empty_url, folder)


async def test_waiting_has_a_deadline_for_the_lock_and_for_the_database(empty_url: str, folder: Path) -> None:
    conn = await asyncpg.connect(empty_url)
    try:
        await conn.execute(f"SELECT pg_advisory_lock({_LOCK_KEY})")
        with pytest.raises(MigrationError, match="another process is migrating"):
            await migrate(empty_url, folder, wait_seconds=0.3)
    finally:
        await conn.close()
    with pytest.raises(MigrationError, match="does not answer"):
        await migrate("postgresql://tradestream@/tradestream?host=/nowhere", folder, wait_seconds=0.3)


class Pooler:
    """A pooler like PgBouncer in transaction mode: a client has a server connection for one transaction."""

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._size = size
        self._idle: list[asyncpg.Connection[asyncpg.Record]] = []
        self._places = asyncio.Semaphore(size)
        self.opened: list[asyncpg.Connection[asyncpg.Record]] = []

    async def connect(self, url: str, **_: Any) -> PooledClient:
        return PooledClient(self)

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        async with self._places:
            conn = self._idle.pop() if self._idle else await _open(self._url)
            if conn not in self.opened:
                self.opened.append(conn)
            try:
                yield conn
            finally:
                self._idle.append(conn)


class PooledClient:
    """A driver's connection through the pooler."""

    def __init__(self, pooler: Pooler) -> None:
        self._pooler = pooler
        self._held: asyncpg.Connection[asyncpg.Record] | None = None

    async def execute(self, statement: str) -> None:
        async with self._pooler.lease() as conn:
            await conn.execute(statement)

    async def fetch(self, statement: str) -> list[asyncpg.Record]:
        if self._held is not None:
            return await self._held.fetch(statement)
        async with self._pooler.lease() as conn:
            return await conn.fetch(statement)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self._pooler.lease() as self._held:
            yield
        self._held = None

    def terminate(self) -> None:
        return


async def _open(url: str) -> asyncpg.Connection[asyncpg.Record]:
    return await asyncpg.connect(url)


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_a_pooler_that_shares_sessions_is_refused_in_one_line(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The kind: an address that answers every statement, and keeps neither locks nor settings between them."""
    pooler = Pooler(empty_url, size)
    monkeypatch.setattr(_pooling, "_ANSWER_SECONDS", 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(_pooling, "_connect", lambda url, stack: pooler.connect(url))
        with pytest.raises(MigrationError, match="DATABASE_URL: a pooler in transaction mode") as caught:
            await migrate(empty_url)
    assert len(str(caught.value).splitlines()) == 1
    for conn in pooler.opened:
        await conn.close()


async def test_postgres_itself_is_no_pooler(empty_url: str) -> None:
    await _pooling.refuse_pooling(empty_url)


async def test_a_pooler_that_does_not_take_our_settings_is_refused_in_one_line(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(url: str, **_: Any) -> None:
        raise asyncpg.ProtocolViolationError("unsupported startup parameter: statement_timeout")

    monkeypatch.setattr(asyncpg, "connect", refuse)
    with pytest.raises(MigrationError, match=r"DATABASE_URL: a pooler answers there.*statement_timeout") as caught:
        await migrate(empty_url)
    assert len(str(caught.value).splitlines()) == 1


async def test_a_database_is_dropped_though_a_superuser_works_in_it(servers: Servers) -> None:
    """The kind: a worker of autovacuum, which only a superuser may end, is in a test's database."""
    name = f"busy_{next(_numbers)}"
    await _execute(servers.postgres_url, f"CREATE DATABASE {name}")
    superuser = database_on(servers.postgres_url, name).replace("//tradestream@", "//postgres@")
    conn = await asyncpg.connect(superuser)
    dropping = asyncio.create_task(asyncio.to_thread(drop_database, servers.postgres_url, name))  # noqa: TID251
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await _execute(servers.postgres_url, f"DROP DATABASE {name} WITH (FORCE)")
    assert not dropping.done()
    await conn.close()
    await dropping
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(superuser)


def test_no_value_of_a_statement_gets_into_the_log_of_postgres(tmp_path: Path) -> None:
    """The kind: parameters, and the rows that errors quote: slow statements, constraints, contexts."""

    async def work(url: str) -> None:
        conn = await asyncpg.connect(url.replace("//tradestream@", "//postgres@"))  # a role that may log everything
        try:
            await conn.execute("CREATE TABLE kept (token text UNIQUE); SET log_min_duration_statement = 0")
            await conn.fetch("INSERT INTO kept VALUES ($1)", "a-secret-parameter")
            with pytest.raises(asyncpg.UniqueViolationError, match="kept_token_key"):
                await conn.fetch("INSERT INTO kept VALUES ($1)", "a-secret-parameter")
            with pytest.raises(asyncpg.RaiseError):
                await conn.execute("DO $$ BEGIN RAISE EXCEPTION 'failed' USING DETAIL = 'a-secret-parameter'; END $$")
        finally:
            await conn.close()

    with postgres_server(tmp_path) as url:
        asyncio.run(work(url))
        log = (tmp_path / "postgres.log").read_text()
    assert "INSERT INTO kept VALUES ($1)" in log
    assert "duplicate key value violates unique constraint" in log
    assert [line for line in log.splitlines() if "a-secret-parameter" in line and "DO $$" not in line] == []
