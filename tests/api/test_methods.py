"""Methods: a request chooses a row of the table, and never an attribute.

The kind: a word of the client's that becomes a name in our code (`getattr`, `setattr`). `FINISH /x` with a body
replaced the handler's own `finish`: it was never answered and counted as in flight for ever, and `WRITE_ERROR` was a
500. After each test `serving` sees to it that nothing is in flight.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from tornado.web import RequestHandler

from handlers._http.access import PUBLIC
from handlers._http.base import GatewayHandler
from handlers._http.endpoint import endpoint
from handlers._http.routes import Route
from server.routes import ROUTES
from tests.api.serving import Client, serving, until

# The issue's own, then siblings: what a handler of ours or of Tornado's has, and what every object has.
NAMES = [
    "FINISH",
    "WRITE_ERROR",
    *("PREPARE", "ANSWER", "RECEIVED", "_REFUSE", "REQUEST", "GATEWAY", "ON_FINISH", "SEND_ERROR", "DETACH"),
    *("INITIALIZE", "CLEAR", "_EXECUTE", "__INIT__", "__CLASS__", "DECLARED", "CALLER", "_LEAVE", "FLUSH"),
    *("finish", "get", "Get", "BREW", "PURGE", "PROPFIND", "TRACE", "QUERY", "M-SEARCH", "SOURCE", "DESCRIBE", "x"),
]
SERVER = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
BODIES = [
    (b"", b""),
    (b"Content-Length: 4\r\n", b"body"),
    (b"Transfer-Encoding: chunked\r\n", b"4\r\nbody\r\n0\r\n\r\n"),
    (b"Content-Length: 100000\r\n", b"x" * 100_000),
    (b"Content-Length: 9\r\nExpect: 100-continue\r\n", b"body body"),
]


class Failing(GatewayHandler):
    """A handler that fails unexpectedly."""

    async def prepare(self) -> None:
        await super().prepare()
        raise RuntimeError("in prepare")

    @endpoint("Never reached")
    async def post(self) -> None: ...


class Cancelled(GatewayHandler):
    @endpoint("What it waits for is cancelled")
    async def get(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future


OURS = [Route("POST", "/failing", Failing, PUBLIC), Route("GET", "/cancelled", Cancelled, PUBLIC)]


@pytest.mark.parametrize("method", NAMES)
async def test_a_method_that_nothing_has_is_405_on_every_path_with_or_without_a_body(method: str) -> None:
    async with serving() as client:
        for headers, body in BODIES:
            for path, allowed in (("/x", SERVER), ("/health", "GET, HEAD, OPTIONS"), ("/auth/login", "OPTIONS, POST")):
                head = f"{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n".encode()
                answer = await client.raw(head + headers + b"\r\n" + body)
                answer = re.sub(rb"\AHTTP/1.1 100 [^\r]*\r\n\r\n", b"", answer)
                assert answer.startswith(b"HTTP/1.1 405 "), answer
                assert b"\r\nAllow: %b\r\n" % allowed.encode() in answer
                assert b'"METHOD_NOT_ALLOWED"' in answer
        assert (await client.get("/health")).status == 200


async def test_a_standard_method_on_an_unknown_path_is_404() -> None:
    async with serving() as client:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            assert (await client.request(method, "/x")).status == 404


async def test_the_server_as_a_whole_tells_its_methods() -> None:
    async with serving() as client:
        response = await client.request("OPTIONS", "*")
        assert (response.status, response.body, response.headers["Allow"]) == (204, b"", SERVER)
        for method, status in (("GET", 404), ("HEAD", 404), ("FINISH", 405)):
            assert (await client.request(method, "*")).status == status


@pytest.mark.llhttp
async def test_connect_is_405_and_closes() -> None:
    async with serving() as client:
        answer = await client.raw(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\nwhatever")
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert b"Connection: close" in answer


@pytest.mark.parametrize(("method", "path", "body"), [("POST", "/failing", b"body"), ("GET", "/cancelled", None)])
async def test_a_handler_that_fails_anywhere_is_500_and_not_in_flight(
    method: str, path: str, body: bytes | None
) -> None:
    async with serving(routes=[*ROUTES, *OURS]) as client:
        assert (await client.request(method, path, body=body)).status == 500
        await until(lambda: client.application.gateway.lifecycle.in_flight == 0)


@pytest.mark.parametrize("method", ["POST", "FINISH", "PUT"])
async def test_a_client_that_goes_within_its_body_is_not_in_flight(method: str) -> None:
    async with serving() as client:
        for framing in (b"Content-Length: 100", b"Transfer-Encoding: chunked", b"Content-Length: 100000000"):
            _, writer = await asyncio.open_connection("127.0.0.1", client.port)
            writer.write(b"%b /auth/login HTTP/1.1\r\nHost: test\r\n%b\r\n\r\n" % (method.encode(), framing))
            await _until_in_flight(client)
            writer.transport.abort()
            await until(lambda: client.application.gateway.lifecycle.in_flight == 0)


async def _until_in_flight(client: Client) -> None:
    await until(lambda: client.application.gateway.lifecycle.in_flight == 1)


def test_no_handler_is_called_by_a_name_that_is_not_in_the_table() -> None:
    handlers: set[Any] = {each.handler for each in ROUTES}
    assert all(issubclass(each, GatewayHandler) for each in handlers)
    assert all(each._serve is GatewayHandler._serve for each in handlers)
    assert GatewayHandler._execute is not RequestHandler._execute
