"""Schemas that all signals share: provider, terms, reactions."""

from __future__ import annotations

from config.documents import Document
from schemas._fields import Choice, Flag, Number, Schema, Text, Timestamp, Whole, about
from schemas._vocabulary import EventType, Side


class Terms(Schema):
    """The terms of the position that a signal opens or closes, beyond the document. Null: unknown."""

    event_type = Choice(EventType)
    direction = Choice(
        Side, allow_none=True, **about("The side of the position that it opens or closes; null: it is about none.")
    )
    entry_price = Number(allow_none=True, **about("What it opens or closes at, as its provider says."))
    record_price = Number(
        allow_none=True, **about("What counts for the provider's record: `entry_price`, or the market's where worse.")
    )
    verified = Flag(**about("Whether the market's quote at its receipt is known."))
    commentary = Text(allow_none=True)
    received_at = Timestamp(allow_none=True, **about("When this server received it; null: before that was kept."))
    retracted_at = Timestamp(allow_none=True, **about("When its provider took it back; null: it stands."))


class QuoteSchema(Schema):
    """The market at a signal's receipt, as its source wrote it."""

    bid = Number(required=True, **about("The best price of a buyer."))
    ask = Number(required=True, **about("The best price of a seller."))
    mid = Number(required=True, **about("The middle of both."))
    at = Timestamp(required=True, **about("The venue's own time where it gives one."))
    source = Text(required=True, **about("A name of `MARKET_DATA`."))


class ProviderCardSchema(Schema):
    """The provider, as a signal shows it."""

    id = Text(required=True, metadata={"format": "uuid"})
    name = Text(required=True)
    avatar_url = Text(required=True, allow_none=True)
    win_rate = Whole(required=True, min=0, max=100, allow_none=True, **about("Percent; null: nothing closed yet."))
    followers = Whole(required=True, min=0)
    verified = Flag(required=True)


class ReactionCounts(Schema):
    """The number of reactions by kind; kinds without any are left out."""

    like = Whole(min=1)
    fire = Whole(min=1)
    rocket = Whole(min=1)
    sad = Whole(min=1)

    def _dump_one(self, obj: object) -> Document:
        return {kind: count for kind, count in super()._dump_one(obj).items() if count is not None}
