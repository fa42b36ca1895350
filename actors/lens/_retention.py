"""Delete what LENS_ARCHIVE_DAYS no longer keeps, in transactions so small that they delay no others."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from uuid import UUID

from actors._runtime.context import ActorContext
from config import clock
from db.lens import retention

log = logging.getLogger(__name__)

FORGET_EVERY_SECONDS = 600.0
AT_ONCE = 500  # documents or entries in one transaction: some 20 ms
PAUSE_SECONDS = 0.1  # between two of them, so that they take a fifth of a core at most: 15 million events an hour


async def forget_old(context: ActorContext, after: UUID) -> UUID:
    """Remove a batch of what is due. Events up to `after` were checked before; return the next `after`."""
    before = clock.now() - timedelta(days=context.settings.lens_archive_days)
    while True:
        async with context.transaction() as conn:
            last = await retention.forget_documents(conn, before, AT_ONCE, after=after)
        if last is None:
            break
        after = last
        await asyncio.sleep(PAUSE_SECONDS)
    dead_letters = AT_ONCE
    while dead_letters == AT_ONCE:
        async with context.transaction() as conn:
            dead_letters = await retention.forget_resolved(conn, before, AT_ONCE)
        await asyncio.sleep(PAUSE_SECONDS)
    log.debug("%s: nothing is left that is older than %s", context.name, before)
    return after
