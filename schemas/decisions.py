"""Schemas of models' decisions: as the API shows them, and as a model answers: as strictly as a request's body."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from marshmallow import ValidationError

from config.documents import Document, Loaded
from config.model_sdks import MODELS
from schemas._fields import (
    AsItIs,
    Choice,
    ConvertedText,
    Identifier,
    Items,
    Nested,
    Number,
    Schema,
    Stored,
    Text,
    Timestamp,
    Whole,
    about,
)
from schemas._json import NotJson, TooDeep, decode, printable
from schemas._problems import field_errors
from schemas._queries import Paging, QueryNumber, SymbolFilter
from schemas._vocabulary import ORDER_TYPES, STOP_METHODS, DecisionKind, ModelStatus, OrderType, StopMethod
from schemas.errors import FieldError, ValidationFailed
from schemas.lens import event_type

DECISIONS_ON: Mapping[str, tuple[DecisionKind, ...]] = {
    "OPEN_SIGNAL": ("FOLLOW_ENTER", "IGNORE"),
    "CLOSE_SIGNAL": ("FOLLOW_EXIT", "HOLD", "TIGHTEN_STOP"),
}
"""The decisions that answer each type of event: a signal to close cannot be entered."""

MOST_REASONS = 10
LONGEST_REASON = 200
_FARTHEST_OFFSET_BPS = 10_000  # a limit order at zero
_MOST_DETAILS = 20
_FENCED = re.compile(r"```[A-Za-z0-9]*[ \t]*\r?\n(?P<inside>.*?)\s*```", re.DOTALL)
USUAL_ATR_MULTIPLE = 2.0


class Reason(ConvertedText):
    """Text that can be stored and shown: no NUL, no half of a surrogate pair, no control character."""

    def convert(self, text: str) -> str:
        if not text.isprintable():
            raise ValidationError("must not contain control characters")
        return text


class DecisionsQuery(Paging):
    """The filters of `GET /api/v1/decisions`."""

    model = Choice(MODELS, load_default=None)
    symbol = SymbolFilter(min=1, max=100, load_default=None, **about("Ignores case."))
    event_type = event_type(load_default=None)
    decision = Choice(DecisionKind, load_default=None)
    min_confidence = QueryNumber(min=0, max=1, load_default=None)
    since = Timestamp(load_default=None, **about("Evaluated at or after this time."))
    until = Timestamp(load_default=None, **about("Evaluated at or before this time."))


class _Texts(AsItIs[list[str | None]], Items[str]):
    """An array of texts that is stored in the form that is shown."""


class EntryPlan(Schema):
    """The plan to enter a position."""

    type = Choice(OrderType, required=True)
    offset_bps = Number()


class RiskPlan(Schema):
    """The plan to exit a position."""

    stop_method = Choice(StopMethod, required=True)
    stop_level = Number()
    atr_multiple = Number(min=0.5, max=10)
    trail_pct = Number(min=0, max=100)


class DecisionItemSchema(Schema):
    """A model's decision in a list."""

    id = Text(required=True)
    event_id = Identifier(required=True)
    symbol = Text(required=True)
    event_type = event_type(required=True)
    model = Text(required=True)
    decision = Choice(DecisionKind, required=True)
    confidence = Number(min=0, max=1, required=True)
    entry_plan = Stored(EntryPlan, required=True, allow_none=True)
    risk_plan = Stored(RiskPlan, required=True, allow_none=True)
    size_pct = Number(min=0, max=100, required=True)
    reasons = _Texts(Text(), required=True)
    evaluated_at = Timestamp(required=True)


class PageOfDecisions(Schema):
    """Decisions, newest first."""

    items = Nested(DecisionItemSchema, many=True, required=True)
    total = Whole(required=True)
    limit = Whole(required=True)
    offset = Whole(required=True)


class ModelMeta(Schema):
    """The model's name and version, and the latency, status and tokens of its call."""

    model_name = Text(required=True)
    model_version = Text(required=True)
    latency_ms = Whole(required=True)
    status = Choice(ModelStatus, required=True)
    tokens_used = Whole(required=True, allow_none=True)


class Decision(DecisionItemSchema):
    """A decision in full."""

    model_meta = Nested(ModelMeta, required=True)


class PlannedEntry(Schema):
    """A planned entry. A limit order's `offset_bps` is from the current price, below zero for cheaper."""

    type = Choice(OrderType, required=True)
    offset_bps = Number(min=-_FARTHEST_OFFSET_BPS, max=_FARTHEST_OFFSET_BPS, allow_none=True)


class PlannedExit(Schema):
    """A planned exit."""

    stop_method = Choice(StopMethod, required=True)
    stop_level = Number(above=0, allow_none=True)
    atr_multiple = Number(min=0.5, max=10, allow_none=True)
    trail_pct = Number(min=0, max=100, allow_none=True)


