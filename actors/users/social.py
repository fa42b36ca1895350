"""A user's reactions to and comments on one signal; reactions can be taken back. The rules are pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Never
from uuid import UUID

from actors._runtime.messages import Message
from actors._runtime.virtual import Effect, Transition, changed_rows
from actors.users.messages import DeleteComment, EditComment, PostComment, React, Unreact
from db import social as sql
from db._postgres import Connection
from db.signals.document import REACTIONS
from db.social import CommentRow, ReactionRow
from schemas.errors import Conflict, Internal, NotFound

REPEATED_WITHIN = timedelta(seconds=60)

Pair = tuple[UUID, UUID]
"""User and signal."""


@dataclass(frozen=True, slots=True)
class SocialState:
    """Reactions by kind, including those taken back, and comments by id, including deleted ones."""

    user_id: UUID
    signal_id: UUID
    reactions: Mapping[str, ReactionRow]
    comments: Mapping[UUID, CommentRow]


_Effect = Effect[SocialState, Never]
_Transition = Transition[SocialState, Never]


def fresh(pair: Pair) -> SocialState:
    """Return the state of a user who has said nothing."""
    return SocialState(*pair, {}, {})


def decide(state: SocialState, message: Message[object]) -> _Effect:
    """Return the effect of `message`."""
    match message:
        case React():
            return _react(state, message)
        case Unreact():
            return _unreact(state, message)
        case PostComment():
            return _post_comment(state, message)
        case EditComment():
            return _edit_comment(state, message)
        case DeleteComment():
            row = _comment(state, message.comment_id)
            return _put_comment(state, row if row.deleted_at is not None else replace(row, deleted_at=message.at))
    raise Internal(f"reactions and comments do not take {type(message).__name__}")


def _react(state: SocialState, message: React) -> _Effect:
    known = state.reactions.get(message.reaction_type)
    if known is not None and known.is_active:
        return Effect(state, False)
    return _put_reaction(state, ReactionRow(state.user_id, state.signal_id, message.reaction_type, True, message.at))


def _unreact(state: SocialState, message: Unreact) -> _Effect:
    known = state.reactions.get(message.reaction_type)
    if known is None:
        raise NotFound("There is no such reaction of yours")
    if not known.is_active:
        return Effect(state, False)
    return _put_reaction(state, replace(known, is_active=False, reacted_at=message.at))


def _put_reaction(state: SocialState, row: ReactionRow) -> _Effect:
    return Effect(replace(state, reactions={**state.reactions, row.reaction_type: row}), True)


def _post_comment(state: SocialState, message: PostComment) -> _Effect:
    for each in state.comments.values():
        if (
            each.deleted_at is None
            and each.content == message.content
            and abs(message.at - each.created_at) < REPEATED_WITHIN
        ):
            raise Conflict("You said the same within the last minute")
    row = CommentRow(
        message.comment_id,
        state.signal_id,
        state.user_id,
        message.parent_id,
        message.content,
        is_edited=False,
        created_at=message.at,
        deleted_at=None,
    )
    return _put_comment(state, row)


def _edit_comment(state: SocialState, message: EditComment) -> _Effect:
    row = _comment(state, message.comment_id)
    if row.deleted_at is not None:
        raise NotFound("Comment not found")
    return _put_comment(
        state, row if row.content == message.content else replace(row, content=message.content, is_edited=True)
    )


def _put_comment(state: SocialState, row: CommentRow) -> _Effect:
    return Effect(replace(state, comments={**state.comments, row.id: row}))


def _comment(state: SocialState, comment_id: UUID) -> CommentRow:
    row = state.comments.get(comment_id)
    if row is None:
        raise NotFound("Comment not found")
    return row


def counted(transitions: Iterable[_Transition]) -> dict[UUID, Counter[str]]:
    """Return by how much the counters of signals change, by their columns."""
    deltas: dict[UUID, Counter[str]] = defaultdict(Counter)
    for each in transitions:
        for state, sign in ((each.after, 1), (each.before, -1)):
            delta = deltas[state.signal_id]
            for reaction in state.reactions.values():
                delta[REACTIONS[reaction.reaction_type]] += sign * reaction.is_active
            delta["comments"] += sign * sum(comment.deleted_at is None for comment in state.comments.values())
    return {signal_id: delta for signal_id, delta in deltas.items() if any(delta.values())}


def new_comments(transitions: Iterable[_Transition]) -> list[CommentRow]:
    """Return the comments that were posted."""
    return [row for each in transitions for key, row in each.after.comments.items() if key not in each.before.comments]


async def load(conn: Connection, pairs: Sequence[Pair]) -> Mapping[Pair, SocialState]:
    """Return the reactions and comments of all of these users on these signals."""
    reactions: dict[Pair, dict[str, ReactionRow]] = defaultdict(dict)
    for reaction in await sql.load_reactions(conn, pairs):
        reactions[reaction.user_id, reaction.signal_id][reaction.reaction_type] = reaction
    comments: dict[Pair, dict[UUID, CommentRow]] = defaultdict(dict)
    for comment in await sql.load_comments(conn, pairs):
        comments[comment.user_id, comment.signal_id][comment.id] = comment
    return {pair: SocialState(*pair, reactions[pair], comments[pair]) for pair in pairs}


async def save(conn: Connection, transitions: Sequence[_Transition]) -> None:
    """Save what has changed; the counters come last: other transactions wait for their rows."""
    reactions, _ = changed_rows(transitions, lambda state: state.reactions)
    if reactions:
        await sql.upsert_reactions(conn, reactions)
    comments, _ = changed_rows(transitions, lambda state: state.comments)
    if comments:
        await sql.upsert_comments(conn, comments)
    if deltas := counted(transitions):
        await sql.add_to_counters(conn, deltas)
