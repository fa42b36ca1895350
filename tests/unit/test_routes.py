"""The route table: the look-up of routes, and the tables that it refuses."""

from __future__ import annotations

import pytest

from config.settings import ConfigurationError, Settings
from handlers._http.access import INTERNAL, PUBLIC
from handlers._http.base import GatewayHandler
from handlers._http.endpoint import endpoint
from handlers._http.limits import EXEMPT, STANDARD
from handlers._http.routes import INTERNAL_PREFIX, Route, RouteTable
from server.routes import ROUTES, effective_limits


class Things(GatewayHandler):
    @endpoint("Get")
    async def get(self, **_: str) -> None: ...

    @endpoint("Put")
    async def put(self, **_: str) -> None: ...

    @endpoint("Delete")
    async def delete(self, **_: str) -> None: ...


TABLE = RouteTable(
    [
        Route("GET", "/things", Things, PUBLIC),
        Route("GET", "/things/me", Things, PUBLIC),
        Route("GET", "/things/{thing_id}", Things, PUBLIC),
        Route("PUT", "/things/{thing_id}", Things, PUBLIC),
        Route("GET", "/things/{thing_id}/parts/{part_id}", Things, PUBLIC),
        Route("DELETE", "/symbols/{symbol:path}", Things, PUBLIC),
        Route("GET", "/api/v1/things", Things, INTERNAL),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "name", "arguments"),
    [
        ("GET", "/things", "GET /things", {}),
        ("HEAD", "/things", "GET /things", {}),
        ("GET", "/things/me", "GET /things/me", {}),
        ("GET", "/things/7", "GET /things/{thing_id}", {"thing_id": b"7"}),
        ("PUT", "/things/7", "PUT /things/{thing_id}", {"thing_id": b"7"}),
        ("GET", "/things/a%2Fb", "GET /things/{thing_id}", {"thing_id": b"a/b"}),
        ("GET", "/things/%C3%A4", "GET /things/{thing_id}", {"thing_id": "ä".encode()}),
        ("GET", "/things/7/parts/8", "GET /things/{thing_id}/parts/{part_id}", {"thing_id": b"7", "part_id": b"8"}),
        ("DELETE", "/symbols/BTC/USD", "DELETE /symbols/{symbol:path}", {"symbol": b"BTC/USD"}),
        ("DELETE", "/symbols/BTC%2FUSD", "DELETE /symbols/{symbol:path}", {"symbol": b"BTC/USD"}),
    ],
)
def test_a_request_finds_its_row(method: str, path: str, name: str, arguments: dict[str, bytes]) -> None:
    match = TABLE.find(method, path)
    assert match.route is not None
    assert (match.route.name, match.arguments) == (name, arguments)


@pytest.mark.parametrize(
    "path", ["/", "", "/things/", "//things", "/things/7/", "/THINGS", "/things/%FF", "/things/%00", "*", "/things/7/x"]
)
def test_an_unknown_path_has_no_row_and_no_methods(path: str) -> None:
    match = TABLE.find("GET", path)
    assert match.route is None
    assert match.methods == ""


def test_a_known_path_names_its_methods() -> None:
    assert TABLE.find("POST", "/things/7").methods == "GET, HEAD, OPTIONS, PUT"
    assert TABLE.find("BREW", "/symbols/x").methods == "DELETE, OPTIONS"


@pytest.mark.parametrize("path", ["/api/v1", "/api/v1/", "/api/v1/things/7", "/api/v1/nothing", "/api/v1/../v1"])
def test_routes_under_the_internal_prefix_are_internal(path: str) -> None:
    assert TABLE.find("GET", path).access.internal


def test_a_wrong_method_on_an_internal_path_is_internal_too() -> None:
    assert TABLE.find("DELETE", "/api/v1/things").access.internal
    assert not TABLE.find("GET", "/api/v10").access.internal


def test_a_table_with_a_fault_is_not_served() -> None:
    with pytest.raises(ValueError, match="no access policy"):
        RouteTable([Route("GET", "/x", Things, None)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="twice"):
        RouteTable([Route("GET", "/x", Things, PUBLIC), Route("GET", "/x", Things, PUBLIC)])
    with pytest.raises(ValueError, match="@endpoint"):
        RouteTable([Route("POST", "/x", Things, PUBLIC)])
    with pytest.raises(ValueError, match="internal for one"):
        RouteTable([Route("GET", "/x", Things, PUBLIC), Route("PUT", "/x", Things, INTERNAL)])


def test_all_of_the_internal_prefix_is_internal_but_health_and_ready() -> None:
    public = {
        route.path for route in ROUTES if route.path.startswith(INTERNAL_PREFIX + "/") and not route.access.internal
    }
    assert public == {"/api/v1/health", "/api/v1/ready"}
    assert {route.path for route in ROUTES if route.access.internal and not route.path.startswith(INTERNAL_PREFIX)} == {
        "/metrics"
    }


def test_only_health_ready_metrics_and_the_log_are_exempt_from_limits() -> None:
    exempt = {route.path for route in ROUTES if route.limit == EXEMPT and route.user_limit is None}
    log = {path for path in exempt if path.startswith("/log/")}
    assert {path.removeprefix(INTERNAL_PREFIX) for path in exempt - log} == {"/health", "/ready", "/metrics"}
    assert log == {"/log/checkpoint", "/log/key", "/log/tile/{tile:path}"}


def test_limits_for_each_user_alone_need_a_user() -> None:
    for route in ROUTES:
        if route.limit == EXEMPT and route.user_limit is not None:
            assert route.access.permission is not None, route.name


def test_settings_change_single_limits_and_name_a_route_that_is_not_there() -> None:
    settings = Settings.load(None).replace(rate_limits=(("POST /api/v1/signals", 10),))
    limits = effective_limits(ROUTES, settings)
    assert (limits["POST /api/v1/signals"].limit, limits["POST /api/v1/signals"].announce_from) == (10, 5)
    assert limits["GET /api/v1/events"] == STANDARD
    with pytest.raises(ConfigurationError, match="POST /nowhere"):
        effective_limits(ROUTES, settings.replace(rate_limits=(("POST /nowhere", 10),)))


@pytest.mark.parametrize(
    ("given", "openings", "resumes"),
    [
        ((), 10, 120),
        ((("", 20),), 20, 120),
        ((("", 1000),), 1000, 1000),
        ((("", 0),), 0, 0),
        (((" resumed", 5),), 10, 5),
        ((("", 1000), (" resumed", 200)), 1000, 200),
    ],
)
def test_a_stream_may_be_resumed_as_often_as_it_may_be_opened(
    given: tuple[tuple[str, int], ...], openings: int, resumes: int
) -> None:
    name = "GET /api/signals/stream"
    settings = Settings.load(None).replace(rate_limits=tuple((name + suffix, limit) for suffix, limit in given))
    limits = effective_limits(ROUTES, settings)
    assert (limits[name].limit, limits[f"{name} resumed"].limit) == (openings, resumes)
