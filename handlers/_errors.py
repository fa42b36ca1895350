"""Any exception as the contract's error body: ours, a schema's, and everything else as a constant 500."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import tornado.web
from marshmallow import ValidationError

from schemas.errors import (
    AppError,
    FieldError,
    Internal,
    MethodNotAllowed,
    NotFound,
    Unauthorized,
    ValidationFailed,
)

DETAILS = 50  # wrong fields that are listed; a body could hold thousands of unknown ones
_NAME_CHARACTERS = 100
_PLAIN = {"Missing data for required field.": "is required", "Field may not be null.": "must not be null"}


def to_app_error(error: BaseException) -> AppError:
    """The error that the client is told of. Ours as it is, a schema's as `ValidationFailed`, all others `Internal`."""
    if isinstance(error, AppError):
        return error
    if isinstance(error, ValidationError):
        return ValidationFailed(details=field_errors(error.messages))
    if isinstance(error, tornado.web.HTTPError):
        return _framework_error(error)
    return Internal()


def _framework_error(error: tornado.web.HTTPError) -> AppError:
    # Tornado raises few of these, since routing, arguments and bodies are ours.
    if error.status_code == 404:
        return NotFound()
    if error.status_code == 405:
        return MethodNotAllowed()
    return ValidationFailed("Invalid request") if error.status_code < 500 else Internal()


def field_errors(messages: object) -> list[FieldError]:
    """marshmallow's nested messages as one flat list, dotted and indexed."""
    return [FieldError(_cut(name), _plain(text)) for name, text in islice(_flatten(messages, ""), DETAILS)]


def _flatten(messages: object, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(messages, Mapping):
        for name, inner in messages.items():
            nested = prefix if name == "_schema" else f"{prefix}.{name}" if prefix else str(name)
            yield from _flatten(inner, nested)
    elif isinstance(messages, list):
        for inner in messages:
            yield from _flatten(inner, prefix)
    else:
        yield prefix, str(messages)


def _plain(message: str) -> str:
    if message in _PLAIN:
        return _PLAIN[message]
    # "Not a valid email address." as the documents would write it.
    return message[:1].lower() + message[1:].removesuffix(".") if message.endswith(".") else message


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else name[:_NAME_CHARACTERS] + "…"


def error_body(error: AppError, request_id: str) -> dict[str, Any]:
    """The response body. `detail` is what clients of the public document read, `error` those of the Lens document."""
    document: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.details:
        document["details"] = [{"field": each.field, "message": each.message} for each in error.details]
    if error.retry_after is not None:
        document["retry_after"] = error.retry_after
    document["request_id"] = request_id
    return {"detail": _detail(error), "error": document}


def _detail(error: AppError) -> str:
    if not error.details:
        return error.message
    return "; ".join(f"{each.field}: {each.message}" if each.field else each.message for each in error.details)


def error_headers(error: AppError) -> dict[str, str]:
    """The response headers that belong to the error."""
    headers = dict(error.headers)
    if isinstance(error, Unauthorized):
        headers.setdefault("WWW-Authenticate", "Bearer")
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return headers
