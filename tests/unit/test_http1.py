"""HTTP/1.1 messages that a client may send, and their answers."""

from __future__ import annotations

import asyncio

import pytest
from tornado.websocket import websocket_connect

from tests.support.http1 import on_both_loops, serving, until

CHUNKED = b"POST %b HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = b"5;name=value\r\nhello\r\n6\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def frame(text: bytes) -> bytes:
    """Return a client's frame, masked with zeros."""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


@on_both_loops
async def test_a_connection_serves_one_request_after_the_other() -> None:
    async with serving() as server:
        peer = await server.connect()
        for number in range(5):
            peer.get(f"/?{number}")
            response = await peer.response()
            assert (response.status, response.body) == (200, b"GET /?%d" % number)
            assert "Connection" not in response.headers
        assert len(server.http.connections) == 1


@on_both_loops
async def test_pipelined_requests_are_answered_in_their_order_also_when_the_first_is_slow() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.get("/slow")
        peer.get("/?1")
        peer.post("/streamed", b"two")
        peer.say(CHUNKED % b"/" + BODY)
        peer.get("/?4")
        await until(lambda: server.app.seen == ["/slow"])
        server.app.go.set()
        assert [(await peer.response()).body for _ in range(5)] == [
            b"slow",
            b"GET /?1",
            b"two",
            b"hello world",
            b"GET /?4",
        ]


@on_both_loops
async def test_thousands_of_pipelined_requests_are_not_all_made_at_once() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.get("/slow")
        peer.say(GET * 5000)
        await until(lambda: server.app.seen == ["/slow"])
        (connection,) = server.http.connections
        await until(lambda: bool(connection._waiting))
        assert len(connection._waiting) <= (16 << 10) // len(GET) + 1
        server.app.go.set()
        assert (await peer.response()).body == b"slow"
        for _ in range(5000):
            assert (await peer.response()).body == b"GET /"


@pytest.mark.parametrize("path", [b"/", b"/streamed"])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_request_may_come_byte_for_byte(path: bytes, is_chunked: bool) -> None:
    async with serving() as server:
        peer = await server.connect()
        plain = b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\nhello world"
        for _ in range(2):
            await peer.say_slowly(CHUNKED % path + BODY if is_chunked else plain % path)
            assert (await peer.response()).body == b"hello world"


@on_both_loops
async def test_a_large_body_reaches_the_handler_whole() -> None:
    async with serving() as server:
        body = bytes(range(256)) * 4096
        for path in ("/", "/streamed"):
            peer = await server.connect()
            peer.post(path, body)
            assert (await peer.response()).body == body
            assert await peer.is_alive()


@on_both_loops
async def test_http_1_0_closes_unless_it_asks_for_more() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.get("/", "Connection: keep-alive", version="1.0")
        assert (await peer.response()).headers["Connection"] == "Keep-Alive"
        peer.get("/", version="1.0")
        assert (await peer.rest()).endswith(b"GET /")
        peer = await server.connect()
        peer.get("/chunks", "Connection: keep-alive", version="1.0")
        answer = await peer.rest()
        assert b"Connection: close" in answer
        assert b"Transfer-Encoding" not in answer
        assert answer.endswith(b"\r\n\r\nonetwothree")


@on_both_loops
async def test_answers_without_a_body_leave_the_connection_in_step() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.get("/", method="HEAD")
        assert (await peer.response(has_body=False)).headers["Content-Length"] == "6"
        for status in (204, 304):
            peer.get(f"/nothing?status={status}")
            response = await peer.response(has_body=False)
            assert response.status == status
            assert "Transfer-Encoding" not in response.headers
        assert await peer.is_alive()


@on_both_loops
async def test_an_answer_of_several_flushes_is_chunked() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.get("/chunks")
        head = await peer.reader.readuntil(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in head
        assert await peer.reader.readuntil(b"0\r\n\r\n") == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"
        assert await peer.is_alive()


@on_both_loops
async def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    async with serving() as server:
        for path in ("/", "/streamed"):
            peer = await server.connect()
            peer.post(path, b"", "Expect: 100-continue")
            assert (await peer.response()).body == b""
            peer.say(
                b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-Continue\r\n\r\n" % path.encode()
            )
            assert await peer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            peer.say(b"body")
            assert (await peer.response()).body == b"body"
        peer.say(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert (await peer.response()).status == 403


@on_both_loops
async def test_a_method_that_nobody_knows_reaches_the_application() -> None:
    async with serving() as server:
        peer = await server.connect()
        for _ in range(2):
            peer.say(b"BREW / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nmilk")
            response = await peer.response()
            assert (response.status, response.body) == (418, b"tea:milk")
        peer.say(b"BREW / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert (await peer.response()).status == 418
        for method in ("DEPLOY", "GETS", "get", "b'r!w"):
            peer.get("/", method=method)
            assert (await peer.response()).status == 405
        assert await peer.is_alive()


@on_both_loops
async def test_a_method_may_come_in_parts_whether_somebody_knows_it_or_not() -> None:
    async with serving() as server:
        peer = await server.connect()
        for _ in range(2):
            await peer.say_slowly(b"BREW / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nmilk")
            assert (await peer.response()).body == b"tea:milk"
            await peer.say_slowly(b"GETS / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await peer.response()).status == 405
            await peer.say_slowly(GET)
            assert (await peer.response()).body == b"GET /"


@on_both_loops
async def test_an_upgrade_to_what_we_do_not_speak_is_ignored() -> None:
    async with serving() as server:
        peer = await server.connect()
        h2c = "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"
        peer.get("/?a", *h2c)
        assert (await peer.response()).body == b"GET /?a"
        peer.post("/", b"a body", *h2c)
        assert (await peer.response()).body == b"a body"
        peer.post("/streamed", b"a body", "Connection: Upgrade", "Upgrade: websocket")
        assert (await peer.response()).body == b"a body"
        assert await peer.is_alive()
        for number in range(1000):  # in a few packets
            peer.get(f"/?{number}", *h2c)
        assert [(await peer.response()).body for _ in range(1000)] == [b"GET /?%d" % n for n in range(1000)]


@on_both_loops
async def test_connect_is_refused_by_the_application_and_closes() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.say(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\nwhatever")
        answer = await peer.rest()
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert b"Connection: close" in answer


@on_both_loops
async def test_a_websocket_hears_what_came_with_its_handshake_and_during_it() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.say(HANDSHAKE % b"/socket" + frame(b"one"))
        await asyncio.sleep(0.01)  # while the handler's prepare goes on
        peer.say(frame(b"two"))
        assert (await peer.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await peer.reader.readexactly(10) == b"\x81\x03one\x81\x03two"
        peer.say(frame(b"three"))
        assert await peer.reader.readexactly(7) == b"\x81\x05three"
        assert not server.http.connections
        peer.writer.close()
        await until(lambda: server.app.gone == ["/socket"])


@on_both_loops
async def test_a_real_websocket_client_is_served() -> None:
    async with serving() as server:
        client = await websocket_connect(f"ws://127.0.0.1:{server.port}/socket")
        for message in ("short", "x" * 100_000):
            await client.write_message(message)
            assert await client.read_message() == message
        client.close()
        await until(lambda: server.app.gone == ["/socket"])


@on_both_loops
async def test_an_upgrade_that_the_application_ignores_is_an_answer_and_the_end() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.say(HANDSHAKE % b"/" + frame(b"one"))
        answer = await peer.rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in answer
