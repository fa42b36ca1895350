"""Two submissions are the same by their values, not by how their numbers were spelled."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest

from actors.lens._fingerprint import fingerprint
from actors.lens.messages import Submit
from config.ids import uuid7
from schemas._json import parse_object
from schemas.lens import SignalSubmission
from tests.support.lens_factory import EXAMPLE

OPTION = {
    "asset_type": "option",
    "symbol": "AAPL 195C 3/15",
    "asset_data": {"strike": 195, "greeks": {"delta": 0.5, "vega": 0}},
}


def digest(text: bytes, key: str = "k") -> bytes:
    """The fingerprint of a body as it comes over HTTP."""
    return fingerprint(
        Submit(event_id=uuid7(), idempotency_key=key, **SignalSubmission().load(parse_object(text, "body")))
    )


def body(**changes: Any) -> bytes:
    return orjson.dumps(EXAMPLE | changes)


@pytest.mark.parametrize(
    ("field", "spellings"),
    [
        (b'"entry_price":42000.5', [b"42000.50", b"42000.500", b"4.20005e4", b"420005E-1"]),
        (b'"size":0.1', [b"0.10", b"1e-1", b"0.100000000000000000"]),
        (b'"liquidation_price":38000.0', [b"38000", b"3.8e4", b"38E+3", b"38000.000"]),
    ],
)
def test_a_number_spelled_otherwise_is_the_same(field: bytes, spellings: list[bytes]) -> None:
    assert field in body()
    name = field.partition(b":")[0]
    assert {digest(body().replace(field, name + b":" + each)) for each in spellings} == {digest(body())}


def test_numbers_within_the_description_of_an_asset_count_by_value_too() -> None:
    text = body(**OPTION)
    for number, other in ((b"195,", b"195.00,"), (b":0.5,", b":5e-1,"), (b'"vega":0}', b'"vega":-0.0}')):
        assert number in text
        assert digest(text.replace(number, other)) == digest(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"entry_price": 42000.51},
        {"size": 1},
        {"liquidation_price": None},
        {"ts_utc": "2024-01-15T10:30:01Z"},
        {"commentary": "0.1"},
        OPTION,
        OPTION | {"asset_data": {"strike": 195, "premium": 4.2}},
    ],
    ids=repr,
)
def test_another_value_is_another_submission(changes: dict[str, Any]) -> None:
    assert len({digest(body()), digest(body(**changes)), digest(body(**OPTION | {"commentary": "x"}))}) == 3


def test_the_same_moment_and_the_same_symbol_may_be_written_otherwise() -> None:
    assert digest(body(ts_utc="2024-01-15T11:30:00.000+01:00", symbol="btc"), "k") == digest(body(), "other")


def test_no_digit_of_a_price_is_lost() -> None:
    long = b"100000000000000.000000000000000001"
    first, second = (
        digest(body().replace(b"42000.5", each).replace(b"38000.0", b"1")) for each in (long, long[:-1] + b"2")
    )
    assert first != second
    assert Decimal(long.decode()).normalize() == Decimal("1E+14"), "what normalize() makes of it"
