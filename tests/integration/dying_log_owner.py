"""A process that appends to the log and never commits: `python -m tests.integration.dying_log_owner URL COUNT`."""

from __future__ import annotations

import asyncio
import sys

from actors.ledger.log_writer import LogWriter
from db._postgres import create_pool, transaction
from tests.support.log_factory import ends


async def main(url: str, count: int) -> None:
    """Append, say so, and wait for the end."""
    pool = await create_pool(url, 1, name="dying owner")
    async with transaction(pool, deadline_seconds=None) as conn:
        await LogWriter().append(conn, ends(count, first=10_000))
        sys.stdout.write("appended\n")
        sys.stdout.flush()
        await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
