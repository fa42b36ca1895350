"""Classify the ways in which a model fails to judge."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from actors.lens._responses import positive, retry_after_seconds, returned
from actors.lens.model import ModelReason
from config.masking import redact
from config.texts import escape_unstorable
from schemas._vocabulary import ModelStatus

LONGEST_WAIT_SECONDS: Final = 60.0
"""The longest wait that a vendor may ask for: limits are per minute. A longer one (a day's quota, a month's budget)
means giving up at once, since the event is not published before each of its models has answered or was given up."""

_STATUS_OF: Final[dict[ModelReason, ModelStatus]] = {
    "TIMEOUT": "TIMEOUT",
    "RATE_LIMITED": "RATE_LIMITED",
    "SCHEMA_ERROR": "SCHEMA_ERROR",
    "NETWORK_ERROR": "API_ERROR",
    "PROVIDER_ERROR": "API_ERROR",
    "MODEL_ERROR": "API_ERROR",
}
UNREADABLE: Final = (AttributeError, TypeError, LookupError, ValueError, ArithmeticError, RecursionError)
"""The errors of reading an answer in another form than the vendor's: the SDKs do not check what they parse."""

_MAY_PASS: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY})
_LONGEST_DETAIL: Final = 300


class ModelFailure(Exception):
    """A model made no decision, for `reason`.

    TIMEOUT; NETWORK_ERROR, the API could not be reached or hung up; RATE_LIMITED; PROVIDER_ERROR, it answered with an
    error or with an invalid answer; MODEL_ERROR, the model itself gave no answer; SCHEMA_ERROR, it gave one that is not
    in the form asked for. `is_final`: asking again would not help.
    """

    def __init__(
        self,
        reason: ModelReason,
        message: str,
        *,
        is_final: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.message = escape_unstorable(redact(message))
        super().__init__(self.message)
        self.reason: ModelReason = reason
        self.is_final = is_final or (retry_after_seconds or 0.0) > LONGEST_WAIT_SECONDS
        self.retry_after_seconds = retry_after_seconds

    @property
    def status(self) -> ModelStatus:
        """Return the status of the evaluation."""
        return _STATUS_OF[self.reason]


def refused(
    vendor: str, status: int, body: object, *, retry_after_seconds: float | None = None, is_final: bool = False
) -> ModelFailure:
    """Return the failure for an answer that is not 200. `body` is the parsed JSON, or text; its message is quoted."""
    detail = _detail(body)
    message = f"{vendor} {returned(status)}" + (f": {detail}" if detail else "")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return ModelFailure("RATE_LIMITED", message, is_final=is_final, retry_after_seconds=retry_after_seconds)
    if status >= 500 or status in _MAY_PASS:
        return ModelFailure("PROVIDER_ERROR", message, is_final=is_final, retry_after_seconds=retry_after_seconds)
    return ModelFailure("PROVIDER_ERROR", message, is_final=True)  # a wrong key, model or request stays wrong


def nonsense(vendor: str) -> ModelFailure:
    """Return the failure for a 200 that is JSON, but not in the form of the vendor's API."""
    return ModelFailure("PROVIDER_ERROR", f"{vendor} answered 200 with JSON that is not in its API's form")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read the seconds of `retry-after-ms` or `Retry-After` (RFC 9110 § 10.2.3: seconds or a date), or None."""
    milliseconds = positive(headers.get("retry-after-ms", ""))
    return retry_after_seconds(headers.get("retry-after", "")) if milliseconds is None else milliseconds / 1000


def _detail(body: object) -> str:
    """Return the readable part of an error body: `{"error": {"message": …}}`, `{"message": …}`, or text."""
    found = body
    for name in ("error", "message"):
        if isinstance(found, Mapping) and name in found:
            found = found[name]
    text = found if isinstance(found, str) else ""
    # Before it is cut: of a secret that was cut in two the first half would not be recognised.
    return redact(" ".join(text.split()))[:_LONGEST_DETAIL]
