"""SQL of the streaks of providers that are people, current and ended, and the zones that their days are counted in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from db._postgres import Connection
from schemas._vocabulary import ProviderStreakType


@dataclass(frozen=True, slots=True)
class StreakRow:
    """A streak as it is stored; the fields after the type are those of actors.streaks.Streak."""

    provider_id: UUID
    streak_type: ProviderStreakType
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
class RunRow:
    """A streak that has ended."""

    provider_id: UUID
    streak_type: ProviderStreakType
    count: int
    started_on: date
    ended_on: date


_STREAK = ", ".join(StreakRow.__match_args__)
_RUN = ", ".join(RunRow.__match_args__)

LOAD_STREAKS = f"SELECT {_STREAK} FROM provider_streaks WHERE provider_id = ANY ($1::uuid[])"


async def load_streaks(conn: Connection, ids: Sequence[UUID]) -> list[StreakRow]:
    """Return the streaks of these providers."""
    return [StreakRow(*row) for row in await conn.fetch(LOAD_STREAKS, ids)]


LOAD_ZONES = "SELECT user_id, timezone FROM user_settings WHERE user_id = ANY ($1::uuid[])"


async def load_zones(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return the zones of those providers that have chosen one."""
    return {row[0]: row[1] for row in await conn.fetch(LOAD_ZONES, ids)}


UPSERT_STREAKS = f"""
INSERT INTO provider_streaks ({_STREAK})
SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::int[], $5::date[], $6::date[], $7::date[], $8::text[],
                     $9::date[], $10::timestamptz[], $11::timestamptz[])
ON CONFLICT (provider_id, streak_type) DO UPDATE SET
    current_count = excluded.current_count, longest_count = excluded.longest_count, started_on = excluded.started_on,
    last_on = excluded.last_on, seen_on = excluded.seen_on, zone = excluded.zone, counted_on = excluded.counted_on,
    counted_at = excluded.counted_at, seen_at = excluded.seen_at
"""


async def upsert_streaks(conn: Connection, rows: Sequence[StreakRow]) -> None:
    """Store streaks."""
    await conn.execute(UPSERT_STREAKS, *([getattr(row, name) for row in rows] for name in StreakRow.__match_args__))


INSERT_RUNS = f"""
INSERT INTO provider_streak_runs ({_RUN})
SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::date[], $5::date[])
"""


async def insert_runs(conn: Connection, rows: Sequence[RunRow]) -> None:
    """Store streaks that have ended."""
    await conn.execute(INSERT_RUNS, *([getattr(row, name) for row in rows] for name in RunRow.__match_args__))
