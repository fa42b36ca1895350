"""Ids that carry their time, by which lists are filtered instead of by a column."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from config.ids import first_id, last_id, parse_uuid, time_of, uuid7

AT = datetime(2026, 1, 15, 10, 30, 0, 204_000, UTC)


def test_a_new_id_carries_the_time_of_its_making_and_grows() -> None:
    before = datetime.now(UTC)
    ids = [uuid7() for _ in range(1000)]
    after = datetime.now(UTC)
    assert ids == sorted(ids)
    assert all(before - timedelta(milliseconds=1) <= time_of(each) <= after for each in ids)
    assert {each.version for each in ids} == {7}


def test_a_new_id_is_an_id_like_any_other() -> None:
    made = uuid7()
    same = UUID(str(made))
    assert (made, hash(made), repr(made), made.is_safe) == (same, hash(same), repr(same), same.is_safe)
    assert (type(made), made.version, made.variant) == (UUID, 7, same.variant)
    assert pickle.loads(pickle.dumps(made)) == copy.copy(made) == made
    with pytest.raises(TypeError, match="immutable"):
        made.int = 0  # type: ignore[misc]


@pytest.mark.parametrize("microseconds", [0, 1, 999])
def test_the_bounds_of_a_time_enclose_exactly_the_ids_of_its_side(microseconds: int) -> None:
    moment = AT + timedelta(microseconds=microseconds)
    of_it = UUID(int=(first_id(AT).int >> 80 << 80) | (7 << 76) | 12345)
    before = UUID(int=of_it.int - (1 << 80))
    after = UUID(int=of_it.int + (1 << 80))
    assert time_of(of_it) == AT
    assert (first_id(moment) <= of_it) == (moment <= AT)
    assert before < first_id(moment) <= after
    assert before < of_it <= last_id(moment) < after


@pytest.mark.parametrize("moment", [datetime(1, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)])
def test_moments_before_the_epoch_have_no_ids(moment: datetime) -> None:
    assert first_id(moment) == UUID(int=0)
    assert last_id(moment) == UUID(int=0)


def test_any_offset_and_the_last_year_are_taken() -> None:
    assert first_id(AT.astimezone(timezone(timedelta(hours=5, minutes=30)))) == first_id(AT)
    assert time_of(last_id(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))).year == 9999


@pytest.mark.parametrize(
    "text",
    [
        "550e8400-e29b-41d4-a716-44665544000\u0660",
        "5_0e8400-e29b-41d4-a716-446655440000",
        " 50e8400-e29b-41d4-a716-446655440000",
        "{550e8400-e29b-41d4-a71-44665544000}",
        "urn:uuid:550e8400-e29b-41d4-a716-446",
        "550e-8400e29b-41d4-a716-446655440000",
    ],
)
def test_text_that_only_looks_like_a_uuid_is_none(text: str) -> None:
    """int() takes underscores, blanks and other scripts' digits, and a UUID is read by it."""
    assert len(text) == 36
    assert parse_uuid(text) is None
    assert parse_uuid("550E8400-e29b-41d4-a716-446655440000") is not None
