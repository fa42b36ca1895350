"""SQL of users' progress: unlocked achievements, and the facts of their track record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db._postgres import Connection
from db._rows import columns, insert, names, row_of, rows_of, transposed


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


INSERT_UNLOCKED = insert("achievements", UnlockedRow)


async def insert_unlocked(conn: Connection, rows: Sequence[UnlockedRow]) -> None:
    """Store achievements that were locked until now."""
    await conn.execute(INSERT_UNLOCKED, *columns(UnlockedRow, rows))


UNLOCKED = f"SELECT {names(UnlockedRow)} FROM achievements WHERE user_id = $1"


async def unlocked(conn: Connection, user_id: UUID) -> list[UnlockedRow]:
    """Return a user's achievements."""
    return rows_of(UnlockedRow, await conn.fetch(UNLOCKED, user_id))


_FACTS = "s.provider_id, s.total_signals, s.win_count, s.most_followers, s.verification_level, s.follower_count"

FACTS = f"""
SELECT {_FACTS} FROM provider_stats s JOIN providers p ON p.user_id = s.provider_id
WHERE s.provider_id = $1 AND NOT p.is_system
"""


async def facts(conn: Connection, user_id: UUID) -> FactsRow | None:
    """Return a user's track record, if there is one."""
    return row_of(FactsRow, await conn.fetchrow(FACTS, user_id))


QUALIFIED = "SELECT count(*) FROM referrals WHERE referrer_id = $1 AND status = 'qualified'"


async def count_qualified(conn: Connection, user_id: UUID) -> int:
    """Return how many of a user's referrals are qualified."""
    return int(await conn.fetchval(QUALIFIED, user_id))


IS_PROVIDER = "SELECT EXISTS (SELECT FROM providers WHERE user_id = $1 AND NOT is_system)"


async def is_provider(conn: Connection, user_id: UUID) -> bool:
    """Return whether a user has become a provider."""
    return bool(await conn.fetchval(IS_PROVIDER, user_id))


@dataclass(frozen=True, slots=True)
class PostRow:
    """A comment, deleted or not; `id` is a UUIDv7 of its time."""

    id: UUID
    user_id: UUID
    created_at: datetime


POSTS = f"SELECT {names(PostRow)} FROM comments WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3"


async def posts(conn: Connection, after: UUID, before: UUID, limit: int) -> list[PostRow]:
    """Return comments in the order of their times."""
    return rows_of(PostRow, await conn.fetch(POSTS, after, before, limit))


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
    rows = await conn.fetch(WALK_PROVIDERS, after, limit, *transposed(due, 3))
    missing = [FactsRow(*row[:-1]) for row in rows if row[-1]]
    return missing, rows[-1][0] if len(rows) == limit else None
