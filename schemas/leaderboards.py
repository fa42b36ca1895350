"""Schemas of leaderboards: queries and responses."""

from __future__ import annotations

from config.documents import Document
from schemas._fields import Choice, Flag, Nested, Number, Schema, Text, Timestamp, Whole, about
from schemas._queries import QuerySchema, QueryWhole
from schemas._vocabulary import Board, ChangePeriod, Period


class LeaderboardQuery(QuerySchema):
    """The query of a leaderboard."""

    limit = QueryWhole(min=1, max=100, load_default=50)
    period = Choice(Period, load_default="all", **about("`month` is the last 30 days, `week` the last 7."))


class RankedProvider(Schema):
    """The provider of an entry."""

    user_id = Text(required=True, metadata={"format": "uuid"})
    display_name = Text(required=True)
    avatar_url = Text(required=True, allow_none=True)
    is_verified = Flag(required=True)


class LeaderboardEntry(Schema):
    """A place on a board."""

    rank = Whole(required=True)
    provider = Nested(RankedProvider, required=True)
    value = Number(required=True)
    change = Number(
        required=True,
        allow_none=True,
        **about("Since a week ago, or from the window before; null: there was nothing to compare with."),
    )
    change_period = Choice(ChangePeriod, required=True)


class MyRank(Schema):
    """The caller's place; both null: not on this board."""

    rank = Whole(required=True, allow_none=True)
    value = Number(required=True, allow_none=True)


class Leaderboard(Schema):
    """A board."""

    leaderboard = Choice(Board, required=True)
    period = Choice(Period, required=True)
    entries = Nested(LeaderboardEntry, many=True, required=True)
    updated_at = Timestamp(required=True)
    me = Nested(MyRank, **about("Only with the token of a provider."))

    def _dump_one(self, obj: object) -> Document:
        document = super()._dump_one(obj)
        if document["me"] is None:
            del document["me"]
        return document
