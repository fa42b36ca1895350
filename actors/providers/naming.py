"""Check that a name is free among all names: current, replaced in the last month, and of Lens's sources."""

from __future__ import annotations

import asyncio
from datetime import datetime

from actors.providers.profile import NAME_TAKEN, RENAMING, check_characters
from db._postgres import Connection
from db.providers import profiles
from db.providers.profiles import ProfileRow
from schemas._confusables import is_plain_ascii, skeletons
from schemas.errors import Conflict

FILLED_AT_ONCE = 500


async def check_name(conn: Connection, row: ProfileRow, at: datetime) -> None:
    """Raise Conflict for a name that is taken or looks like one, ValidationFailed for an impossible one.

    In this order: an imitation is reported as such before other faults. Until the transaction ends nobody else can
    take a name.
    """
    await _fill(conn)
    plain = is_plain_ascii(row.display_name)
    if await profiles.name_taken(conn, row, plain=plain, formers_since=at - RENAMING):
        raise Conflict(NAME_TAKEN)
    check_characters(row.display_name)


async def _fill(conn: Connection) -> None:
    """Store the skeletons of names that were written by SQL: older ones, and those of sources that Lens has met."""
    while missing := await profiles.without_skeletons(conn, FILLED_AT_ONCE):
        found = [(each, await asyncio.to_thread(skeletons, name)) for each, name in missing]
        await profiles.fill_skeletons(conn, found)
