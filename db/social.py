"""SQL of reactions and comments: as users/{k} stores them, and as the API reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from config.documents import Document
from db._postgres import Connection, Record
from db._rows import columns, names, row_of, rows_of, transposed, upsert
from db.signals.document import REACTIONS, REACTIONS_JSON

LIKES = "likes"
COUNTERS = (*REACTIONS.values(), "comments")


@dataclass(frozen=True, slots=True)
class ReactionRow:
    """One kind of reaction of a user to a signal."""

    user_id: UUID
    signal_id: UUID
    reaction_type: str
    is_active: bool
    reacted_at: datetime


@dataclass(frozen=True, slots=True)
class CommentRow:
    """A comment as its author's owner keeps it."""

    id: UUID
    signal_id: UUID
    user_id: UUID
    parent_id: UUID | None
    content: str
    is_edited: bool
    created_at: datetime
    deleted_at: datetime | None


# Loaded by users/{k}: a user's reactions and comments on a signal. The arrays are in parallel: (user, signal).

LOAD_REACTIONS = f"""
SELECT {names(ReactionRow, "r.")}
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (user_id, signal_id) JOIN reactions r USING (user_id, signal_id)
"""


async def load_reactions(conn: Connection, pairs: Sequence[tuple[UUID, UUID]]) -> list[ReactionRow]:
    """Return the reactions of users to signals, those that were taken back included."""
    return rows_of(ReactionRow, await conn.fetch(LOAD_REACTIONS, *transposed(pairs, 2)))


LOAD_COMMENTS = f"""
SELECT {names(CommentRow, "k.")}
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (user_id, signal_id) JOIN comments k USING (user_id, signal_id)
ORDER BY k.created_at, k.id
"""


async def load_comments(conn: Connection, pairs: Sequence[tuple[UUID, UUID]]) -> list[CommentRow]:
    """Return the comments of users on signals, oldest first, deleted ones included."""
    return rows_of(CommentRow, await conn.fetch(LOAD_COMMENTS, *transposed(pairs, 2)))


UPSERT_REACTIONS = upsert("reactions", ReactionRow, key=("user_id", "signal_id", "reaction_type"))


async def upsert_reactions(conn: Connection, rows: Sequence[ReactionRow]) -> None:
    """Store reactions."""
    await conn.execute(UPSERT_REACTIONS, *columns(ReactionRow, rows))


UPSERT_COMMENTS = upsert("comments", CommentRow, key=("id",), keep=("signal_id", "user_id", "parent_id", "created_at"))


async def upsert_comments(conn: Connection, rows: Sequence[CommentRow]) -> None:
    """Store comments."""
    await conn.execute(UPSERT_COMMENTS, *columns(CommentRow, rows))


# Many owners add to the same rows: all lock them in the order of the ids, so that they never deadlock.
_SUMS = ", ".join(f"{name} = signal_counters.{name} + excluded.{name}" for name in COUNTERS)
ADD_TO_COUNTERS = f"""
INSERT INTO signal_counters (signal_id, {", ".join(COUNTERS)})
SELECT * FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::int[], $6::int[]) AS d (signal_id) ORDER BY 1
ON CONFLICT (signal_id) DO UPDATE SET {_SUMS}
"""
ADD_TO_LIKES = """
INSERT INTO provider_likes (provider_id, likes)
SELECT s.provider_id, sum(d.likes)
FROM unnest($1::uuid[], $2::int[]) AS d (signal_id, likes) JOIN signals s ON s.id = d.signal_id
GROUP BY 1 ORDER BY 1
ON CONFLICT (provider_id) DO UPDATE SET likes = provider_likes.likes + excluded.likes
"""


async def add_to_counters(conn: Connection, deltas: Mapping[UUID, Mapping[str, int]]) -> None:
    """Add to the counters of signals, by their columns, and to the likes of their providers."""
    counts = [[delta.get(name, 0) for delta in deltas.values()] for name in COUNTERS]
    await conn.execute(ADD_TO_COUNTERS, list(deltas), *counts)
    if likes := {signal_id: delta[LIKES] for signal_id, delta in deltas.items() if delta.get(LIKES)}:
        await conn.execute(ADD_TO_LIKES, *transposed(likes.items(), 2))


