"""Declare with `@endpoint` what a handler's method takes and answers, once, for requests and for OpenAPI."""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from marshmallow import RAISE, ValidationError, fields

from config.documents import Loaded
from handlers._http.body import parse_json
from schemas._fields import Schema
from schemas._problems import DETAILS, cut_name, field_errors
from schemas._queries import CommaList, LastGiven
from schemas.errors import FieldError, InvalidQuery, ValidationFailed

if TYPE_CHECKING:
    from handlers._http.base import GatewayHandler

_BRACKETS = re.compile(r"\[[0-9]{0,9}\]")

Header = str | fields.Field[str]  # its description, or the field that describes it


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The declaration of a handler's method, which it decorates as `@endpoint(…)`.

    The method is called with the path's parameters as strings, `body` and `query` as loaded by their schemas, all by
    name. Its result is dumped by `responds` and sent with `status`; bytes are sent as they are, and None sends nothing
    (the method has answered itself). `errors`: statuses beyond those that its policy and body imply.
    """

    summary: str
    _: KW_ONLY
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

    def __call__(self, method: Callable[..., Awaitable[object]]) -> Callable[..., Coroutine[object, object, None]]:
        """Return the method that loads, calls `method` and answers."""
        query, body, responds = self.query, self.body, self.responds

        @functools.wraps(method)
        async def answer(handler: GatewayHandler, **arguments: object) -> None:
            if query is not None:
                arguments["query"] = load_query(query, handler.request.query_arguments)
            if body is not None:
                arguments["body"] = load_body(body, handler.received or (b"" if self.body_required else b"{}"))
            result = await method(handler, **arguments)
            if result is not None:
                handler.answer(result if responds is None or type(result) is bytes else responds.dump(result), self)

        answer.endpoint = self  # type: ignore[attr-defined]
        return answer


endpoint = Endpoint


def endpoint_of(method: object) -> Endpoint | None:
    """Return the declaration of a handler's method, if it has one."""
    return getattr(method, "endpoint", None)


def load_body(schema: Schema, body: bytes) -> Loaded:
    """Load and validate the body. Raises ValidationFailed."""
    document = parse_json(body)
    try:
        loaded: Loaded = schema.load(document)
    except ValidationError as error:
        raise ValidationFailed(details=field_errors(error.messages)) from None
    return loaded


def load_query(schema: Schema, arguments: Mapping[str, Sequence[bytes]]) -> Loaded:
    """Load and validate the query. Raises InvalidQuery.

    A list may be written with commas, repeated, or with brackets (`a[]`, `a[0]`), as clients' libraries do. A parameter
    that is no list may be given only once: which of two values was meant is unknowable.

    Unknown parameters are ignored, except by a schema that forbids them.
    """
    given, problems = _given(schema, _without_brackets(schema, arguments))
    try:
        loaded: Loaded = schema.load(given)
    except ValidationError as error:
        # A parameter dropped above is reported there, not as missing.
        named = {each.field for each in problems}
        problems += [each for each in field_errors(error.messages) if each.field not in named]
    if problems:
        raise InvalidQuery(details=problems)
    return loaded


def _given(schema: Schema, arguments: Mapping[str, Sequence[bytes]]) -> tuple[dict[str, str], list[FieldError]]:
    """Return the known parameters as text, and what is wrong with those that are left out."""
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
    return given, problems


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
