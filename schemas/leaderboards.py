"""Schemas of leaderboards: queries and responses."""

from __future__ import annotations

from config.documents import Document
from schemas._fields import Choice, Flag, Nested, Number, Schema, Text, Timestamp, Whole, about
from schemas._queries import Paging, QueryWhole
from schemas._vocabulary import Board, ChangePeriod, Gate, Period


class LeaderboardQuery(Paging):
    """The query of a leaderboard."""

    period = Choice(
        Period,
        load_default="all",
        **about("`month` is the last 30 days, `week` the last 7. Of `skill` and `steady` there is only `all`."),
    )
    as_of = QueryWhole(
        min=0,
        max=10**15 - 1,
        load_default=None,
        **about(
            "The `as_of` of an earlier page: the board as it was then. Kept for five minutes, of `skill` and `steady` "
            "for nine nights; then, as for one that is still to come, the answer is 400."
        ),
    )


class RankedProvider(Schema):
    """The provider of an entry. One whose account was deleted is shown under a pseudonym."""

    user_id = Text(required=True, metadata={"format": "uuid"})
    display_name = Text(required=True)
    avatar_url = Text(required=True, allow_none=True)
    is_verified = Flag(required=True)


class Interval(Schema):
    """An interval that the true value lies in."""

    low = Number(required=True, **about("Its lower bound."))
    high = Number(required=True, **about("Its upper bound."))


class LeaderboardEntry(Schema):
    """A place on a board. What follows from the market's prices is null where a provider has no record from them."""

    rank = Whole(required=True)
    provider = Nested(RankedProvider, required=True)
    value = Number(
        required=True,
        **about(
            "Of `skill` the lower bound of the Sharpe ratio of daily returns, shrunk towards the median; of `steady` "
            "the mean daily return over the loss that 95 % of days stay within."
        ),
    )
    change = Number(
        required=True,
        allow_none=True,
        **about("Since a week ago, or from the window before; null: there was nothing to compare with."),
    )
    change_period = Choice(ChangePeriod, required=True)
    n = Whole(allow_none=True, **about("Bets: positions on one instrument that overlap count as one."))
    days = Whole(allow_none=True, **about("Days with exposure."))
    interval = Nested(
        Interval,
        allow_none=True,
        **about("Of `skill` and `steady` that of the shrunk Sharpe ratio, each bound at 95 %; of others null."),
    )
    drawdown = Number(allow_none=True, **about("The deepest fall of the marked equity."))
    open_result = Number(allow_none=True, **about("The result of what is open, in units of equity."))
    share_verified = Number(allow_none=True, **about("The share of positions whose price the market confirmed."))
    luck = Number(
        allow_none=True,
        **about("The chance that the record is luck, among all that were ever eligible; of other boards null."),
    )


class MissingGateSchema(Schema):
    """Something that keeps a provider off a board."""

    gate = Choice(Gate, required=True, **about("What is missing."))
    have = Number(required=True, **about("The provider's figure."))
    need = Number(
        required=True, **about("The figure that passes: the most of `unverified_share` and `luck`, else the least.")
    )


class MyRank(Schema):
    """The caller's place; both null: not on this board."""

    rank = Whole(required=True, allow_none=True)
    value = Number(required=True, allow_none=True)
    missing = Nested(MissingGateSchema, many=True, **about("Everything that keeps the caller off the board."))


class Leaderboard(Schema):
    """A board."""

    leaderboard = Choice(Board, required=True)
    period = Choice(Period, required=True)
    entries = Nested(LeaderboardEntry, many=True, required=True)
    updated_at = Timestamp(required=True)
    as_of = Whole(
        allow_none=True,
        min=0,
        **about("The newest signal that counts, by its `feed_seq`: for further pages. Null: none can be pinned now."),
    )
    reason = Text(allow_none=True, **about("Why there are no entries, in numbers."))
    me = Nested(MyRank, **about("Only with the token of a provider."))

    def _dump_one(self, obj: object) -> Document:
        document = super()._dump_one(obj)
        if document["me"] is None:
            del document["me"]
        return document
