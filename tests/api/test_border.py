"""The border of the internal network: unconfigured proxies, and browsers inside of it.

The kind of fault: a request that comes from an internal address and was made by somebody outside: through a proxy whose
address stands for all of its clients, or through a browser that shows a stranger's page.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config._variables import networks
from config.settings import Settings
from handlers._http.border import Border
from tests.api.serving import SETTINGS, Client, Response, serving

INTERNAL = ("/api/v1/nothing", "/metrics", "/api/v1/metrics", "/api/v1/ws/stream", "/api/v1", "/api/v1/dlq")
RELAYED = "TRUSTED_PROXIES"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": KEY}


async def ask(client: Client, method: str, path: str, host: str | None, *lines: str, version: str = "1.1") -> Response:
    """Send one request with exactly these header lines."""
    given = ([] if host is None else [f"Host: {host}"]) + [*lines, "Connection: close"]
    text = f"{method} {path} HTTP/{version}\r\n" + "".join(f"{line}\r\n" for line in given) + "\r\n"
    return Response.read(await client.raw(text.encode("latin-1")))


@pytest.mark.parametrize(
    "lines",
    [
        ["X-Forwarded-For: 198.51.100.7"],
        ["X-Forwarded-For: 127.0.0.1"],
        ["X-Forwarded-For: nonsense"],
        ["X-Forwarded-For:"],
        ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 198.51.100.7"],
        ["x-forwarded-for: ::ffff:10.0.0.1"],
        ["Forwarded: for=198.51.100.7;proto=https"],
        ["X-Real-IP: 198.51.100.7"],
    ],
)
async def test_a_proxy_that_nobody_configured_gets_nothing_that_is_internal(lines: list[str]) -> None:
    async with serving() as client:
        for path in INTERNAL:
            error = (await ask(client, "GET", path, "localhost", *lines)).problem(403, "FORBIDDEN")
            assert RELAYED in error["message"]
        assert (await ask(client, "GET", "/api/v1/health", "localhost", *lines)).status == 200
        assert (await ask(client, "GET", "/health", "localhost", *lines)).status == 200


async def test_the_log_says_once_that_a_relay_was_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as client:
        for _ in range(3):
            await client.get("/health", X_Forwarded_For="198.51.100.7")  # its clients count as one there, too
            await client.get("/metrics", X_Forwarded_For="198.51.100.7")
            await client.get("/metrics", X_Real_IP="198.51.100.7")
    said = [each.getMessage() for each in caplog.records if RELAYED in each.getMessage()]
    assert len(said) == 1
    assert "127.0.0.1" in said[0]


async def test_a_trusted_proxy_says_for_whom_it_asks_in_the_one_way_that_is_read() -> None:
    proxied = SETTINGS.replace(trusted_proxies=networks("127.0.0.1/32"))
    async with serving(proxied) as client:
        for lines, status in (
            (["X-Forwarded-For: 10.1.2.3"], 404),
            (["X-Forwarded-For: 10.1.2.3", "X-Real-IP: 10.1.2.3", "Forwarded: for=10.1.2.3"], 404),
            (["X-Forwarded-For: 198.51.100.7"], 403),
            (["X-Forwarded-For: 198.51.100.7, 10.1.2.3"], 403),  # 10.1.2.3 is the next proxy, which is not configured
            (["X-Real-IP: 198.51.100.7"], 403),
            (["Forwarded: for=198.51.100.7", "X-Forwarded-For: ,"], 403),
            ([], 404),
        ):
            assert (await ask(client, "GET", "/api/v1/nothing", "localhost", *lines)).status == status, lines


OURS = (
    *("127.0.0.1", "127.0.0.1:8000", "10.1.2.3", "8.8.8.8", "0.0.0.0", "[::1]", "[::1]:8000", "[2001:db8::1]", "127.1"),
    *("localhost", "LOCALHOST:8000", "localhost.", "gateway", "my_gateway", "host.docker.internal", "box.local"),
    *("tradestream.localhost:9000", "gateway.default.svc", "gateway.default.svc.cluster.local", "api.tradestream.test"),
    *("API.Tradestream.test.:443", "lens.example.com", "a.b.example.org", "127.0.0.1."),
)
FOREIGN = (
    *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example."),
    *("a.svc.x", "notlocal.evil", "xlocal.example", "local.example", "xn--lcalhost-b4a.example", "example.org"),
    *("xexample.org", "localhost..", ".local", "127.0.0.1.1.1", "999.1.1.1", "1.2.3.4.5", "[evil.example]", "::1", ""),
    *("test.lens.example.com", "api.tradestream.test.evil.example", "a" * 64 + ".local", "x." * 200 + "local", "[::1"),
    *("localhost, evil.example", "evil.example@localhost", "localhost@evil.example", "localhost/", "local host"),
    *("é.local", "localhost:port"),
)
NAMED = SETTINGS.replace(api_url="https://api.tradestream.test", allowed_hosts=("Lens.example.com", ".example.org"))


@pytest.mark.parametrize("host", OURS)
async def test_internal_routes_are_there_under_names_that_are_ours(host: str) -> None:
    async with serving(NAMED) as client:
        (await ask(client, "GET", "/api/v1/nothing", host)).problem(404, "NOT_FOUND")


async def test_a_request_without_a_host_is_no_browsers() -> None:
    async with serving(NAMED) as client:
        (await ask(client, "GET", "/api/v1/nothing", None, version="1.0")).problem(404, "NOT_FOUND")


@pytest.mark.parametrize("host", FOREIGN)
async def test_internal_routes_are_not_there_under_names_that_anybody_may_own(host: str) -> None:
    async with serving(NAMED) as client:
        for path in INTERNAL:
            response = await ask(client, "GET", path, host)
            assert response.status in {400, 403}, path  # 400: it is no Host at all
        socket = [f"{name}: {value}" for name, value in HANDSHAKE.items() if name != "Connection"]
        assert (await ask(client, "GET", "/api/signals/ws", host, *socket)).status in {400, 403}
        assert (await ask(client, "GET", "/health", host)).status in {200, 400}


@pytest.mark.parametrize("path", [*INTERNAL, "/api/signals/ws"])
async def test_the_page_of_a_rebound_name_is_refused(path: str) -> None:
    """The page's origin equals the request's `Host`: for the browser, it is the server's own page."""
    async with serving() as client:
        lines = ["Origin: http://evil.example:8000", "Sec-Fetch-Site: same-origin"]
        error = (await ask(client, "GET", path, "evil.example:8000", *lines)).problem(403, "FORBIDDEN")
        assert "ALLOWED_HOSTS" in error["message"]


