"""A small application on the gateway's HTTP server, and a client that sends exactly the given bytes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import tornado.web
import tornado.websocket
import uvloop
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets

from server._http1 import LlhttpServer
from tests.api.serving import Response, read_response, until

__all__ = ["App", "Peer", "on_both_loops", "serving", "until"]

HEADER_BYTES = 4000
LARGE_BYTES = 8 << 20
WHOLE = b"x" * (1 << 20)


def on_both_loops(test: Callable[[], Awaitable[None]]) -> Any:
    """Run a test on uvloop, as the gateway does, and on asyncio's own loop."""

    @pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
    def run_test(run: Callable[[Any], None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                await test()

        run(bounded())

    run_test.__doc__ = test.__doc__
    return run_test


class App(tornado.web.Application):
    """The application: the requests that its handlers saw, and the events that they wait for."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.gone: list[str] = []
        self.go = asyncio.Event()
        rows = {
            "/": _Echo, "/slow": _Slow, "/streamed": _Streamed, "/early": _Early, "/chunks": _Chunks,
            "/nothing": _Nothing, "/large": _Large, "/close": _Closing, "/split": _Split, "/broken": _Broken,
            "/socket": _Socket, "/detached": _Detached, "/whole": _Whole, "/pushed": _Pushed,
        }  # fmt: skip
        super().__init__(list(rows.items()), log_function=lambda _: None)


class _Handler(tornado.web.RequestHandler):
    SUPPORTED_METHODS = (*tornado.web.RequestHandler.SUPPORTED_METHODS, "BREW")
    application: App

    def prepare(self) -> Awaitable[None] | None:
        self.application.seen.append(self.request.path)
        return None

    def on_connection_close(self) -> None:
        self.application.gone.append(self.request.path)
        super().on_connection_close()


class _Echo(_Handler):
    def get(self) -> None:
        self.finish(f"{self.request.method} {self.request.uri}")

    head = get

    def post(self) -> None:
        self.finish(self.request.body)

    def brew(self) -> None:
        self.set_status(418)
        self.finish(b"tea:" + self.request.body)


class _Slow(_Handler):
    async def get(self) -> None:
        await self.application.go.wait()
        self.finish("slow")


@tornado.web.stream_request_body
class _Streamed(_Handler):
    async def prepare(self) -> None:
        super().prepare()
        self.received = b""
        await asyncio.sleep(0)

    def data_received(self, chunk: bytes) -> None:
        self.received += chunk

    def post(self) -> None:
        self.finish(self.received)


@tornado.web.stream_request_body
class _Early(_Streamed):
    async def prepare(self) -> None:
        await super().prepare()
        self.set_status(403)
        self.finish("no")


class _Chunks(_Handler):
    async def get(self) -> None:
        for each in ("one", "two", "three"):
            self.write(each)
            await self.flush()


class _Nothing(_Handler):
    def get(self) -> None:
        self.set_status(int(self.get_argument("status")))


class _Large(_Handler):
    async def get(self) -> None:
        try:
            for _ in range(LARGE_BYTES >> 16):
                self.write(b"x" * (1 << 16))
                await self.flush()
                self.application.seen.append("part")
        except StreamClosedError:
            self.application.seen.append("lost")


class _Whole(_Handler):
    def get(self) -> None:
        self.finish(WHOLE)


class _Pushed(_Handler):
    """A detached stream that is written to without regard to what its client reads."""

    async def get(self) -> None:
        stream = self.detach()
        try:
            while not self.application.go.is_set():
                stream.write(b"x" * 10_000)
                self.application.seen.append("pushed")
                await asyncio.sleep(0)
        except StreamClosedError:
            self.application.seen.append("closed")


class _Closing(_Handler):
    def get(self) -> None:
        self.set_header("Connection", "close")
        self.finish("bye")


class _Split(_Handler):
    def get(self) -> None:
        self._headers["X"] = "a\r\nSet-Cookie: evil=1"
        self.finish("split")

    def log_exception(self, *_: Any) -> None:
        self.application.seen.append("refused")


class _Broken(_Handler):
    def initialize(self) -> None:
        raise RuntimeError("broken")


class _Socket(tornado.websocket.WebSocketHandler):
    application: App

    async def prepare(self) -> None:
        await asyncio.sleep(0.05)

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message)

    def on_close(self) -> None:
        self.application.gone.append("/socket")


class _Detached(_Handler):
    async def get(self) -> None:
        stream = self.detach()
        await stream.write(b"no HTTP any more")
        self.application.seen.append((await stream.read_until_close()).decode())


class Peer:
    """A connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, data: bytes) -> None:
        """Send the bytes as they are."""
        self.writer.write(data)

    async def say_slowly(self, data: bytes) -> None:
        """Send the bytes one by one, each in a packet of its own."""
        for each in data:
            self.writer.write(bytes([each]))
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def get(self, path: str, *headers: str, version: str = "1.1", method: str = "GET") -> None:
        """Send a request without a body."""
        self.say("\r\n".join([f"{method} {path} HTTP/{version}", "Host: test", *headers, "", ""]).encode())

    def post(self, path: str, body: bytes, *headers: str) -> None:
        """Send a request with a body."""
        lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *headers, "", ""]
        self.say("\r\n".join(lines).encode() + body)

    async def response(self, *, has_body: bool = True) -> Response:
        """Read the next response; its body is read by its Content-Length."""
        async with asyncio.timeout(5):
            return await read_response(self.reader, has_body=has_body)

    async def rest(self) -> bytes:
        """Return all bytes until the server closes."""
        async with asyncio.timeout(10):
            return await self.reader.read(-1)

    async def is_alive(self) -> bool:
        """Return whether the connection serves another request."""
        self.get("/?alive")
        return (await self.response()).body == b"GET /?alive"


@asynccontextmanager
async def serving(*, idle: float = 30.0, body: float = 30.0, **options: Any) -> AsyncIterator[Server]:
    """Serve the application on a free port of loopback; afterwards no connection may be left."""
    app = App()
    server = LlhttpServer(
        app, refusal=_refusal, idle_seconds=idle, body_seconds=body, header_bytes=HEADER_BYTES, **options
    )
    sockets = bind_sockets(0, "127.0.0.1")
    running = Server(app, server, sockets[0].getsockname()[1])
    await server.listen(sockets)
    try:
        yield running
        for each in running.peers:
            each.writer.close()
        await until(lambda: not server.connections)
    finally:
        await server.stop()
        await server.close_all_connections()
        for each in running.peers:
            each.writer.transport.abort()
        await asyncio.sleep(0)


class Server:
    """A server under test."""

    def __init__(self, app: App, http: LlhttpServer, port: int) -> None:
        self.app = app
        self.http = http
        self.port = port
        self.peers: list[Peer] = []

    async def connect(self, *, receive_buffer: int | None = None) -> Peer:
        """Open a connection; a client with a small buffer soon falls behind."""
        connection = socket.socket()
        connection.setblocking(False)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        except BaseException:
            connection.close()
            raise
        self.peers.append(Peer(*await asyncio.open_connection(sock=connection, limit=receive_buffer or 1 << 20)))
        return self.peers[-1]


def _refusal(status: int, message: str, retry_after: int | None) -> tuple[list[tuple[str, str]], bytes]:
    headers = [] if retry_after is None else [("Retry-After", str(retry_after))]
    return headers, f"{status}: {message}".encode()
