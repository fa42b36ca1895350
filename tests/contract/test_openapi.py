"""The OpenAPI document as generators of clients read it; each rule says what to do when it is broken."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from config.settings import Settings
from handlers._http.endpoint import endpoint_of
from schemas._fields import component_name
from schemas.errors import all_errors
from schemas.examples import EXAMPLES
from server._document import VOCABULARIES
from server.openapi import build_document
from server.routes import routes_for

SETTINGS = Settings.load(None)
ROUTES = routes_for(SETTINGS)
DOCUMENT = orjson.loads(build_document(ROUTES, SETTINGS))
SCHEMAS = DOCUMENT["components"]["schemas"]


# Without formatters, which take most of its time, and without what checks addresses, which is no tool of ours.
_PLAIN = ("--formatters", "builtin", "--type-mappings", "email=string")


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_schema_property_and_parameter_is_described() -> None:
    lacking = [name for name, schema in SCHEMAS.items() if not schema.get("description")]
    for name, schema in SCHEMAS.items():
        lacking += [
            f"{name}.{field}" for field, each in schema.get("properties", {}).items() if not each["description"]
        ]
        for part in ("if", "then", "else"):  # properties, too, to who walks the document
            found = schema.get(part, {}).get("properties", {})
            lacking += [f"{name}.{part}.{field}" for field, each in found.items() if not each.get("description")]
    for name, operation in operations():
        lacking += [f"{name}: {each['name']}" for each in operation["parameters"] if not each["description"]]
        assert operation["summary"], name
    assert not lacking, (
        "describe them: a schema by its docstring, a field by metadata={'description': …}, "
        f"or where its name means the same everywhere, in schemas/_descriptions.py: {sorted(set(lacking))}"
    )


def test_every_vocabulary_is_one_named_component() -> None:
    """Generators make one class per enum: two for an enum that is written twice, none for two of one name."""
    unnamed: dict[tuple[Any, ...], list[str]] = {}

    def look(node: Any, where: str) -> None:
        if isinstance(node, dict):
            values = node.get("enum")
            is_named = where.rpartition("/")[2] in VOCABULARIES
            if isinstance(values, list) and not is_named and len(values) > 1 and not set(values) <= {True, False}:
                unnamed.setdefault(tuple(values), []).append(where)
            for key, each in node.items():
                if key not in ("example", "examples", "if", "then", "else"):
                    look(each, f"{where}/{key}")
        elif isinstance(node, list):
            for index, each in enumerate(node):
                look(each, f"{where}/{index}")

    look(DOCUMENT, "")
    # A choice of asset types or actions within the variants of a schema is part of a vocabulary that has a name.
    parts = {name for name, (values, _) in VOCABULARIES.items() if name in ("AssetType", "PublicAction")}
    allowed = {each for name in parts for each in VOCABULARIES[name][0]}
    rest = {values: places for values, places in unnamed.items() if not set(values) <= allowed}
    assert not rest, f"name them in server/_document.py, VOCABULARIES: {rest}"
    assert len({tuple(values) for values, _ in VOCABULARIES.values()}) == len(VOCABULARIES)


def test_the_state_of_an_event_is_one_enum_and_its_status_one_object() -> None:
    """A sibling of no enum's name: a generator once made a second EventStatus of Event.status, and dropped a route."""
    assert SCHEMAS["EventStatus"]["type"] == "object"
    for name in ("EventItem", "EventStatus", "SignalAccepted", "SpotEvent", "OptionEvent"):
        assert SCHEMAS[name]["properties"]["status"]["$ref"] == "#/components/schemas/EventState", name


def test_the_codes_of_errors_are_an_enum() -> None:
    code = SCHEMAS["ProblemInfo"]["properties"]["code"]
    assert code["$ref"] == "#/components/schemas/ErrorCode"
    assert set(SCHEMAS["ErrorCode"]["enum"]) == {each.code for each in all_errors()}


def test_every_request_and_answer_has_an_example_that_is_right() -> None:
    lacking = []
    for route in ROUTES:
        declared = endpoint_of(getattr(route.handler, route.method.lower()))
        assert declared is not None
        for schema in (declared.body, declared.responds):
            if schema is None:
                continue
            name = component_name(type(schema))
            if name not in EXAMPLES:
                lacking.append(name)
                continue
            example = EXAMPLES[name]
            document = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
            Draft202012Validator(document, format_checker=FormatChecker()).validate(example)
            assert not schema.validate(example), name
    assert not lacking, f"add them to schemas/examples/: {lacking}"


@pytest.mark.parametrize("name", ["SignalItem", "Signal", "NewSignal", "SignalSubmission", "Event", "BackfillSignal"])
def test_asset_data_is_told_apart_by_the_asset_type(name: str) -> None:
    """A generated client drops fields of a schema of any object: an option's strike, a prediction's probability."""
    schema = SCHEMAS[name]
    mapping = schema["discriminator"]["mapping"]
    assert schema["discriminator"]["propertyName"] == "asset_type"
    assert set(mapping) == set(SCHEMAS["AssetType"]["enum"])
    assert {each["$ref"] for each in schema["oneOf"]} == set(mapping.values())
    for asset_type, data in (("crypto", "SpotData"), ("option", "OptionData"), ("prediction", "PredictionData")):
        variant = SCHEMAS[mapping[asset_type].rpartition("/")[2]]
        assert f"#/components/schemas/{data}" in orjson.dumps(variant["properties"]["asset_data"]).decode()


