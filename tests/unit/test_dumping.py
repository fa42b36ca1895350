"""Schemas dump rows and mappings with their keys and conversions, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from schemas._fields import Choice, Flag, Identifier, Items, Nested, Number, Object, Price, Schema, Text, Timestamp

ID = UUID("550e8400-e29b-41d4-a716-446655440000")
AT = datetime(2024, 1, 15, 10, 30, 0, 123_999, UTC)


class Loud(Text):
    """A field that dumps in upper case."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return value.upper()


class Inner(Schema):
    """A nested schema with one field."""

    at = Timestamp()


class Everything(Schema):
    """A field of each sort."""

    id = Text()
    key = Identifier(data_key="public_key")
    kind = Choice(("a", "b"))
    price = Price()
    number = Number()
    flag = Flag()
    data = Object()
    loud = Loud()
    inner = Nested(Inner)
    many = Nested(Inner, many=True)
    texts = Items(Text())
    secret = Text(load_only=True)


@dataclass
class Row:
    """A row with attributes."""

    id: Any = ID
    key: Any = ID
    kind: str | None = "a"
    price: Any = Decimal("1.10")
    number: float | None = 0.5
    flag: bool | None = True
    data: Any = None
    loud: str = "hush"
    inner: Any = None
    many: Any = ()
    texts: Any = ()
    secret: str = "never"


EXPECTED = {
    "id": str(ID),
    "public_key": str(ID),
    "kind": "a",
    "price": Decimal("1.10"),
    "number": 0.5,
    "flag": True,
    "data": {"x": 1},
    "loud": "HUSH",
    "inner": {"at": "2024-01-15T10:30:00.123Z"},
    "many": [{"at": "2024-01-15T10:30:00.123Z"}, {"at": None}],
    "texts": ["a", "b"],
}


def test_a_row_and_a_mapping_are_dumped_alike() -> None:
    values = {"data": {"x": 1}, "inner": {"at": AT}, "many": [{"at": AT}, {"at": None}], "texts": ["a", "b"]}
    row = Row(**values)
    assert Everything().dump(row) == EXPECTED
    assert Everything().dump(vars(row)) == EXPECTED
    assert list(Everything().dump(row)) == list(EXPECTED), "in the order of the declaration"
    assert Everything(many=True).dump([row, vars(row)]) == [EXPECTED, EXPECTED]


def test_missing_values_are_null() -> None:
    dumped = Everything(exclude=("loud",)).dump({})
    assert set(dumped) == set(EXPECTED) - {"loud"}
    assert set(map(type, dumped.values())) == {type(None)}
