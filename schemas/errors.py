"""The error tree: a closed vocabulary of codes that every layer may raise and one renderer turns into a response.

A leaf of the import graph: it imports nothing of ours, so actors, db and handlers share it. Every error survives
pickling, because errors travel from actors to gateways as values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field. `field` is dotted, list items are indexed (`asset_data.greeks.delta`, `filters.0`)."""

    field: str
    message: str


class AppError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    status: ClassVar[int] = 500

    def __init__(
        self,
        message: str | None = None,
        *,
        details: Sequence[FieldError] = (),
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.details = tuple(details)
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        super().__init__(self.message)

    def __reduce__(self) -> tuple[object, ...]:
        # Exception's own reduce would call the class with the message alone and lose the rest.
        return _rebuild, (type(self), self.message, self.details, self.retry_after, self.headers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AppError) and self.__reduce__() == other.__reduce__()

    __hash__ = Exception.__hash__


def _rebuild(
    cls: type[AppError], message: str, details: tuple[FieldError, ...], retry_after: int | None, headers: dict[str, str]
) -> AppError:
    return cls(message, details=details, retry_after=retry_after, headers=headers)


class ValidationFailed(AppError):
    """Invalid request body"""

    code = "VALIDATION_ERROR"
    status = 400

    @classmethod
    def of(cls, field: str, message: str) -> ValidationFailed:
        """The error for one field."""
        return cls(details=[FieldError(field, message)])


class InvalidQuery(ValidationFailed):
    """Invalid query parameters"""


class Unauthorized(AppError):
    """Authentication required"""

    code = "UNAUTHORIZED"
    status = 401


class Forbidden(AppError):
    """Access denied"""

    code = "FORBIDDEN"
    status = 403


class NotFound(AppError):
    """Not found"""

    code = "NOT_FOUND"
    status = 404


class MethodNotAllowed(AppError):
    """Method not allowed"""

    code = "METHOD_NOT_ALLOWED"
    status = 405


class Conflict(AppError):
    """Conflict with the current state"""

    code = "CONFLICT"
    status = 409


class PayloadTooLarge(AppError):
    """Request body is too large"""

    code = "PAYLOAD_TOO_LARGE"
    status = 413


class UnsupportedMediaType(AppError):
    """Content-Type must be application/json"""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415


class IdempotencyMismatch(AppError):
    """This idempotency key was used with another body"""

    code = "IDEMPOTENCY_MISMATCH"
    status = 422


class RateLimited(AppError):
    """Rate limit exceeded"""

    code = "RATE_LIMITED"
    status = 429


class Internal(AppError):
    """Internal server error"""


class Unavailable(AppError):
    """Service temporarily unavailable"""

    code = "SERVICE_UNAVAILABLE"
    status = 503

    def __init__(
        self,
        message: str | None = None,
        *,
        details: Sequence[FieldError] = (),
        retry_after: int | None = 1,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, details=details, retry_after=retry_after, headers=headers)


class Overloaded(Unavailable):
    """Too much work is waiting; try again shortly"""


class DeadlineExceeded(Unavailable):
    """The owner did not answer in time; the outcome is unknown"""


class DatabaseUnavailable(Unavailable):
    """The database is unavailable"""


class ActorUnavailable(Unavailable):
    """The owner of this data is unavailable"""


class ArchiveUnavailable(Unavailable):
    """The archive's MongoDB is unavailable"""


class Fenced(AppError):
    """Another process has taken over this actor"""


def all_errors() -> list[type[AppError]]:
    """Every error class of the tree, the root first."""
    found: list[type[AppError]] = []
    queue: list[type[AppError]] = [AppError]
    while queue:
        cls = queue.pop(0)
        found.append(cls)
        queue.extend(cls.__subclasses__())
    return found
