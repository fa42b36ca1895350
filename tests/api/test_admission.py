"""The gateway's checks of a request, their order, and the headers of every response."""

from __future__ import annotations

import pytest

from config._variables import networks
from config.settings import Settings
from handlers._http.access import AUTHENTICATED, OPTIONAL, OUTSIDER, PUBLIC, permission
from handlers._http.base import GatewayHandler
from handlers._http.endpoint import endpoint
from handlers._http.routes import Route
from tests.api.serving import SETTINGS, serving
from tests.unit.test_access import token

OUTSIDE = SETTINGS.replace(internal_networks=networks("192.0.2.0/24"))


class Echo(GatewayHandler):
    """A handler that answers with the caller's identity."""

    @endpoint("Get")
    async def get(self) -> object:
        return {"address": self.caller.address, "subject": self.caller.subject}

    @endpoint("Fail")
    async def delete(self) -> object:
        raise RuntimeError("postgres://user:secret@host")


ROUTES = [
    Route("GET", "/public", Echo, PUBLIC),
    Route("DELETE", "/public", Echo, PUBLIC),
    Route("GET", "/optional", Echo, OPTIONAL),
    Route("GET", "/mine", Echo, AUTHENTICATED),
    Route("GET", "/write", Echo, permission("write:provider")),
    Route("GET", "/stream", Echo, OPTIONAL.with_query_token),
]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/events"),
        ("POST", "/api/v1/signals"),
        ("DELETE", "/api/v1/signals"),
        ("BREW", "/api/v1/signals"),
        ("OPTIONS", "/api/v1/signals"),
        ("GET", "/api/v1/nothing/at/all"),
        ("GET", "/api/v1"),
        ("GET", "/api/v1/metrics"),
        ("GET", "/metrics"),
        ("GET", "/api/v1/ws/stream"),
        ("GET", "/api/v1/events/not-an-id"),
    ],
)
async def test_an_outsider_is_refused_all_of_the_internal_api(method: str, path: str) -> None:
    async with serving(OUTSIDE) as client:
        error = (await client.request(method, path)).problem(403, "FORBIDDEN")
        assert error["message"] == OUTSIDER


async def test_an_outsider_may_ask_for_health() -> None:
    async with serving(OUTSIDE) as client:
        for path in ("/health", "/api/v1/health"):
            response = await client.get(path)
            assert (response.status, response.json) == (200, {"status": "ok"})


async def test_an_outsider_does_not_become_an_insider_by_saying_so() -> None:
    async with serving(OUTSIDE) as client:
        for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Client-IP"):
            response = await client.request("GET", "/api/v1/events", headers={name: "192.0.2.1"})
            response.problem(403, "FORBIDDEN")


async def test_behind_a_trusted_proxy_the_forwarded_address_decides() -> None:
    proxied = OUTSIDE.replace(trusted_proxies=networks("127.0.0.0/8"))
    async with serving(proxied, ROUTES) as client:
        assert (await client.get("/public", X_Forwarded_For="192.0.2.7")).json["address"] == "192.0.2.7"
        both = [("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-For", "198.51.100.1")]
        assert (await client.request("GET", "/public", headers=both)).json["address"] == "198.51.100.1"
    async with serving(proxied) as client:
        (await client.get("/api/v1/nothing", X_Forwarded_For="192.0.2.7")).problem(404, "NOT_FOUND")
        (await client.get("/api/v1/nothing", X_Forwarded_For="198.51.100.1, nonsense")).problem(403, "FORBIDDEN")


@pytest.mark.parametrize(
    "path", ["/nothing", "/index.html", "/health/", "/api/v2/signals", "/../etc/passwd", "/%2e%2e/", "//"]
)
async def test_an_unknown_path_is_404_in_the_one_shape(path: str) -> None:
    async with serving() as client:
        error = (await client.get(path)).problem(404, "NOT_FOUND")
        assert error["message"] == "Not found"


async def test_a_wrong_method_names_the_right_ones() -> None:
    async with serving() as client:
        for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"):
            response = await client.request(method, "/health")
            response.problem(405, "METHOD_NOT_ALLOWED")
            assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
        response = await client.get("/api/v1/signals")
        assert response.headers["Allow"] == "OPTIONS, POST"


async def test_head_is_get_without_its_body() -> None:
    async with serving() as client:
        get, head = await client.get("/health"), await client.request("HEAD", "/health")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Length"] == get.headers["Content-Length"]
        missing = await client.request("HEAD", "/nothing")
        assert (missing.status, missing.body) == (404, b"")


async def test_every_response_carries_the_security_headers_and_a_request_id() -> None:
    async with serving(routes=ROUTES) as client:
        for method, path in (("GET", "/public"), ("GET", "/nothing"), ("DELETE", "/public"), ("PUT", "/public")):
            headers = (await client.request(method, path)).headers
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert headers["X-Frame-Options"] == "DENY"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["Cache-Control"] == "no-store"
            assert headers["Vary"] == "Origin"
            assert "Tornado" not in headers["Server"]
            assert len(headers["X-Request-ID"]) == 16
            assert "Strict-Transport-Security" not in headers