async def test_two_hosts_are_none() -> None:
    async with serving() as client:
        assert (await ask(client, "GET", "/metrics", "localhost", "Host: evil.example")).status == 400
        assert (await ask(client, "GET", "/metrics", "evil.example", "Host: localhost")).status == 400
        assert (await ask(client, "GET", "/metrics", "evil.example", "X-Forwarded-Host: localhost")).status == 403


@pytest.mark.llhttp
@pytest.mark.parametrize(
    ("target", "host", "statuses"),
    [
        ("http://evil.example/api/v1/nothing", "localhost", {403}),
        ("http://evil.example/metrics", "evil.example", {403}),
        ("HTTP://evil.example:8000/api/v1/dlq", "127.0.0.1", {403}),
        ("http://localhost:8000/api/v1/nothing", "evil.example", {404}),  # RFC 9112 § 3.2.2: the target's counts
        ("http://[::1]:8000/api/v1/nothing", "localhost", {404}),
        ("http://localhost@evil.example/metrics", "localhost", {400, 403}),
        ("http://evil.example@localhost/metrics", "localhost", {400, 403}),
    ],
)
async def test_the_name_in_an_absolute_target_counts(target: str, host: str, statuses: set[int]) -> None:
    async with serving() as client:
        assert (await ask(client, "GET", target, host)).status in statuses


