"""SQL of follows: what the owner of a provider writes, and what a follower reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db._postgres import Connection
from db._rows import columns, insert, names, rows_of, transposed, unnest, upsert


@dataclass(frozen=True, slots=True)
class FollowRow:
    """A follow."""

    follower_id: UUID
    provider_id: UUID
    notify_on_signal: bool
    followed_at: datetime


LOAD_FOLLOWS = f"""
SELECT {names(FollowRow, "f.")}
FROM unnest($1::uuid[], $2::uuid[]) AS u (follower_id, provider_id) JOIN follows f USING (follower_id, provider_id)
"""


async def load_follows(conn: Connection, pairs: Sequence[tuple[UUID, UUID]]) -> list[FollowRow]:
    """Return the follows among these (follower, provider) pairs."""
    return rows_of(FollowRow, await conn.fetch(LOAD_FOLLOWS, *transposed(pairs, 2)))


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
    return rows_of(FollowingRow, await conn.fetch(LOCK_FOLLOWINGS, followers))


UPDATE_FOLLOWINGS = f"""
UPDATE following_counts c SET following = n.following, first_followed_at = n.first_followed_at
FROM {unnest(FollowingRow)}
WHERE c.follower_id = n.follower_id
"""


async def update_followings(conn: Connection, rows: Sequence[FollowingRow]) -> None:
    """Store counts that are locked."""
    await conn.execute(UPDATE_FOLLOWINGS, *columns(FollowingRow, rows))


UPSERT_FOLLOWS = upsert("follows", FollowRow, key=("follower_id", "provider_id"))


async def upsert_follows(conn: Connection, rows: Sequence[FollowRow]) -> None:
    """Store follows."""
    await conn.execute(UPSERT_FOLLOWS, *columns(FollowRow, rows))


DELETE_FOLLOWS = """
DELETE FROM follows f USING unnest($1::uuid[], $2::uuid[]) AS u (follower_id, provider_id)
WHERE f.follower_id = u.follower_id AND f.provider_id = u.provider_id
"""


async def delete_follows(conn: Connection, pairs: Sequence[tuple[UUID, UUID]]) -> None:
    """Remove (follower, provider) pairs."""
    await conn.execute(DELETE_FOLLOWS, *transposed(pairs, 2))


@dataclass(frozen=True, slots=True)
class FollowerChange:
    """A follower gained or lost, `feed_seq` signals into the provider's record."""

    provider_id: UUID
    at: datetime
    delta: int
    feed_seq: int


INSERT_CHANGES = insert("follower_changes", FollowerChange)


async def insert_changes(conn: Connection, changes: Sequence[FollowerChange]) -> None:
    """Store changes, in order."""
    await conn.execute(INSERT_CHANGES, *columns(FollowerChange, changes))


LOAD_CHANGES = """
SELECT provider_id, at, delta, feed_seq FROM follower_changes WHERE provider_id = $1 ORDER BY feed_seq, id
"""


async def load_changes(conn: Connection, provider_id: UUID) -> list[FollowerChange]:
    """Return a provider's follower changes, where they happened among its signals."""
    return rows_of(FollowerChange, await conn.fetch(LOAD_CHANGES, provider_id))


COUNT_FOLLOWERS = "SELECT count(*) FROM follows WHERE provider_id = $1"


async def count_followers(conn: Connection, provider_id: UUID) -> int:
    """Return a provider's number of followers, counted one by one."""
    return int(await conn.fetchval(COUNT_FOLLOWERS, provider_id))


@dataclass(slots=True)  # not frozen: a page has a hundred
class FollowedProviderRow:
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
) -> tuple[list[FollowedProviderRow], int]:
    """Return the providers that a user follows, newest first, and their total number."""
    total: int = await conn.fetchval(COUNT_FOLLOWING, follower_id)
    rows = await conn.fetch(LIST_FOLLOWING, follower_id, limit, offset) if offset < total else []
    return rows_of(FollowedProviderRow, rows), total
