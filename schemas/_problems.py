"""Convert marshmallow's messages to field errors in the documents' words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from schemas.errors import FieldError

DETAILS = 50  # wrong fields that are listed; a body could hold thousands of unknown ones
_NAME_CHARACTERS = 100
_PLAIN = {"Missing data for required field.": "is required", "Field may not be null.": "must not be null"}


def field_errors(messages: object, prefix: str = "") -> list[FieldError]:
    """Flatten marshmallow's nested messages to a list, dotted and indexed, under the field `prefix`."""
    return [FieldError(cut_name(name), _plain(text)) for name, text in islice(_flatten(messages, prefix), DETAILS)]


def _flatten(messages: object, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(messages, Mapping):
        for name, inner in messages.items():
            nested = prefix if name == "_schema" else f"{prefix}.{name}" if prefix else str(name)
            yield from _flatten(inner, nested)
    elif isinstance(messages, list):
        for inner in messages:
            yield from _flatten(inner, prefix)
    else:
        yield prefix, str(messages)


def _plain(message: str) -> str:
    if message in _PLAIN:
        return _PLAIN[message]
    # "Not a valid email address." in the documents' form.
    return message[:1].lower() + message[1:].removesuffix(".") if message.endswith(".") else message


def cut_name(name: str) -> str:
    """Shorten a field's name for a message: a client can send one as long as a body."""
    return name if len(name) <= _NAME_CHARACTERS else name[:_NAME_CHARACTERS] + "…"
