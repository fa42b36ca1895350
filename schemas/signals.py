"""Schemas of the public signals: lists, details, and signals that a provider publishes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from marshmallow import ValidationError, post_load, validates_schema

from schemas._fields import (
    Choice,
    CommaList,
    Flag,
    Identifier,
    Items,
    Nested,
    Number,
    Paging,
    Price,
    QueryWhole,
    Schema,
    Text,
    Timestamp,
    Whole,
)
from schemas._people import Prose
from schemas._signals import ACTIONS, Action, ProviderCard, ReactionCounts, Terms
from schemas._symbols import CATEGORY_OF
from schemas.assets import AssetData, asset_problems, store_asset
from schemas.social import Comment
from schemas.stream import ASSET_TYPES, CATEGORIES

TIERS = ("HOT", "GOOD", "NEUTRAL", "LOW")
OUTCOMES = ("PENDING", "PROFIT", "LOSS", "BREAKEVEN")
COMMENTARY_CHARACTERS = 500

_DIRECTIONS = {"buy": "long", "yes": "long", "sell": "short", "no": "short"}


class SignalsQuery(Paging):
    """The filters of `GET /api/signals` but the provider: loaded as those of `db.signals.reads`."""

    symbol = Text(
        min=1,
        max=100,
        load_default=None,
        metadata={"description": "Exactly this one, ignoring case; `BTC` also finds `BTC/USD`."},
    )
    action = Action(load_default=None)
    min_score = QueryWhole(min=0, max=100, load_default=None)
    categories = CommaList(Choice(CATEGORIES), load_default=())
    asset_types = CommaList(Choice(ASSET_TYPES), load_default=())

    @post_load
    def join_assets(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Combine categories and asset types into the types that both lists allow. None: every type."""
        data["asset_types"] = _asset_types(data.pop("categories"), data["asset_types"])
        return data


class AllSignalsQuery(SignalsQuery):
    """The filters of `GET /api/signals`."""

    provider_id = Identifier(load_default=None)


class SignalItem(Terms):
    """A published signal in a list."""

    id = Text(required=True, metadata={"format": "uuid"})
    asset_type = Choice(ASSET_TYPES, required=True)
    asset_category = Choice(CATEGORIES, required=True)
    symbol = Text(required=True)
    action = Choice(ACTIONS, required=True)
    score = Whole(min=0, max=100, required=True)
    reasoning = Text(required=True)
    provider = Nested(ProviderCard, required=True)
    asset_data = AssetData(required=True)
    reactions = Nested(ReactionCounts, required=True)
    comment_count = Whole(min=0, required=True)
    created_at = Timestamp(required=True)


class PageOfSignals(Schema):
    """Signals, the newest first. `total` is exact."""

    signals = Nested(SignalItem, many=True, required=True)
    total = Whole(min=0, required=True)
    limit = Whole(required=True)
    offset = Whole(required=True)


class Factor(Schema):
    """A factor of the score, and the points that it made."""

    value = Number(allow_none=True, required=True)
    contribution = Number(required=True)


class Factors(Schema):
    """The five factors of the score."""

    confidence = Nested(Factor, required=True)
    expected_return = Nested(Factor, required=True)
    consensus = Nested(Factor, required=True)
    volatility = Nested(Factor, required=True)
    freshness = Nested(Factor, required=True)


class StrategyVote(Schema):
    """A strategy's vote."""

    name = Text(required=True)
    signal = Choice(("BUY", "SELL", "HOLD"), required=True)
    score = Number(min=0, max=1, required=True)


class MarketContext(Schema):
    """The market at the publication."""

    current_price = Number(allow_none=True)
    price_change_1h = Number(allow_none=True)
    volume_ratio = Number(allow_none=True)
    volatility_1h = Number(allow_none=True)


class SignalOutcome(Schema):
    """The outcome of the position that the signal opened."""

    status = Choice(OUTCOMES, required=True)
    # `return` is a word of the language.
    return_ = Number(data_key="return", allow_none=True, metadata={"description": "A fraction: 0.05 is 5 %."})
    closed_at = Timestamp(allow_none=True)
    closed_by = Identifier(allow_none=True, metadata={"description": "The signal that closed it."})


