"""Schemas of the Lens API: submitted signals, and their events."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Unpack

from marshmallow import ValidationError, post_load, validates_schema

from config.clock import now
from config.documents import Document, Loaded
from schemas._fields import (
    Choice,
    Flag,
    Identifier,
    Items,
    LoadOptions,
    Nested,
    Number,
    Object,
    Price,
    Schema,
    Text,
    Timestamp,
    Whole,
    about,
)
from schemas._orders import OrderFields, position_problems
from schemas._queries import Paging, SymbolFilter
from schemas._signals import QuoteSchema
from schemas._vocabulary import (
    DIRECTIONS_OF,
    AssetType,
    DecisionKind,
    Direction,
    EventStage,
    EventState,
    EventType,
    OrderType,
)
from schemas.assets import AssetData, store_asset

MOST_AHEAD = timedelta(seconds=300)
"""The time by which a producer's clock may be ahead of ours."""


def event_type(**options: Unpack[LoadOptions]) -> Choice:
    """Make the field `event_type`."""
    return Choice(EventType, **about("What the signal asks for.", examples=["OPEN_SIGNAL"]), **options)


class SignalSubmission(OrderFields):
    """A raw signal. `symbol` is loaded in its stored form."""

    may_have_lapsed = False

    event_type = event_type(required=True)
    symbol = Text(
        min=1,
        max=100,
        required=True,
        **about("In the form of its `asset_type`; stored in upper case.", examples=["BTC"]),
    )
    signal_direction = Choice(
        Direction, required=True, **about("`long` or `short` opens, `close_long` or `close_short` closes.")
    )
    entry_price = Price(zero=True, required=True, metadata={"examples": [42000.5]})
    size = Price(required=True, metadata={"examples": [0.1]})
    liquidation_price = Price(
        load_default=None,
        allow_none=True,
        **about("Below `entry_price` for a long position, above it for a short one."),
    )
    ts_utc = Timestamp(required=True, **about("When the producer made the signal. Up to 300 s ahead counts as now."))
    source = Text(min=1, max=100, required=True, **about("The provider: a user's id, or a name."))
    asset_type = Choice(AssetType, load_default="crypto")
    asset_data = AssetData(load_default=None, allow_none=True)
    commentary = Text(max=500, load_default=None, allow_none=True)

    @validates_schema(skip_on_field_errors=False)
    def check_together(self, data: Loaded, **_: object) -> None:
        """Check the fields that are valid by themselves against each other, and report all faults at once."""
        checks = (_direction_problem, _source_problem, _time_problem)
        problems: dict[str, object] = {name: text for check in checks for name, text in check(data)}
        closes = data["event_type"] == "CLOSE_SIGNAL" if "event_type" in data else None
        direction = data.get("signal_direction")
        is_long = None if direction is None else direction.endswith("long")
        problems |= position_problems(data, closes=closes, is_long=is_long, now=None if self.may_have_lapsed else now())
        if problems:
            raise ValidationError(problems)

    @post_load
    def store(self, data: Loaded, **_: object) -> Loaded:
        """Convert to the stored form."""
        return store_asset(data)


class StoredSubmission(SignalSubmission):
    """A raw signal that was accepted before: its order may have lapsed since."""

    may_have_lapsed = True


Faults = Iterator[tuple[str, str]]


def _direction_problem(data: Loaded) -> Faults:
    if "event_type" in data and "signal_direction" in data:
        allowed = DIRECTIONS_OF[data["event_type"]]
        if data["signal_direction"] not in allowed:
            yield "signal_direction", f"must be {' or '.join(allowed)} with {data['event_type']}"


def _time_problem(data: Loaded) -> Faults:
    if "ts_utc" in data and data["ts_utc"] > now() + MOST_AHEAD:
        yield "ts_utc", f"must be at most {MOST_AHEAD.seconds} s ahead of the server's clock"


def _source_problem(data: Loaded) -> Faults:
    if "source" in data and not data["source"].strip():
        yield "source", "must not be blank"


class SignalAccepted(Schema):
    """A signal that is durable: whatever dies from here on, it will be published, rejected or dead-lettered."""

    event_id = Identifier(required=True)
    status = Choice(EventState, required=True)
    received_at = Timestamp(required=True)


class EventsQuery(Paging):
    """The filters of `GET /api/v1/events`."""

    symbol = SymbolFilter(min=1, max=100, load_default=None)
    event_type = event_type(load_default=None)
    source = Text(min=1, max=100, load_default=None)
    since = Timestamp(load_default=None, **about("Received at or after this time."))
    until = Timestamp(load_default=None, **about("Received at or before this time."))
    status = Choice(EventState, load_default=None)


class EventItem(Schema):
    """An event in a list."""

    event_id = Identifier(required=True)
    event_type = event_type(required=True)
    symbol = Text(required=True)
    signal_direction = Text(required=True)
    entry_price = Price(zero=True, required=True)
    size = Price(required=True)
    status = Choice(EventState, required=True)
    source = Text(required=True)
    received_at = Timestamp(required=True)


class PageOfEvents(Schema):
    """Events, newest first."""

    items = Nested(EventItem, many=True, required=True)
    total = Whole(required=True)
    limit = Whole(required=True)
    offset = Whole(required=True)


class TimelineEntry(Schema):
    """A step in an event's processing. `details` has what only this step has: a model, a reason."""

    status = Text(required=True)
    timestamp = Text(required=True, metadata={"format": "date-time"})
    details = Object()

    def _dump_one(self, obj: Document) -> Document:
        return dict(obj)  # stored in the form that is shown


class QualityFlags(Schema):
    """Names of the data that was missing, too old, or requested from a provider that failed."""

    missing_data = Items(Text(), required=True)
    stale_data = Items(Text(), required=True)
    provider_errors = Items(Text(), required=True)


class Enrichment(Schema):
    """The enrichment of an event."""

    feature_profile = Text(required=True)
    quality_flags = Nested(QualityFlags, required=True)
    record_price = Number(
        allow_none=True, **about("What counts for the source's record: `entry_price`, or the market's where worse.")
    )
    verified = Flag(**about("Whether the market's quote at its receipt is known."))
    quote = Nested(QuoteSchema, allow_none=True, **about("The market at its receipt."))


class Verdict(Schema):
    """A model's decision in short."""

    model = Text(required=True)
    decision = Choice(DecisionKind, required=True)
    confidence = Number(required=True)


class EventSchema(EventItem):
    """An event with its whole story."""

    liquidation_price = Price(required=True, allow_none=True)
    ts_utc = Timestamp(required=True)
    asset_type = Choice(AssetType)
    asset_data = AssetData(allow_none=True)
    commentary = Text(allow_none=True)
    order_type = Choice(OrderType, data_key="order", allow_none=True)
    take_profit = Items(Price(), allow_none=True)
    stop_loss = Price(allow_none=True)
    valid_until = Timestamp(allow_none=True)
    close_fraction = Price(allow_none=True)
    timeline = Nested(TimelineEntry, many=True, required=True)
    enriched = Nested(Enrichment, required=True, allow_none=True)
    decisions = Nested(Verdict, many=True, required=True)


class EventStatusSchema(Schema):
    """An event's status."""

    event_id = Identifier(required=True)
    status = Choice(EventState, required=True)
    current_stage = Choice(EventStage, required=True)
    duration_ms = Whole(
        min=0,
        required=True,
        **about("Of an event that has ended: its timeline's last line minus its first. Else to now."),
    )
