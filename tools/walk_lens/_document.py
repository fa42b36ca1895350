"""The document's promises as a list of rows: examples, parameters, headers, error codes, messages, security."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.contract.documents import anonymous, examples, text_of

NAME = "lens-api.md"

_HEADING = re.compile(r"^#{2,3} (.+)$", re.MULTILINE)
_ROUTE = re.compile(r"^```\n(GET|POST) (/\S+)\n```$", re.MULTILINE)
_SOCKET = re.compile(r"^ws://[^/]+(/\S+)$", re.MULTILINE)
_TABLE = re.compile(r"^\| (?P<head>[^|]+?) \|.*\n\|[-| ]+\|\n(?P<lines>(?:\|.*\n?)+)", re.MULTILINE)
_MESSAGE = re.compile(r"^\*\*([^*]+)\*\*:\n```json\n((?:.|\n)*?)^```$", re.MULTILINE)
_KINDS = {"Parameter": "parameter", "Header": "header", "Code": "error code"}


@dataclass
class Document:
    """The rows by name, in the document's order: the example, the cells of a table's line, or a sentence."""

    rows: dict[str, Any] = field(default_factory=dict)

    def example(self, route: str, kind: str, status: int = 0) -> Any:
        """Return the JSON example of a route, as `example("GET /events", "response", 200)`."""
        method, _, path = route.partition(" ")
        return self.rows[f"{anonymous(f'{method} /api/v1{path}')} {kind} {status}"]

    def parameters(self, route: str) -> dict[str, list[str]]:
        """Return the lines of a route's table of query parameters: name, type, default and description."""
        prefix = f"GET /api/v1{route} parameter "
        return {name.removeprefix(prefix): cells for name, cells in self.rows.items() if name.startswith(prefix)}


def read_document() -> Document:
    """Return every row of the document; a row that is named twice is returned once."""
    document = Document()
    shown: dict[str, list[tuple[str, Any]]] = {}
    for example in examples():
        if example.document == NAME:
            shown.setdefault(example.route, []).append((example.name, example.value))
    text = text_of(NAME)
    headings = list(_HEADING.finditer(text))
    for heading, after in zip(headings, [*headings[1:], None], strict=True):
        body = text[heading.end() : after.start() if after else len(text)]
        title = heading[1]
        route = _ROUTE.search(body)
        path = anonymous(f"{route[1]} /api/v1{route[2]}") if route else None
        if path is not None:
            document.rows[path] = path
        if socket := _SOCKET.search(body):
            document.rows[f"GET {socket[1]}"] = socket[1]
        if title == "Security":
            document.rows |= {f"security: {line}": line for line in re.findall(r"^- (.+)$", body, re.MULTILINE)}
        if title == "Messages":
            for name, block in _MESSAGE.findall(body):
                document.rows |= _messages(name, block)
        for table in _TABLE.finditer(body):
            document.rows |= _lines(path, table["head"], table["lines"])
        if path is not None:
            document.rows |= dict(shown.pop(path, []))
    assert not shown, f"examples outside of a section: {sorted(shown)}"
    return document


def _messages(name: str, block: str) -> dict[str, Any]:
    try:
        return {f"message: {name}": orjson.loads(block)}
    except orjson.JSONDecodeError:  # one message a line
        messages = [orjson.loads(line) for line in block.splitlines()]
        return {f"message: {name} {each['type']}": each for each in messages}


def _lines(path: str | None, head: str, lines: str) -> dict[str, list[str]]:
    kind = _KINDS[head]
    rows = {}
    for line in lines.splitlines():
        cells = [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        rows[f"{path} {kind} {cells[0]}" if path else f"{kind} {cells[0]}"] = cells
    return rows
