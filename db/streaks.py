"""SQL of streaks of days, current and ended, of users and of providers: two tables of each, with the same columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal
from uuid import UUID

from db._postgres import Connection
from db._rows import columns, insert, names, rows_of, upsert
from schemas._vocabulary import ProviderStreakType, UserStreakType

Owner = Literal["user", "provider"]
StreakType = Literal[UserStreakType, ProviderStreakType]


@dataclass(frozen=True, slots=True)
class StreakRow:
    """A streak as it is stored; the fields after the type are those of actors.streaks.Streak."""

    owner_id: UUID
    streak_type: StreakType
    current_count: int
    longest_count: int
    started_on: date
    last_on: date
    seen_on: date
    zone: str
    counted_on: date | None
    counted_at: datetime | None
    seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class EndedStreakRow:
    """A streak that has ended."""

    owner_id: UUID
    streak_type: StreakType
    count: int
    started_on: date
    ended_on: date


def _of_both(statement: str) -> dict[Owner, str]:
    """Return the statement for either owner: `owner_streaks.owner_id` is `user_streaks.user_id`."""
    return {"user": statement.replace("owner_", "user_"), "provider": statement.replace("owner_", "provider_")}


LOAD_STREAKS = _of_both(f"SELECT {names(StreakRow)} FROM owner_streaks WHERE owner_id = ANY ($1::uuid[])")


async def load_streaks(conn: Connection, owner: Owner, ids: Sequence[UUID]) -> list[StreakRow]:
    """Return the streaks of these users or providers."""
    return rows_of(StreakRow, await conn.fetch(LOAD_STREAKS[owner], ids))


STREAKS_OF = f"""
{LOAD_STREAKS["user"]} UNION ALL {LOAD_STREAKS["provider"]}
"""


async def streaks_of(conn: Connection, user_id: UUID) -> list[StreakRow]:
    """Return all streaks of a user, those of publishing included."""
    return rows_of(StreakRow, await conn.fetch(STREAKS_OF, [user_id]))


UPSERT_STREAKS = _of_both(upsert("owner_streaks", StreakRow, key=("owner_id", "streak_type")))


async def upsert_streaks(conn: Connection, owner: Owner, rows: Sequence[StreakRow]) -> None:
    """Store streaks."""
    await conn.execute(UPSERT_STREAKS[owner], *columns(StreakRow, rows))


INSERT_ENDED = _of_both(insert("owner_streak_runs", EndedStreakRow))


async def insert_ended(conn: Connection, owner: Owner, rows: Sequence[EndedStreakRow]) -> None:
    """Store streaks that have ended."""
    await conn.execute(INSERT_ENDED[owner], *columns(EndedStreakRow, rows))


LOAD_ZONES = "SELECT user_id, timezone FROM user_settings WHERE user_id = ANY ($1::uuid[])"


async def load_zones(conn: Connection, user_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return the time zones of those users who have set one; that of all others is UTC."""
    return {row[0]: row[1] for row in await conn.fetch(LOAD_ZONES, user_ids)}
