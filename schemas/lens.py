"""Schemas of the Lens API: submitted signals, events, decisions and dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from marshmallow import ValidationError, post_load, validates_schema

from config.clock import now
from config.settings import MODELS
from schemas._fields import (
    AsItIs,
    Choice,
    Identifier,
    Items,
    Nested,
    Number,
    Object,
    Paging,
    Price,
    QueryFlag,
    QueryNumber,
    Schema,
    Text,
    Timestamp,
    Whole,
)
from schemas._symbols import CATEGORY_OF
from schemas.assets import AssetData, asset_problems, store_asset

DIRECTIONS = {"OPEN_SIGNAL": ("long", "short"), "CLOSE_SIGNAL": ("close_long", "close_short")}
STATUSES = ("RECEIVED", "ENQUEUED", "ENRICHED", "MODEL_DONE", "PUBLISHED", "REJECTED", "FAILED")
STAGES = ("ENQUEUE", "ENRICH", "EVALUATE", "PUBLISH", "COMPLETE", "DEAD_LETTER")
DECISIONS = ("FOLLOW_ENTER", "IGNORE", "FOLLOW_EXIT", "HOLD", "TIGHTEN_STOP")
MODEL_STATUSES = ("SUCCESS", "TIMEOUT", "API_ERROR", "SCHEMA_ERROR", "RATE_LIMITED")
DLQ_STAGES = ("enqueue", "enrich", "evaluate", "publish")
REASON_CODES = (
    "VALIDATION_ERROR",
    "TIMEOUT",
    "NETWORK_ERROR",
    "PROVIDER_ERROR",
    "MODEL_ERROR",
    "SCHEMA_ERROR",
    "RATE_LIMITED",
    "PUBLISH_ERROR",
    "INTERNAL_ERROR",
)

MOST_AHEAD = timedelta(seconds=300)
"""The time by which a producer's clock may be ahead of ours."""

_EVENT_TYPE = "What the signal asks for."


def event_type(**options: Any) -> Choice:
    """Make the field `event_type`."""
    return Choice(DIRECTIONS, metadata={"description": _EVENT_TYPE, "examples": ["OPEN_SIGNAL"]}, **options)


