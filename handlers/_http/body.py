"""Read JSON bodies: which are accepted at all, and how they are parsed."""

from __future__ import annotations

from functools import lru_cache

from tornado.httputil import HTTPHeaders

from config.documents import Document
from schemas._json import parse_object
from schemas.errors import PayloadTooLarge, UnsupportedMediaType

BODY_BYTES = 64 << 10
# A client that is refused before its body has arrived must still be able to read why: closing on unread bytes resets
# the connection and destroys the answer in transit. So up to this much more is read and discarded first.
LINGER_BYTES = 8 << 20
MOST_DIGITS = 20  # of 2^64, the most that any HTTP parser accepts

_CHARSETS = frozenset({"utf-8", "utf8"})  # JSON has no other, and many clients name it


def has_body(headers: HTTPHeaders) -> bool:
    """Return whether a body follows the headers."""
    return "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0"


def declared_bytes(headers: HTTPHeaders) -> int | None:
    """Return the announced length, or None for a chunked body (and for an invalid one, which Tornado refuses)."""
    text = headers.get("Content-Length", "")
    digits = text.lstrip("0") or text[:1]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= MOST_DIGITS else None


def check_body_headers(headers: HTTPHeaders) -> None:
    """Raise UnsupportedMediaType or PayloadTooLarge for a body that will not be read."""
    if not _is_json(headers.get("Content-Type", "")):
        raise UnsupportedMediaType
    if "Content-Encoding" in headers and not _is_plain(headers["Content-Encoding"]):
        raise UnsupportedMediaType("Compressed bodies are not read", headers={"Accept-Encoding": "identity"})
    if (declared_bytes(headers) or 0) > BODY_BYTES:
        raise PayloadTooLarge


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    # Parameters other than the character set mean nothing to JSON, and are ignored.
    kind, _, rest = content_type.partition(";")
    if kind.strip().lower() != "application/json":
        return False
    for each in rest.split(";"):
        name, _, value = each.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in _CHARSETS:
            return False
    return True


def _is_plain(codings: str) -> bool:
    return all(each.strip().lower() in {"identity", ""} for each in codings.split(","))


def parse_json(body: bytes) -> Document:
    """Parse a body's JSON object; numbers with a fraction or exponent become Decimals. Raises ValidationFailed."""
    return parse_object(body, "Request body")
