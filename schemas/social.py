"""Schemas of reactions, comments, and the feed of followed providers."""

from __future__ import annotations

from marshmallow import ValidationError

from config.documents import Document
from schemas._fields import (
    AnyCase,
    Choice,
    ConvertedText,
    Flag,
    Identifier,
    Nested,
    Schema,
    Text,
    Timestamp,
    Whole,
    about,
)
from schemas._people import is_plain_text
from schemas._queries import Paging, QueryWhole
from schemas._signals import ProviderCardSchema, ReactionCounts, Terms
from schemas._vocabulary import UPPER_ACTIONS, PublicAction, ReactionType

COMMENT_CHARACTERS = 500


class Reaction(Schema):
    """The caller's reaction."""

    reaction_type = Choice(ReactionType, required=True)


class Reacted(Schema):
    """All reactions to the signal, after the caller's."""

    reaction_type = Choice(ReactionType, required=True)
    reactions = Nested(ReactionCounts, required=True)


class Words(ConvertedText):
    """A comment's text: trimmed, in lines, not blank."""

    def convert(self, text: str) -> str:
        words = text.replace("\r\n", "\n").strip()
        if not words:
            raise ValidationError("must not be blank")
        if len(words) > COMMENT_CHARACTERS:
            raise ValidationError(f"must have 1-{COMMENT_CHARACTERS} characters")
        if not is_plain_text(words, "\n\t"):
            raise ValidationError("must not contain control characters")
        return words


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
    replies = Nested(Reply, many=True, required=True, **about("The oldest first."))

    def _dump_one(self, obj: object) -> Document:
        document = super()._dump_one(obj)
        if not document["is_deleted"]:
            del document["is_deleted"]
        return document


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
    action = AnyCase(PublicAction, load_default=None)


class FeedItemSchema(Terms):
    """A published signal of a provider whom the caller follows."""

    signal_id = Text(required=True, metadata={"format": "uuid"})
    provider = Nested(ProviderCardSchema, required=True)
    symbol = Text(required=True)
    action = Choice(UPPER_ACTIONS, required=True)
    opportunity_score = Whole(min=0, max=100, required=True)
    commentary = Text(required=True, allow_none=True)
    reactions = Nested(ReactionCounts, required=True)
    comment_count = Whole(min=0, required=True)
    created_at = Timestamp(required=True)


class Feed(Schema):
    """Signals of the providers whom the caller follows, the newest first. `total` is exact."""

    signals = Nested(FeedItemSchema, many=True, required=True)
    total = Whole(min=0, required=True)
    limit = Whole(required=True)
    offset = Whole(required=True)
