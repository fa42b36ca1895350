"""A client that ends its side of the connection and reads on (`printf … | nc -N`) gets all of its answers.

The kind: the end of what a client sends, taken for the end of the client.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.support.http1 import Peer, Server, on_both_loops, serving, until
from tests.unit.test_http1 import BODY, CHUNKED, HANDSHAKE

GET = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n"


async def _ended(server: Server, data: bytes, *, at_once: bool = True) -> Peer:
    """Send the request and end the sending side, at once or a moment later."""
    peer = await server.connect()
    peer.say(data)
    if not at_once:
        await asyncio.sleep(0.02)
    peer.writer.write_eof()
    return peer


@on_both_loops
async def test_a_half_closed_client_gets_its_answer_and_the_end() -> None:
    async with serving() as server:
        for at_once in (True, False):
            for data, body in (
                (GET % b"/", b"GET /"),
                (b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody", b"body"),
                (CHUNKED % b"/streamed" + BODY, b"hello world"),
                (b"GET / HTTP/1.0\r\n\r\n", b"GET /"),
                (b"BREW / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nmilk", b"tea:milk"),
                (b"GET /close HTTP/1.1\r\nHost: test\r\n\r\n", b"bye"),
            ):
                peer = await _ended(server, data, at_once=at_once)
                answer = await peer.rest()
                assert answer.endswith(b"\r\n\r\n" + body)
                assert answer.count(b"HTTP/1.1 ") == 1
        await until(lambda: not server.http.connections)
        assert server.app.gone == []


@on_both_loops
async def test_a_slow_handler_is_waited_for_with_all_that_is_behind_it() -> None:
    async with serving() as server:
        peer = await _ended(server, GET % b"/slow" + GET % b"/large" + GET % b"/chunks" + GET % b"/?last")
        await until(lambda: server.app.seen == ["/slow"])
        await asyncio.sleep(0.05)
        assert len(server.http.connections) == 1
        server.app.go.set()
        answer = await peer.rest()
        assert answer.count(b"HTTP/1.1 200 OK") == 4
        assert answer.endswith(b"GET /?last")
        assert server.app.gone == []


@on_both_loops
async def test_a_half_closed_client_is_answered_also_where_its_requests_are_read_only_later() -> None:
    async with serving() as server:
        peer = await _ended(server, GET % b"/slow" + GET % b"/" * 5000)
        await until(lambda: server.app.seen == ["/slow"])
        server.app.go.set()
        assert (await peer.rest()).count(b"HTTP/1.1 200 OK") == 5001
        await until(lambda: not server.http.connections)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: test\r\n",
        b"GET",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nfour",
        b"POST /streamed HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nfour",
        CHUNKED % b"/streamed" + b"4\r\nfour\r\n",
        CHUNKED % b"/" + b"4\r\nfo",
        CHUNKED % b"/streamed" + b"4\r\nfour\r\n0\r\nX: 1\r\n",
    ],
)
async def test_half_a_request_is_400_behind_the_answers_to_whole_ones(data: bytes) -> None:
    async with serving() as server:
        for before in (b"", GET % b"/" + GET % b"/chunks"):
            peer = await _ended(server, before + data)
            answer = await peer.rest()
            assert answer.endswith(b"400: The request is incomplete")
            assert answer.count(b"HTTP/1.1 200 OK") == before.count(b"GET")
        await until(lambda: not server.http.connections)
        assert all(path == "/streamed" for path in server.app.gone)


@on_both_loops
async def test_a_client_that_has_said_nothing_is_closed_without_a_word() -> None:
    async with serving() as server:
        assert (await (await _ended(server, b"BREW")).rest()).endswith(b"400: The request is incomplete")
        for data in (b"", b"\r\n"):
            assert await (await _ended(server, data)).rest() == b""
        peer = await server.connect()
        assert await peer.is_alive()
        peer.writer.write_eof()
        assert await peer.rest() == b""
        await until(lambda: not server.http.connections)


@on_both_loops
async def test_streams_take_the_end_for_a_farewell() -> None:
    """A half-closed stream ends, as with nginx, Tornado and Node: a closed browser tab looks exactly the same."""
    async with serving() as server:
        peer = await _ended(server, HANDSHAKE % b"/socket")
        assert (await peer.rest()).startswith(b"HTTP/1.1 101 ")
        await until(lambda: server.app.gone == ["/socket"])
        peer = await _ended(server, GET % b"/detached")
        assert await peer.rest() == b"no HTTP any more"
        await until(lambda: server.app.seen[-1] == "")


@on_both_loops
async def test_a_client_that_ends_and_goes_holds_nothing_up() -> None:
    async with serving() as server:
        for path in (b"/large", b"/slow", b"/whole"):
            peer = await _ended(server, GET % path + GET % b"/")
            await until(lambda path=path: path.decode() in server.app.seen)  # type: ignore[misc]
            peer.writer.transport.abort()
        server.app.go.set()
        await until(lambda: not server.http.connections)
