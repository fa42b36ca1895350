"""The user's two API documents as they were given, and their routes and JSON examples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

FOLDER = Path(__file__).parent
NAMES = ("lens-api.md", "gateway-api.md")
METHODS = "GET|POST|PUT|PATCH|DELETE"

_HEADING = re.compile(rf"^#+ ({METHODS}) (/[^\s`]+)", re.MULTILINE)
_FENCED = re.compile(rf"^```\n({METHODS}) (/\S+)\n```$", re.MULTILINE)
_SOCKET = re.compile(r"^ws://[^/]+(/\S+)$", re.MULTILINE)
_SECTION = re.compile(r"^#{2,3} ", re.MULTILINE)
_BLOCK = re.compile(r"(?P<before>(?:.|\n)*?)^```json\n(?P<text>(?:.|\n)*?)^```$", re.MULTILINE)
_STATUS = re.compile(r"`(\d{3}) ")


@dataclass(frozen=True)
class Example:
    """A JSON example: the route it belongs to, `request` or `response`, the response's status."""

    document: str
    route: str
    kind: str
    status: int
    value: Any

    @property
    def name(self) -> str:
        return f"{self.route} {self.kind} {self.status}"


def text_of(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


def documented_routes() -> set[str]:
    """`METHOD /path` of every endpoint that the documents name, parameters without their names."""
    lens, gateway = (text_of(name) for name in NAMES)
    found = {f"{method} /api/v1{path}" for method, path in _FENCED.findall(lens)}
    found |= {f"GET {path}" for path in _SOCKET.findall(lens)}
    found |= {f"{method} {path}" for method, path in _HEADING.findall(gateway)}
    return {anonymous(route) for route in found}


def anonymous(route: str) -> str:
    """`GET /things/{}`: the documents and the table may name a parameter differently."""
    return re.sub(r"\{[^}]*\}", "{}", route)


def examples() -> Iterator[Example]:
    """Return every JSON example below an endpoint's heading."""
    for name in NAMES:
        for section in _SECTION.split(text_of(name)):
            match = _FENCED.search(section) or _HEADING.match("# " + section)
            if match is None:
                continue
            route = anonymous(f"{match[1]} {'/api/v1' if name == 'lens-api.md' else ''}{match[2]}")
            for block in _BLOCK.finditer(section):
                yield _example(name, route, block["before"], block["text"])


def _example(name: str, route: str, before: str, text: str) -> Example:
    label = before.strip().rpartition("\n")[2]  # "**Request Body**:" or "**Response** `201 Created`:"
    if "Request" in label.partition("`")[0]:
        return Example(name, route, "request", 0, parse(text))
    status = _STATUS.search(label)
    assert status or "Response" in label, f"{name}: an example of {route} under {label!r}"
    return Example(name, route, "response", int(status[1]) if status else 200, parse(text))


def parse(text: str) -> Any:
    """Return the example's value.

    The public document abbreviates: a provider that it has spelled out, `{...}`, `[...]`, and
    a comment.
    """
    text = re.sub(r"//[^\"\n]*$", "", text, flags=re.MULTILINE)
    text = text.replace('"provider": {...}', _spelled_out_provider())
    return orjson.loads(text.replace("{...}", "{}").replace("[...]", "[]"))


@cache
def _spelled_out_provider() -> str:
    spelled_out = re.search(r'"provider": \{\s*"id".*?\}', text_of("gateway-api.md"), re.DOTALL)
    assert spelled_out is not None
    return spelled_out[0]