@given(st.text(st.sampled_from("ab1.0:[]-_@/x%é ,\\\t"), max_size=12), st.sampled_from(["", ".", ":80", ".:80", ":"]))
def test_a_prefix_does_not_make_a_strangers_name_ours(text: str, end: str) -> None:
    border = Border(SETTINGS)
    for name in (f"{text}.evil.example", f"{text}evil.example", f"localhost{text}.evil.example"):
        assert not border.knows_host(name + end)


def test_the_machines_own_names_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Box.Corp.Example")
    border = Border(SETTINGS)
    assert border.knows_host("box.corp.example:8000")
    assert not border.knows_host("box.example")
    border.add_names(["box.example"])
    assert border.knows_host("box.example")


FOREIGN_PAGES: tuple[dict[str, str], ...] = (
    {"Origin": "https://evil.example"},
    {"Origin": "https://tradestream.io"},  # of CORS_ORIGINS
    {"Origin": "http://localhost:3000"},  # likewise
    {"Origin": "null"},
    {"Origin": "http://test:1"},
    {"Origin": "http://test.evil.example"},
    {"Origin": "ftp://test"},
    {"Origin": "test"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "Cross-Site", "Origin": "http://test"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
)
BODIES: tuple[dict[str, Any], ...] = ({}, {"json": {}}, {"body": b"{}", "headers": {"Content-Type": "text/plain"}})


@pytest.mark.parametrize("page", FOREIGN_PAGES)
async def test_a_page_changes_nothing_that_is_internal(page: dict[str, str]) -> None:
    async with serving() as client:
        for method, path in (
            ("POST", "/api/v1/dlq/retry"),
            ("POST", "/api/v1/dlq/resolve"),
            ("POST", "/api/v1/signals"),
            ("DELETE", "/api/v1/events"),
            ("POST", "/metrics"),
        ):
            for body in BODIES:
                given = {**body, "headers": {**body.get("headers", {}), **page}}
                response = await client.request(method, path, **given)
                response.problem(403, "FORBIDDEN")
                assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("page", FOREIGN_PAGES)
async def test_a_page_does_not_hear_the_decisions(page: dict[str, str]) -> None:
    async with serving() as client:
        (await client.request("GET", "/api/v1/ws/stream", headers=HANDSHAKE | page)).problem(403, "FORBIDDEN")


@pytest.mark.parametrize("origin", ["https://tradestream.io", "http://localhost:3000", "http://test"])
async def test_no_page_of_another_origin_reads_what_is_internal(origin: str) -> None:
    async with serving() as client:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x"}
        for method, path, status in (
            ("GET", "/api/v1/nothing", 404),
            ("OPTIONS", "/api/v1/signals", 204),
            ("OPTIONS", "/metrics", 204),
            ("GET", "/api/v1/events?limit=0", 400),
        ):
            response = await client.request(method, path, headers=asked)
            assert response.status == status
            assert not [name for name in response.headers if name.startswith("Access-Control")]
        # Public routes under the same prefix stay public.
        assert "Access-Control-Allow-Origin" not in (await client.get("/api/v1/health", Origin="null")).headers


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"Origin": "http://test"},
        {"Origin": "HTTP://TEST:80"},
        {"Origin": "https://test"},  # a proxy took TLS off
        {"Origin": "http://test", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_our_own_page_and_programs_may(page: dict[str, str]) -> None:
    async with serving() as client:
        response = await client.request("POST", "/api/v1/signals", headers=page, json={})
        response.problem(400, "VALIDATION_ERROR")


async def test_a_host_is_checked_before_anything_is_counted_or_read() -> None:
    class Counting:
        async def check(self, *_: Any) -> None:
            raise AssertionError("it was counted")

    async with serving(limiter=Counting()) as client:
        for path in ("/api/v1/events", "/api/signals/ws"):
            (await ask(client, "GET", path, "evil.example")).problem(403, "FORBIDDEN")


@pytest.mark.parametrize("name", ["http://x", "a b", "x:80", "*", "*.example.com", "[::1]", "é.example", "a..b", "."])
def test_an_invalid_host_name_is_refused_as_a_setting(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", f"lens.example.com,{name}")
    with pytest.raises(Exception, match="ALLOWED_HOSTS"):
        Settings.load(None)
