"""Schemas of reactions, comments, and the feed of followed providers."""

from __future__ import annotations

from typing import Any

from schemas._fields import Choice, Flag, Identifier, Nested, Paging, QueryWhole, Schema, Text, Timestamp, Whole
from schemas._people import is_plain_text
from schemas._signals import ACTIONS, REACTIONS, Action, ProviderCard, ReactionCounts, Terms

COMMENT_CHARACTERS = 500


class Reaction(Schema):
    """The caller's reaction."""

    reaction_type = Choice(REACTIONS, required=True)


class Reacted(Schema):
    """All reactions to the signal, after the caller's."""

    reaction_type = Choice(REACTIONS, required=True)
    reactions = Nested(ReactionCounts, required=True)


class Words(Text):
    """A comment's text: trimmed, in lines, not blank."""

    default_error_messages = {  # noqa: RUF012
        "blank": "must not be blank",
        "control": "must not contain control characters",
        "length": f"must have 1-{COMMENT_CHARACTERS} characters",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = str(super()._deserialize(value, attr, data, **kwargs)).replace("\r\n", "\n").strip()
        if not text:
            raise self.make_error("blank")
        if len(text) > COMMENT_CHARACTERS:
            raise self.make_error("length")
        if not is_plain_text(text, "\n\t"):
            raise self.make_error("control")
        return text


class CommentText(Schema):
    """A new text for a comment."""

    content = Words(required=True)


class NewComment(CommentText):
    """A comment, or a reply to one that is no reply itself."""

    parent_id = Identifier(load_default=None, allow_none=True)


class Commenter(Schema):
    """A comment's author."""

    user_id = Identifier(required=True)
    display_name = Text(required=True)
    avatar_url = Text(required=True, allow_none=True)


class Reply(Schema):
    """A comment on a comment."""

    id = Identifier(required=True)
    user = Nested(Commenter, required=True, allow_none=True)
    content = Text(required=True, allow_none=True)
    parent_id = Identifier(required=True, allow_none=True)
    is_edited = Flag(required=True)
    created_at = Timestamp(required=True)


class Comment(Reply):
    """A comment. Of one that was deleted and still has replies, only that is left: `is_deleted` is there then."""

    is_deleted = Flag()
    replies = Nested(Reply, many=True, required=True, metadata={"description": "The oldest first."})

    def _dump_one(self, obj: Any) -> dict[str, Any]:
        document = super()._dump_one(obj)
        if not document["is_deleted"]:
            del document["is_deleted"]
        return document


class CommentsQuery(Paging):
    """A page of comments; their replies come with them, and are not counted for it."""


class PageOfComments(Schema):
    """Comments, the oldest first. `total` counts replies too, but nothing that was deleted."""

    comments = Nested(Comment, many=True, required=True)
    total = Whole(min=0, required=True)
    limit = Whole(required=True)
    offset = Whole(required=True)


class CommentDeleted(Schema):
    """A comment that has been deleted."""

    id = Identifier(required=True)
    deleted = Flag(required=True)


class FeedQuery(Paging):
    """The page of a feed, and whether only one action is wanted."""

    limit = QueryWhole(min=1, max=100, load_default=20)
    action = Action(load_default=None)


class FeedItem(Terms):
    """A published signal of a provider whom the caller follows."""

    signal_id = Text(required=True, metadata={"format": "uuid"})
    provider = Nested(ProviderCard, required=True)
    symbol = Text(required=True)
    action = Choice([each.upper() for each in ACTIONS], required=True)
    opportunity_score = Whole(min=0, max=100, required=True)
    commentary = Text(required=True, allow_none=True)
    reactions = Nested(ReactionCounts, required=True)
    comment_count = Whole(min=0, required=True)
    created_at = Timestamp(required=True)


class Feed(Schema):
    """Signals of the providers whom the caller follows, the newest first. `total` is exact."""

    signals = Nested(FeedItem, many=True, required=True)
    total = Whole(min=0, required=True)
    limit = Whole(required=True)
    offset = Whole(required=True)