# Read by the API.

GET_REACTIONS = f"SELECT ({REACTIONS_JSON})::json FROM signal_counters c WHERE signal_id = $1"


async def get_reactions(conn: Connection, signal_id: UUID) -> dict[str, int]:
    """Return how many users reacted to a signal, by kind; only kinds that were chosen."""
    found: dict[str, int] | None = await conn.fetchval(GET_REACTIONS, signal_id)
    return found or {}


@dataclass(frozen=True, slots=True)
class CommentFacts:
    """The facts of a comment that others than its author's owner may ask for."""

    signal_id: UUID
    user_id: UUID
    is_reply: bool
    is_deleted: bool
    is_shown: bool  # also when it was deleted, while it has replies


_IS_SHOWN = """(k.deleted_at IS NULL
          OR EXISTS (SELECT FROM comments r WHERE r.parent_id = k.id AND r.deleted_at IS NULL))"""

GET_COMMENT_FACTS = f"""
SELECT k.signal_id, k.user_id, k.parent_id IS NOT NULL, k.deleted_at IS NOT NULL, {_IS_SHOWN}
FROM comments k WHERE k.id = $1
"""


async def get_comment_facts(conn: Connection, comment_id: UUID) -> CommentFacts | None:
    """Return a comment's facts, or None."""
    return row_of(CommentFacts, await conn.fetchrow(GET_COMMENT_FACTS, comment_id))


_SHOWN = """k.id, k.parent_id, k.content, k.is_edited, k.created_at, k.deleted_at IS NOT NULL, u.id, u.display_name,
       u.avatar_url"""

GET_COMMENT = f"SELECT {_SHOWN} FROM comments k JOIN users u ON u.id = k.user_id WHERE k.id = $1"


async def get_comment(conn: Connection, comment_id: UUID) -> Document | None:
    """Return one comment as lists show it, without its replies, or None."""
    row = await conn.fetchrow(GET_COMMENT, comment_id)
    return None if row is None else _comment(row)


LIST_COMMENTS = f"""
WITH page AS MATERIALIZED (
    SELECT k.id FROM comments k
    WHERE k.signal_id = $1 AND k.parent_id IS NULL AND {_IS_SHOWN}
    ORDER BY k.created_at, k.id LIMIT $2 OFFSET $3
), shown AS (
    SELECT k.* FROM page JOIN comments k ON k.id = page.id
    UNION ALL
    SELECT k.* FROM page JOIN comments k ON k.parent_id = page.id WHERE k.deleted_at IS NULL
)
SELECT {_SHOWN} FROM shown k JOIN users u ON u.id = k.user_id ORDER BY k.created_at, k.id
"""

COUNT_COMMENTS = "SELECT comments FROM signal_counters WHERE signal_id = $1"


async def list_comments(conn: Connection, signal_id: UUID, *, limit: int, offset: int = 0) -> list[Document]:
    """Return a page of a signal's comments, oldest first, each with all of its replies."""
    rows = await conn.fetch(LIST_COMMENTS, signal_id, limit, offset)
    replies: dict[UUID, list[Document]] = {row[0]: [] for row in rows if row[1] is None}
    for row in rows:
        if row[1] is not None:
            replies[row[1]].append(_comment(row))
    return [{**_comment(row), "replies": replies[row[0]]} for row in rows if row[1] is None]


async def count_comments(conn: Connection, signal_id: UUID) -> int:
    """Return how many comments and replies a signal has that were not deleted."""
    return await conn.fetchval(COUNT_COMMENTS, signal_id) or 0


def _comment(row: Record) -> Document:
    comment_id, parent_id, content, is_edited, created_at, is_deleted, user_id, display_name, avatar_url = row
    user = {"user_id": user_id, "display_name": display_name, "avatar_url": avatar_url}
    return {
        "id": comment_id,
        "user": None if is_deleted else user,
        "content": None if is_deleted else content,
        "parent_id": parent_id,
        "is_edited": is_edited,
        "created_at": created_at,
        "is_deleted": is_deleted,
        "replies": [],
    }
