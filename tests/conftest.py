"""The fixtures, from the most expensive to the cheapest.

- `servers` (session): one embedded PostgreSQL and one Valkey for the whole run, started when first asked for.
- `template` (session): a database with the migrations applied; cloned, not migrated, for each test.
- `database_url`, `redis_url`: an empty database of this test's own; a Valkey that was flushed.
- `settings`: settings that point to both, every limit at its default.
- `io_loop` comes from pytest-tornasync: one loop per test, so pools are opened inside the test.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
import pytest
import redis

from config.settings import Settings
from db._migrate import migrate
from tests.support.services import drop_database, postgres_server, valkey_server

TEMPLATE = "template_tradestream"
MEMORY, MEMORY_BYTES = Path("/dev/shm"), 4 << 30  # a file system in memory (Linux), and what must be free there
_numbers = itertools.count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Set a base of this run's own for temporary files, in memory where there is room.

    The default one is closed to other users again by every run that starts; PostgreSQL, which does not run as root,
    would lose its data under the feet of a run beside it. Each cluster and each database is a thousand small files to
    copy: on a disk that takes four times the processor's time, and waits for whoever else writes.
    """
    if config.option.basetemp is None:
        for left in Path(_temporary_root()).glob("tradestream-tests-[0-9]*"):  # by runs that were killed
            if not psutil.pid_exists(int(left.name.rpartition("-")[2])):
                shutil.rmtree(left, ignore_errors=True)
        config.option.basetemp = f"{_temporary_root()}/tradestream-tests-{os.getpid()}"
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Over Tornado's HTTP server, leave out what ADR 11 says that it cannot do."""
    if Settings.load(env_file=None).http_server == "tornado":
        for item in items:
            if item.get_closest_marker("llhttp"):
                item.add_marker(pytest.mark.skip("Tornado's own HTTP server cannot do it: docs/adr/0011-http.md"))


def _temporary_root() -> str | Path:
    if not MEMORY.is_dir() or os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:  # tests copy programs, too
        return tempfile.gettempdir()
    return MEMORY if shutil.disk_usage(MEMORY).free > MEMORY_BYTES else tempfile.gettempdir()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in what was logged: it is sent to the process that collects the results as UTF-8."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@dataclass(frozen=True)
class Servers:
    """The addresses of the test run's own servers."""

    postgres_url: str
    redis_url: str


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One embedded PostgreSQL and one Valkey for the whole run."""
    root: Path = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:
        yield Servers(
            stack.enter_context(postgres_server(root / "postgres")),
            stack.enter_context(valkey_server(root / "valkey")),
        )


@pytest.fixture(scope="session")
def template(servers: Servers) -> str:
    """The name of a migrated database without a connection."""
    _execute(servers.postgres_url, f"CREATE DATABASE {TEMPLATE}")
    asyncio.run(migrate(database_on(servers.postgres_url, TEMPLATE)))
    return TEMPLATE


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """The test's own directory, gone with the test: it may be in memory."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def database_url(servers: Servers, template: str) -> Iterator[str]:
    """An empty, migrated database."""
    name = f"test_{next(_numbers)}"
    _execute(servers.postgres_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield database_on(servers.postgres_url, name)
    drop_database(servers.postgres_url, name)


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """A Valkey without a key."""
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
    return servers.redis_url


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings of a development server on this test's own services; nothing of the environment."""
    return Settings.load(env_file=None).replace(
        environment="development", database_url=database_url, redis_url=redis_url, data_dir=tmp_path / "data"
    )


def database_on(url: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _execute(url: str, statement: str) -> None:
    async def run() -> None:
        conn = await asyncpg.connect(url)
        try:
            await conn.execute(statement)
        finally:
            await conn.close()

    asyncio.run(run())
