"""Compares an answer with the document's example: every name is there, and filled wherever the example fills it.

Of a list, at least one item must fill each field: an optional one, such as an avatar, may be empty in others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tools.walk_lens._compare import TIMESTAMP

_DAY_NAMES = frozenset({"last_activity_date", "expiry", "resolution_date"})
_FREE = frozenset({"filters"})  # an object that is the user's own


def lacking(example: Any, actual: Any, path: str = "") -> list[str]:
    """Return each path that `actual` lacks. Fields beyond the example are allowed: the contract adds some."""
    return list(_compare(example, actual, path))


def _compare(example: Any, actual: Any, path: str) -> Iterator[str]:
    name = path.rpartition(".")[2]
    where = path or "body"
    if example is None:
        return
    if actual is None:
        yield f"{where}: null"
    elif isinstance(example, dict):
        yield from _object(example, actual, path)
    elif isinstance(example, list):
        yield from _list(example, actual, path)
    elif isinstance(example, bool):
        if not isinstance(actual, bool):
            yield f"{where}: {actual!r} is no boolean"
    elif isinstance(example, int | float):
        if isinstance(actual, bool) or not isinstance(actual, int | float):
            yield f"{where}: {actual!r} is no number"
    elif not isinstance(actual, str) or not actual:
        yield f"{where}: {actual!r} is no text"
    elif name.endswith("_at") and name not in _DAY_NAMES and not TIMESTAMP.fullmatch(actual):
        yield f"{where}: {actual!r} is not written as 2024-01-15T10:30:00.123Z"


def _object(example: dict[str, Any], actual: Any, path: str) -> Iterator[str]:
    if not isinstance(actual, dict):
        yield f"{path or 'body'}: {actual!r} is no object"
        return
    name = path.rpartition(".")[2]
    if name == "reactions":  # only kinds with at least one reaction are named
        if not actual:
            yield f"{path}: empty"
        yield from (f"{path}.{kind}: {count!r}" for kind, count in actual.items() if type(count) is not int)
        return
    if not example and not actual and name not in _FREE:
        yield f"{path}: empty"
    for key, value in example.items():
        place = f"{path}.{key}" if path else key
        if key in actual:
            yield from _compare(value, actual[key], place)
        else:
            yield f"{place}: missing"


def _list(example: list[Any], actual: Any, path: str) -> Iterator[str]:
    if not isinstance(actual, list):
        yield f"{path}: {actual!r} is no list"
    elif not actual:
        yield f"{path}: empty"
    else:
        for index, each in enumerate(example):
            yield from _over(each, actual, f"{path}.{index}")


def _over(example: Any, items: list[Any], path: str) -> list[str]:
    """Return the paths that every item of the example's kind lacks: one item that fills a path suffices."""
    alike = [each for each in items if _same_kind(example, each)]
    if not alike:
        return [f"{path}: none of its kind"]
    return common(lacking(example, each, path) for each in alike)


def common(findings: Iterable[list[str]]) -> list[str]:
    """Return the differences of the shortest list whose paths occur in each other list, too, with any difference."""
    ordered = sorted(findings, key=len)
    places = [{each.partition(": ")[0] for each in found} for found in ordered]
    return [each for each in ordered[0] if all(_is_within(each.partition(": ")[0], others) for others in places)]


def _is_within(place: str, lacking_places: set[str]) -> bool:
    """Return whether the path is one of them, or within one: below a null everything is missing."""
    names = place.split(".")
    return any(".".join(names[:count]) in lacking_places for count in range(1, len(names) + 1))


def _same_kind(example: Any, actual: Any) -> bool:
    """Return whether two items may be compared: their kinds are the same, and constants are the example's own."""
    if not isinstance(example, dict) or not isinstance(actual, dict):
        return type(example) is type(actual)
    names = ("asset_type", "streak_type", "type", "status")
    return all(actual.get(each) == example[each] for each in names if each in example)
