"""The server against the user's two documents: every route, every JSON example."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from handlers._http.endpoint import Endpoint, endpoint_of
from schemas._fields import Schema
from schemas.errors import all_errors
from schemas.examples import EXAMPLES
from schemas.problem import Problem
from schemas.stream import parse_command
from server.routes import ROUTES
from tests.contract.documents import FOLDER, NAMES, Example, anonymous, documented_routes, examples, text_of
from tests.contract.not_built import NOT_BUILT

SHARED = Path(__file__).parents[3] / "shared" / "spec"
TABLE = {anonymous(route.name): route for route in ROUTES}
ALL_EXAMPLES = list(examples())


def test_every_documented_route_is_in_the_table_or_named_as_not_built() -> None:
    missing = documented_routes() - set(TABLE)
    assert missing == NOT_BUILT, "build it, or name it; and what is built leaves the list"
    assert len(documented_routes()) > 40


@pytest.mark.parametrize("example", ALL_EXAMPLES, ids=lambda example: example.name)
def test_every_example_passes_its_schema(example: Example) -> None:
    schema = _schema_of(example)
    if schema is None:
        assert example.route in NOT_BUILT
        assert example.document == "gateway-api.md", "the Lens document's schemas are all there"
        return
    assert not schema.validate(example.value), example.value


def test_the_examples_of_the_openapi_document_are_the_documents_own() -> None:
    own = [example.value for example in ALL_EXAMPLES]
    for schema in ("SignalSubmission", "SignalAccepted", "EventStatus", "PageOfEvents"):
        assert EXAMPLES[schema] in own


def test_the_sockets_commands_are_understood() -> None:
    messages = text_of("lens-api.md").partition("### Messages")[2].partition("## Dead Letter")[0]
    blocks = dict(re.findall(r"\*\*([^*]+)\*\*:\n```json\n(.*?)```", messages, re.DOTALL))
    assert set(blocks) >= {"Subscribe", "Unsubscribe", "Heartbeat"}
    parse_command(blocks["Subscribe"])
    parse_command(blocks["Unsubscribe"])
    for line in blocks["Heartbeat"].splitlines():
        parse_command(line)


def test_the_error_codes_are_the_documents() -> None:
    text = text_of("lens-api.md")
    codes = dict(re.findall(r"^\| `([A-Z_]+)` \| (\d{3}) \|", text, re.MULTILINE))
    ours = {error.code: str(error.status) for error in all_errors()}
    assert codes.items() <= ours.items()
    assert len(codes) == 6


@pytest.mark.parametrize("name", NAMES)
def test_the_copies_are_the_documents(name: str) -> None:
    original = SHARED / name
    if not original.exists():
        pytest.skip("the documents lie beside the repository only where it is developed")
    assert (FOLDER / name).read_bytes() == original.read_bytes()


def _schema_of(example: Example) -> Schema | None:
    route = TABLE.get(example.route)
    if route is None:
        return None
    declared = endpoint_of(getattr(route.handler, route.method.lower()))
    assert isinstance(declared, Endpoint)
    if example.kind == "request":
        assert declared.body is not None
        return declared.body
    if example.status in declared.others:
        return declared.others[example.status]
    if example.status >= 400:
        return Problem()
    assert example.status == declared.status
    assert declared.responds is not None
    return declared.responds
