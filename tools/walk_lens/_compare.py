"""Compares an answer with the document's example: names, JSON types, formats and enumerations, all the way down."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from actors.lens.features import PROFILE_QUERIES
from config.model_sdks import MODELS
from schemas._vocabulary import DecisionKind, Direction, EventStage, EventState, EventType, values_of

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_ANY_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EXAMPLE_ID = re.compile(r"(dec|dlq)-\d+")

REASON_CODES = (
    *("VALIDATION_ERROR", "TIMEOUT", "NETWORK_ERROR", "PROVIDER_ERROR", "MODEL_ERROR", "SCHEMA_ERROR", "RATE_LIMITED"),
    *("PUBLISH_ERROR", "INTERNAL_ERROR"),
)
MEMBERS: Mapping[str, tuple[str, ...]] = {
    "event_type": values_of(EventType),
    "signal_direction": values_of(Direction),
    "status": values_of(EventState),
    "model_meta.status": ("SUCCESS", "TIMEOUT", "API_ERROR", "SCHEMA_ERROR", "RATE_LIMITED"),
    "current_stage": values_of(EventStage),
    "decision": values_of(DecisionKind),
    "model": MODELS,
    "model_name": MODELS,
    "feature_profile": tuple(PROFILE_QUERIES),
    "stage": ("enqueue", "enrich", "evaluate", "publish"),
    "reason_code": REASON_CODES,
    "entry_plan.type": ("market", "limit"),
    "risk_plan.stop_method": ("fixed", "atr", "trailing"),
}
CONSTANTS = frozenset({"code", "field", "message", "detail", "type"})
"""Names whose text is binding as it stands; `status` too, where the example has it in lower case."""

MAY_BE_FRACTIONS = frozenset({"size_pct", "offset_bps"})
PLANS: Mapping[str, frozenset[str]] = {
    "entry_plan": frozenset({"type", "offset_bps"}),
    "risk_plan": frozenset({"stop_method", "stop_level", "atr_multiple", "trail_pct"}),
}
"""The fields of the plans that are not always there: which ones depends on the first."""

EXTENSIONS: Mapping[str, frozenset[str]] = {
    "error": frozenset({"request_id", "retry_after"}),
    "dependencies": frozenset({"ray"}),
    "event": frozenset(
        {
            *("asset_type", "asset_data", "commentary"),
            *("order", "take_profit", "stop_loss", "valid_until", "close_fraction"),
        }
    ),
    "enriched": frozenset({"quote", "record_price", "verified"}),
    "dead letter": frozenset({"attempts", "edited_payload", "model"}),
    "problem": frozenset({"detail", "error"}),
}
"""What the contract and the records add to the document's objects."""


def differences(example: Any, actual: Any, *, path: str = "", what: str = "") -> list[str]:
    """Return each difference of `actual` from the example's form. `what` names the extension of its top level."""
    return list(_compare(example, actual, path, what))


def _compare(example: Any, actual: Any, path: str, what: str) -> Iterator[str]:
    name = _leaf(path)
    match example:
        case dict() if name in PLANS:
            yield from _plan(actual, path)
        case dict():
            yield from _object(example, actual, path, what or name)
        case list():
            yield from _list(example, actual, path)
        case None:
            if actual is not None:
                yield from _text("2024-01-15T10:30:00Z" if name.endswith("_at") else "text", actual, path)
        case bool():
            if not isinstance(actual, bool):
                yield f"{path}: {actual!r} is no boolean"
        case int() if name not in MAY_BE_FRACTIONS:
            if isinstance(actual, bool) or not isinstance(actual, int):
                yield f"{path}: {actual!r} is no whole number"
        case int() | float():
            if isinstance(actual, bool) or not isinstance(actual, int | float):
                yield f"{path}: {actual!r} is no number"
        case str():
            yield from _text(example, actual, path)


def _object(example: dict[str, Any], actual: Any, path: str, what: str) -> Iterator[str]:
    if not isinstance(actual, dict):
        yield f"{path or 'body'}: {actual!r} is no object"
        return
    for name, value in example.items():
        if name in actual:
            yield from _compare(value, actual[name], f"{path}.{name}" if path else name, "")
        else:
            yield f"{path}.{name}: missing" if path else f"{name}: missing"
    if what != "payload":  # the raw signal, of which the example shows a part
        for name in sorted(set(actual) - set(example) - EXTENSIONS.get(what or _leaf(path), frozenset())):
            yield f"{path}.{name}: not in the document" if path else f"{name}: not in the document"


def _plan(actual: Any, path: str) -> Iterator[str]:
    fields = PLANS[_leaf(path)]
    first = "type" if _leaf(path) == "entry_plan" else "stop_method"
    if not isinstance(actual, dict):
        yield f"{path}: {actual!r} is no object"
        return
    yield from _text("member", actual.get(first), f"{path}.{first}")
    for name, value in actual.items():
        if name not in fields:
            yield f"{path}.{name}: not in the document"
        elif name != first:
            yield from _compare(0.5, value, f"{path}.{name}", "")


def _list(example: list[Any], actual: Any, path: str) -> Iterator[str]:
    if not isinstance(actual, list):
        yield f"{path}: {actual!r} is no list"
        return
    if example and not actual:
        yield f"{path}: empty"
    for index, each in enumerate(actual):
        yield from _compare(_counterpart(example, each), each, f"{path}.{index}", "")


def _counterpart(example: list[Any], actual: Any) -> Any:
    """Return the example's item to compare with: of a timeline, the step of the same status."""
    if not example:
        return "text"
    same = [each for each in example if isinstance(each, dict) and isinstance(actual, dict) and _same(each, actual)]
    return (same or example)[0]


def _same(example: dict[str, Any], actual: dict[str, Any]) -> bool:
    return "status" in example and example["status"] == actual.get("status")


def _text(example: str, actual: Any, path: str) -> Iterator[str]:
    name = _leaf(path)
    if not isinstance(actual, str) or not actual:
        yield f"{path}: {actual!r} is no text"
    elif _ANY_TIMESTAMP.fullmatch(example):
        if not TIMESTAMP.fullmatch(actual):
            yield f"{path}: {actual!r} is not written as 2024-01-15T10:30:00.123Z"
    elif _UUID.fullmatch(example) or _EXAMPLE_ID.fullmatch(example):
        try:
            UUID(actual)
        except ValueError:
            yield f"{path}: {actual!r} is no UUID"
    elif example.startswith("error: "):
        if not actual.startswith("error: "):
            yield f"{path}: {actual!r} does not begin as {example!r}"
    elif members := _members(example, path):
        if actual not in members:
            yield f"{path}: {actual!r} is none of {', '.join(members)}"
    elif (name in CONSTANTS or example == "ok" or (name == "status" and example.islower())) and actual != example:
        yield f"{path}: {actual!r} is not {example!r}"


def _members(example: str, path: str) -> tuple[str, ...]:
    names = [part for part in path.split(".") if not part.isdecimal()]
    if names[-1] == "status" and example.islower():
        return ()
    return MEMBERS.get(".".join(names[-2:]), MEMBERS.get(names[-1], ()))


def _leaf(path: str) -> str:
    names = [part for part in path.split(".") if not part.isdecimal()]
    return names[-1] if names else ""
