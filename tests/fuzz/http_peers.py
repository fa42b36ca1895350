"""The reading of one connection's bytes by three servers: ours, Tornado's own HTTPServer, and h11."""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass, field
from typing import Any

import h11
from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    HTTPServerRequest,
    ResponseStartLine,
)
from tornado.iostream import IOStream

from server._http1 import LlhttpServer
from server._http1.connection import Connection
from server._http1.parser import Incomplete
from tests.api.serving import until

HEADER_BYTES = 16 << 10
BODY_BYTES = 1 << 20
QUIET_ROUNDS = 12  # of the loop in which nothing happens: then a server waits for more

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n")


@dataclass(frozen=True)
class Message:
    """A whole request, as an application gets it. The target is without the scheme and the host of an absolute one."""

    method: str
    target: str
    body: bytes


@dataclass
class Verdict:
    """The whole requests in their order; and whether the bytes after them were refused, or only incomplete."""

    messages: list[Message] = field(default_factory=list)
    is_refused: bool = False
    answer: bytes = b""

    @property
    def statuses(self) -> tuple[str, ...]:
        """Return the statuses of the final answers, `-` if there are none."""
        return tuple(each.decode() for each in _STATUS.findall(self.answer) if each != b"100") or ("-",)


class Echo(HTTPServerConnectionDelegate):
    """An application that accepts everything with 200, and records it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        return _Request(self, request_conn)


class _Request(HTTPMessageDelegate):
    def __init__(self, echo: Echo, connection: HTTPConnection) -> None:
        self._echo = echo
        self._connection = connection
        self._body = b""

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> None:
        self._request = HTTPServerRequest(connection=self._connection, start_line=start_line, headers=headers)

    def data_received(self, chunk: bytes) -> None:
        self._body += chunk

    def finish(self) -> None:
        method, target = self._request.method or "", self._request.uri or ""
        self._echo.messages.append(Message(method, without_host(method, target), self._body))
        headers = HTTPHeaders({"Content-Length": "0"})
        self._connection.write_headers(ResponseStartLine("HTTP/1.1", 200, "OK"), headers)
        self._connection.finish()

    def on_connection_close(self) -> None: ...


def without_host(method: str, target: str) -> str:
    """Return an absolute target as its path."""
    found = re.fullmatch(r"(?i)https?://[^/?#]+(.*)", target)
    if found is None:
        return target
    return found[1] if found[1][:1] == "/" else ("/" + found[1] if found[1] or method != "OPTIONS" else "*")


async def asked_of_ours(data: bytes) -> Verdict:
    """Ask our server over a socket pair; the client ends its side. Raises TimeoutError if the connection stays open."""
    echo = Echo()
    server = LlhttpServer(
        echo,
        refusal=lambda status, message, _: ((), f"{status}: {message}".encode()),
        idle_seconds=30,
        body_seconds=30,
        header_bytes=HEADER_BYTES,
    )
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(server), ours)
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(sock=theirs)
        try:
            writer.write(data)
            writer.write_eof()
            answer = await reader.read(-1)
        except ConnectionError:
            answer = b""
        finally:
            writer.transport.abort()
            await until(lambda: not server.connections)
    is_incomplete = Incomplete.message.encode() in answer
    statuses = [each for each in _STATUS.findall(answer) if each != b"100"]
    is_refused = not is_incomplete and len(statuses) > len(echo.messages)
    return Verdict(echo.messages, is_refused, answer)


async def asked_of_tornado(data: bytes) -> Verdict:
    """Ask Tornado's server until it is quiet; the client keeps its side open, or the server would close."""
    echo = Echo()
    server = HTTPServer(echo, max_header_size=HEADER_BYTES, max_body_size=BODY_BYTES)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    stream = IOStream(ours)
    server.handle_stream(stream, ("127.0.0.1", 0))
    rest, answer, quiet = memoryview(data), b"", 0
    try:
        while quiet < QUIET_ROUNDS and not (stream.closed() and not rest):
            before = (len(rest), len(answer), len(echo.messages), stream.closed())
            try:
                rest = rest[theirs.send(rest) :] if rest else rest
                answer += theirs.recv(1 << 16)
            except BlockingIOError:
                pass
            except ConnectionError:
                rest = rest[:0]
            await asyncio.sleep(0)
            quiet = quiet + 1 if before == (len(rest), len(answer), len(echo.messages), stream.closed()) else 0
        try:
            answer += theirs.recv(1 << 20)
        except OSError:
            pass
    finally:
        theirs.close()
        stream.close()
        await server.close_all_connections()
    statuses = [each for each in _STATUS.findall(answer) if each != b"100"]
    return Verdict(echo.messages, any(each[:1] in b"45" for each in statuses), answer)


def asked_of_h11(data: bytes) -> Verdict:
    """Ask h11, a parser only; the application's part is done here."""
    verdict, connection = Verdict(), h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_BYTES)
    connection.receive_data(data)
    method = target = body = b""
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                break
            if isinstance(event, h11.Request):
                method, target, body = event.method, event.target, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                text = method.decode()
                verdict.messages.append(Message(text, without_host(text, target.decode("latin-1")), bytes(body)))
                status = 400 if text == "CONNECT" else 200
                connection.send(h11.Response(status_code=status, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    break
                connection.start_next_cycle()
    except h11.RemoteProtocolError:
        verdict.is_refused = True
    return verdict
