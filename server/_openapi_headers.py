"""Derive the headers of answers from a route: its limits, caching, idempotency and redirects."""

from __future__ import annotations

from config.documents import Document
from handlers._http.endpoint import Endpoint
from handlers._http.routes import Route
from handlers._submissions import KEY_HEADER


def _header(description: str, **schema: object) -> Document:
    return {"description": description, "schema": {"type": "string"} | schema}


HEADERS: dict[str, Document] = {
    "RequestId": _header("The request's `X-Request-ID`, or one made for it."),
    "RateLimitLimit": _header("How many requests the window lets in.", type="integer", minimum=0),
    "RateLimitRemaining": _header("How many it still lets in.", type="integer", minimum=0),
    "RateLimitReset": _header("Seconds until it lets in more.", type="integer", minimum=0),
    "RetryAfter": _header("After how many seconds another try makes sense.", type="integer", minimum=1),
    "ETag": _header("The version of what was sent, for `If-None-Match`."),
    "Location": _header("Where it leads to.", format="uri-reference"),
    "WwwAuthenticate": _header("`Bearer`, and what is wrong with the token that was sent."),
    "IdempotentReplayed": _header("`true`: this is the answer to an earlier request with the same key.", const="true"),
}
_LIMITS = {
    "X-RateLimit-Limit": "RateLimitLimit",
    "X-RateLimit-Remaining": "RateLimitRemaining",
    "X-RateLimit-Reset": "RateLimitReset",
}


def headers_of(route: Route, declared: Endpoint, status: int) -> dict[str, str]:
    """Return the headers of a route's answer with that status, by component name. Each may be missing but the first."""
    found = {"X-Request-ID": "RequestId"}
    is_limited = route.limit.limit != 0 or route.user_limit is not None
    if is_limited and status != 500:
        found |= _LIMITS
    if status in (429, 503):
        found["Retry-After"] = "RetryAfter"
    if status == 401:
        found["WWW-Authenticate"] = "WwwAuthenticate"
    if declared.conditional and status in (200, 304):
        found["ETag"] = "ETag"
    if status == declared.status == 302:
        found["Location"] = "Location"
    if status == declared.status and KEY_HEADER in declared.headers:
        found["Idempotent-Replayed"] = "IdempotentReplayed"
    return found
