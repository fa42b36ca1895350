"""Render the prompts: versioned template files, filled in the same way each time from a signal and its features."""

from __future__ import annotations

import hashlib
import math
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

import orjson

from actors.lens.model import Features, RawSignal
from config.documents import Document
from schemas._vocabulary import EventType

PROMPTS: Final[dict[EventType, str]] = {"OPEN_SIGNAL": "open_signal.v2.md", "CLOSE_SIGNAL": "close_signal.v2.md"}
"""The file for each type of event. A released file never changes, its hash being stored: a change is a new version."""

_SIGNIFICANT_DIGITS: Final = 8  # the precision of prices; the rest of a double costs tokens and adds nothing
_LONGEST_COMMENTARY: Final = 500  # the API's own limit
_LONGEST_SYMBOL: Final = 100
_MOST_ASSET_DATA_BYTES: Final = 4_000


@dataclass(frozen=True, slots=True)
class Prompt:
    """A model's prompt. `name` is the template's with its version, `sha256` that of its file, in hex."""

    name: str
    sha256: str
    system: str
    user: str


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template file."""

    name: str
    sha256: str
    system: str
    user: string.Template


def render(signal: RawSignal, features: Features) -> Prompt:
    """Render the prompt for one signal: the same for the same input, below 16 kB, without a secret or an id."""
    template = load_template(PROMPTS[signal.event_type])
    user = template.user.substitute(
        signal=_json(_signal(signal, features)), market=_json(_market(features)), untrusted=_untrusted(signal)
    )
    return Prompt(template.name, template.sha256, template.system, user)


@cache
def load_template(file_name: str) -> Template:
    """Load the template of a file in `actors/lens/prompts`. Raises ValueError if it is not in the form of one."""
    content = (files("actors.lens") / "prompts" / file_name).read_bytes()
    head, _, body = content.decode().removeprefix("---\n").partition("\n---\n")
    facts = dict(line.split(": ", 1) for line in head.splitlines())
    name = f"{facts.get('name')}.v{facts.get('version')}"
    system, found, user = body.removeprefix("# System\n").partition("\n# User\n")
    if f"{name}.md" != file_name or not found or PROMPTS.get(facts.get("event_type")) is None:  # type: ignore[call-overload]
        raise ValueError(f"{file_name} is not a prompt template")
    return Template(name, hashlib.sha256(content).hexdigest(), system.strip(), string.Template(user.strip()))


def _signal(signal: RawSignal, features: Features) -> Document:
    document: Document = {
        "event_type": signal.event_type,
        "direction": signal.signal_direction,
        "asset_type": signal.asset_type,
        "entry_price": signal.entry_price,
        "size": signal.size,
        "liquidation_price": signal.liquidation_price,
        "age_seconds": features.age_seconds,
    }
    if signal.event_type == "CLOSE_SIGNAL":
        document["position"] = None if features.position is None else features.position.to_dict()
    return document


def _market(features: Features) -> Document:
    document = features.to_dict()
    del document["age_seconds"]
    del document["failures"]  # their texts come from other servers; that they failed is in the quality flags
    del document["quote"]  # its middle is the mid, and its spread the book's
    return document


def _untrusted(signal: RawSignal) -> str:
    asset_data = signal.asset_data
    if asset_data is not None and len(orjson.dumps(asset_data)) > _MOST_ASSET_DATA_BYTES:
        asset_data = {"omitted": "too long"}
    document = {
        "symbol": signal.symbol[:_LONGEST_SYMBOL],
        "commentary": None if signal.commentary is None else signal.commentary[:_LONGEST_COMMENTARY],
        "asset_data": asset_data,
    }
    # Outside strings JSON has no angle bracket: escaped, no text in it can close its enclosing tag.
    return _json(document).replace("<", "\\u003c").replace(">", "\\u003e")


def _json(document: Mapping[str, object]) -> str:
    return orjson.dumps(_rounded(document), option=orjson.OPT_SORT_KEYS).decode()


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.{_SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _rounded(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return value
