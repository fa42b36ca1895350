"""Single fields: what they say of values that are nearly right."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from marshmallow import ValidationError

from schemas._fields import Number, Paging, Price, QueryNumber, QueryWhole, Timestamp
from schemas.assets import OptionData


def problem(field: Any, value: object) -> str:
    """What the field says of a value that it refuses."""
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
