"""Set the headers that protect browsers: security headers on every response, and CORS for the configured origins."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

# An API's answer loads nothing and is not displayed; the documentation page has a policy of its own.
SECURITY_HEADERS = (
    ("Server", "TradeStream"),
    ("Content-Type", "application/json; charset=utf-8"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Vary", "Origin"),
)
HSTS = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains")

_EXPOSED = (
    "X-Request-ID, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After, ETag, Idempotent-Replayed"
)
_ALLOWED_HEADERS = "Authorization, Content-Type, If-None-Match, Last-Event-ID, X-Idempotency-Key, X-Request-ID"
_ASKED = 100  # headers of a preflight; browsers ask for one of each name
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_PREFLIGHT_SECONDS = "600"  # Chromium caps it at two hours, and a changed configuration should be felt sooner


def cors_headers(origin: str | None, allowed: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Return the headers that let a page of `origin` read the response; none for an origin that is not configured."""
    if origin is None or origin not in allowed:
        return ()
    return (
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Expose-Headers", _EXPOSED),
    )


def preflight_headers(methods: str, asked: str | None) -> tuple[tuple[str, str], ...]:
    """Return a preflight's headers beside `cors_headers`. `asked`: the headers that the page wants to send.

    All of them are allowed: what a page of an allowed origin sends is treated like what a program sends.
    """
    names = [name for each in (asked or "").split(",")[:_ASKED] if _TOKEN.fullmatch(name := each.strip(" \t"))]
    return (
        ("Access-Control-Allow-Methods", methods),
        ("Access-Control-Allow-Headers", ", ".join(names) or _ALLOWED_HEADERS),
        ("Access-Control-Max-Age", _PREFLIGHT_SECONDS),
        ("Vary", "Origin, Access-Control-Request-Headers"),
    )


def is_own_page(origin: str, host: str, api_url: str) -> bool:
    """Return whether a page of `origin` comes from this server itself, as the documentation does.

    The scheme is that of API_URL: a proxy may have taken TLS off, and a page that came without it is not ours.
    """
    return origin.lower() == f"{urlsplit(api_url).scheme}://{host}".lower()


def is_page_of(origin: str, host: str) -> bool:
    """Return whether a page of `origin` came from `host`, over either scheme: a proxy may have taken TLS off."""
    scheme, _, authority = origin.lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    return port is not None and authority.removesuffix(port) == host.lower().removesuffix(port)


def cookies_named(headers: Iterable[str], name: str) -> list[str]:
    """Return the values of all cookies of this name in a request's `Cookie` headers, in order, quotes taken off.

    Tornado keeps one of each name. Names match as Tornado would match them: space around a name is no part of it.
    """
    pairs = (part.partition("=") for header in headers for part in header.split(";"))
    return [_unquoted(value.strip()) for found, _, value in pairs if found.strip() == name]


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] == '"' else value
