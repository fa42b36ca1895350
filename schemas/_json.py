"""Parse JSON from outside: strict where JSON parsers differ, numbers exact, nothing that Postgres cannot hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import NoReturn

import orjson

from config.documents import Document
from schemas._problems import DETAILS, cut_name
from schemas.errors import FieldError, ValidationFailed

MOST_DEPTH = 64
"""Of what is kept as it is: readers of JSON stop between 250 and 1 000, and so does what sends it to an actor."""

DOUBLE_DIGITS = 300
"""Before a number's first digit, or behind its point: near the ends of a double's range."""

_MOST_NESTING = 500
"""Of any JSON that is read. How deep the parser itself can follow differs from one version of Python to the next."""

_NESTING = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')

_UNSTORABLE = "a NUL or half of a surrogate pair"
_ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
# Beyond this power of ten no number is meant, and a Decimal's own arithmetic begins to fail: abs() of 1e1000000 does.
_MOST_EXPONENT = 1_000
_FAR_EXPONENT = re.compile(r"[0-9][eE][+-]?0*[1-9][0-9]{3}")
_MOST_DIGITS = 4_300  # of an integer: int() refuses more, since reading them takes quadratic time


def parse_object(data: bytes, what: str) -> Document:
    """Parse a JSON object; numbers with a fraction or exponent are Decimals. Raises ValidationFailed about `what`.

    Not orjson: it takes the last of two equal keys, and reads numbers as doubles. Costs 5 µs for a signal.
    """
    if not data.strip():
        raise ValidationFailed(f"{what} is empty")
    try:
        text = data.decode("utf-8")
        document = decode(text, what)
    except UnicodeDecodeError:
        raise ValidationFailed(f"{what} is not valid UTF-8") from None
    except NotJson as error:
        raise ValidationFailed(f"{what} is not valid JSON: {error}") from None
    except TooDeep:
        raise ValidationFailed(f"{what} is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValidationFailed(f"{what} must be a JSON object")
    if "\\" in text and _ESCAPED.search(text) is not None:
        _check(document, _text_problem, f"{what} holds {_UNSTORABLE}")
    return document


class NotJson(Exception):
    """The text is no JSON; the error says why, and where."""


class TooDeep(Exception):
    """The text is nested deeper than the parser can follow."""


def decode(text: str, what: str) -> object:
    """Parse a JSON value. Raises NotJson, TooDeep, or ValidationFailed with the place of what `what` may not hold."""
    try:
        document = _decode_by(_DECODER, text)
        is_odd = _FAR_EXPONENT.search(text) is not None
    except (ValueError, InvalidOperation):  # a number that Python has no value for
        document = _decode_by(_LENIENT, text)
        is_odd = True
    if is_odd:
        _check(document, _number_problem, f"{what} holds {_NO_NUMBER}")
    return document


def _decode_by(decoder: json.JSONDecoder, text: str) -> object:
    if _is_too_deep(text):
        raise TooDeep
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise TooDeep from None


def _is_too_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= _MOST_NESTING:
        return False
    depth = 0
    for found in _NESTING.finditer(text):
        if found[0] in "[{":
            depth += 1
            if depth > _MOST_NESTING:
                return True
        elif found[0] in "]}":
            depth -= 1
    return False


def parse_texts(data: bytes) -> list[str]:
    """Parse the JSON array of texts in a message of our own channels. Raises ValueError for anything else."""
    found = orjson.loads(data)
    if not isinstance(found, list) or not all(type(each) is str for each in found):
        raise ValueError("not a list of texts")
    return found


def is_plain(document: object) -> bool:
    """Return whether every JSON reader can take the document: not too deep, and no number beyond a double."""
    pending = [(document, 1)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, (dict, list)):
            if depth > MOST_DEPTH:
                return False
            pending += [(each, depth + 1) for each in (value.values() if isinstance(value, dict) else value)]
        elif isinstance(value, Decimal):
            if abs(value.adjusted()) > DOUBLE_DIGITS:
                return False
        elif type(value) is int and value.bit_length() > 900:  # 270 digits
            return False
    return True


_NO_NUMBER = "a number that is too long"


class _TooLong:
    """A placeholder for a number that Python has no value for."""


def _unique(pairs: list[tuple[str, object]]) -> Document:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        name = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValidationFailed.of(cut_name(printable(name)), "is given more than once")
    return found


def _constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not a number")


def _lenient_decimal(text: str) -> object:
    try:
        return Decimal(text)
    except InvalidOperation:
        return _TooLong()


def _lenient_int(text: str) -> object:
    return int(text) if len(text) <= _MOST_DIGITS else _TooLong()


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=Decimal, parse_constant=_constant)
# Reads the same text again, to name what has no value: our own functions for every number would slow each body.
_LENIENT = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_lenient_decimal, parse_int=_lenient_int, parse_constant=_constant
)


def _number_problem(value: object) -> str | None:
    is_wrong = abs(value.adjusted()) > _MOST_EXPONENT if isinstance(value, Decimal) else isinstance(value, _TooLong)
    return f"is {_NO_NUMBER}" if is_wrong else None


def _text_problem(value: object) -> str | None:
    # JSON can spell what UTF-8 and Postgres cannot hold. Only texts with such an escape are searched.
    return f"must not hold {_UNSTORABLE}" if isinstance(value, str) and not _is_storable(value) else None


def _check(document: object, problem_of: Callable[[object], str | None], message: str) -> None:
    """Raise ValidationFailed with the places of values and names that have the problem."""
    problems: list[FieldError] = []
    for place, value, is_name in _walk(document):
        problem = problem_of(value)
        if problem is not None:
            problems.append(FieldError(cut_name(place), f"{problem} in its name" if is_name else problem))
            if len(problems) == DETAILS:
                break
    if problems:
        raise ValidationFailed(message, details=problems)


def _walk(document: object) -> Iterator[tuple[str, object, bool]]:
    """Yield every value with its place, and every object's name with its value's place, in the text's order."""
    pending: list[tuple[str, object]] = [("", document)]
    while pending:
        place, value = pending.pop()
        if isinstance(value, dict):
            inside = f"{cut_name(place)}." if place else ""
            named = [(inside + printable(name), name, each) for name, each in value.items()]
            for path, name, _ in named:
                yield path, name, True
            pending += [(path, each) for path, _, each in reversed(named)]
        elif isinstance(value, list):
            inside = cut_name(place)
            pending += reversed(
                [(f"{inside}.{index}" if place else str(index), each) for index, each in enumerate(value)]
            )
        else:
            yield place, value, False


def _is_storable(text: str) -> bool:
    return (text.isascii() and "\0" not in text) or not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text)


def printable(name: str) -> str:
    """Return the name in printable form: what cannot be encoded, as JSON escapes it."""
    return name if _is_storable(name) else name.replace("\0", "\\u0000").encode(errors="backslashreplace").decode()
