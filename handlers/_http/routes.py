"""Define a row of the route table, and find the row of a request."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from tornado.web import RequestHandler

from handlers._http.access import INTERNAL, PUBLIC, Access
from handlers._http.endpoint import endpoint_of
from handlers._http.limits import STANDARD, Rule

INTERNAL_PREFIX = "/api/v1"
WHOLE_SERVER = "*"
FOUND = 4096  # paths whose rows are cached; most requests ask for one of few:
FOUND_CHARACTERS = 200  # short ones, so that a flood of invented paths fills a few megabytes at most
_PARAMETER = re.compile(r"\{([a-z_]+)(:path)?\}")


@dataclass(frozen=True, slots=True)
class Route:
    """A row of the route table: METHOD + path, its handler, who may call it, how often.

    `{name}` in a path is one segment, `{name:path}` may span several. The handler's method gets them percent-decoded.
    `limit` is for each client address, `user_limit` for each user beside it; both are counted in one round trip.
    `resume_limit` counts a stream's openings that resume after an event, instead of `limit`.
    """

    method: str
    path: str
    handler: type[RequestHandler]
    access: Access
    limit: Rule = STANDARD
    user_limit: Rule | None = None
    resume_limit: Rule | None = None

    @property
    def name(self) -> str:
        """The route's name: `POST /api/v1/signals`."""
        return f"{self.method} {self.path}"

    @property
    def user_limit_name(self) -> str:
        """The name in RATE_LIMITS of the limit per user."""
        return f"{self.name} per user"

    @property
    def resume_limit_name(self) -> str:
        """The name in RATE_LIMITS of the limit of openings that resume after an event."""
        return f"{self.name} resumed"

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it."""
        return _PARAMETER.sub(r"{\1}", self.path)

    @property
    def parameters(self) -> list[str]:
        """The names in the path."""
        return [match[1] for match in _PARAMETER.finditer(self.path)]


@dataclass(frozen=True, slots=True)
class Match:
    """The table's answer for a request.

    `route` is None for an unknown path, for a method that the path or the whole server lacks, and for `OPTIONS *`.
    """

    route: Route | None
    pattern: str = "unmatched"
    access: Access = PUBLIC
    methods: str = ""  # as in `Allow`; empty for an unknown path, which is 404
    arguments: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Path:
    pattern: str
    routes: dict[str, Route]
    names: list[str]
    methods: str = ""


class RouteTable:
    """Finds routes by path. Raises ValueError for a table that must not be served."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._fixed: dict[str, _Path] = {}
        self._open: list[_Path | None] = [None]  # by the number of the alternative's last group
        expressions = []
        for path in _by_path(routes):
            path.methods = _allow(path.routes)
            if not path.names:
                self._fixed[path.pattern] = path
                continue
            expressions.append(_expression(path.pattern))
            self._open += [None] * len(path.names) + [path]
        # One expression for all: each alternative ends in an empty group, whose number tells which one matched.
        self._expression = re.compile("|".join(expressions) or r"(?!)")
        offered = {each.method: each for each in routes}
        self._offered = frozenset(offered) | {"HEAD", "OPTIONS"}
        self._methods = _allow(offered)  # of the server as a whole
        self._remembered = functools.lru_cache(maxsize=FOUND)(self._find)

    def find(self, method: str, path: str) -> Match:
        """Return the row for a request, or what to refuse it with."""
        return (self._remembered if len(path) <= FOUND_CHARACTERS else self._find)(method, path)

    def _find(self, method: str, path: str) -> Match:
        found, arguments = self._fixed.get(path), {}
        if found is None:
            match = self._expression.fullmatch(path)
            if match is not None and match.lastindex is not None:
                found = self._open[match.lastindex]
                assert found is not None
                values = match.groups()[match.lastindex - 1 - len(found.names) : match.lastindex - 1]
                decoded = [_decode(value) for value in values]
                arguments = {name: value for name, value in zip(found.names, decoded, strict=True) if value is not None}
                if len(arguments) < len(found.names):
                    found = None
        if found is None:
            inside = path == INTERNAL_PREFIX or path.startswith(INTERNAL_PREFIX + "/")
            # A method that no route has is refused as such, and `*` is the server itself (RFC 9110 § 9.3.7).
            is_whole = method not in self._offered or (method == "OPTIONS" and path == WHOLE_SERVER)
            return Match(None, access=INTERNAL if inside else PUBLIC, methods=self._methods if is_whole else "")
        route = found.routes.get("GET" if method == "HEAD" else method)
        # The border check depends on the path, whatever the method.
        access = route.access if route is not None else next(iter(found.routes.values())).access
        return Match(route, found.pattern, access, found.methods, arguments)


def _by_path(routes: Sequence[Route]) -> list[_Path]:
    paths: dict[str, _Path] = {}
    for route in routes:
        if not isinstance(route.access, Access):
            raise ValueError(f"{route.name} has no access policy")
        path = paths.setdefault(route.path, _Path(route.path, {}, route.parameters))
        if endpoint_of(getattr(route.handler, route.method.lower(), None)) is None:
            raise ValueError(f"{route.name}: {route.handler.__name__} does not declare it with @endpoint")
        if route.method in path.routes:
            raise ValueError(f"{route.name} is in the table twice")
        if any(other.access.internal != route.access.internal for other in path.routes.values()):
            raise ValueError(f"{route.path} is internal for one method and not for another")
        path.routes[route.method] = route
    return list(paths.values())


def _allow(routes: dict[str, Route]) -> str:
    methods = set(routes) | {"OPTIONS"} | ({"HEAD"} if "GET" in routes else set())
    return ", ".join(sorted(methods))


def _expression(path: str) -> str:
    result, end = "", 0
    for match in _PARAMETER.finditer(path):
        result += re.escape(path[end : match.start()]) + ("(.+)" if match[2] else "([^/]+)")
        end = match.end()
    return result + re.escape(path[end:]) + "()"


def _decode(value: str) -> bytes | None:
    # The argument's bytes, or None for what no id or symbol can be: such a path is an unknown one.
    data = unquote_to_bytes(value)
    try:
        return None if "\0" in data.decode("utf-8") else data
    except UnicodeDecodeError:
        return None
