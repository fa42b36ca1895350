"""The query parameters of the lists, with values that match, that match nothing, and that are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from config.ids import uuid7

FUTURE, PAST = "2999-01-01T00:00:00Z", "2001-01-01T01:00:00+01:00"
NO_TIMES = ("yesterday", "2024-01-15T10:30:00")  # the second has no offset


@dataclass(frozen=True)
class Filter:
    """A filter: `good` matches items that all satisfy `fits`; `nothing` is valid and matches nothing."""

    good: object
    fits: Callable[[Any], bool]
    nothing: object = None
    bad: tuple[object, ...] = ()


def filters_of(route: str, item: Mapping[str, Any]) -> dict[str, Filter]:
    """Return the filters of a list, with values that let `item`, one of its own, through."""
    plain = {
        "/events": {"symbol": "NOSUCH", "event_type": None, "source": "no such source", "status": None},
        "/decisions": {"model": None, "symbol": "NOSUCH", "event_type": None, "decision": None},
        "/dlq": {"stage": None, "reason_code": None, "event_id": str(uuid7())},
    }[route]
    closed = {"event_type", "status", "model", "decision", "stage", "reason_code", "event_id"}
    filters = {
        name: Filter(item[name], _equals(name, item[name]), nothing, ("NO_SUCH_VALUE",) if name in closed else ())
        for name, nothing in plain.items()
    }
    moment = {"/events": "received_at", "/decisions": "evaluated_at", "/dlq": "created_at"}[route]
    at = item[moment]
    filters["since"] = Filter(at, lambda each: each[moment] >= at, FUTURE, NO_TIMES)
    filters["until"] = Filter(at, lambda each: each[moment] <= at, PAST, NO_TIMES)
    if route == "/decisions":
        least = item["confidence"]
        filters["min_confidence"] = Filter(least, lambda each: each["confidence"] >= least, None, ("much", 1.5, -1))
    if route == "/dlq":
        is_resolved = item["resolved_at"] is not None
        filters["resolved"] = Filter(
            str(is_resolved).lower(), lambda each: (each["resolved_at"] is not None) is is_resolved, None, ("perhaps",)
        )
    return filters


def _equals(name: str, value: object) -> Callable[[Any], bool]:
    return lambda each: bool(each[name] == value)
