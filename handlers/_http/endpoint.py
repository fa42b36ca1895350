"""Declare with `@endpoint` what a handler's method takes and answers, once, for requests and for OpenAPI."""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from marshmallow import RAISE, ValidationError, fields

from handlers._http.body import parse_json
from schemas._fields import Schema
from schemas._problems import DETAILS, cut_name, field_errors
from schemas._queries import CommaList, LastGiven
from schemas.errors import FieldError, InvalidQuery, ValidationFailed

if TYPE_CHECKING:
    from handlers._http.base import GatewayHandler

Method = Callable[..., Awaitable[Any]]
_BRACKETS = re.compile(r"\[[0-9]{0,9}\]")

Header = str | fields.Field[Any]  # its description, or the field that describes it


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The declaration of a handler's method. `errors`: statuses beyond those that its policy and body imply."""

    summary: str
    body: Schema | None = None
    body_required: bool = True  # else an empty body is read as {}
    query: Schema | None = None
    responds: Schema | None = None
    status: int = 200
    conditional: bool = False  # ETag and If-None-Match
    errors: Sequence[int] = ()
    others: Mapping[int, Schema] = field(default_factory=dict)  # statuses with a body of their own
    headers: Mapping[str, Header] = field(default_factory=dict)  # request headers that the method reads
    media_type: str = "application/json"
    sets_cookie: str | None = None  # what happens to the refresh cookie
    answers: Mapping[str, str] = field(default_factory=dict)  # response headers beside those that every response has


def endpoint(
    summary: str,
    *,
    body: Schema | None = None,
    body_required: bool = True,
    query: Schema | None = None,
    responds: Schema | None = None,
    status: int = 200,
    conditional: bool = False,
    errors: Sequence[int] = (),
    others: Mapping[int, Schema] | None = None,
    headers: Mapping[str, Header] | None = None,
    media_type: str = "application/json",
    sets_cookie: str | None = None,
    answers: Mapping[str, str] | None = None,
) -> Callable[[Method], Method]:
    """Declare a method of a handler.

    It is called with the path's parameters as strings, `body` and `query` as loaded by their schemas, all by name. Its
    result is dumped by `responds` and sent with `status`; bytes are sent as they are, and None sends nothing (the
    method has answered itself).
    """
    declared = Endpoint(
        summary=summary,
        body=body,
        body_required=body_required,
        query=query,
        responds=responds,
        status=status,
        conditional=conditional,
        errors=tuple(errors),
        others=dict(others or {}),
        headers=dict(headers or {}),
        media_type=media_type,
        sets_cookie=sets_cookie,
        answers=dict(answers or {}),
    )

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        async def answer(self: GatewayHandler, **arguments: Any) -> None:
            if query is not None:
                arguments["query"] = load_query(query, self.request.query_arguments)
            if body is not None:
                arguments["body"] = load_body(body, self.received if body_required else self.received or b"{}")
            result = await method(self, **arguments)
            if result is not None:
                self.answer(result if responds is None or type(result) is bytes else responds.dump(result), declared)

        answer.endpoint = declared  # type: ignore[attr-defined]
        return answer

    return decorate


def endpoint_of(method: object) -> Endpoint | None:
    """Return the declaration of a handler's method, if it has one."""
    return getattr(method, "endpoint", None)


def load_body(schema: Schema, body: bytes) -> Any:
    """Load and validate the body. Raises ValidationFailed."""
    document = parse_json(body)
    try:
        return schema.load(document)
    except ValidationError as error:
        raise ValidationFailed(details=field_errors(error.messages)) from None


def load_query(schema: Schema, arguments: Mapping[str, Sequence[bytes]]) -> Any:
    """Load and validate the query. Raises InvalidQuery.

    A list may be written with commas, repeated, or with brackets (`a[]`, `a[0]`), as clients' libraries do. A parameter
    that is no list may be given only once: which of two values was meant is unknowable.

    Unknown parameters are ignored, except by a schema that forbids them.
    """
    arguments = _without_brackets(schema, arguments)
    given: dict[str, str] = {}
    problems: list[FieldError] = []
    if schema.unknown == RAISE:
        known = {each.data_key or name for name, each in schema.load_fields.items()}
        unknown = (cut_name(name) for name in arguments if name not in known)
        problems += [FieldError(name, "unknown parameter") for name in islice(unknown, DETAILS)]
    for name, each in schema.load_fields.items():
        key = each.data_key or name
        values = arguments.get(key)
        if values is None:
            continue
        if isinstance(each, LastGiven):
            values = values[-1:]
        if len(values) > 1 and not isinstance(each, CommaList):
            problems.append(FieldError(key, "is given more than once"))
            continue
        try:
            given[key] = b",".join(values).decode("utf-8")
        except UnicodeDecodeError:
            problems.append(FieldError(key, "is not valid UTF-8"))
            continue
        if "\0" in given[key]:
            problems.append(FieldError(key, "must not hold a NUL"))
            del given[key]
    try:
        loaded = schema.load(given)
    except ValidationError as error:
        # A parameter dropped above is reported there, not as missing.
        named = {each.field for each in problems}
        problems += [each for each in field_errors(error.messages) if each.field not in named]
    if problems:
        raise InvalidQuery(details=problems)
    return loaded


def _without_brackets(schema: Schema, arguments: Mapping[str, Sequence[bytes]]) -> Mapping[str, Sequence[bytes]]:
    """Return the arguments with those of bracketed lists under the schema's names."""
    if not any("[" in name for name in arguments):
        return arguments
    lists = {each.data_key or name for name, each in schema.load_fields.items() if isinstance(each, CommaList)}
    found: dict[str, list[bytes]] = {}
    for name, values in arguments.items():
        base, bracket, rest = name.partition("[")
        is_list = base in lists and _BRACKETS.fullmatch(bracket + rest) is not None
        found.setdefault(base if is_list else name, []).extend(values)
    return found
