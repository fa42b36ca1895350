"""SQL of users' progress: streaks of days, unlocked achievements, and the facts of their track record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from db._postgres import Connection
from schemas._vocabulary import UserStreakType


@dataclass(frozen=True, slots=True)
class StreakRow:
    """A streak of days of a user."""

    user_id: UUID
    streak_type: UserStreakType
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

    user_id: UUID
    streak_type: UserStreakType
    count: int
    started_on: date
    ended_on: date


@dataclass(frozen=True, slots=True)
class UnlockedRow:
    """An achievement of a user."""

    user_id: UUID
    achievement_id: str
    unlocked_at: datetime


@dataclass(frozen=True, slots=True)
class ProgressRow:
    """A user's progress as its owner needs it; `referrer_id`: the user's referrer; `acted_at`: see referrals."""

    user_id: UUID
    referrer_id: UUID | None
    acted_at: datetime | None
    unlocked: tuple[str, ...]
    qualified: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class FactsRow:
    """The track record of a user who is a provider."""

    user_id: UUID
    signals: int
    wins: int
    most_followers: int
    level: str
    followers: int  # now


LOAD_PROGRESS = """
SELECT u.id, r.referrer_id, r.acted_at,
       ARRAY(SELECT a.achievement_id FROM achievements a WHERE a.user_id = u.id),
       ARRAY(SELECT q.referee_id FROM referrals q WHERE q.referrer_id = u.id AND q.status = 'qualified')
FROM users u LEFT JOIN referrals r ON r.referee_id = u.id
WHERE u.id = ANY ($1::uuid[])
"""


async def load_progress(conn: Connection, user_ids: Sequence[UUID]) -> list[ProgressRow]:
    """Return the progress of those users that exist."""
    rows = await conn.fetch(LOAD_PROGRESS, user_ids)
    return [ProgressRow(row[0], row[1], row[2], tuple(row[3]), tuple(row[4])) for row in rows]


_STREAK = ", ".join(StreakRow.__match_args__)

LOAD_STREAKS = f"SELECT {_STREAK} FROM user_streaks WHERE user_id = ANY ($1::uuid[])"


async def load_streaks(conn: Connection, user_ids: Sequence[UUID]) -> list[StreakRow]:
    """Return the streaks of these users."""
    return [StreakRow(*row) for row in await conn.fetch(LOAD_STREAKS, user_ids)]


UPSERT_STREAKS = f"""
INSERT INTO user_streaks ({_STREAK})
SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::int[], $5::date[], $6::date[], $7::date[], $8::text[],
                     $9::date[], $10::timestamptz[], $11::timestamptz[])
ON CONFLICT (user_id, streak_type) DO UPDATE SET
    current_count = excluded.current_count, longest_count = excluded.longest_count, started_on = excluded.started_on,
    last_on = excluded.last_on, seen_on = excluded.seen_on, zone = excluded.zone, counted_on = excluded.counted_on,
    counted_at = excluded.counted_at, seen_at = excluded.seen_at
"""


async def upsert_streaks(conn: Connection, rows: Sequence[StreakRow]) -> None:
    """Store streaks."""
    await conn.execute(UPSERT_STREAKS, *([getattr(each, name) for each in rows] for name in StreakRow.__match_args__))


INSERT_ENDED = """
INSERT INTO user_streak_runs (user_id, streak_type, count, started_on, ended_on)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::date[], $5::date[])
"""


async def insert_ended(conn: Connection, rows: Sequence[EndedStreakRow]) -> None:
    """Store streaks that have ended."""
    await conn.execute(
        INSERT_ENDED, *([getattr(each, name) for each in rows] for name in EndedStreakRow.__match_args__)
    )


INSERT_UNLOCKED = """
INSERT INTO achievements (user_id, achievement_id, unlocked_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[])
"""


async def insert_unlocked(conn: Connection, rows: Sequence[UnlockedRow]) -> None:
    """Store achievements that were locked until now."""
    await conn.execute(
        INSERT_UNLOCKED, *([getattr(each, name) for each in rows] for name in UnlockedRow.__match_args__)
    )


UNLOCKED = "SELECT user_id, achievement_id, unlocked_at FROM achievements WHERE user_id = $1"


async def unlocked(conn: Connection, user_id: UUID) -> list[UnlockedRow]:
    """Return a user's achievements."""
    return [UnlockedRow(*row) for row in await conn.fetch(UNLOCKED, user_id)]


_FACTS = "s.provider_id, s.total_signals, s.win_count, s.most_followers, s.verification_level, s.follower_count"

