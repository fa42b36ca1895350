"""Load the entities of `users/{k}` from Postgres: each kind by a few queries for all of its keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from actors.streaks import from_row
from actors.users.account import Account
from actors.users.preferences import Library
from actors.users.progress import Progress
from actors.users.social import Talk
from db import achievements, social
from db._postgres import Connection
from db.social import CommentRow, ReactionRow
from db.users import accounts, preferences, sessions


async def load_accounts(conn: Connection, ids: Sequence[UUID]) -> Mapping[UUID, Account]:
    """Return the accounts that exist."""
    rows = await accounts.load_accounts(conn, ids)
    live = _by_user(await sessions.load_sessions(conn, ids))
    return {row.id: Account(row, {each.id: each for each in live[row.id]}) for row in rows}


async def load_libraries(conn: Connection, ids: Sequence[UUID]) -> Mapping[UUID, Library]:
    """Return the preferences of all of these users; what is not set has defaults."""
    found = {user_id: Library.empty(user_id) for user_id in ids}
    settings = {row.user_id: row for row in await preferences.load_settings(conn, ids)}
    watched = _by_user(await preferences.load_watchlists(conn, ids))
    views = _by_user(await preferences.load_views(conn, ids))
    removed = _by_user(await preferences.load_removed(conn, ids))
    return {
        user_id: Library(
            user_id,
            settings.get(user_id, empty.settings),
            {each.symbol: each for each in watched[user_id]},
            {each.id: each for each in views[user_id]},
            {name: tuple(each.item for each in removed[user_id] if each.list == name) for name in empty.removed},
        )
        for user_id, empty in found.items()
    }


async def load_progresses(conn: Connection, ids: Sequence[UUID]) -> Mapping[UUID, Progress]:
    """Return the progress of those users that exist."""
    streaks = _by_user(await achievements.load_streaks(conn, ids))
    return {
        row.user_id: Progress(
            row.user_id,
            row.referrer_id if row.acted_at is None else None,
            {each.streak_type: from_row(each) for each in streaks[row.user_id]},
            frozenset(row.unlocked),
            frozenset(row.qualified),
        )
        for row in await achievements.load_progress(conn, ids)
    }


async def load_talks(conn: Connection, pairs: Sequence[tuple[UUID, UUID]]) -> Mapping[tuple[UUID, UUID], Talk]:
    """Return talks by (user, signal): all of them, also of users who have said nothing."""
    reactions: dict[tuple[UUID, UUID], dict[str, ReactionRow]] = defaultdict(dict)
    for reaction in await social.load_reactions(conn, pairs):
        reactions[reaction.user_id, reaction.signal_id][reaction.reaction_type] = reaction
    comments: dict[tuple[UUID, UUID], dict[UUID, CommentRow]] = defaultdict(dict)
    for comment in await social.load_comments(conn, pairs):
        comments[comment.user_id, comment.signal_id][comment.id] = comment
    return {pair: Talk(*pair, reactions[pair], comments[pair]) for pair in pairs}


def _by_user(rows: Iterable[Any]) -> Mapping[UUID, list[Any]]:
    grouped: dict[UUID, list[Any]] = defaultdict(list)
    for row in rows:
        grouped[row.user_id].append(row)
    return grouped
