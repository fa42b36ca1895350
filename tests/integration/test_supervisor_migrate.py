"""Migrations: once each, one process at a time, in order, and with dbmate's own words when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from db._migrate import _LOCK_KEY, MigrationError, migrate
from tests.conftest import Servers, database_on

_numbers = count(1)


@pytest.fixture
def empty_url(servers: Servers) -> Iterator[str]:
    """A database without a table."""
    name = f"empty_{next(_numbers)}"
    asyncio.run(_execute(servers.postgres_url, f"CREATE DATABASE {name}"))
    yield database_on(servers.postgres_url, name)
    asyncio.run(_execute(servers.postgres_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two migrations."""
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


async def test_what_is_missing_is_applied_once_and_named(empty_url: str, folder: Path) -> None:
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
