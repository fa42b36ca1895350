"""SQL of follows: what the owner of a provider writes, and what a follower reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db._postgres import Connection


@dataclass(frozen=True, slots=True)
class FollowRow:
    """A follow."""

    follower_id: UUID
    provider_id: UUID
    notify_on_signal: bool
    followed_at: datetime


LOAD_FOLLOWS = """
SELECT f.follower_id, f.provider_id, f.notify_on_signal, f.followed_at
FROM unnest($1::uuid[], $2::uuid[]) AS u (follower_id, provider_id) JOIN follows f USING (follower_id, provider_id)
"""


async def load_follows(conn: Connection, pairs: Sequence[tuple[UUID, UUID]]) -> list[FollowRow]:
    """Return the follows among these (follower, provider) pairs."""
    followers, providers = [each[0] for each in pairs], [each[1] for each in pairs]
    return [FollowRow(*row) for row in await conn.fetch(LOAD_FOLLOWS, followers, providers)]


@dataclass(frozen=True, slots=True)
class FollowingRow:
    """How many providers a user follows, and since when it follows any."""

    follower_id: UUID
    following: int
    first_followed_at: datetime | None


# The update changes nothing but takes the lock, in the order of the ids: two owners never deadlock.
LOCK_FOLLOWINGS = """
INSERT INTO following_counts AS held (follower_id, following)
SELECT u.id, 0 FROM users u WHERE u.id = ANY ($1::uuid[]) ORDER BY u.id
ON CONFLICT (follower_id) DO UPDATE SET following = held.following
RETURNING follower_id, following, first_followed_at
"""


async def lock_followings(conn: Connection, followers: Sequence[UUID]) -> list[FollowingRow]:
    """Return the counts of those users that exist; no other owner changes them until the transaction ends."""
    return [FollowingRow(*row) for row in await conn.fetch(LOCK_FOLLOWINGS, followers)]


UPDATE_FOLLOWINGS = """
UPDATE following_counts c SET following = n.following, first_followed_at = n.first_followed_at
FROM unnest($1::uuid[], $2::int[], $3::timestamptz[]) AS n (follower_id, following, first_followed_at)
WHERE c.follower_id = n.follower_id
"""


async def update_followings(conn: Connection, rows: Sequence[FollowingRow]) -> None:
    """Store counts that are locked."""
    await conn.execute(
        UPDATE_FOLLOWINGS,
        [each.follower_id for each in rows],
        [each.following for each in rows],
        [each.first_followed_at for each in rows],
    )


UPSERT_FOLLOWS = """
INSERT INTO follows (follower_id, provider_id, notify_on_signal, followed_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bool[], $4::timestamptz[])
ON CONFLICT (follower_id, provider_id) DO UPDATE
SET notify_on_signal = excluded.notify_on_signal, followed_at = excluded.followed_at
"""


async def upsert_follows(conn: Connection, rows: Sequence[FollowRow]) -> None:
    """Store follows."""
    await conn.execute(
        UPSERT_FOLLOWS,
        [each.follower_id for each in rows],
        [each.provider_id for each in rows],
        [each.notify_on_signal for each in rows],
        [each.followed_at for each in rows],
    )


DELETE_FOLLOWS = """
DELETE FROM follows f USING unnest($1::uuid[], $2::uuid[]) AS u (follower_id, provider_id)
WHERE f.follower_id = u.follower_id AND f.provider_id = u.provider_id
"""


async def delete_follows(conn: Connection, pairs: Sequence[tuple[UUID, UUID]]) -> None:
    """Remove (follower, provider) pairs."""
    await conn.execute(DELETE_FOLLOWS, [each[0] for each in pairs], [each[1] for each in pairs])


@dataclass(frozen=True, slots=True)
class FollowerChange:
    """A follower gained or lost, `feed_seq` signals into the provider's record."""

    provider_id: UUID
    at: datetime
    delta: int
    feed_seq: int


INSERT_CHANGES = """
INSERT INTO follower_changes (provider_id, at, delta, feed_seq)
SELECT provider_id, at, delta, feed_seq
FROM unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::bigint[])
    WITH ORDINALITY AS u (provider_id, at, delta, feed_seq, place)
ORDER BY place
"""


async def insert_changes(conn: Connection, changes: Sequence[FollowerChange]) -> None:
    """Store changes, in order."""
    await conn.execute(
        INSERT_CHANGES,
        [each.provider_id for each in changes],
        [each.at for each in changes],
        [each.delta for each in changes],
        [each.feed_seq for each in changes],
    )


LOAD_CHANGES = """
SELECT provider_id, at, delta, feed_seq FROM follower_changes WHERE provider_id = $1 ORDER BY feed_seq, id
"""


async def load_changes(conn: Connection, provider_id: UUID) -> list[FollowerChange]:
    """Return a provider's follower changes, where they happened among its signals."""
    return [FollowerChange(*row) for row in await conn.fetch(LOAD_CHANGES, provider_id)]


COUNT_FOLLOWERS = "SELECT count(*) FROM follows WHERE provider_id = $1"


async def count_followers(conn: Connection, provider_id: UUID) -> int:
    """Return a provider's number of followers, counted one by one."""
    count: int = await conn.fetchval(COUNT_FOLLOWERS, provider_id)
    return count


@dataclass(slots=True)  # not frozen: a page has a hundred
class FollowedProvider:
    """A provider as its follower's list shows it."""

    user_id: UUID
    display_name: str
    avatar_url: str | None
    win_rate: float | None
    follower_count: int
    notify_on_signal: bool
    followed_at: datetime


# At most 500 per follower: sorting them is nothing.
LIST_FOLLOWING = """
SELECT f.provider_id, p.display_name, p.avatar_url, s.win_rate, coalesce(s.follower_count, 0), f.notify_on_signal,
       f.followed_at
FROM follows f JOIN providers p ON p.user_id = f.provider_id LEFT JOIN provider_stats s USING (provider_id)
WHERE f.follower_id = $1
ORDER BY f.followed_at DESC, f.provider_id LIMIT $2 OFFSET $3
"""

COUNT_FOLLOWING = "SELECT count(*) FROM follows WHERE follower_id = $1"


async def list_following(
    conn: Connection, follower_id: UUID, *, limit: int, offset: int
) -> tuple[list[FollowedProvider], int]:
    """Return the providers that a user follows, newest first, and their total number."""
    total: int = await conn.fetchval(COUNT_FOLLOWING, follower_id)
    rows = await conn.fetch(LIST_FOLLOWING, follower_id, limit, offset) if offset < total else []
    return [FollowedProvider(*row) for row in rows], total
