"""Decide a user's reactions to and comments on one signal, as pure functions; reactions can be taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from actors._runtime.messages import Message
from actors._runtime.virtual import Decision
from actors.users.changes import Change, Commented, Counted
from actors.users.messages import DeleteComment, EditComment, PostComment, React, Unreact
from db.signals.reads import REACTIONS
from db.social import CommentRow, ReactionRow
from schemas.errors import Conflict, Internal, NotFound

REPEATED_WITHIN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Talk:
    """The state; `reactions` by kind, including those taken back; `comments` include deleted ones."""

    user_id: UUID
    signal_id: UUID
    reactions: Mapping[str, ReactionRow]
    comments: Mapping[UUID, CommentRow]

    @classmethod
    def empty(cls, user_id: UUID, signal_id: UUID) -> Talk:
        """Return the state of a user who has said nothing."""
        return cls(user_id, signal_id, {}, {})


Result = Decision[Talk, Change]


def decide(talk: Talk, message: Message[Any]) -> Result:
    """Return the result of `message`."""
    rule = _RULES.get(type(message))
    if rule is None:
        raise Internal(f"a talk does not take {type(message).__name__}")
    return rule(talk, message)


def _react(talk: Talk, message: React) -> Result:
    known = talk.reactions.get(message.reaction_type)
    if known is not None and known.is_active:
        return Decision(talk, False)
    row = ReactionRow(talk.user_id, talk.signal_id, message.reaction_type, True, message.at)
    return _put_reaction(talk, row, message.provider_id, 1)


def _unreact(talk: Talk, message: Unreact) -> Result:
    known = talk.reactions.get(message.reaction_type)
    if known is None:
        raise NotFound("There is no such reaction of yours")
    if not known.is_active:
        return Decision(talk, False)
    return _put_reaction(talk, replace(known, is_active=False, reacted_at=message.at), message.provider_id, -1)


def _put_reaction(talk: Talk, row: ReactionRow, provider_id: UUID, delta: int) -> Result:
    state = replace(talk, reactions={**talk.reactions, row.reaction_type: row})
    counted = Counted(talk.signal_id, REACTIONS[row.reaction_type], delta, provider_id)
    return Decision(state, True, (row, counted))


def _post_comment(talk: Talk, message: PostComment) -> Result:
    for each in talk.comments.values():
        if (
            each.deleted_at is None
            and each.content == message.content
            and abs(message.at - each.created_at) < REPEATED_WITHIN
        ):
            raise Conflict("You said the same within the last minute")
    row = CommentRow(
        message.comment_id,
        talk.signal_id,
        talk.user_id,
        message.parent_id,
        message.content,
        is_edited=False,
        created_at=message.at,
        deleted_at=None,
    )
    changes = (Commented(row), Counted(talk.signal_id, "comments", 1))
    return Decision(replace(talk, comments={**talk.comments, row.id: row}), None, changes)


def _edit_comment(talk: Talk, message: EditComment) -> Result:
    row = _comment(talk, message.comment_id)
    if row.deleted_at is not None:
        raise NotFound("Comment not found")
    if row.content == message.content:
        return Decision(talk)
    changed = replace(row, content=message.content, is_edited=True)
    return Decision(replace(talk, comments={**talk.comments, row.id: changed}), None, (changed,))


def _delete_comment(talk: Talk, message: DeleteComment) -> Result:
    row = _comment(talk, message.comment_id)
    if row.deleted_at is not None:
        return Decision(talk)
    changed = replace(row, deleted_at=message.at)
    changes = (changed, Counted(talk.signal_id, "comments", -1))
    return Decision(replace(talk, comments={**talk.comments, row.id: changed}), None, changes)


def _comment(talk: Talk, comment_id: UUID) -> CommentRow:
    row = talk.comments.get(comment_id)
    if row is None:
        raise NotFound("Comment not found")
    return row


_RULES: Mapping[type[Message[Any]], Callable[[Talk, Any], Result]] = {
    React: _react,
    Unreact: _unreact,
    PostComment: _post_comment,
    EditComment: _edit_comment,
    DeleteComment: _delete_comment,
}
