"""The fields that describe people: e-mail addresses, names, links."""

from __future__ import annotations

import re
import unicodedata
from typing import Unpack
from urllib.parse import urlsplit

from marshmallow import ValidationError

from schemas._fields import ConvertedText, FieldOptions
from schemas._names import has_idle_characters, visible

EMAIL_CHARACTERS = 254  # RFC 5321 § 4.5.3.1.3, less the angle brackets
NAME_CHARACTERS = (2, 50)
IDLE_CHARACTERS = "must not contain characters that show nothing"
_CONTROL = "must not contain control characters"
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


class EmailAddress(ConvertedText):
    """An e-mail address, loaded lower-cased and trimmed."""

    def convert(self, text: str) -> str:
        address = normalise_email(text)
        if not is_email(address):
            raise ValidationError("must be an e-mail address")
        return address


class AnyEmail(ConvertedText):
    """An e-mail address to look up: an impossible one is just an unknown one."""

    def __init__(self, **options: Unpack[FieldOptions]) -> None:
        super().__init__(min=1, max=320, **options)

    def convert(self, text: str) -> str:
        return normalise_email(text)


class Line(ConvertedText):
    """A line of text, trimmed."""

    def convert(self, text: str) -> str:
        line = text.strip()
        if not is_plain_text(line):
            raise ValidationError(_CONTROL)
        return line


class DisplayName(ConvertedText):
    """A name of 2-50 visible characters, trimmed, its spaces plain ones.

    `may_idle`: the caller checks for invisible characters itself, after comparing the name with others'.
    """

    def __init__(self, *, may_idle: bool = False, **options: Unpack[FieldOptions]) -> None:
        super().__init__(**options)
        self._may_idle = may_idle

    def convert(self, text: str) -> str:
        name = normalise_text(text).strip(" ")
        if not is_plain_text(name):
            raise ValidationError(_CONTROL)
        name = "".join(" " if unicodedata.category(each) == "Zs" else each for each in name).strip()
        least, most = NAME_CHARACTERS
        if not least <= len(name) <= most or len(visible(name).strip()) < least:
            raise ValidationError(f"must have {least}-{most} characters")
        if not self._may_idle and has_idle_characters(name):
            raise ValidationError(IDLE_CHARACTERS)
        return name


class Prose(ConvertedText):
    """A text for people, in lines, trimmed; an empty one is none."""

    def convert(self, text: str) -> str | None:
        prose = text.replace("\r\n", "\n").strip()
        if not is_plain_text(prose, _LAYOUT):
            raise ValidationError(_CONTROL)
        return prose or None

    def _validate(self, value: str | None) -> None:
        if value is not None:
            super()._validate(value)


class HttpsUrl(ConvertedText):
    """An `https://` address."""

    def __init__(self, **options: Unpack[FieldOptions]) -> None:
        super().__init__(max=URL_CHARACTERS, **options)

    def convert(self, text: str) -> str:
        if not is_https_url(text):
            raise ValidationError("must be an https URL")
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
