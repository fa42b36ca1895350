"""Schemas of bulk requests for dead letters, selected in the query, as their list is, or in the body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import validate

from schemas._fields import (
    Choice,
    Flag,
    Identifier,
    Number,
    QueryFlag,
    QueryNumber,
    QueryWhole,
    Schema,
    Timestamp,
    Whole,
)
from schemas.errors import FieldError, ValidationFailed
from schemas.lens import REASON_CODES, Note, dlq_stage

MOST_AT_ONCE = 1_000  # dead letters of one bulk request: 100 ms of the owner's time
_MOST = 100
_DEFAULTS: Mapping[str, Any] = {
    "stage": None,
    "reason_code": None,
    "event_id": None,
    "resolved": False,
    "since": None,
    "until": None,
    "dry_run": False,
    "max": _MOST,
    "per_second": None,
}
_UNRESOLVED = validate.Equal(False, error="must be false: a resolved entry is done with")
_PER_SECOND: Mapping[str, Any] = {"min": 0.1, "max": 1000}


def _about(text: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"description": text, **more}}


_SINCE = _about("Created at or after this time.")
_UNTIL = _about("Created at or before this time.")
_DRY_RUN = _about("Only count what matches.", default=False)
_MAX = _about("Most entries of one request.", default=_MOST)
_SPREAD = _about("Spread them over time; without it they begin at once.")


class SelectionQuery(Schema):
    """The query of a bulk request. Unknown parameters are refused: they were meant to exclude something."""

    stage = dlq_stage()
    reason_code = Choice(REASON_CODES)
    event_id = Identifier()
    resolved = QueryFlag(validate=_UNRESOLVED)
    since = Timestamp(**_SINCE)
    until = Timestamp(**_UNTIL)
    dry_run = QueryFlag(**_DRY_RUN)
    max = QueryWhole(min=1, max=MOST_AT_ONCE, **_MAX)


class RetryManyQuery(SelectionQuery):
    """The query of a bulk retry."""

    per_second = QueryNumber(**_PER_SECOND, **_SPREAD)


class _Selection(Schema):
    """The dead letters of a bulk request: the filters of their list, and a bound. A null is no filter."""

    stage = dlq_stage(allow_none=True)
    reason_code = Choice(REASON_CODES, allow_none=True)
    event_id = Identifier(allow_none=True)
    resolved = Flag(validate=_UNRESOLVED, **_about("Only what is not resolved can be meant.", default=False))
    since = Timestamp(allow_none=True, **_SINCE)
    until = Timestamp(allow_none=True, **_UNTIL)
    dry_run = Flag(**_DRY_RUN)
    max = Whole(min=1, max=MOST_AT_ONCE, **_MAX)


class RetryMany(_Selection):
    """The dead letters to retry. Those that are being retried already do not match."""

    per_second = Number(**_PER_SECOND, allow_none=True, **_SPREAD)


class ResolveMany(_Selection):
    """The dead letters to resolve, and the reason."""

    resolution_note = Note(required=True)


def select(query: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the loaded query and body of a bulk request, with the defaults of what neither says.

    Raises ValidationFailed for what they say differently: neither is to win unnoticed.
    """
    contradictions = [
        FieldError(name, "is given in the query and in the body, with different values")
        for name, value in query.items()
        if name in body and body[name] != value
    ]
    if contradictions:
        raise ValidationFailed(details=contradictions)
    return {**_DEFAULTS, **query, **body}


_SELECTED = _about("How many of those that matched this call took up, or as a dry run would have: `max` at most.")


class RetriedMany(Schema):
    """The result of a bulk retry. `skipped`: the event is being processed, or the payload is still no signal."""

    matched = Whole(required=True)
    selected = Whole(required=True, **_SELECTED)
    retried = Whole(required=True)
    skipped = Whole(required=True)
    dry_run = Flag(required=True)


class ResolvedMany(Schema):
    """The result of a bulk resolution."""

    matched = Whole(required=True)
    selected = Whole(required=True, **_SELECTED)
    resolved = Whole(required=True)
    dry_run = Flag(required=True)
