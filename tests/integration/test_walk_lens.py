"""The walk through the Lens document against a whole system of its own, and faults that the walk finds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.walk_lens._compare import differences
from tools.walk_lens._document import read_document
from tools.walk_lens._walk import walk
from tools.walk_lens._world import own_world

DOCUMENT = read_document()
EVENT = DOCUMENT.example("GET /events/{}", "response", 200)


async def test_every_row_and_example_of_the_document_is_what_the_server_does(tmp_path: Path) -> None:
    async with own_world(tmp_path) as world:
        findings = await walk(world, heartbeat=False)
    assert findings.differences == [], findings.table()
    assert set(findings.not_shown) == {"message: Heartbeat ping"}


def test_the_document_is_read_to_its_last_row() -> None:
    kinds = ("parameter", "header", "request", "response", "error code", "message", "security")
    counted = {kind: sum(f" {kind} " in f" {row}".replace(":", " ") for row in DOCUMENT.rows) for kind in kinds}
    assert counted == {
        "parameter": 25,
        "header": 2,
        "request": 2,
        "response": 18,
        "error code": 6,
        "message": 6,
        "security": 3,
    }


def change(path: str, value: object) -> Callable[[Any], None]:
    """Set another value at a path."""

    def apply(document: Any) -> None:
        *way, last = path.split(".")
        for name in way:
            document = document[int(name) if name.isdecimal() else name]
        document[last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("event_id", "evt-1"),
        ("event_type", "OPEN"),
        ("entry_price", "42000.50"),
        ("size", None),
        ("size", True),
        ("ts_utc", "2024-01-15T10:30:00Z"),
        ("received_at", "2024-01-15 10:30:00.123"),
        ("received_at", "2024-01-15T10:30:00.123456Z"),
        ("status", "DONE"),
        ("source", ""),
        ("timeline", []),
        ("timeline.0.status", "SEEN"),
        ("timeline.0.details", {}),
        ("timeline.3.details", {"model": "nobody"}),
        ("timeline.3.details", {}),
        ("enriched", None),
        ("enriched.quality_flags.stale_data", [1]),
        ("enriched.quality_flags.more", []),
        ("decisions.0.confidence", "0.78"),
        ("decisions.1.decision", "BUY"),
        ("surplus", 1),
    ],
)
def test_the_walk_sees_what_is_wrong_in_an_answer(path: str, value: object) -> None:
    answer = copy.deepcopy(EVENT)
    change("ts_utc", "2024-01-15T10:30:00.000Z")(answer)
    assert differences(EVENT, answer, what="event") == []
    change(path, value)(answer)
    [found] = differences(EVENT, answer, what="event")
    assert found.startswith(path)


def test_the_walk_sees_what_is_missing() -> None:
    for name in EVENT:
        answer = {key: value for key, value in EVENT.items() if key != name}
        assert f"{name}: missing" in differences(EVENT, answer, what="event")


def test_the_texts_of_errors_are_binding() -> None:
    example = DOCUMENT.example("POST /signals", "response", 400)
    answer = copy.deepcopy(example)
    answer["error"]["details"][0]["message"] = "Must be greater than 0."
    assert differences(example, answer) == [
        "error.details.0.message: 'Must be greater than 0.' is not 'must be greater than 0'"
    ]
