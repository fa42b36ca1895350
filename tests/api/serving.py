"""The real application on a socket of its own, and a client that sends exactly the given bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import orjson
from tornado.httputil import HTTPHeaders
from tornado.netutil import bind_sockets

from config.settings import Settings
from handlers._http.services import Services
from schemas.problem import Problem
from server.app import Application, http_server

SETTINGS = Settings.load(None).replace(rate_limit_enabled=False)
SIGNAL = {
    "event_type": "OPEN_SIGNAL",
    "symbol": "BTC",
    "signal_direction": "long",
    "entry_price": 42000.50,
    "size": 0.1,
    "liquidation_price": 38000.00,
    "ts_utc": "2024-01-15T10:30:00Z",
    "source": "strategy_alpha",
}


@dataclass
class Response:
    """A response: its status, headers and body."""

    status: int
    headers: HTTPHeaders
    body: bytes

    @classmethod
    def read(cls, data: bytes) -> Response:
        """Read the response of a connection that the server has closed."""
        head, _, body = data.decode("latin-1").partition("\r\n\r\n")
        status, _, rest = head.partition("\r\n")
        return cls(int(status.split(" ")[1]), HTTPHeaders.parse(rest), body.encode("latin-1"))

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """Return the error, after checking what every error response must have."""
        assert self.status == status, self
        assert self.headers["Content-Type"] == "application/json; charset=utf-8"
        assert not Problem().validate(self.json), self.body
        assert isinstance(self.json["detail"], str)
        error: dict[str, Any] = self.json["error"]
        assert error["code"] == code, error
        assert error["request_id"] == self.headers["X-Request-ID"]
        if "retry_after" in error:
            assert self.headers["Retry-After"] == str(error["retry_after"])
        return error


@dataclass
class Client:
    """A client of the server on `port`; each request over a connection of its own."""

    port: int
    application: Application

    async def raw(self, data: bytes, *, seconds: float = 10.0) -> bytes:
        """Send the bytes; return all that is received until the server closes, or is silent for `seconds`."""
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(data)
                return await reader.read(-1)
            finally:
                writer.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
        body: bytes | None = None,
        json: Any = None,
    ) -> Response:
        """Send one request; return the response, read by its Content-Length."""
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers or [])
        names = {name.lower() for name, _ in pairs}
        if json is not None:
            body = orjson.dumps(json)
            if "content-type" not in names:
                pairs.append(("Content-Type", "application/json"))
        if body is not None and not {"content-length", "transfer-encoding"} & names:
            pairs.append(("Content-Length", str(len(body))))
        head = f"{method} {path} HTTP/1.1\r\nHost: test\r\n" + "".join(f"{n}: {v}\r\n" for n, v in pairs) + "\r\n"
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(head.encode("latin-1") + (body or b""))
                return await read_response(reader, has_body=method != "HEAD")
            finally:
                writer.close()

    async def get(self, path: str, **headers: str) -> Response:
        """Send a GET request."""
        return await self.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def post(self, path: str, json: Any, **headers: str) -> Response:
        """Send a POST request with a JSON document."""
        return await self.request("POST", path, json=json, headers={k.replace("_", "-"): v for k, v in headers.items()})


async def read_response(reader: asyncio.StreamReader, *, has_body: bool = True) -> Response:
    """Read one response from a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, _, rest = head.partition("\r\n")
    headers = HTTPHeaders.parse(rest)
    size = int(headers.get("Content-Length", "0")) if has_body else 0
    return Response(int(status.split(" ")[1]), headers, await reader.readexactly(size))


async def until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait until the condition holds; fail if it does not in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)


class Unreachable:
    """Services that fail the test when they are used, for requests that are refused before."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was used")


@asynccontextmanager
async def serving(settings: Settings = SETTINGS, routes: Any = None, **services: Any) -> AsyncIterator[Client]:
    """Serve the application with these services; the others must not be used."""
    application = Application(settings) if routes is None else Application(settings, routes)
    unreachable = cast(Any, Unreachable())
    named = dict.fromkeys(("pool", "redis", "actors", "feed", "accounts"), unreachable)
    named |= {"limiter": NoLimits()} | services
    application.gateway.services = Services(settings=settings, **named)
    application.gateway.lifecycle.state = "serving"
    server = http_server(application)
    sockets = bind_sockets(0, "127.0.0.1")
    port = sockets[0].getsockname()[1]
    await server.listen(sockets)
    try:
        yield Client(port, application)
    finally:
        await server.stop()
        await server.close_all_connections()
        assert application.gateway.lifecycle.in_flight == 0


class NoLimits:
    """RATE_LIMIT_ENABLED=false."""

    async def check(self, *_: Any) -> None: ...
