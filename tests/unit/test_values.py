"""Values are immutable, equal by their fields, and come back from pickling as they were."""

from __future__ import annotations

import pickle
from typing import Any, ClassVar

import pytest

from actors._runtime.messages import Message
from config.values import Value, field, replace


class Point(Value):
    """A value."""

    x: float
    y: float = 0.0
    tags: dict[str, Any] = field(default_factory=dict)


class Marked(Point):
    """A value with a further field."""

    mark: str = ""


class Move(Message[int]):
    """A message."""

    idempotent: ClassVar[bool] = True

    to: Point
    by: tuple[str, ...] = ()


def test_a_value_cannot_be_changed_and_has_no_other_fields() -> None:
    point = Point(1.0, 2.0)
    with pytest.raises(AttributeError, match="immutable"):
        point.x = 3.0  # type: ignore[misc]
    with pytest.raises(AttributeError):
        point.z = 3.0  # type: ignore[attr-defined]
    assert point == Point(1.0, 2.0)


def test_replace_makes_another_object_with_some_fields_replaced() -> None:
    marked = Marked(1.0, mark="a")
    assert replace(marked, y=5.0) == Marked(1.0, 5.0, {}, "a")
    assert marked.y == 0.0
    with pytest.raises(TypeError, match="z"):
        replace(marked, z=1.0)


def test_values_of_different_classes_are_different() -> None:
    assert Point(1.0) != Marked(1.0)
    assert Point(1.0) != Point(2.0)


def test_each_value_has_a_default_of_its_own() -> None:
    assert Point(1.0).tags is not Point(1.0).tags


@pytest.mark.parametrize("value", [Point(1.0, tags={"a": [1]}), Marked(1.0, mark="m"), Move(Point(1.0), ("b",))])
def test_a_value_comes_back_from_pickling_as_it_was(value: Value) -> None:
    again = pickle.loads(pickle.dumps(value, 5))
    assert again == value
    assert type(again) is type(value)


def test_a_missing_field_is_told_by_its_name() -> None:
    with pytest.raises(TypeError, match="'x'"):
        Point()  # type: ignore[call-arg]


def test_a_message_says_of_its_class_whether_it_may_be_repeated() -> None:
    assert (Move.writes, Move.idempotent) == (True, True)
    assert Move(Point(0.0)).idempotent
