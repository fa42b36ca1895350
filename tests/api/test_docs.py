"""The documentation: a valid OpenAPI document of every route, and a page that needs no other host."""

from __future__ import annotations

import re
from collections.abc import Iterator

import orjson
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from config.settings import Settings
from schemas._fields import Schema, component_name
from schemas.examples import EXAMPLES
from server.openapi import build_document
from server.routes import routes_for
from tests.api.serving import serving

ROUTES = routes_for(Settings.load(None))
DOCUMENT = orjson.loads(build_document(ROUTES, Settings.load(None)))


def test_the_document_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_every_route_is_in_the_document_and_nothing_else() -> None:
    described = {f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == {f"{route.method} {route.template}" for route in ROUTES}
    ids = [operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    assert len(set(ids)) == len(ids)


def test_errors_follow_from_policy_body_and_limit() -> None:
    submit = DOCUMENT["paths"]["/api/v1/signals"]["post"]["responses"]
    assert set(submit) == {"201", "400", "403", "413", "415", "422", "429", "500", "503"}
    assert set(DOCUMENT["paths"]["/health"]["get"]["responses"]) == {"200", "500"}
    stream = DOCUMENT["paths"]["/api/signals/stream"]["get"]
    assert {"401", "429"} <= set(stream["responses"])
    assert stream["security"] == [{"accessToken": []}, {"streamToken": []}, {}]
    assert "text/event-stream" in stream["responses"]["200"]["content"]


def test_each_operation_says_what_it_wants_to_see() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert schemes["accessToken"] == {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    assert {key: schemes["refreshCookie"][key] for key in ("type", "in", "name")} == {
        "type": "apiKey",
        "in": "cookie",
        "name": "refresh_token",
    }
    expected = {
        "POST /auth/login": ([], "public"),
        "POST /auth/refresh": ([{"refreshCookie": []}], "refresh cookie"),
        "GET /auth/me": ([{"accessToken": []}], "authenticated"),
        "PUT /api/user/settings": ([{"accessToken": []}], "permission write:settings"),
        "GET /api/signals/ws": ([{"accessToken": []}, {"streamToken": []}, {}], "optional token"),
        "POST /api/v1/signals": ([], "internal network"),
        "GET /health": ([], "public"),
    }
    for name, (security, access) in expected.items():
        method, path = name.split(" ")
        operation = DOCUMENT["paths"][path][method.lower()]
        assert (operation["security"], operation["x-access"]) == (security, access), name
    for route in ROUTES:
        assert "security" in DOCUMENT["paths"][route.template][route.method.lower()], route.name


def test_the_cookie_is_in_the_answers_that_set_it() -> None:
    setting = {
        f"{method.upper()} {path}"
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
        for response in operation["responses"].values()
        if "Set-Cookie" in response.get("headers", {})
    }
    assert setting == {
        "POST /auth/login",
        "POST /auth/refresh",
        "POST /auth/logout",
        "DELETE /auth/sessions/{session_id}",
        "GET /auth/oauth/{provider}/callback",
    }
    for path, methods in DOCUMENT["paths"].items():
        if path.startswith("/auth/"):
            assert all("403" in operation["responses"] for operation in methods.values()), path


def all_schemas(root: type[Schema]) -> Iterator[type[Schema]]:
    for each in root.__subclasses__():
        yield each
        yield from all_schemas(each)


def test_every_example_passes_the_schema_it_illustrates() -> None:
    components = DOCUMENT["components"]
    schemas = {component_name(each): each for each in all_schemas(Schema)}
    for name, example in EXAMPLES.items():
        assert not schemas[name]().validate(example)
        document = {"$ref": f"#/components/schemas/{name}", "components": components}
        Draft202012Validator(document).validate(example)


def test_parameters_say_what_they_take() -> None:
    parameters = {each["name"]: each for each in DOCUMENT["paths"]["/api/v1/events"]["get"]["parameters"]}
    assert parameters["limit"]["schema"] == {"type": "integer", "default": 50, "minimum": 1, "maximum": 100}
    assert parameters["since"]["schema"]["format"] == "date-time"
    assert parameters["status"]["schema"] == {"$ref": "#/components/schemas/EventState"}
    assert "PUBLISHED" in DOCUMENT["components"]["schemas"]["EventState"]["enum"]
    [path] = DOCUMENT["paths"]["/api/v1/events/{event_id}/status"]["get"]["parameters"]
    assert path["description"]
    assert path == {
        "name": "event_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "format": "uuid"},
        "description": path["description"],
    }


async def test_the_document_is_served_once_and_then_confirmed() -> None:
    async with serving() as client:
        response = await client.get("/api/openapi.json")
        assert response.json == DOCUMENT
        again = await client.get("/api/openapi.json", If_None_Match=response.headers["ETag"])
        assert (again.status, again.body) == (304, b"")
        assert again.headers["X-Request-ID"]
        other = await client.get("/api/openapi.json", If_None_Match='"another"')
        assert other.status == 200


async def test_the_servers_address_leads_to_the_page() -> None:
    async with serving() as client:
        for method in ("GET", "HEAD"):
            answer = await client.request(method, "/")
            assert (answer.status, answer.headers["Location"], answer.body) == (302, "/api/docs", b"")
        (await client.request("POST", "/")).problem(405, "METHOD_NOT_ALLOWED")
        client.application.gateway.lifecycle.state = "starting"
        assert (await client.get("/")).status == 302
    assert DOCUMENT["paths"]["/"]["get"]["tags"] == ["Docs"]


async def test_the_page_and_all_it_needs_come_from_here() -> None:
    async with serving() as client:
        page = await client.get("/api/docs")
        text = page.body.decode()
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        links = re.findall(r'(?:src|href)="([^"]+)"', text)
        assert len(links) == 4
        for link in links:
            file = await client.get(link)
            assert file.status == 200, link
            assert file.body
            assert (await client.get(link, If_None_Match=file.headers["ETag"])).status == 304
        assert "://" not in text
        assert "<script>" not in text
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
        start = (await client.get("/api/docs/start.js")).body.decode()
        assert '"/api/openapi.json"' in start


@pytest.mark.parametrize("name", ["swagger-editor.js", "..%2fcore.py", "index.html", "start.js%00", "%2e%2e"])
async def test_the_page_serves_no_other_file(name: str) -> None:
    async with serving() as client:
        (await client.get(f"/api/docs/{name}")).problem(404, "NOT_FOUND")
