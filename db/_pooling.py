"""Detect a connection pooler before Postgres that assigns another session for each transaction."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg

from db._postgres import SESSION_SETTINGS

MESSAGE = (
    "DATABASE_URL: a pooler in transaction mode answers there (PgBouncer, as it seems); "
    "give PostgreSQL's own address, or a pool in session mode"
)
REFUSED = (
    "DATABASE_URL: a pooler answers there that does not pass on our session's settings ({}); give PostgreSQL's "
    "own address, or a pool in session mode whose ignore_startup_parameters lists them"
)
_ANSWER_SECONDS = 5.0
_ROUNDS = 3


class Pooled(Exception):
    """Sessions are shared: advisory locks and settings would be another client's; the text is for an operator."""


async def refuse_pooling(url: str) -> None:
    """Raise `Pooled` where sessions change between transactions; other errors are the driver's.

    The check: a setting made in one session must survive the work of another session, which takes over the first one's
    server connection where connections are shared.
    """
    async with contextlib.AsyncExitStack() as stack:
        first = await _connect(url, stack)
        second = await _connect(url, stack)
        try:
            for number in range(_ROUNDS):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await first.execute(f"SELECT set_config('tradestream.session', '{number}', false)")
                    # In a transaction of its own: it holds a server connection while the first session is asked again.
                    async with second.transaction():
                        theirs = await _ask(second)
                        ours = await _ask(first)
                if theirs[0] == ours[0] or ours[1] != str(number):
                    raise Pooled(MESSAGE)
        except (TimeoutError, asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError):
            # One server connection for both; or one session's statements do not exist in the next.
            raise Pooled(MESSAGE) from None
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            if "statement pooling" in str(error):  # a mode without transactions of several statements
                raise Pooled(MESSAGE) from None
            raise


async def _connect(url: str, stack: contextlib.AsyncExitStack) -> asyncpg.Connection[asyncpg.Record]:
    try:
        conn = await asyncpg.connect(url, timeout=_ANSWER_SECONDS, server_settings=SESSION_SETTINGS)
    except asyncpg.ProtocolViolationError as error:
        raise Pooled(REFUSED.format(error)) from None
    stack.callback(conn.terminate)
    return conn


async def _ask(conn: asyncpg.Connection[asyncpg.Record]) -> tuple[str, str]:
    # As text and without parameters: a prepared statement may already be another client's here.
    rows = await conn.fetch(
        "SELECT pg_backend_pid()::text AS pid, coalesce(current_setting('tradestream.session', true), '') AS session"
    )
    return rows[0]["pid"], rows[0]["session"]