class SignalSubmission(Schema):
    """A raw signal. `symbol` is loaded in its stored form."""

    event_type = event_type(required=True)
    symbol = Text(
        min=1,
        max=100,
        required=True,
        metadata={"description": "In the form of its `asset_type`; stored in upper case.", "examples": ["BTC"]},
    )
    signal_direction = Choice(
        [each for pair in DIRECTIONS.values() for each in pair],
        required=True,
        metadata={"description": "`long` or `short` opens, `close_long` or `close_short` closes."},
    )
    entry_price = Price(required=True, metadata={"examples": [42000.5]})
    size = Price(required=True, metadata={"examples": [0.1]})
    liquidation_price = Price(
        load_default=None,
        allow_none=True,
        metadata={"description": "Below `entry_price` for a long position, above it for a short one."},
    )
    ts_utc = Timestamp(
        required=True,
        metadata={"description": "When the producer made the signal. Up to 300 s ahead counts as now."},
    )
    source = Text(min=1, max=100, required=True, metadata={"description": "The provider: a user's id, or a name."})
    asset_type = Choice(CATEGORY_OF, load_default="crypto")
    asset_data = AssetData(load_default=None, allow_none=True)
    commentary = Text(max=500, load_default=None, allow_none=True)

    @validates_schema(skip_on_field_errors=False)
    def check_together(self, data: Mapping[str, Any], **_: Any) -> None:
        """Check the fields that are valid by themselves against each other, and report all faults at once."""
        checks = (_direction_problem, _liquidation_problem, _source_problem, _time_problem)
        problems: dict[str, Any] = {name: text for check in checks for name, text in check(data)}
        problems |= asset_problems(data, closes=data.get("event_type") == "CLOSE_SIGNAL")
        if problems:
            raise ValidationError(problems)

    @post_load
    def store(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Convert to the stored form."""
        return store_asset(data)


Problems = Iterator[tuple[str, str]]


def _direction_problem(data: Mapping[str, Any]) -> Problems:
    if "event_type" in data and "signal_direction" in data:
        allowed = DIRECTIONS[data["event_type"]]
        if data["signal_direction"] not in allowed:
            yield "signal_direction", f"must be {' or '.join(allowed)} with {data['event_type']}"


def _liquidation_problem(data: Mapping[str, Any]) -> Problems:
    liquidation = data.get("liquidation_price")
    if liquidation is not None and "entry_price" in data and "signal_direction" in data:
        is_long = data["signal_direction"].endswith("long")
        if is_long and liquidation >= data["entry_price"]:
            yield "liquidation_price", "must be below entry_price for a long position"
        if not is_long and liquidation <= data["entry_price"]:
            yield "liquidation_price", "must be above entry_price for a short position"


def _time_problem(data: Mapping[str, Any]) -> Problems:
    if "ts_utc" in data and data["ts_utc"] > now() + MOST_AHEAD:
        yield "ts_utc", f"must be at most {MOST_AHEAD.seconds} s ahead of the server's clock"


def _source_problem(data: Mapping[str, Any]) -> Problems:
    if "source" in data and not data["source"].strip():
        yield "source", "must not be blank"


class SignalAccepted(Schema):
    """A signal that is durable: whatever dies from here on, it will be published, rejected or dead-lettered."""

    event_id = Identifier(required=True)
    status = Choice(STATUSES, required=True)
    received_at = Timestamp(required=True)


class EventsQuery(Paging):
    """The filters of `GET /api/v1/events`."""

    symbol = Text(min=1, max=100, load_default=None)
    event_type = event_type(load_default=None)
    source = Text(min=1, max=100, load_default=None)
    since = Timestamp(load_default=None, metadata={"description": "Received at or after this time."})
    until = Timestamp(load_default=None, metadata={"description": "Received at or before this time."})
    status = Choice(STATUSES, load_default=None)


class EventItem(Schema):
    """An event in a list."""

    event_id = Identifier(required=True)
    event_type = event_type(required=True)
    symbol = Text(required=True)
    signal_direction = Text(required=True)
    entry_price = Price(required=True)
    size = Price(required=True)
    status = Choice(STATUSES, required=True)
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

    def _dump_one(self, obj: Any) -> dict[str, Any]:
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


class Verdict(Schema):
    """A model's decision in short."""

    model = Text(required=True)
    decision = Choice(DECISIONS, required=True)
    confidence = Number(required=True)


class Event(EventItem):
    """An event with its whole story."""

    liquidation_price = Price(required=True, allow_none=True)
    ts_utc = Timestamp(required=True)
    asset_type = Choice(CATEGORY_OF)
    asset_data = AssetData(allow_none=True)
    commentary = Text(allow_none=True)
    timeline = Nested(TimelineEntry, many=True, required=True)
    enriched = Nested(Enrichment, required=True, allow_none=True)
    decisions = Nested(Verdict, many=True, required=True)


class EventStatus(Schema):
    """An event's status."""

    event_id = Identifier(required=True)
    status = Choice(STATUSES, required=True)
    current_stage = Choice(STAGES, required=True)
    duration_ms = Whole(
        min=0,
        required=True,
        metadata={"description": "Of an event that has ended: its timeline's last line minus its first. Else to now."},
    )


class DecisionsQuery(Paging):
    """The filters of `GET /api/v1/decisions`."""

    model = Choice(MODELS, load_default=None)
    symbol = Text(min=1, max=100, load_default=None, metadata={"description": "Ignores case."})
    event_type = event_type(load_default=None)
    decision = Choice(DECISIONS, load_default=None)
    min_confidence = QueryNumber(min=0, max=1, load_default=None)
    since = Timestamp(load_default=None, metadata={"description": "Evaluated at or after this time."})
    until = Timestamp(load_default=None, metadata={"description": "Evaluated at or before this time."})


class _Plan(Nested):
    """A nested plan that is stored in the form that is shown: without values that it does not have."""

    # marshmallow's Nested and Field name the first parameter differently: no name fits both.
    def _serialize(self, value: Any, attr: Any, obj: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return value


class _Texts(AsItIs, Items):
    """An array of texts that is stored in the form that is shown."""


class EntryPlan(Schema):
    """The plan to enter a position."""

    type = Choice(("market", "limit"), required=True)
    offset_bps = Number()


class RiskPlan(Schema):
    """The plan to exit a position."""

    stop_method = Choice(("fixed", "atr", "trailing"), required=True)
    stop_level = Number()
    atr_multiple = Number(min=0.5, max=10)
    trail_pct = Number(min=0, max=100)


class DecisionItem(Schema):
    """A model's decision in a list."""

    id = Text(required=True)
    event_id = Identifier(required=True)
    symbol = Text(required=True)
    event_type = event_type(required=True)
    model = Text(required=True)
    decision = Choice(DECISIONS, required=True)
    confidence = Number(min=0, max=1, required=True)
    entry_plan = _Plan(EntryPlan, required=True, allow_none=True)
    risk_plan = _Plan(RiskPlan, required=True, allow_none=True)
    size_pct = Number(min=0, max=100, required=True)
    reasons = _Texts(Text(), required=True)
    evaluated_at = Timestamp(required=True)


class PageOfDecisions(Schema):
    """Decisions, newest first."""

    items = Nested(DecisionItem, many=True, required=True)
    total = Whole(required=True)
    limit = Whole(required=True)
    offset = Whole(required=True)


class ModelMeta(Schema):
    """The model's name and version, and the latency, status and tokens of its call."""

    model_name = Text(required=True)
    model_version = Text(required=True)
    latency_ms = Whole(required=True)
    status = Choice(MODEL_STATUSES, required=True)
    tokens_used = Whole(required=True, allow_none=True)


class Decision(DecisionItem):
    """A decision in full."""

    model_meta = Nested(ModelMeta, required=True)


def dlq_stage(**options: Any) -> Choice:
    """Make the field `stage` of dead letters."""
    return Choice(DLQ_STAGES, metadata={"description": "Where it failed, and where a retry begins."}, **options)


class DeadLettersQuery(Paging):
    """The filters of `GET /api/v1/dlq`."""

    stage = dlq_stage(load_default=None)
    reason_code = Choice(REASON_CODES, load_default=None)
    event_id = Identifier(load_default=None)
    resolved = QueryFlag(load_default=None)
    since = Timestamp(load_default=None, metadata={"description": "Created at or after this time."})
    until = Timestamp(load_default=None, metadata={"description": "Created at or before this time."})


class DeadLetterItem(Schema):
    """A failure in a list."""

    id = Text(required=True)
    event_id = Identifier(required=True, allow_none=True)
    stage = dlq_stage(required=True)
    reason_code = Choice(REASON_CODES, required=True)
    error_message = Text(required=True)
    retry_count = Whole(required=True)
    created_at = Timestamp(required=True)
    resolved_at = Timestamp(required=True, allow_none=True)


class PageOfDeadLetters(Schema):
    """Failures, newest first."""

    items = Nested(DeadLetterItem, many=True, required=True)
    total = Whole(required=True)
    limit = Whole(required=True)
    offset = Whole(required=True)


class Attempt(Schema):
    """One failed attempt."""

    at = Text(required=True, metadata={"format": "date-time"})  # stored in the form that is shown
    reason_code = Choice(REASON_CODES, required=True)
    error_message = Text(required=True)


class DeadLetter(DeadLetterItem):
    """A failure in full. `model` is the one that failed, if it was one."""

    model = Text(allow_none=True)
    payload = Object(required=True)
    edited_payload = Object(allow_none=True, metadata={"description": "What a retry processes instead of `payload`."})
    attempts = Nested(Attempt, many=True)
    last_retry_at = Timestamp(required=True, allow_none=True)
    resolution_note = Text(required=True, allow_none=True)


class RetryRequest(Schema):
    """The options of a retry."""

    payload = Object(
        load_default=None,
        allow_none=True,
        metadata={"description": "Fields of the signal that are to change; kept beside the original from then on."},
    )


class RetryAccepted(Schema):
    """A dead letter that is being retried."""

    id = Text(required=True)
    status = Text(required=True)
    message = Text(required=True)
    retry_count = Whole(required=True)


class Note(Text):
    """The reason why dead letters need no more work."""

    default_error_messages = {"blank": "must not be blank"}  # noqa: RUF012

    def __init__(self, **options: Any) -> None:
        super().__init__(min=1, max=1000, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if text.isspace():
            raise self.make_error("blank")
        return text


class Resolution(Schema):
    """The reason why a dead letter needs no more work."""

    resolution_note = Note(required=True)


class Resolved(Schema):
    """A dead letter that is resolved."""

    id = Text(required=True)
    status = Text(required=True)
    resolved_at = Timestamp(required=True)
