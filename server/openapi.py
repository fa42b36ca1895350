"""Build the OpenAPI 3.1 document from the route table and the schemas; nothing in it is written by hand twice."""

from __future__ import annotations

import http
import inspect
import re
from collections.abc import Sequence

import orjson
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema

from config.settings import Settings
from handlers._http.access import Access
from handlers._http.body import BODY_BYTES
from handlers._http.endpoint import Endpoint, endpoint_of
from handlers._http.limits import Rule
from handlers._http.routes import Route
from handlers.auth._account_handler import REFRESH_COOKIE, REFRESH_PATH, REFRESH_SECONDS
from handlers.docs import STREAMS_PATH
from schemas._fields import component_name
from schemas._queries import CommaList
from schemas.examples import EXAMPLES
from schemas.problem import Problem
from server._document import Node, refine
from server._openapi_fields import own_keywords
from server._openapi_headers import HEADERS, headers_of

VERSION = "1.0.0"
DESCRIPTION = f"""\
Real-time trading signals: raw signals are posted to Lens, enriched, judged by models, scored and published; browsers
follow them live.

Every error has the one shape of `Problem`. Bodies are JSON of at most {BODY_BYTES >> 10} KiB with
`Content-Type: application/json`; unknown fields are refused, unknown query parameters are ignored. Times are RFC 3339:
any offset in, UTC with milliseconds out. Every response carries `X-Request-ID`. HEAD works wherever GET does.

`x-access` says who may call an operation. Where it is the internal network, no credentials help. Under `/auth`, a
request that carries the refresh cookie, or whose answer sets or drops it, is refused with 403 when it has an `Origin`
that is neither in `CORS_ORIGINS` nor this server's own.
"""
_TAGS = {
    "Docs": "This documentation.",
    "Health": "Whether the server is there, and can do its work.",
    "Ready": "Whether the server can do its work.",
    "Metrics": "Figures for Prometheus.",
    "Auth": "Accounts, sessions, logins.",
    "User": "What a user keeps.",
    "Assets": "What there are signals of.",
    "Signals": "The public signals, as lists and as streams.",
    "Social": "Reactions, comments, follows.",
    "Leaderboards": "Who is ahead.",
    "Achievements": "What was achieved, and what is done in a row.",
    "Referrals": "Who brought whom.",
    "Join": "Links of referrals.",
    "Providers": "Who publishes.",
    "Log": "The public log: everything that records are computed from.",
    "Lens": "The internal API: raw signals, their events, decisions, dead letters.",
}
_COOKIE_USE = (
    f"Set by the login; sent under `{REFRESH_PATH}` alone. HttpOnly, SameSite=Lax; Secure when the API has https."
)
_SECURITY_SCHEMES: dict[str, dict[str, str]] = {
    "accessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "streamToken": {
        "type": "apiKey",
        "in": "query",
        "name": "access_token",
        "description": "The access token, for EventSource, which cannot send headers.",
    },
    "refreshCookie": {"type": "apiKey", "in": "cookie", "name": REFRESH_COOKIE, "description": _COOKIE_USE},
}


def build_document(routes: Sequence[Route], settings: Settings) -> bytes:
    """Build the document, encoded."""
    plugin = MarshmallowPlugin(schema_name_resolver=_name_of)
    spec = APISpec(
        title="TradeStream API",
        version=VERSION,
        openapi_version="3.1.0",
        info={"description": DESCRIPTION},
        servers=[{"url": "/"}],
        externalDocs={
            "url": STREAMS_PATH,
            "description": "The streams and the Lens socket: events, ids, resuming, codes, what goes over the wire.",
        },
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        plugins=[plugin],
    )
    converter = plugin.converter
    assert isinstance(converter, OpenAPIConverter)
    converter.add_attribute_function(own_keywords)
    for name, scheme in _SECURITY_SCHEMES.items():
        spec.components.security_scheme(name, scheme)
    for name, header in HEADERS.items():
        spec.components.header(name, header)
    for route in routes:
        declared = endpoint_of(getattr(route.handler, route.method.lower()))
        assert declared is not None  # the route table checks it
        operation = _operation(route, declared, converter, settings)
        spec.path(path=route.template, operations={route.method.lower(): operation})
    document = spec.to_dict()
    for name, described in _described(plugin).items():
        document["components"]["schemas"][name].setdefault("description", described)
    return orjson.dumps(refine(document))


def _described(plugin: MarshmallowPlugin) -> dict[str, str]:
    """Return the docstring of each schema in the document."""
    assert plugin.converter is not None
    return {name: inspect.cleandoc(key[0].__doc__ or "") for key, name in plugin.converter.refs.items()}


def _name_of(schema: type[Schema] | Schema | str) -> str:
    assert not isinstance(schema, str)
    return component_name(schema if isinstance(schema, type) else type(schema))


def _operation(route: Route, declared: Endpoint, converter: OpenAPIConverter, settings: Settings) -> Node:
    method = getattr(route.handler, route.method.lower())
    operation: Node = {
        "operationId": re.sub(r"\W+", "_", f"{route.method} {route.template}").strip("_").lower(),
        "summary": declared.summary,
        "description": _describe(route, inspect.cleandoc(method.__doc__ or ""), settings),
        "tags": [_tag(route)],
        "parameters": _parameters(route, declared, converter),
        "responses": _responses(route, declared),
    }
    if declared.body is not None:
        operation["requestBody"] = {
            "required": declared.body_required,
            "content": _content("application/json", declared.body),
        }
    operation["security"] = _security(route.access)
    operation["x-access"] = route.access.name
    return operation