async def test_a_request_id_is_taken_over_if_it_is_harmless() -> None:
    async with serving() as client:
        for good in ("abc-123", "!" * 128):
            assert (await client.get("/health", X_Request_ID=good)).headers["X-Request-ID"] == good
        for bad in ("", "x" * 129, "two words", "tab\there", "ä", "a\x80b"):
            assert (await client.get("/health", X_Request_ID=bad)).headers["X-Request-ID"] != bad


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-ID: a\r\n b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-ID: a\rSet-Cookie: b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-ID: a\x00b\r\n\r\n",
    ],
)
async def test_a_request_id_cannot_smuggle_a_header(head: bytes) -> None:
    async with serving() as client:
        answer = await client.raw(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert b"Set-Cookie" not in answer
        assert b"\r\n b" not in answer


async def test_an_unforeseen_failure_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(routes=ROUTES) as client:
        response = await client.request("DELETE", "/public")
        error = response.problem(500, "INTERNAL_ERROR")
        assert error["message"] == "Internal server error"
        assert b"secret" not in response.body
    assert any(record.exc_info for record in caplog.records if "DELETE /public failed" in record.getMessage())


async def test_tokens_are_looked_at_where_the_policy_says() -> None:
    good, bad = f"Bearer {token()}", "Bearer nonsense"
    async with serving(routes=ROUTES) as client:
        assert (await client.get("/public", Authorization=bad)).status == 200
        assert (await client.get("/optional")).json["subject"] is None
        assert (await client.get("/optional", Authorization=good)).json["subject"] is not None
        response = await client.get("/optional", Authorization=bad)
        response.problem(401, "UNAUTHORIZED")
        assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        response = await client.get("/mine")
        response.problem(401, "UNAUTHORIZED")
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert (await client.get("/mine", Authorization=good)).status == 200
        (await client.get("/write", Authorization=good)).problem(403, "FORBIDDEN")
        demo = f"Bearer {token(is_demo=True, sub='demo', sid=None)}"
        error = (await client.get("/mine", Authorization=demo)).problem(403, "FORBIDDEN")
        assert error["message"] == "Demo users cannot access this resource"


async def test_a_query_token_counts_on_streams_and_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    secret = token()
    async with serving(routes=ROUTES) as client:
        assert (await client.get(f"/stream?access_token={secret}")).json["subject"] is not None
        assert (await client.get(f"/optional?access_token={secret}")).json["subject"] is None
        (await client.get("/stream?access_token=%FF")).problem(401, "UNAUTHORIZED")
        await client.request("DELETE", f"/public?access_token={secret}")
    assert caplog.records
    assert secret not in caplog.text


async def test_a_page_of_a_configured_origin_may_read_the_answers() -> None:
    async with serving() as client:
        response = await client.get("/health", Origin="https://tradestream.io")
        assert response.headers["Access-Control-Allow-Origin"] == "https://tradestream.io"
        assert response.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Idempotent-Replayed" in response.headers["Access-Control-Expose-Headers"]
        failure = await client.get("/nothing", Origin="https://tradestream.io")
        assert failure.headers["Access-Control-Allow-Origin"] == "https://tradestream.io"
        for origin in ("https://evil.example", "null", "https://tradestream.io.evil.example", "http://tradestream.io"):
            assert "Access-Control-Allow-Origin" not in (await client.get("/health", Origin=origin)).headers


async def test_a_preflight_is_answered() -> None:
    async with serving(routes=ROUTES) as client:
        asked = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "DELETE"}
        response = await client.request("OPTIONS", "/public", headers=asked)
        assert (response.status, response.body) == (204, b"")
        assert response.headers["Access-Control-Allow-Methods"] == "DELETE, GET, HEAD, OPTIONS"
        assert "X-Idempotency-Key" in response.headers["Access-Control-Allow-Headers"]
        foreign = await client.request("OPTIONS", "/public", headers={"Origin": "https://evil.example"})
        assert foreign.status == 204
        assert "Access-Control-Allow-Methods" not in foreign.headers
        (await client.request("OPTIONS", "/nothing", headers=asked)).problem(404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ("x-trace-id", "x-trace-id"),
        ("authorization,sentry-trace, baggage ,x-b3-sampled", "authorization, sentry-trace, baggage, x-b3-sampled"),
        ("Cache-Control", "Cache-Control"),  # a polyfilled EventSource's
        ("x-good,x bad,é,,x:bad,(x)", "x-good"),
    ],
)
async def test_a_page_of_a_configured_origin_may_send_any_header(asked: str, allowed: str) -> None:
    """The kind: a list of headers that is one behind what browsers' libraries send (tracing, caching)."""
    async with serving() as client:
        headers = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": asked}
        response = await client.request("OPTIONS", "/health", headers={"Origin": "https://tradestream.io", **headers})
        assert response.headers["Access-Control-Allow-Headers"] == allowed
        assert "Access-Control-Request-Headers" in response.headers["Vary"]
        foreign = await client.request("OPTIONS", "/health", headers={"Origin": "https://evil.example", **headers})
        assert "Access-Control-Allow-Headers" not in foreign.headers


async def test_production_asks_for_https() -> None:
    production: Settings = SETTINGS.replace(environment="production")
    async with serving(production) as client:
        assert "max-age" in (await client.get("/health")).headers["Strict-Transport-Security"]


async def test_health_and_the_documentation_alone_answer_during_the_start() -> None:
    async with serving() as client:
        client.application.gateway.lifecycle.state = "starting"
        client.application.gateway.services = None
        assert (await client.get("/health")).status == 200
        assert (await client.get("/api/docs")).status == 200
        ready = await client.get("/ready")
        assert (ready.status, ready.json["status"]) == (503, "not_ready")
        error = (await client.get("/api/v1/events")).problem(503, "SERVICE_UNAVAILABLE")
        assert error["retry_after"] == 1
        (await client.get("/nothing")).problem(404, "NOT_FOUND")


async def test_a_draining_server_asks_clients_to_go() -> None:
    async with serving() as client:
        client.application.gateway.lifecycle.state = "draining"
        assert (await client.get("/health")).headers["Connection"] == "close"
