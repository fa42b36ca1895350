"""The schema of every error response's body: both documents' shapes in one."""

from __future__ import annotations

from schemas._fields import Choice, Nested, Schema, Text, Whole
from schemas.errors import all_errors

CODES = tuple(sorted({each.code for each in all_errors()}))


class FieldProblem(Schema):
    """One wrong field; dotted where nested, indexed in lists."""

    field = Text(required=True)
    message = Text(required=True)


class ProblemInfo(Schema):
    """The error. `details` only for validation, `retry_after` (seconds) only where retrying helps."""

    code = Choice(CODES, required=True)
    message = Text(required=True)
    details = Nested(FieldProblem, many=True)
    retry_after = Whole(min=1)
    request_id = Text()


class Problem(Schema):
    """An error."""

    detail = Text()
    error = Nested(ProblemInfo)
