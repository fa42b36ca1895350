"""Access Postgres: pools that survive its restarts, connections with a deadline, driver errors as domain errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import asyncpg
import asyncpg.pool
import orjson

from config import metrics
from db._outage import Outage
from schemas.errors import DatabaseUnavailable

Record = asyncpg.Record

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

CONNECT_SECONDS = 1.0
# From asking the pool to the end of the last statement. A caller promises its own answer in under 2 s.
DEADLINE_SECONDS = 1.5
# Backstops in the server, for what a vanished client has left running; `SET LOCAL` raises them for long work.
STATEMENT_TIMEOUT_MS = 30_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000
SESSION_SETTINGS = {
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
    "timezone": "UTC",
    "jit": "off",  # compiling costs tens of milliseconds: more than any statement here takes
}
_APPLICATION_NAME_BYTES = 63  # NAMEDATALEN - 1: Postgres truncates longer names

# Postgres aborted the transaction in favour of another one: neither is at fault, and it may be retried.
CONTENDED = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)

# Errors which mean that the server, not the statement, is in trouble.
_SERVER_TROUBLE = (
    asyncpg.PostgresConnectionError,  # 08: lost, refused, rejected
    asyncpg.InsufficientResourcesError,  # 53: too many connections, disk full, out of memory
    asyncpg.OperatorInterventionError,  # 57: shutting down, starting up, statement cancelled by a time-out
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # the primary that we are connected to was demoted
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InternalClientError,
)


async def create_pool(dsn: str, size: int, *, name: str) -> Pool:
    """Create a pool of at most `size` connections, shown as `name` in `pg_stat_activity`; it connects when first used.

    It opens no connection now, so it can be made while Postgres is unavailable, and it replaces connections that died.
    `json` and `jsonb` are Python values (orjson) in both directions.
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        timeout=CONNECT_SECONDS,
        init=_prepare,
        reset=_keep_session,
        server_settings={
            "application_name": name.encode()[:_APPLICATION_NAME_BYTES].decode(errors="ignore"),
            **SESSION_SETTINGS,
        },
    )


def show_pool(pool: Pool, owner: str) -> None:
    """Update the metrics of a pool."""
    size, idle = pool.get_size(), pool.get_idle_size()
    metrics.POOL_CONNECTIONS.labels(owner, "open").set(size)
    metrics.POOL_CONNECTIONS.labels(owner, "in_use").set(size - idle)


@asynccontextmanager
async def connection(pool: Pool, *, deadline_seconds: float | None = DEADLINE_SECONDS) -> AsyncIterator[Connection]:
    """Lend a connection from the pool to the block, which must end within the deadline (None: no deadline).

    Raises DatabaseUnavailable when Postgres cannot be reached, goes away, is out of connections or does not answer in
    time; whether a statement under way took effect is unknown then. The error of a statement itself passes unchanged.
    """
    async with database_errors(), asyncio.timeout(deadline_seconds):
        async with asyncio.timeout(DEADLINE_SECONDS if deadline_seconds is None else None):
            conn = await pool.acquire()
        try:
            yield conn
        except (TimeoutError, asyncio.CancelledError):
            # Its state is unknown and a rollback might wait as long again: drop it, the pool opens another. If the
            # server has just died, the pool has taken it back already.
            with suppress(asyncpg.InterfaceError):
                conn.terminate()
            raise
        finally:
            await pool.release(conn)


@asynccontextmanager
async def transaction(pool: Pool, *, deadline_seconds: float | None = DEADLINE_SECONDS) -> AsyncIterator[Connection]:
    """Lend a `connection` with one READ COMMITTED transaction around the block."""
    async with connection(pool, deadline_seconds=deadline_seconds) as conn, conn.transaction():
        yield conn


class database_errors:  # noqa: N801 - reads as the block it guards
    """Turn what the driver raises in an `async with` block for a server in trouble into DatabaseUnavailable."""

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            _outage.answered()
        elif is_unavailable(error):
            _outage.failed(error)
            raise DatabaseUnavailable from error


def is_unavailable(error: BaseException) -> bool:
    """Return whether this error of the driver means that the server is in trouble, not the statement."""
    if isinstance(error, asyncpg.InterfaceError):
        # One class for misuse and for a lost connection; only the text tells them apart.
        return "closed" in str(error) or "closing" in str(error)
    return isinstance(error, (OSError, TimeoutError, *_SERVER_TROUBLE))


def loudness(error: BaseException) -> int:
    """Return the log level for work that will be retried: DEBUG for an outage of Postgres, which is logged already."""
    return logging.DEBUG if isinstance(error, DatabaseUnavailable) else logging.WARNING


_outage = Outage("Postgres")


async def _prepare(conn: asyncpg.Connection[asyncpg.Record]) -> None:
    await conn.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + orjson.dumps(value),  # the version of jsonb's binary form
        decoder=lambda data: orjson.loads(memoryview(data)[1:]),
    )
    await conn.set_type_codec("json", schema="pg_catalog", format="binary", encoder=orjson.dumps, decoder=orjson.loads)


async def _keep_session(conn: object) -> None:
    """Reset nothing: no session state is ever set, so the driver's reset would cost a round trip at each release."""
