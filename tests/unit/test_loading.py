"""Quick loading has the same results and errors as marshmallow's own for every document."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import marshmallow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from schemas._fields import (
    AnyCase,
    Choice,
    Day,
    Flag,
    Identifier,
    Items,
    Nested,
    Number,
    Object,
    Price,
    Schema,
    Text,
    Timestamp,
    Whole,
)
from schemas._queries import CommaList, Paging, QueryFlag, QueryNumber, QuerySchema, QueryWhole
from schemas._vocabulary import PublicAction
from schemas.dlq import Note
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
    """A nested schema."""

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
    """Return the loaded value, or the messages."""
    try:
        return schema.load(document)
    except ValidationError as error:
        return error.messages


def slow(schema: type[Schema]) -> Schema:
    """Return the schema without quick loading."""
    return type(f"Slow{schema.__name__}", (schema,), {"load": marshmallow.Schema.load})()


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


TEXTS = st.sampled_from(["", "a", "b", "abcde", "toolong", "é", "null", "\0"]) | st.text(max_size=6)
DECIMALS = st.decimals() | st.sampled_from(
    [
        Decimal(text)
        for text in (
            *("0", "-0", "1E+14", "1E+15", "999999999999999.9", "1E-18", "1E-19", "0.0000001", "0.000001", "1.10"),
            *("0.123456789012345678", "0.1234567890123456789", "1.0000000000000000000", "12345678901234.123456789012"),
            *("1E+400", "NaN", "sNaN", "-Infinity", "1E-400", "0E-19", "1E-6", "123E-20", "12345678901234567E-18"),
        )
    ]
)
MOMENTS = st.sampled_from(
    [
        AT,
        *("2024-01-15T10:30:00.1234567+05:30", "2024-01-15t10:30:00z", "2024-01-15 10:30:00Z", "2024-02-30T10:30:00Z"),
        *("2024-01-15T10:30:00 02:00", "2024-01-15T10:30:00", "0001-01-01T00:00:00+01:00", "2024-01-15T24:00:00Z"),
        *("2024-01-15T10:30:00Z\n", "2024-01-15", "2024-W03-1T10:30:00Z", "2024-01-15T10:30:60Z", "T 1 00:00"),
    ]
)
VALUES = (
    st.none() | st.booleans() | st.integers() | st.integers(-1, 10) | st.floats() | DECIMALS | TEXTS | MOMENTS
) | st.sampled_from([b"ab", b"\xff", 10**400, [], {}, ["a"], ["a", ""], [None]])
INNER = st.dictionaries(st.sampled_from(["at", "kind", "else"]), VALUES, max_size=3)
OUTER = st.fixed_dictionaries(
    {"name": st.just("x") | VALUES},
    optional={
        "count": VALUES,
        "cost": VALUES,
        "price": VALUES,
        "data": VALUES | INNER,
        "inner": VALUES | INNER,
        "many": VALUES | st.lists(INNER | VALUES, max_size=3),
        "texts": VALUES,
        "shown": VALUES,
        "else": VALUES,
    },
)


class Fields(Schema):
    """Each field that has a way of its own to be loaded quickly, with its bounds, and without."""

    free = Text()
    short = Text(max=5)
    long = Text(min=2)
    asked = Text(min=1, max=5, required=True, allow_none=True)
    choice = Choice(("a", "b"), load_default="b")
    action = AnyCase(PublicAction)
    price = Price(load_default=None)
    number = Number(min=0, max=10)
    above = Number(above=0)
    whole = Whole(min=0)
    flag = Flag()
    at = Timestamp(load_default=lambda: datetime(2024, 1, 15, tzinfo=UTC))
    day = Day()
    key = Identifier(load_default=marshmallow.missing)
    data = Object(allow_none=True)
    texts = Items(Text(min=1))
    note = Note()


class Query(QuerySchema):
    """A query's fields."""

    whole = QueryWhole(min=1, max=100, load_default=50)
    number = QueryNumber(min=0, max=1)
    flag = QueryFlag(load_default=None)
    list = CommaList(Choice(("a", "b")))
    at = Timestamp()


