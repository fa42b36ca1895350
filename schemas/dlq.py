"""Schemas of dead letters, and of bulk requests for them: selected in the query, as their list is, or in the body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

from marshmallow import ValidationError, validate

from config.documents import Loaded
from schemas._fields import (
    Choice,
    ConvertedText,
    FieldOptions,
    Flag,
    Identifier,
    LoadOptions,
    Nested,
    Number,
    Object,
    Schema,
    Text,
    Timestamp,
    Whole,
    about,
)
from schemas._queries import Paging, QueryFlag, QueryNumber, QueryWhole
from schemas._vocabulary import DeadLetterStage, ReasonCode
from schemas.errors import FieldError, ValidationFailed

MOST_AT_ONCE = 1_000  # dead letters of one bulk request: 100 ms of the owner's time
_MOST = 100
_DEFAULTS: Mapping[str, object] = {
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


_SINCE = about("Created at or after this time.")
_UNTIL = about("Created at or before this time.")
_DRY_RUN = about("Only count what matches.", default=False)
_MAX = about("Most entries of one request.", default=_MOST)
_SPREAD = about("Spread them over time; without it they begin at once.")


def dlq_stage(**options: Unpack[LoadOptions]) -> Choice:
    """Make the field `stage` of dead letters."""
    return Choice(DeadLetterStage, **about("Where it failed, and where a retry begins."), **options)


class DeadLettersQuery(Paging):
    """The filters of `GET /api/v1/dlq`."""

    stage = dlq_stage(load_default=None)
    reason_code = Choice(ReasonCode, load_default=None)
    event_id = Identifier(load_default=None)
    resolved = QueryFlag(load_default=None)
    since = Timestamp(load_default=None, **_SINCE)
    until = Timestamp(load_default=None, **_UNTIL)


class DeadLetterItem(Schema):
    """A failure in a list."""

    id = Text(required=True)
    event_id = Identifier(required=True, allow_none=True)
    stage = dlq_stage(required=True)
    reason_code = Choice(ReasonCode, required=True)
    error_message = Text(required=True)
    retry_count = Whole(required=True)
    created_at = Timestamp(required=True)
    resolved_at = Timestamp(required=True, allow_none=True)


class PageOfDeadLetters(Schema):
    """Failures, newest first."""

    items = Nested(DeadLetterItem, many=True, required=True)
    total = Whole(required=True)
    limit = Whole(required=True)
    offset = Whole(required=True)


class Attempt(Schema):
    """One failed attempt."""

    at = Text(required=True, metadata={"format": "date-time"})  # stored in the form that is shown
    reason_code = Choice(ReasonCode, required=True)
    error_message = Text(required=True)


class DeadLetterSchema(DeadLetterItem):
    """A failure in full. `model` is the one that failed, if it was one."""

    model = Text(allow_none=True)
    payload = Object(required=True)
    edited_payload = Object(allow_none=True, **about("What a retry processes instead of `payload`."))
    attempts = Nested(Attempt, many=True)
    last_retry_at = Timestamp(required=True, allow_none=True)
    resolution_note = Text(required=True, allow_none=True)


class RetryRequest(Schema):
    """The options of a retry."""

    payload = Object(
        load_default=None,
        allow_none=True,
        **about("Fields of the signal that are to change; kept beside the original from then on."),
    )


class RetryAccepted(Schema):
    """A dead letter that is being retried."""

    id = Text(required=True)
    status = Text(required=True)
    message = Text(required=True)
    retry_count = Whole(required=True)


class Note(ConvertedText):
    """The reason why dead letters need no more work."""

    def __init__(self, **options: Unpack[FieldOptions]) -> None:
        super().__init__(min=1, max=1000, **options)

    def convert(self, text: str) -> str:
        if text.isspace():
            raise ValidationError("must not be blank")
        return text


class Resolution(Schema):
    """The reason why a dead letter needs no more work."""

    resolution_note = Note(required=True)


class Resolved(Schema):
    """A dead letter that is resolved."""

    id = Text(required=True)
    status = Text(required=True)
    resolved_at = Timestamp(required=True)


class SelectionQuery(Schema):
    """The query of a bulk request. Unknown parameters are refused: they were meant to exclude something."""

    stage = dlq_stage()
    reason_code = Choice(ReasonCode)
    event_id = Identifier()
    resolved = QueryFlag(validate=_UNRESOLVED)
    since = Timestamp(**_SINCE)
    until = Timestamp(**_UNTIL)
    dry_run = QueryFlag(**_DRY_RUN)
    max = QueryWhole(min=1, max=MOST_AT_ONCE, **_MAX)


class RetryManyQuery(SelectionQuery):
    """The query of a bulk retry."""

    per_second = QueryNumber(min=0.1, max=1000, **_SPREAD)


class _Selection(Schema):
    """The dead letters of a bulk request: the filters of their list, and a bound. A null is no filter."""

    stage = dlq_stage(allow_none=True)
    reason_code = Choice(ReasonCode, allow_none=True)
    event_id = Identifier(allow_none=True)
    resolved = Flag(validate=_UNRESOLVED, **about("Only what is not resolved can be meant.", default=False))
    since = Timestamp(allow_none=True, **_SINCE)
    until = Timestamp(allow_none=True, **_UNTIL)
    dry_run = Flag(**_DRY_RUN)
    max = Whole(min=1, max=MOST_AT_ONCE, **_MAX)


class RetryMany(_Selection):
    """The dead letters to retry. Those that are being retried already do not match."""

    per_second = Number(min=0.1, max=1000, allow_none=True, **_SPREAD)


class ResolveMany(_Selection):
    """The dead letters to resolve, and the reason."""

    resolution_note = Note(required=True)


def select(query: Loaded, body: Loaded) -> Loaded:
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


_SELECTED = about("How many of those that matched this call took up, or as a dry run would have: `max` at most.")


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
