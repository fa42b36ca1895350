"""Convert environment variables to values and back, with messages for invalid texts."""

from __future__ import annotations

import ipaddress
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import Field
from pathlib import Path
from typing import Any

from marshmallow import ValidationError
from marshmallow.validate import Length, OneOf, Range, Regexp, Validator

from config._costs import costs_bps
from config._market import market_sources
from config._urls import HostPorts, Url, postgres_url

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SHOWN_CHARACTERS = 60
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


def read_variable(given: Any, spec: Field[Any]) -> Any:
    """Parse the text of the setting `spec`, trimmed; any other value is a default, which is returned as it is.

    Raises ValidationError with the given text, unless it is secret, and what is expected.
    """
    if not isinstance(given, str):
        return given
    text = given.strip()  # a value that was pasted or read from a file often ends with a line break
    check, is_secret = spec.metadata["check"], spec.metadata["secret"]
    kind = spec.metadata["parse"] or str(spec.type)
    shown = "what is given" if is_secret else repr(_shortened(text))
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValidationError(f"{shown} holds a line break or another control character")
    if text == "" and kind.endswith("| None"):
        return None
    parse, what = _KINDS[kind]
    try:
        value = parse(text)
    except ValueError:
        value = _INVALID
    try:
        if check is not None and value is not None and value is not _INVALID:
            check(value)
    except ValidationError:
        value = _INVALID
    if value is _INVALID:
        nothing = ", or nothing" if kind.endswith("| None") and not is_secret else ""
        raise ValidationError(f"{shown} is not {_bounded(what, check)}{nothing}")
    return value


def dump_variable(value: Any) -> str:
    """Return the text that is parsed as `value`."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(f"{item[0]}={item[1]}" if isinstance(item, tuple) else str(item) for item in value)
    return str(value)


def networks(text: str) -> tuple[Network, ...]:
    """Parse a list of CIDRs. Raises ValueError."""
    found = []
    for item in _names(text):
        try:
            found.append(ipaddress.ip_network(item, strict=False))
        except ValueError:
            raise ValidationError(f"{_shortened(item)!r} is not a network, as in 10.0.0.0/8 or ::1/128") from None
    return tuple(found)


def _whole(text: str) -> int:
    if re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", text) is None:
        raise ValueError(text)
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _flag(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(text)
    return word in _TRUE


def _path(text: str) -> Path:
    if not text:
        raise ValueError(text)
    return Path(text).expanduser() if text.startswith("~") else Path(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _market(text: str) -> str | None:
    """Validate MARKET_DATA and return its text, which is parsed where it is used, by the same rules."""
    if text:
        try:
            market_sources(text)
        except ValueError as error:
            raise ValidationError(str(error)) from None
    return text or None


def _costs(text: str) -> str:
    """Validate RECORD_COSTS_BPS and return its text, which is parsed where it is used, by the same rules."""
    try:
        costs_bps(text)
    except ValueError as error:
        raise ValidationError(str(error)) from None
    return text


def _limits(text: str) -> tuple[tuple[str, int], ...]:
    pairs = []
    for item in _names(text):
        route, _, number = item.rpartition("=")
        if " " not in route.strip() or not number.strip().isdecimal() or int(number) < 1:
            raise ValidationError(f"{_shortened(item)!r} is not METHOD /path=number")
        pairs.append((route.strip(), int(number)))
    return tuple(pairs)


# The parser of each annotation, and of kinds that need another one; and the kind's name.
_KINDS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "str": (str, "a text"),
    "int": (_whole, "a whole number"),
    "float": (_number, "a number"),
    "bool": (_flag, "true or false"),
    "Path": (_path, "a path"),
    "Path | None": (_path, "a path"),
    "str | None": (str, "a text"),
    "float | None": (_number, "a number"),
    "tuple[str, ...]": (_names, "a list separated by commas"),
    "tuple[Network, ...]": (networks, "a list of networks"),
    "tuple[tuple[str, int], ...]": (_limits, "a list of limits"),
    "postgres": (lambda text: postgres_url(text) if text else None, "a text"),
    "costs": (_costs, "costs by asset type"),
    "market": (_market, "a source of market data"),
}
_INVALID = object()


def _bounded(kind: str, check: Validator | None) -> str:
    if isinstance(check, OneOf):
        return f"one of {', '.join(check.choices)}"
    if isinstance(check, Url | HostPorts):
        return check.expected
    if isinstance(check, Regexp):
        return check.error
    if isinstance(check, Length):
        least, most = check.min or 0, check.max
        return f"{kind} of {least}-{most} characters" if most is not None else f"{kind} of at least {least} characters"
    if isinstance(check, Range):
        if check.max is None:
            return f"{kind} {'of at least' if check.min_inclusive else 'above'} {check.min}"
        if not check.min_inclusive:
            return f"{kind} above {check.min} and at most {check.max}"
        return f"{kind} from {check.min} to {check.max}"
    return kind


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