def known(value: Any) -> Any:
    """Return a form that is equal for the same values only: NaN for NaN, and not 1 for True or for 1.0."""
    if isinstance(value, dict):
        return [(key, known(each)) for key, each in value.items()]
    return [known(each) for each in value] if isinstance(value, list) else (type(value), repr(value))


FIELDS, SLOW_FIELDS = Fields(), slow(Fields)


@given(OUTER | VALUES)
def test_any_document_is_loaded_both_ways_alike(document: Any) -> None:
    assert known(outcome(Outer(), document)) == known(outcome(slow(Outer), document))


@given(st.sampled_from(sorted(Fields().fields)), VALUES)
def test_any_value_of_any_field_is_loaded_both_ways_alike(name: str, value: Any) -> None:
    document = {"asked": "a", name: value}
    assert known(outcome(FIELDS, document)) == known(outcome(SLOW_FIELDS, document))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "whole": TEXTS | st.integers().map(str),
            "number": TEXTS | st.floats(-1, 2).map(str),
            "flag": TEXTS | st.sampled_from(["true", "false", "True"]),
            "list": TEXTS | st.sampled_from(["a,b", "a,,b ", "a,c"]),
            "at": MOMENTS,
            "else": TEXTS,
        },
    )
)
def test_any_query_is_loaded_both_ways_alike(query: dict[str, str]) -> None:
    assert known(outcome(Query(), query)) == known(outcome(slow(Query), query))


def test_valid_documents_are_loaded_without_marshmallow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marshmallow.Schema, "_do_load", None)
    assert SignalSubmission().load(SIGNAL)["symbol"] == "BTC"
    assert Outer().load({"name": "x", "inner": {"at": AT}})["inner"]["kind"] == "a"


class Hooked(Schema):
    """A schema with hooks that quick loading does not run."""

    a = Whole()
    b = Whole(attribute="c", load_default=1)

    @marshmallow.pre_load
    def double(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Run before loading."""
        return {key: 2 * value for key, value in data.items()}

    @marshmallow.validates("a")
    def check(self, value: int, **_: Any) -> None:
        """Validate one field."""
        if value > 4:
            raise ValidationError("much")

    @marshmallow.post_load(pass_original=True)
    def end(self, data: dict[str, Any], original: dict[str, Any], **_: Any) -> tuple[Any, Any]:
        """Run after loading, with the original document."""
        return data, original


def test_a_schema_with_other_hooks_is_left_to_marshmallow() -> None:
    assert Hooked().load({"a": 2}) == ({"a": 4, "c": 1}, {"a": 2})
    with pytest.raises(ValidationError, match="much"):
        Hooked().load({"a": 3})


def test_refusals_of_a_last_hook_are_reported() -> None:
    class Refusing(Schema):
        """A schema whose last hook raises."""

        a = Whole()

        @marshmallow.post_load
        def refuse(self, data: dict[str, Any], **_: Any) -> None:
            """Refuse every document."""
            raise ValidationError({"a": ["no"]})

    assert outcome(Refusing(), {"a": 1}) == outcome(slow(Refusing), {"a": 1}) == {"a": ["no"]}


def test_many_at_once_go_marshmallows_own_way() -> None:
    assert Inner(many=True).load([{"at": AT}]) == [Inner().load({"at": AT})]
    assert Inner().load([{"at": AT}], many=True) == [Inner().load({"at": AT})]
    assert Paging(unknown=marshmallow.INCLUDE).load({"x": "1"})["x"] == "1"
    assert Inner().load({"at": AT, "x": 1}, unknown=marshmallow.EXCLUDE) == Inner().load({"at": AT})


def test_a_query_may_hold_what_nobody_asked_for() -> None:
    assert Paging().load({"limit": "5", "else": "x"}) == {"limit": 5, "offset": 0}


def test_partial_loading_goes_marshmallows_own_way() -> None:
    assert Outer().load({"count": 1}, partial=True) == {"count": 1}
