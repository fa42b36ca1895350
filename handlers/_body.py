"""JSON bodies: what is read at all, and how."""

from __future__ import annotations

import re
from typing import Any

from tornado.httputil import HTTPHeaders

from schemas._json import parse_object
from schemas.errors import PayloadTooLarge, UnsupportedMediaType

BODY_BYTES = 64 << 10
# A client that is refused before its body has arrived must still be able to read why: closing on unread bytes resets
# the connection and destroys the answer on its way. So this much more is read and thrown away first.
LINGER_BYTES = 8 << 20

_JSON = re.compile(r"\s*application/json\s*(;\s*charset\s*=\s*\"?utf-8\"?\s*)?;?\s*", re.IGNORECASE)


def has_body(headers: HTTPHeaders) -> bool:
    """Whether a body follows the headers."""
    return "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0"


def declared_bytes(headers: HTTPHeaders) -> int | None:
    """The length that the client announced, or None for a chunked body (and for nonsense, which Tornado refuses)."""
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def check_body_headers(headers: HTTPHeaders) -> None:
    """Raise UnsupportedMediaType or PayloadTooLarge for a body that will not be read."""
    if _JSON.fullmatch(headers.get("Content-Type", "")) is None or "Content-Encoding" in headers:
        raise UnsupportedMediaType
    if (declared_bytes(headers) or 0) > BODY_BYTES:
        raise PayloadTooLarge


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; numbers with a fraction or exponent are Decimals. Raises ValidationFailed."""
    return parse_object(body, "Request body")
