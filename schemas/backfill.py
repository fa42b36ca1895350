"""Schemas of the backfill: past signals, for a development server that should look as if it had run for months."""

from __future__ import annotations

from marshmallow import ValidationError, post_load, validates_schema

from config.clock import now
from config.documents import Loaded
from schemas._fields import Choice, Identifier, Items, Nested, Number, Price, Schema, Text, Timestamp, Whole, about
from schemas._orders import OrderFields, position_problems
from schemas._vocabulary import DIRECTIONS_OF, AssetType, Direction, EventType, OpportunityTier, PublishedAction
from schemas.assets import AssetData, store_asset
from schemas.signals import Factors, MarketContext, StrategyVote

MOST_BACKFILL = 100  # in one request


class BackfillScore(Schema):
    """A past signal's score, in the form of the full signal."""

    action = Choice(PublishedAction, required=True)
    confidence = Number(min=0, max=1, required=True)
    opportunity_score = Whole(min=0, max=100, required=True)
    opportunity_tier = Choice(OpportunityTier, required=True)
    opportunity_factors = Nested(Factors, required=True)
    strategy_breakdown = Items(Nested(StrategyVote), max=20, required=True)
    reasoning = Text(min=1, max=5000, required=True)
    market_context = Nested(MarketContext, required=True)


class BackfillSignal(OrderFields):
    """A raw signal, its time of publication, and its score."""

    id = Identifier(required=True, **about("The same id is the same signal, and stored once."))
    event_type = Choice(EventType, required=True)
    signal_direction = Choice(Direction, required=True)
    symbol = Text(min=1, max=100, required=True)
    entry_price = Price(zero=True, required=True)
    size = Price(required=True)
    source = Text(min=1, max=100, required=True)
    asset_type = Choice(AssetType, required=True)
    asset_data = AssetData(load_default=None, allow_none=True)
    commentary = Text(max=500, load_default=None, allow_none=True)
    published_at = Timestamp(required=True)
    score = Nested(BackfillScore, required=True)

    @validates_schema
    def check_together(self, data: Loaded, **_: object) -> None:
        """Check fields against each other."""
        closes, is_long = data["event_type"] == "CLOSE_SIGNAL", data["signal_direction"].endswith("long")
        problems = position_problems(data, closes=closes, is_long=is_long)
        if data["signal_direction"] not in DIRECTIONS_OF[data["event_type"]]:
            problems["signal_direction"] = f"must be {' or '.join(DIRECTIONS_OF[data['event_type']])}"
        if data["published_at"] > now():
            problems["published_at"] = "must not be in the future"
        if problems:
            raise ValidationError(problems)

    @post_load
    def store(self, data: Loaded, **_: object) -> Loaded:
        """Convert to the stored form."""
        return store_asset(data)


class BackfillSignals(Schema):
    """Signals in the order in which they were published."""

    signals = Items(Nested(BackfillSignal), min=1, max=MOST_BACKFILL, required=True)


class BackfillResult(Schema):
    """The numbers of signals that are new in the feed, and that were there already."""

    published = Whole(required=True)
    known = Whole(required=True)


class DemoServer(Schema):
    """The identity of a development server."""

    instance = Text(required=True, **about("Names the DATA_DIR that it runs on."))
    rate_limited = Choice(("yes", "no"), required=True)
