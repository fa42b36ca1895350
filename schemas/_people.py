"""The fields that describe people: e-mail addresses, names, links."""

from __future__ import annotations

import re
import unicodedata
from typing import Any
from urllib.parse import urlsplit

from schemas._fields import Text
from schemas._names import has_idle_characters, visible

EMAIL_CHARACTERS = 254  # RFC 5321 § 4.5.3.1.3, less the angle brackets
NAME_CHARACTERS = (2, 50)
IDLE_CHARACTERS = "must not contain characters that show nothing"
URL_CHARACTERS = 2000

_LOCAL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LOCAL_CHARACTERS = 64
# Emoji are joined by the first; Persian and Indic scripts are written with both.
_JOINERS = "\u200d\u200c"
_LAYOUT = "\n\t"


def normalise_email(text: str) -> str:
    """Normalise an e-mail address to the form that is stored and looked up."""
    return text.strip().lower()


def normalise_text(text: str) -> str:
    """Normalise a name or password for storage and comparison: keyboards encode some in several ways (NFC)."""
    return unicodedata.normalize("NFC", text)


def is_email(text: str) -> bool:
    """Return whether mail can be sent to a normalised address."""
    local, at, domain = text.rpartition("@")
    labels = domain.split(".")
    return (
        bool(at)
        and text.isascii()
        and len(text) <= EMAIL_CHARACTERS
        and len(local) <= _LOCAL_CHARACTERS
        and _LOCAL.fullmatch(local) is not None
        and len(labels) > 1
        and all(_LABEL.fullmatch(label) for label in labels)
        and not labels[-1].isdigit()
    )


def is_plain_text(text: str, allowed: str = "") -> bool:
    """Return whether the text is visible: no controls, no direction marks, no line or paragraph separators."""
    return not any(
        unicodedata.category(each) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
        for each in text
        if each not in _JOINERS and each not in allowed
    )


class Email(Text):
    """An e-mail address, loaded lower-cased and trimmed."""

    default_error_messages = {"email": "must be an e-mail address"}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = normalise_email(super()._deserialize(value, attr, data, **kwargs))
        if not is_email(text):
            raise self.make_error("email")
        return text


class AnyEmail(Text):
    """An e-mail address to look up: an impossible one is just an unknown one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(min=1, max=320, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        return normalise_email(super()._deserialize(value, attr, data, **kwargs))


class DisplayName(Text):
    """A name of 2-50 visible characters, trimmed, its spaces plain ones.

    `may_idle`: the caller checks for invisible characters itself, after comparing the name with others'.
    """

    default_error_messages = {  # noqa: RUF012
        "length": f"must have {NAME_CHARACTERS[0]}-{NAME_CHARACTERS[1]} characters",
        "control": "must not contain control characters",
        "idle": IDLE_CHARACTERS,
    }

    def __init__(self, *, may_idle: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._may_idle = may_idle

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = normalise_text(super()._deserialize(value, attr, data, **kwargs)).strip(" ")
        if not is_plain_text(text):
            raise self.make_error("control")
        text = "".join(" " if unicodedata.category(each) == "Zs" else each for each in text).strip()
        least, most = NAME_CHARACTERS
        if not least <= len(text) <= most or len(visible(text).strip()) < least:
            raise self.make_error("length")
        if not self._may_idle and has_idle_characters(text):
            raise self.make_error("idle")
        return text


class Prose(Text):
    """A text for people, in lines, trimmed; an empty one is none."""

    default_error_messages = {"control": "must not contain control characters"}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        text = str(super()._deserialize(value, attr, data, **kwargs)).replace("\r\n", "\n").strip()
        if not is_plain_text(text, _LAYOUT):
            raise self.make_error("control")
        return text or None

    def _validate(self, value: Any) -> None:
        if value is not None:
            super()._validate(value)


class HttpsUrl(Text):
    """An `https://` address."""

    default_error_messages = {"url": "must be an https URL"}  # noqa: RUF012

    def __init__(self, **options: Any) -> None:
        super().__init__(max=URL_CHARACTERS, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if not is_https_url(text):
            raise self.make_error("url")
        return text


def is_https_url(text: str) -> bool:
    """Return whether a browser may be sent to the URL to fetch a picture."""
    if not text.isascii() or not text.isprintable() or any(each in text for each in ' "<>\\^`{|}'):
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    return parts.scheme == "https" and "." in host and "@" not in parts.netloc and port != 0
