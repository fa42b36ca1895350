"""Remove secrets from texts, here alone: the values of our own settings, and all that holds a token.

Logs, error texts that are stored or sent, and what the supervisor prints pass through `redact`. Our own secrets are
found by value in every form that libraries give them: as they are, escaped, quoted, percent-encoded, in Base64 at any
offset, in hexadecimal. Others' tokens are found by the text before them.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASK = "***"
LEAST_CHARACTERS = 6  # of a secret: a shorter one is part of too many words

# A stream's token travels in its URL, and a URL gets into records that are not ours: a library's, a traceback's.
_TOKENS = re.compile(
    r"""((?:access_|refresh_|id_)?token(?:=|%3D|\\?["']\s*:\s*\\?["'])|(?:Bearer|Basic)(?:\s|%20|\+))[^\s&"'<>\\]+""",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(://[^\s:/@\"'<>]*:)[^\s/\"'<>]+(?=@)")
_DSN_PASSWORD = re.compile(r"://([^:@/?#]*):(.*)@")
# Passwords of laptops and examples, which are words of many texts: removed only behind a user's name.
_WORDS = frozenset({"admin", "password", "postgres", "postgresql", "secret", "tradestream", "default", "valkey"})

_protected: set[str] = set()
_forms: set[str] = set()
_pattern: re.Pattern[str] | None = None


def protect(*values: str | None) -> None:
    """Remove these secrets from every text from now on, in this process. A URL's secret is its password."""
    global _pattern  # noqa: PLW0603 - the process's secrets, as its log handlers are
    before = len(_forms)
    for value in set(filter(None, values)) - _protected:
        _protected.add(value)
        for secret in _secrets_of(value):
            _forms.update(form for form in _forms_of(secret) if len(form) >= LEAST_CHARACTERS)
    if len(_forms) != before:
        _pattern = re.compile(_alternatives(_forms))


def redact(text: str) -> str:
    """Return the text without the values of secrets and tokens."""
    if _pattern is not None and _pattern.search(text) is not None:
        text = _pattern.sub(MASK, text)
    if "oken" in text or "earer" in text or "asic" in text:
        text = _TOKENS.sub(rf"\1{MASK}", text)
    if "://" in text and "@" in text:
        text = _USERINFO.sub(rf"\1{MASK}", text)
    return text


def _secrets_of(value: str) -> Iterable[str]:
    value = value.strip()
    if "://" not in value:
        return [value] if len(value) >= LEAST_CHARACTERS else []
    if (match := _DSN_PASSWORD.search(value)) is None:
        return []
    known = {match[1].lower(), urlsplit(value).path.strip("/").lower(), *_WORDS}
    found = {match[2], unquote(match[2])}
    return [each for each in found if len(each) >= LEAST_CHARACTERS and each.lower() not in known]


def _forms_of(secret: str) -> set[str]:
    plain = {secret}
    for _ in range(2):  # an error's repr inside a document, a document inside another
        plain |= {form for each in plain for form in _escaped(each)}
    quoted = {quote(secret, safe=""), quote(secret), quote_plus(secret), html.escape(secret)}
    quoted |= {re.sub(r"%[0-9A-F]{2}", lambda code: code[0].lower(), each) for each in quoted}
    return plain | quoted | {secret.encode().hex(), secret.encode().hex().upper()} | _in_base64(secret.encode())


def _escaped(text: str) -> set[str]:
    return {
        repr(text)[1:-1],
        repr(text + "'")[1:-2].removesuffix("\\"),  # its form beside a quotation mark of either kind
        repr(text.encode())[2:-1],
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
    }


def _in_base64(secret: bytes) -> set[str]:
    """Return the parts of a secret's Base64 that are the same wherever the secret stands, as in `Basic` credentials."""
    found = set()
    for before, first in ((0, 0), (1, 2), (2, 3)):
        encoded = base64.b64encode(bytes(before) + secret).rstrip(b"=").decode()
        whole = encoded if (before + len(secret)) % 3 == 0 else encoded[:-1]
        found |= {whole[first:], whole[first:].translate(str.maketrans("+/", "-_"))}
    return found


def _alternatives(forms: Iterable[str]) -> str:
    """Build a pattern for the longest matching form: a tree, which skips at once a character that begins none."""
    tree: dict[str, list[str]] = {}
    for form in forms:
        tree.setdefault(form[:1], []).append(form[1:])
    ends = tree.pop("", None) is not None
    if not tree:
        return ""
    branches = [
        re.escape(letter) + (_alternatives(rest) if len(rest) > 1 else re.escape(rest[0]))
        for letter, rest in sorted(tree.items())
    ]
    joined = branches[0] if len(branches) == 1 and not ends else f"(?:{'|'.join(branches)})"
    return joined + ("?" if ends else "")