FACTS = f"""
SELECT {_FACTS} FROM provider_stats s JOIN providers p ON p.user_id = s.provider_id
WHERE s.provider_id = $1 AND NOT p.is_system
"""


async def facts(conn: Connection, user_id: UUID) -> FactsRow | None:
    """Return a user's track record, if there is one."""
    row = await conn.fetchrow(FACTS, user_id)
    return None if row is None else FactsRow(*row)


QUALIFIED = "SELECT count(*) FROM referrals WHERE referrer_id = $1 AND status = 'qualified'"


async def count_qualified(conn: Connection, user_id: UUID) -> int:
    """Return how many of a user's referrals are qualified."""
    found: int = await conn.fetchval(QUALIFIED, user_id)
    return found


@dataclass(frozen=True, slots=True)
class ShownStreakRow:
    """A streak as it is shown, of a user or of a provider."""

    streak_type: str
    current_count: int
    longest_count: int
    started_on: date
    last_on: date
    seen_on: date
    zone: str
    counted_on: date | None
    counted_at: datetime | None
    seen_at: datetime | None


_SHOWN_STREAK = ", ".join(ShownStreakRow.__match_args__)

STREAKS = f"""
SELECT {_SHOWN_STREAK} FROM user_streaks WHERE user_id = $1
UNION ALL
SELECT {_SHOWN_STREAK} FROM provider_streaks WHERE provider_id = $1
"""


async def streaks(conn: Connection, user_id: UUID) -> list[ShownStreakRow]:
    """Return all streaks of a user, those of publishing included."""
    return [ShownStreakRow(*row) for row in await conn.fetch(STREAKS, user_id)]


IS_PROVIDER = "SELECT EXISTS (SELECT FROM providers WHERE user_id = $1 AND NOT is_system)"


async def is_provider(conn: Connection, user_id: UUID) -> bool:
    """Return whether a user has become a provider."""
    found: bool = await conn.fetchval(IS_PROVIDER, user_id)
    return found


@dataclass(frozen=True, slots=True)
class PostRow:
    """A comment, deleted or not; `id` is a UUIDv7 of its time."""

    id: UUID
    user_id: UUID
    created_at: datetime


POSTS = "SELECT id, user_id, created_at FROM comments WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3"


async def posts(conn: Connection, after: UUID, before: UUID, limit: int) -> list[PostRow]:
    """Return comments in the order of their times."""
    return [PostRow(*row) for row in await conn.fetch(POSTS, after, before, limit)]


ZONES = "SELECT user_id, timezone FROM user_settings WHERE user_id = ANY ($1::uuid[])"


async def zones(conn: Connection, user_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return the time zones of those users who have set one; that of all others is UTC."""
    return {row[0]: row[1] for row in await conn.fetch(ZONES, user_ids)}


# A page of the providers in the order of their ids: what is missing is found within one walk over all of them. Arrays,
# because for NOT EXISTS the planner reads the achievements of all users.
WALK_PROVIDERS = f"""
WITH page AS MATERIALIZED (
    SELECT {_FACTS} FROM provider_stats s
    JOIN providers p ON p.user_id = s.provider_id AND NOT p.is_system AND p.user_id > $1
    WHERE s.provider_id > $1 ORDER BY s.provider_id LIMIT $2
)
SELECT page.*, NOT ARRAY(
    SELECT due.id FROM unnest($3::text[], $4::text[], $5::int[]) AS due (id, fact, target)
    WHERE due.target <= CASE due.fact
        WHEN 'signals' THEN page.total_signals WHEN 'wins' THEN page.win_count
        WHEN 'followers' THEN page.most_followers WHEN 'first_as_provider' THEN page.total_signals
        WHEN 'verified' THEN (page.verification_level <> 'none')::int ELSE 0 END
) <@ ARRAY(SELECT a.achievement_id FROM achievements a WHERE a.user_id = page.provider_id)
FROM page ORDER BY page.provider_id
"""


async def walk_providers(
    conn: Connection, after: UUID, limit: int, due: Sequence[tuple[str, str, int]]
) -> tuple[list[FactsRow], UUID | None]:
    """Return, of the next `limit` providers, those that lack one of `due`: (achievement, fact, target).

    The second value is where to continue, None at the end.
    """
    columns = [list(each) for each in zip(*due, strict=True)]
    rows = await conn.fetch(WALK_PROVIDERS, after, limit, *columns)
    missing = [FactsRow(*row[:-1]) for row in rows if row[-1]]
    return missing, rows[-1][0] if len(rows) == limit else None