class ModelDecision(Schema):
    """A model's answer; an optional number that is null counts as not given."""

    confidence = Number(min=0, max=1, required=True)
    entry_plan = Nested(PlannedEntry, required=True)
    risk_plan = Nested(PlannedExit, required=True)
    size_pct = Number(min=0, max=100, required=True)
    reasons = Items(Reason(min=1, max=LONGEST_REASON), min=1, max=MOST_REASONS, required=True)


class OpenDecision(ModelDecision):
    """The answer to a signal to open a position."""

    decision = Choice(DECISIONS_ON["OPEN_SIGNAL"], required=True)


class CloseDecision(ModelDecision):
    """The answer to a signal to close one."""

    decision = Choice(DECISIONS_ON["CLOSE_SIGNAL"], required=True)


_SCHEMAS: Mapping[str, Schema] = {"OPEN_SIGNAL": OpenDecision(), "CLOSE_SIGNAL": CloseDecision()}


def load_decision(
    answer: str, event_type: str, *, direction: str | None = None, entry_price: float | None = None
) -> Loaded:
    """Load the decision in a model's answer, in the form of `actors.lens.model.Judgement.to_dict`.

    A code fence around the object is removed; any other text beside it, an unknown field, a field given twice, NaN or a
    number in quotes is an error. So is a contradiction: an entry of nothing, a stop without a level, or a stop where
    the position wins (the signal's `direction` says on which side of its `entry_price` that is). Raises
    ValidationFailed, which `problem_text` describes by field.
    """
    document = _parse(answer)
    try:
        loaded = _SCHEMAS[event_type].load(document)
    except ValidationError as error:
        problems = field_errors(error.messages)[:_MOST_DETAILS]
        named = [FieldError(printable(each.field), each.message) for each in problems]
        raise ValidationFailed(details=named) from None
    for plan in ("entry_plan", "risk_plan"):
        loaded[plan] = {name: value for name, value in loaded[plan].items() if value is not None}
    if contradictions := [*_size_problem(loaded), *_stop_problem(loaded["risk_plan"], direction, entry_price)]:
        raise ValidationFailed(details=contradictions)
    if loaded["risk_plan"]["stop_method"] == "atr":
        loaded["risk_plan"].setdefault("atr_multiple", USUAL_ATR_MULTIPLE)
    return loaded


def problem_text(error: ValidationFailed) -> str:
    """Describe an error by field: `confidence: must be between 0 and 1; reasons: is required`."""
    if not error.details:
        return error.message
    return "; ".join(f"{each.field}: {each.message}" for each in error.details)


def response_schema(event_type: str) -> Document:
    """Return the answer's JSON Schema, in the subset that every vendor's structured output accepts.

    That is: all fields required (optional ones nullable), no other fields, no bounds on numbers, texts and arrays. The
    bounds are in the prompt, and `load_decision` checks them.
    """
    nullable = {"type": ["number", "null"]}
    entry_plan: Document = {"type": {"type": "string", "enum": list(ORDER_TYPES)}, "offset_bps": nullable}
    risk_plan: Document = {
        "stop_method": {"type": "string", "enum": list(STOP_METHODS)},
        "stop_level": nullable,
        "atr_multiple": nullable,
        "trail_pct": nullable,
    }
    return _object(
        {
            "decision": {"type": "string", "enum": list(DECISIONS_ON[event_type])},
            "confidence": {"type": "number"},
            "entry_plan": _object(entry_plan),
            "risk_plan": _object(risk_plan),
            "size_pct": {"type": "number"},
            "reasons": {"type": "array", "items": {"type": "string"}},
        }
    )


def _size_problem(decision: Loaded) -> Iterator[FieldError]:
    if decision["decision"] == "FOLLOW_ENTER" and decision["size_pct"] <= 0:
        yield FieldError("size_pct", "must be greater than 0 with FOLLOW_ENTER")


def _stop_problem(plan: Loaded, direction: str | None, entry_price: float | None) -> Iterator[FieldError]:
    if plan["stop_method"] == "trailing" and "trail_pct" not in plan:
        yield FieldError("risk_plan.trail_pct", "is required with stop_method trailing")
    if plan["stop_method"] != "fixed":
        return
    level = plan.get("stop_level")
    if level is None:
        yield FieldError("risk_plan.stop_level", "is required with stop_method fixed")
    elif direction is not None and entry_price is not None:
        is_long = direction.endswith("long")
        if (level >= entry_price) if is_long else (level <= entry_price):
            side, position = ("below", "long") if is_long else ("above", "short")
            yield FieldError("risk_plan.stop_level", f"must be {side} the entry price for a {position} position")


def _object(properties: Document) -> Document:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _parse(answer: str) -> Document:
    text = answer.strip().removeprefix("\ufeff").strip()
    fenced = _FENCED.fullmatch(text)
    if fenced is not None:
        text = fenced["inside"]
    try:
        document = decode(text, "the answer")
    except NotJson as error:
        raise ValidationFailed(f"not JSON: {error}") from None
    except TooDeep:
        raise ValidationFailed("not usable JSON: nested too deeply") from None
    if not isinstance(document, dict):
        raise ValidationFailed("not a JSON object")
    return document
