"""Errors as responses: one shape, plain words, nothing of the inside."""

from __future__ import annotations

import pickle

import pytest
import tornado.web
from marshmallow import Schema, ValidationError, fields

from handlers._http.errors import error_body, error_headers, to_app_error
from schemas._problems import DETAILS, field_errors
from schemas.errors import (
    AppError,
    FieldError,
    InvalidQuery,
    RateLimited,
    Unauthorized,
    Unavailable,
    ValidationFailed,
    all_errors,
)
from schemas.lens import SignalSubmission
from schemas.problem import Problem


def test_the_documents_example_comes_out() -> None:
    body = error_body(ValidationFailed.of("entry_price", "must be greater than 0"), "r1")
    assert body == {
        "detail": "entry_price: must be greater than 0",
        "error": {
            "code": "VALIDATION_ERROR",
            "message": "Invalid request body",
            "details": [{"field": "entry_price", "message": "must be greater than 0"}],
            "request_id": "r1",
        },
    }


def test_the_body_of_an_error_has_only_what_applies() -> None:
    assert error_body(RateLimited(retry_after=45), "r1") == {
        "detail": "Rate limit exceeded",
        "error": {"code": "RATE_LIMITED", "message": "Rate limit exceeded", "retry_after": 45, "request_id": "r1"},
    }


@pytest.mark.parametrize("cls", all_errors(), ids=lambda cls: cls.__name__)
def test_every_error_survives_pickling_and_has_the_one_shape(cls: type[AppError]) -> None:
    error = cls(details=[FieldError("a.b", "is wrong")], retry_after=3, headers={"X": "y"})
    assert pickle.loads(pickle.dumps(error)) == error
    body = error_body(error, "r1")
    assert not Problem().validate(body)
    assert isinstance(body["detail"], str)


def test_headers_follow_from_the_error() -> None:
    assert error_headers(Unauthorized())["WWW-Authenticate"] == "Bearer"
    assert error_headers(Unavailable()) == {"Retry-After": "1"}
    assert error_headers(RateLimited(retry_after=7))["Retry-After"] == "7"


def test_anything_unforeseen_is_a_constant() -> None:
    error = to_app_error(RuntimeError("postgres://user:secret@host"))
    assert error_body(error, "r1") == {
        "detail": "Internal server error",
        "error": {"code": "INTERNAL_ERROR", "message": "Internal server error", "request_id": "r1"},
    }


@pytest.mark.parametrize(
    ("status", "code"), [(404, "NOT_FOUND"), (405, "METHOD_NOT_ALLOWED"), (400, "VALIDATION_ERROR")]
)
def test_errors_that_tornado_raises_have_our_shape(status: int, code: str) -> None:
    assert to_app_error(tornado.web.HTTPError(status)).code == code


def test_nested_fields_are_dotted_and_items_indexed() -> None:
    class Inner(Schema):
        delta = fields.Float(required=True)

    class Outer(Schema):
        greeks = fields.Nested(Inner)
        filters = fields.List(fields.Integer())

    with pytest.raises(ValidationError) as caught:
        Outer().load({"greeks": {}, "filters": [1, "x"], "other": 1})
    assert set(field_errors(caught.value.messages)) == {
        FieldError("greeks.delta", "is required"),
        FieldError("filters.1", "not a valid integer"),
        FieldError("other", "unknown field"),
    }
    assert to_app_error(caught.value).status == 400


def test_unknown_fields_are_told_last_and_in_their_order() -> None:
    names = [f"n{number * 7919 % 1000}" for number in range(20)]  # a set of them has another order in each process
    with pytest.raises(ValidationError) as caught:
        SignalSubmission().load({names[0]: 1, "event_type": "OPEN", **dict.fromkeys(names, 1)})
    told = [each.field for each in field_errors(caught.value.messages)]
    assert told[: -len(names)] == [name for name in SignalSubmission().load_fields if name in told]
    assert told[-len(names) :] == names


def test_a_body_of_a_thousand_unknown_fields_gets_a_short_answer() -> None:
    messages = {f"{'x' * 500}{number}": ["Unknown field."] for number in range(1000)}
    errors = field_errors(messages)
    assert len(errors) == DETAILS
    assert all(len(each.field) <= 101 for each in errors)


def test_a_bad_query_says_so() -> None:
    assert error_body(InvalidQuery(details=[FieldError("limit", "must be an integer")]), "r")["error"]["message"] == (
        "Invalid query parameters"
    )
