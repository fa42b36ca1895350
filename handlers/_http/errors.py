"""Render any exception as the contract's error body: our own, a schema's, and any other as a constant 500."""

from __future__ import annotations

import tornado.web
from marshmallow import ValidationError

from config.documents import Document
from config.masking import redact
from config.texts import escape_unstorable
from schemas._problems import field_errors
from schemas.errors import (
    AppError,
    Internal,
    MethodNotAllowed,
    NotFound,
    Unauthorized,
    ValidationFailed,
)


def to_app_error(error: BaseException) -> AppError:
    """Return the error to send: our own as it is, a schema's as `ValidationFailed`, any other as `Internal`."""
    if isinstance(error, AppError):
        return error
    if isinstance(error, ValidationError):
        return ValidationFailed(details=field_errors(error.messages))
    if isinstance(error, tornado.web.HTTPError):
        return _framework_error(error)
    return Internal()


def _framework_error(error: tornado.web.HTTPError) -> AppError:
    # Tornado raises few of these, since routing, arguments and bodies are handled by our own code.
    if error.status_code == 404:
        return NotFound()
    if error.status_code == 405:
        return MethodNotAllowed()
    return ValidationFailed("Invalid request") if error.status_code < 500 else Internal()


def error_body(error: AppError, request_id: str) -> Document:
    """Build the response body. Clients of the public document read `detail`, those of the Lens document `error`."""
    document: Document = {"code": error.code, "message": escape_unstorable(redact(error.message))}
    if error.details:
        document["details"] = [{"field": each.field, "message": each.message} for each in error.details]
    if error.retry_after is not None:
        document["retry_after"] = error.retry_after
    document["request_id"] = request_id
    return {"detail": _detail(error), "error": document}


def _detail(error: AppError) -> str:
    if not error.details:
        return escape_unstorable(redact(error.message))
    return "; ".join(f"{each.field}: {each.message}" if each.field else each.message for each in error.details)


def error_headers(error: AppError) -> dict[str, str]:
    """Return the response headers that belong to the error."""
    headers = dict(error.headers)
    if isinstance(error, Unauthorized):
        headers.setdefault("WWW-Authenticate", "Bearer")
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return headers
