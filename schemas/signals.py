"""Schemas of the public signals: lists, details, and signals that a provider publishes."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from marshmallow import ValidationError, post_load, validates_schema

from config.clock import now
from config.documents import Document, Loaded
from schemas._fields import (
    AnyCase,
    Choice,
    Flag,
    Identifier,
    Items,
    Nested,
    Number,
    Price,
    Schema,
    Text,
    Timestamp,
    Whole,
    about,
)
from schemas._orders import OrderFields, position_problems
from schemas._people import Prose
from schemas._queries import CommaList, Paging, QueryWhole, SymbolFilter
from schemas._signals import ProviderCardSchema, QuoteSchema, ReactionCounts, Terms
from schemas._symbols import CATEGORY_OF
from schemas._vocabulary import (
    OPENED_BY,
    UPPER_ACTIONS,
    AssetCategory,
    AssetType,
    CloseReason,
    OpportunityTier,
    OrderType,
    OutcomeStatus,
    PublicAction,
    VoteSide,
)
from schemas.assets import AssetData, store_asset
from schemas.social import Comment

COMMENTARY_CHARACTERS = 500


class SignalsQuery(Paging):
    """The filters of `GET /api/signals` but the provider: loaded as those of `db.signals.reads`."""

    symbol = SymbolFilter(
        min=1, max=100, load_default=None, **about("Exactly this one, ignoring case; `BTC` also finds `BTC/USD`.")
    )
    action = AnyCase(PublicAction, load_default=None)
    min_score = QueryWhole(min=0, max=100, load_default=None)
    categories = CommaList(Choice(AssetCategory), load_default=())
    asset_types = CommaList(Choice(AssetType), load_default=())

    @post_load
    def join_assets(self, data: Loaded, **_: object) -> Loaded:
        """Combine categories and asset types into the types that both lists allow. None: every type."""
        data["asset_types"] = _asset_types(data.pop("categories"), data["asset_types"])
        return data


class AllSignalsQuery(SignalsQuery):
    """The filters of `GET /api/signals`."""

    provider_id = Identifier(load_default=None)


class SignalItem(Terms):
    """A published signal in a list."""

    id = Text(required=True, metadata={"format": "uuid"})
    asset_type = Choice(AssetType, required=True)
    asset_category = Choice(AssetCategory, required=True)
    symbol = Text(required=True)
    action = Choice(PublicAction, required=True)
    score = Whole(min=0, max=100, required=True)
    reasoning = Text(required=True)
    provider = Nested(ProviderCardSchema, required=True)
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
    signal = Choice(VoteSide, required=True)
    score = Number(min=0, max=1, required=True)


class MarketContext(Schema):
    """The market at the publication."""

    current_price = Number(allow_none=True)
    price_change_1h = Number(allow_none=True)
    volume_ratio = Number(allow_none=True)
    volatility_1h = Number(allow_none=True)


class OutcomeLeg(Schema):
    """A part of a position that was closed."""

    at = Timestamp(required=True, **about("When it was closed."))
    price = Number(required=True, **about("The declared price of the closing signal, or the market's."))
    fraction = Number(required=True, **about("Its part of the whole position."))
    return_ = Number(data_key="return", required=True, **about("What the whole returned at that price."))
    record_return = Number(required=True, allow_none=True, **about("What it returned by the prices that count."))
    reason = Choice(CloseReason, required=True, **about("Why it was closed."))
    closed_by = Identifier(required=True, allow_none=True, **about("The signal that closed it; null: the market did."))


class SignalOutcome(Schema):
    """The outcome of the position that the signal opened."""

    status = Choice(OutcomeStatus, required=True)
    # `return` is a word of the language.
    return_ = Number(data_key="return", allow_none=True, **about("A fraction: 0.05 is 5 %."))
    closed_at = Timestamp(allow_none=True)
    closed_by = Identifier(allow_none=True, **about("The signal that closed it; null where the market did."))
    record_return = Number(
        allow_none=True,
        **about(
            "By the prices that count: the worse of the declared one and the market's. Null while it is open, without "
            "a quote at the opening, and until the next mark where the close had none."
        ),
    )
    close_reason = Choice(CloseReason, allow_none=True, **about("Why the last part of it was closed."))
    awaiting = Flag(**about("The prediction's market was not resolved in time: it is left out."))
    legs = Nested(OutcomeLeg, many=True, **about("The parts that were closed; the return is their sum."))


class Signal(Terms):
    """A published signal in full. What an external system did not say of one that it scored is null."""

    signal_id = Text(required=True, metadata={"format": "uuid"})
    id = Text(metadata={"format": "uuid", "description": "The same."})
    asset_type = Choice(AssetType)
    asset_category = Choice(AssetCategory)
    symbol = Text(required=True)
    action = Choice(UPPER_ACTIONS, required=True)
    score = Whole(min=0, max=100)
    confidence = Number(min=0, max=1, allow_none=True, required=True)
    opportunity_score = Whole(min=0, max=100, required=True)
    opportunity_tier = Choice(OpportunityTier, required=True)
    opportunity_factors = Nested(Factors, allow_none=True, required=True)
    strategy_breakdown = Nested(StrategyVote, many=True, allow_none=True, required=True)
    reasoning = Text(required=True)
    market_context = Nested(MarketContext, allow_none=True, required=True)
    asset_data = AssetData()
    quote = Nested(
        QuoteSchema, allow_none=True, **about("The market at its receipt; null: none was known, it is not verified.")
    )
    order_type = Choice(OrderType, data_key="order", allow_none=True, **about("How it opens; null: it opens nothing."))
    take_profit = Items(Price(), allow_none=True)
    stop_loss = Price(allow_none=True)
    liquidation_price = Price(allow_none=True)
    valid_until = Timestamp(allow_none=True)
    close_fraction = Price(
        allow_none=True, **about("The part that it closes of what was open; null: it closes nothing.")
    )
    outcome = Nested(SignalOutcome, allow_none=True, **about("Null of a signal that closes, or opens nothing."))
    closes = Identifier(allow_none=True, **about("Only of a closing signal: the one it closed; null if none was open."))
    provider = Nested(ProviderCardSchema, required=True)
    reactions = Nested(ReactionCounts, required=True)
    user_reactions = Items(Text(), **about("The caller's own."))
    comments = Nested(Comment, many=True, required=True, **about("The first ones, as their list."))
    created_at = Timestamp(required=True)

    def _dump_one(self, obj: Document) -> Document:
        document = super()._dump_one(obj)
        if not obj["is_closing"]:
            del document["closes"]
        return document


class RetractedSignal(Schema):
    """A signal that was retracted."""

    signal_id = Identifier(required=True)
    retracted_at = Timestamp(required=True, **about("When this was first asked for."))


class NewSignalSchema(OrderFields):
    """A signal that a provider publishes. Loaded as the raw signal that Lens takes, but for its id, time and source."""

    symbol = Text(min=1, max=100, required=True, **about("In the form of its `asset_type`."))
    action = AnyCase(
        PublicAction, required=True, **about("`buy` or `sell`; of a prediction also `yes` or `no`. Not `hold`.")
    )
    asset_type = Choice(AssetType, required=True)
    entry_price = Price(zero=True, required=True)
    size = Price(load_default=1)
    liquidation_price = Price(
        load_default=None,
        allow_none=True,
        **about("Below `entry_price` for a long position, above it for a short one."),
    )
    asset_data = AssetData(load_default=None, allow_none=True)
    commentary = Prose(max=COMMENTARY_CHARACTERS, load_default=None, allow_none=True)
    close = Flag(
        load_default=False, **about("Close the oldest signal that is open; `action` is the one that opened it.")
    )

    @validates_schema(skip_on_field_errors=False)
    def check_together(self, data: Loaded, **_: object) -> None:
        """Check the fields that are valid by themselves against each other, and report all faults at once."""
        closes, action = data.get("close"), data.get("action")
        direction = OPENED_BY.get(action or "")
        is_long = None if direction is None else direction == "long"
        problems = position_problems(data, closes=closes, is_long=is_long, now=now())
        if action == "hold":
            problems["action"] = "hold opens nothing: it cannot be published"
        elif action in ("yes", "no") and data.get("asset_type", "prediction") != "prediction":
            problems["action"] = "must be one of: buy, sell"
        if problems:
            raise ValidationError(problems)

    @post_load
    def to_raw_signal(self, data: Loaded, **_: object) -> Loaded:
        """Convert to a raw signal: the action as a direction."""
        data["size"] = Decimal(data["size"])
        direction = OPENED_BY[data.pop("action")]
        if data.pop("close"):
            data |= {"event_type": "CLOSE_SIGNAL", "signal_direction": f"close_{direction}"}
        else:
            data |= {"event_type": "OPEN_SIGNAL", "signal_direction": direction}
        return store_asset(data)


def _asset_types(categories: Iterable[str], types: Iterable[str]) -> tuple[str, ...] | None:
    categories, types = set(categories), set(types)
    if not categories and not types:
        return None
    return tuple(
        name
        for name, category in CATEGORY_OF.items()
        if (not types or name in types) and (not categories or category in categories)
    )
