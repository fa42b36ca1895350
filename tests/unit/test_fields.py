"""Single fields: their errors for values that are nearly right."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from marshmallow import ValidationError

from schemas._fields import Day, Items, Number, Object, Price, Text, Timestamp
from schemas._queries import Paging, QueryNumber, QueryWhole
from schemas.assets import OptionData


def problem(field: Any, value: object) -> str:
    """Return the field's error for a value that it refuses."""
    with pytest.raises(ValidationError) as refused:
        field.deserialize(value)
    [message] = refused.value.messages
    return str(message)


def test_a_plus_that_a_query_turned_into_a_space_is_hinted_at() -> None:
    assert "%2B" in problem(Timestamp(), "2026-11-22T11:09:40 02:00")
    assert "%2B" in problem(Timestamp(), "2026-11-22T11:09:40.123 02:00")
    for text in ("2026-11-22 11:09", "2026-11-22 11:09:40", "2026-11-22T11:09:40", "today"):
        assert "%2B" not in problem(Timestamp(), text)


@pytest.mark.parametrize("digits", ["1000000001", "9" * 16, "9" * 20, "9" * 5_000, "000" + "9" * 20])
def test_an_integer_of_a_query_that_is_far_out_of_range_is_told_the_range(digits: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Paging().load({"offset": digits, "limit": f"-{digits}"})
    assert refused.value.messages == {
        "offset": ["must be between 0 and 1000000000"],
        "limit": ["must be between 1 and 100"],
    }


def test_an_integer_of_a_query_may_have_leading_zeros_and_a_sign() -> None:
    assert [QueryWhole().deserialize(text) for text in ("0", "00", "+7", "-0012", "0" * 30 + "5")] == [0, 0, 7, -12, 5]
    for text in ("", "+", "1.0", "1e3", "٣", "9" * 20):
        assert problem(QueryWhole(), text) == "must be an integer"


def test_a_number_of_a_query_may_have_as_many_digits_as_a_double_is_printed_with() -> None:
    assert QueryNumber(max=1).deserialize("0.12345678901234568") == 0.12345678901234568
    assert problem(QueryNumber(min=0, max=1), "9" * 20) == "must be between 0 and 1"


def test_a_number_may_have_a_bound_that_it_is_not_to_reach() -> None:
    for value in (0, Decimal("0.0"), -1):
        assert problem(Number(above=0), value) == "must be greater than 0"
        assert OptionData().validate({"strike": value}) == {"strike": ["must be greater than 0"]}
    assert OptionData().load({"strike": Decimal("0.5")}) == {"strike": 0.5}


def test_a_number_past_all_bounds_is_told_so() -> None:
    huge = Decimal("1e400")
    assert problem(Price(), huge) == "must be less than 10^15"
    assert problem(Number(), huge) == "must be between -10^300 and 10^300"


@pytest.mark.parametrize("text", ["2026-W11-7", "20260315", "2026-3-15", "٢٠٢٦-03-15", "2026-03-15T00"])
def test_a_date_has_one_form(text: str) -> None:
    assert problem(Day(), text) == "must be a date, as in 2026-03-15"


def test_too_many_items_are_refused_before_they_are_read() -> None:
    """A body of 64 KiB has tens of thousands of items, and reading each would hold the loop for a second."""
    field = Items(Text(min=2), min=1, max=3)
    assert problem(field, [1] * 30_000) == "must have 1-3 items"
    assert problem(field, []) == "must have 1-3 items"
    assert problem(Items(Text(), max=3), ["a"] * 4) == "must have at most 3 items"
    assert field.deserialize(["ab", "cd"]) == ["ab", "cd"]


def test_an_object_of_any_content_is_one_that_every_reader_of_json_takes() -> None:
    nested: dict[str, object] = {}
    for _ in range(100):
        nested = {"a": nested}
    for document in (nested, {"a": [Decimal("1e400")]}, {"a": 10**400}, {"a": Decimal("1e-400")}):
        assert problem(Object(), document).startswith("must be nested at most 64 deep")
    assert Object().deserialize({"a": [Decimal("1e300"), {"b": None}]}) == {"a": [Decimal("1e300"), {"b": None}]}