def _describe(route: Route, text: str, settings: Settings) -> str:
    lines = [text] if text else []
    if route.access.internal:
        lines.append("Only from the internal network.")
    if route.access.permission:
        lines.append(f"Needs the permission `{route.access.permission}`.")
    for rule, whose in (
        (route.limit, "from one address"),
        (route.resume_limit, "from one address that name the event they go on after"),
        (route.user_limit, "by one user"),
    ):
        limit = 0 if rule is None else settings.rate_limit_per_minute if rule.limit is None else rule.limit
        if rule is not None and limit:
            lines.append(f"At most {limit} requests {_window(rule)} {whose}.")
    return "\n\n".join(lines)


def _window(rule: Rule) -> str:
    window = {60: "a minute", 3600: "an hour"}.get(rule.window_seconds, f"in {rule.window_seconds} s")
    return f"{window} (sliding)" if rule.sliding else window


def _tag(route: Route) -> str:
    parts = [part for part in route.path.split("/") if part]
    if parts[:2] == ["api", "v1"]:
        return "Lens"
    if not parts or parts[-1] == "openapi.json":
        return "Docs"
    return (parts[1] if parts[0] == "api" else parts[0]).partition(".")[0].capitalize()


def _parameters(route: Route, declared: Endpoint, converter: OpenAPIConverter) -> list[Node]:
    found: list[Node] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "format": "uuid"} if name.endswith("_id") else {"type": "string"},
        }
        for name in route.parameters
    ]
    if declared.conditional:
        found.append(_header_parameter("If-None-Match", "The `ETag` of what the client has: 304 if it still is so."))
    for name, field in (declared.query.load_fields if declared.query else {}).items():
        schema = converter.field2property(field)
        parameter: Node = {"name": field.data_key or name, "in": "query", "schema": schema}
        if "description" in schema:
            parameter["description"] = schema.pop("description")
        if isinstance(field, CommaList):
            parameter |= {"style": "form", "explode": False}
        found.append(parameter)
    for name, header in declared.headers.items():
        if isinstance(header, str):
            found.append(_header_parameter(name, header))
        else:
            found.append({"name": name, "in": "header", "schema": converter.field2property(header)})
    return found


def _header_parameter(name: str, description: str) -> Node:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


def _responses(route: Route, declared: Endpoint) -> Node:

    def _response(status: int) -> Node:
        described = http.HTTPStatus(status).phrase
        return {"description": described, "headers": headers_of(route, declared, status)}

    responses: dict[int, Node] = {declared.status: _response(declared.status)}
    if declared.responds is not None:
        responses[declared.status]["content"] = _content(declared.media_type, declared.responds)
    elif declared.status == 200:
        responses[declared.status]["content"] = {declared.media_type: {}}
    if declared.sets_cookie is not None:
        cookie = {
            "schema": {"type": "string"},
            "description": f"`{REFRESH_COOKIE}`. {declared.sets_cookie}",
            "example": f"{REFRESH_COOKIE}=…; HttpOnly; Max-Age={REFRESH_SECONDS}; Path={REFRESH_PATH}; SameSite=Lax",
        }
        responses[declared.status]["headers"] |= {"Set-Cookie": cookie}
    if declared.conditional:
        responses[304] = _response(304)
    for status in _error_statuses(route, declared):
        responses[status] = _response(status) | {"content": _content("application/json", Problem())}
    for status, schema in declared.others.items():
        responses[status] = _response(status) | {"content": _content("application/json", schema)}
    return {str(status): responses[status] for status in sorted(responses)}


def _error_statuses(route: Route, declared: Endpoint) -> set[int]:
    """Return the error statuses that follow from the table; a handler declares only those of its own rules."""
    statuses = {500, *declared.errors}
    if not getattr(route.handler, "while_starting", False):
        statuses.add(503)  # while it starts, drains, or a dependency is unavailable
    if declared.query is not None or declared.headers:
        statuses.add(400)
    if any(name.endswith("_id") for name in route.parameters):
        statuses.add(404)
    if route.method != "GET":
        statuses.add(413)
    if declared.body is not None:
        statuses |= {400, 413, 415}
    if route.access.internal:
        statuses.add(403)
    if route.access.identity != "ignored":
        statuses.add(401)
    if route.access.identity == "required":
        statuses.add(403)
    if route.path.startswith(REFRESH_PATH + "/"):  # from a foreign origin, with the cookie
        statuses.add(403)
    if route.limit.limit != 0 or route.user_limit is not None:
        statuses.add(429)
    return statuses


def _content(media_type: str, schema: Schema) -> Node:
    content: Node = {"schema": schema}
    example = EXAMPLES.get(_name_of(schema))
    if example is not None:
        content["example"] = example
    return {media_type: content}


def _security(access: Access) -> list[dict[str, list[str]]]:
    if access.cookie:
        return [{"refreshCookie": []}]
    if access.identity == "ignored":
        return []
    schemes: list[dict[str, list[str]]] = [{"accessToken": []}]
    if access.query_token:
        schemes.append({"streamToken": []})
    return schemes if access.identity == "required" else [*schemes, {}]