class Signal(Terms):
    """A published signal in full. What an external system did not say of one that it scored is null."""

    signal_id = Text(required=True, metadata={"format": "uuid"})
    id = Text(metadata={"format": "uuid", "description": "The same."})
    asset_type = Choice(ASSET_TYPES)
    asset_category = Choice(CATEGORIES)
    symbol = Text(required=True)
    action = Choice([each.upper() for each in ACTIONS], required=True)
    score = Whole(min=0, max=100)
    confidence = Number(min=0, max=1, allow_none=True, required=True)
    opportunity_score = Whole(min=0, max=100, required=True)
    opportunity_tier = Choice(TIERS, required=True)
    opportunity_factors = Nested(Factors, allow_none=True, required=True)
    strategy_breakdown = Nested(StrategyVote, many=True, allow_none=True, required=True)
    reasoning = Text(required=True)
    market_context = Nested(MarketContext, allow_none=True, required=True)
    asset_data = AssetData()
    outcome = Nested(
        SignalOutcome, allow_none=True, metadata={"description": "Null of a signal that closes, or opens nothing."}
    )
    closes = Identifier(
        allow_none=True, metadata={"description": "Only of a closing signal: the one it closed; null if none was open."}
    )
    provider = Nested(ProviderCard, required=True)
    reactions = Nested(ReactionCounts, required=True)
    user_reactions = Items(Text(), metadata={"description": "The caller's own."})
    comments = Nested(Comment, many=True, required=True, metadata={"description": "The first ones, as their list."})
    created_at = Timestamp(required=True)

    def _dump_one(self, obj: Any) -> dict[str, Any]:
        document = super()._dump_one(obj)
        if not obj["is_closing"]:
            del document["closes"]
        return document


class NewSignal(Schema):
    """A signal that a provider publishes. Loaded as the raw signal that Lens takes, but for its id, time and source."""

    symbol = Text(min=1, max=100, required=True, metadata={"description": "In the form of its `asset_type`."})
    action = Action(
        required=True, metadata={"description": "`buy` or `sell`; of a prediction also `yes` or `no`. Not `hold`."}
    )
    asset_type = Choice(CATEGORY_OF, required=True)
    entry_price = Price(required=True)
    size = Price(load_default=1)
    asset_data = AssetData(load_default=None, allow_none=True)
    commentary = Prose(max=COMMENTARY_CHARACTERS, load_default=None, allow_none=True)
    close = Flag(
        load_default=False,
        metadata={"description": "Close the oldest signal that is open; `action` is the one that opened it."},
    )

    @validates_schema(skip_on_field_errors=False)
    def check_together(self, data: Mapping[str, Any], **_: Any) -> None:
        """Check the fields that are valid by themselves against each other, and report all faults at once."""
        problems = asset_problems(data, closes=data.get("close") is True)
        action = data.get("action")
        if action == "hold":
            problems["action"] = "hold opens nothing: it cannot be published"
        elif action in ("yes", "no") and data.get("asset_type", "prediction") != "prediction":
            problems["action"] = "must be one of: buy, sell"
        if problems:
            raise ValidationError(problems)

    @post_load
    def to_raw_signal(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Convert to a raw signal: the action as a direction."""
        data["size"] = Decimal(data["size"])
        direction = _DIRECTIONS[data.pop("action")]
        if data.pop("close"):
            data |= {"event_type": "CLOSE_SIGNAL", "signal_direction": f"close_{direction}"}
        else:
            data |= {"event_type": "OPEN_SIGNAL", "signal_direction": direction}
        return store_asset(data)


def _asset_types(categories: Iterable[str], types: Iterable[str]) -> tuple[str, ...] | None:
    categories, types = set(categories), set(types)
    if not categories and not types:
        return None
    allowed: Mapping[str, str] = CATEGORY_OF  # type: ignore[assignment]  # its keys and values are literals
    return tuple(
        name for name in ASSET_TYPES if (not types or name in types) and (not categories or allowed[name] in categories)
    )