@pytest.mark.parametrize("name", ["SignalSubmission", "NewSignal"])
def test_a_predictions_price_is_bounded_as_its_handler_bounds_it(name: str) -> None:
    """The kind: a constraint that handlers check and the schema does not say. Siblings: a close, other types."""
    document = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    validator = Draft202012Validator(document)
    good = EXAMPLES[name]
    fed = {**good, "symbol": "Fed", "asset_type": "prediction", "asset_data": None, "entry_price": 0.68}
    fed.pop("liquidation_price", None)
    closes = {"close": True}
    if name == "SignalSubmission":
        closes = {"event_type": "CLOSE_SIGNAL", "signal_direction": "close_long"}
    for price, may_open, may_close in ((0.68, True, True), (1, False, True), (1.2, False, False), (0, False, True)):
        assert validator.is_valid(fed | {"entry_price": price}) is may_open, price
        assert validator.is_valid(fed | closes | {"entry_price": price}) is may_close, price
    option = {**fed, "symbol": "AAPL 195C 3/15", "asset_type": "option"}
    assert not validator.is_valid(option | {"entry_price": 0})
    assert validator.is_valid(option | closes | {"entry_price": 0})
    assert not validator.is_valid(good | closes | {"entry_price": 0})
    assert validator.is_valid(good | {"entry_price": 42_000.5})


def test_examples_of_a_field_are_of_its_own_schema() -> None:
    """The kind: an example that was copied to where it is wrong: `BTC` is no option, 42 000.5 no probability."""
    for name, schema in SCHEMAS.items():
        for field, each in schema.get("properties", {}).items():
            validator = Draft202012Validator(each | {"components": DOCUMENT["components"]})
            for example in each.get("examples", ()):
                assert validator.is_valid(example), (name, field, example)


def test_rules_between_fields_are_in_the_schema() -> None:
    document = {"$ref": "#/components/schemas/SignalSubmission", "components": DOCUMENT["components"]}
    validator = Draft202012Validator(document)
    good = EXAMPLES["SignalSubmission"]
    option = {"symbol": "AAPL 195C 3/15", "asset_type": "option", "asset_data": {"strike": 195.0}}
    assert validator.is_valid(good)
    assert validator.is_valid(good | option)
    for wrong in (
        {"signal_direction": "close_long"},
        {"event_type": "CLOSE_SIGNAL"},
        {"asset_type": "option"},
        {"asset_type": "forex"},
        option | {"asset_data": {"probability": 0.5}},
        {"asset_data": {"strike": 195.0}},
        {"entry_price": 0},
        {"entry_price": 10**15},
        {"colour": "red"},
    ):
        assert not validator.is_valid(good | wrong), wrong


def test_the_headers_that_answers_carry_are_declared() -> None:
    headers = DOCUMENT["components"]["headers"]
    assert all(each["description"] for each in headers.values())
    for name, operation in operations():
        for status, response in operation["responses"].items():
            found = response["headers"]
            assert "X-Request-ID" in found, name
            assert ("Retry-After" in found) == (status in ("429", "503")), (name, status)
            assert ("WWW-Authenticate" in found) == (status == "401"), (name, status)
            if status == "429":
                assert {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} <= set(found), name
            if status == "304":
                assert "ETag" in found, name
            if status == "302":
                assert "Location" in found, name
    submit = DOCUMENT["paths"]["/api/v1/signals"]["post"]
    assert "Idempotent-Replayed" in submit["responses"]["201"]["headers"]
    assert "X-Idempotency-Key" in {each["name"] for each in submit["parameters"]}
    for path in ("/api/signals/stream", "/api/signals/ws"):
        assert "Last-Event-ID" in {each["name"] for each in DOCUMENT["paths"][path]["get"]["parameters"]}


def test_the_protocol_of_the_streams_is_linked() -> None:
    assert DOCUMENT["externalDocs"]["url"] == "/api/docs/streams.md"
    assert "docs/streams.md" in (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    used = {tag for _, operation in operations() for tag in operation["tags"]}
    assert used == {tag["name"] for tag in DOCUMENT["tags"]}


def test_a_generated_client_keeps_options_and_predictions(tmp_path: Path) -> None:
    """The models of a real generator read our examples and write them back without a loss."""
    source, target = tmp_path / "openapi.json", tmp_path / "generated_models.py"
    source.write_bytes(orjson.dumps(DOCUMENT))
    command = [sys.executable, "-W", "ignore", "-m", "datamodel_code_generator", "--input", str(source)]
    options = ["--input-file-type", "openapi", "--output-model-type", "pydantic_v2.BaseModel", "--disable-timestamp"]
    made = subprocess.run(
        [*command, *options, "--output", str(target), "--target-python-version", "3.11", *_PLAIN],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert made.returncode == 0, made.stderr
    spec = importlib.util.spec_from_file_location("generated_models", target)
    assert spec is not None
    assert spec.loader is not None
    models = importlib.util.module_from_spec(spec)
    sys.modules["generated_models"] = models
    try:
        spec.loader.exec_module(models)
        page = EXAMPLES["PageOfSignals"]
        loaded = models.PageOfSignals.model_validate(page)
        spot, option, prediction = (each.root for each in loaded.signals)
        assert type(option).__name__ == "OptionSignalItem"
        assert option.asset_data.greeks.delta == 0.45
        assert type(prediction.asset_data).__name__ == "PredictionData"
        assert prediction.asset_data.probability == 0.62
        assert type(spot.asset_data).__name__ == "SpotData"
        assert [name for name in vars(models) if name.startswith("EventStatus")] == ["EventStatus"]
    finally:
        del sys.modules["generated_models"]
