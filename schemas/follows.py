"""Schemas of following providers: requests and responses."""

from __future__ import annotations

from schemas._fields import Flag, Nested, Number, Schema, Text, Timestamp, Whole, about
from schemas._queries import Paging, QueryWhole


class NewFollow(Schema):
    """Whether to be notified of each signal: if not given, as before, and true for a new follow."""

    notify_on_signal = Flag()


class FollowChange(Schema):
    """Whether to be notified of each signal."""

    notify_on_signal = Flag(required=True)


class Followed(Schema):
    """The present state of a follow."""

    following = Flag(required=True)
    provider_id = Text(required=True, metadata={"format": "uuid"})
    notify_on_signal = Flag(required=True)
    followed_at = Timestamp(required=True)


class Unfollowed(Schema):
    """A follow that has ended, or never existed."""

    following = Flag(required=True)
    provider_id = Text(required=True, metadata={"format": "uuid"})


class FollowingQuery(Paging):
    """The part of the list to show."""

    limit = QueryWhole(min=1, max=100, load_default=100, **about("Most items of one answer."))


class FollowedProvider(Schema):
    """A followed provider. `win_rate` is a fraction; null while nothing is closed."""

    user_id = Text(required=True, metadata={"format": "uuid"})
    display_name = Text(required=True)
    avatar_url = Text(required=True, allow_none=True)
    win_rate = Number(required=True, allow_none=True)
    follower_count = Whole(required=True, min=0)


class FollowingItem(Schema):
    """A follow in the caller's list."""

    provider = Nested(FollowedProvider, required=True)
    notify_on_signal = Flag(required=True)
    followed_at = Timestamp(required=True)


class Following(Schema):
    """The providers whom the caller follows, the newest first; `total` counts all of them."""

    following = Nested(FollowingItem, many=True, required=True)
    total = Whole(required=True, min=0)
