"""Loading the quick way says of every document what marshmallow's own way says."""

from __future__ import annotations

from typing import Any

import marshmallow
import pytest
from marshmallow import ValidationError

from schemas._fields import Choice, Items, Nested, Object, Paging, Price, Schema, Text, Timestamp, Whole
from schemas.lens import SignalSubmission

SIGNAL = {
    "event_type": "OPEN_SIGNAL",
    "symbol": "btc",
    "signal_direction": "long",
    "entry_price": 42000.5,
    "size": 1,
    "ts_utc": "2024-01-15T10:30:00Z",
    "source": "strategy_alpha",
}


class Inner(Schema):
    """Something inside."""

    at = Timestamp(required=True)
    kind = Choice(("a", "b"), load_default="a")


class Outer(Schema):
    """A field of each sort."""

    name = Text(min=1, max=5, required=True)
    count = Whole(min=0, max=9, load_default=None, allow_none=True)
    price = Price(data_key="cost")
    data = Object(load_default=dict)
    inner = Nested(Inner)
    many = Nested(Inner, many=True)
    texts = Items(Text(min=1))
    shown = Text(dump_only=True)


AT = "2024-01-15T10:30:00Z"
DOCUMENTS: list[Any] = [
    {"name": "x"},
    {"name": "x", "count": 3, "cost": 1.5, "data": {"a": 1}, "inner": {"at": AT}, "many": [{"at": AT, "kind": "b"}]},
    {"name": "x", "count": None, "texts": ["a", "b"]},
    {},
    {"name": None},
    {"name": ""},
    {"name": "toolong", "count": 99, "cost": -1},
    {"name": "x", "inner": {}, "many": [{"at": AT}, {"at": "never"}], "texts": ["a", ""]},
    {"name": "x", "unknown": 1},
    {"name": "x", "shown": "no"},
    {"name": "x", "price": 1},
    [],
    "text",
    None,
]


def outcome(schema: Schema, document: Any) -> Any:
    """What loading brings: the value, or the messages."""
    try:
        return schema.load(document)
    except ValidationError as error:
        return error.messages


def slow(schema: type[Schema]) -> Schema:
    """The schema without the quick way."""
    own = {"_deserialize": marshmallow.Schema._deserialize}
    return type(f"Slow{schema.__name__}", (schema,), own)()


@pytest.mark.parametrize("document", DOCUMENTS, ids=repr)
def test_both_ways_of_loading_agree(document: Any) -> None:
    assert outcome(Outer(), document) == outcome(slow(Outer), document)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"size": 0},
        {"liquidation_price": 50_000, "signal_direction": "short"},
        {"liquidation_price": 50_000},
        {"asset_type": "forex"},
        {"more": 1},
    ],
    ids=repr,
)
def test_hooks_of_a_schema_see_the_same(change: dict[str, Any]) -> None:
    document = SIGNAL | change
    assert outcome(SignalSubmission(), document) == outcome(slow(SignalSubmission), document)


def test_a_query_may_hold_what_nobody_asked_for() -> None:
    assert Paging().load({"limit": "5", "else": "x"}) == {"limit": 5, "offset": 0}


def test_partial_loading_goes_marshmallows_own_way() -> None:
    assert Outer().load({"count": 1}, partial=True) == {"count": 1}
