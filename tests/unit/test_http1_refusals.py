"""HTTP/1.1 messages that are refused: what is too large, malformed, or could be read in two ways."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.http1 import HEADER_BYTES, Server, on_both_loops, serving, until

CHUNKED = b"POST %b HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


@on_both_loops
async def test_too_large_a_head_is_431_however_it_comes() -> None:
    async with serving() as server:
        large = b"X: " + b"x" * HEADER_BYTES + b"\r\n"
        for data in (GET[:-2] + large + b"\r\n", GET[:-2] + b"X: " + b"x" * 50_000, b"GET /" + b"x" * 50_000):
            peer = await server.connect()
            peer.say(data)
            assert (await peer.rest()).endswith(b"431: The request's head is too large")
        many = [b"a: %d\r\n" % n for n in range(HEADER_BYTES)]
        for lines in (many, [b"x"] * 50_000):
            assert await _is_refused_while_it_comes(server, GET[:-2], lines, b"431: ")


@on_both_loops
async def test_too_large_a_head_is_431_also_with_a_method_that_nobody_knows() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.say(b"BREW / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * HEADER_BYTES + b"\r\n\r\n")
        assert (await peer.rest()).endswith(b"431: The request's head is too large")


@on_both_loops
async def test_a_head_just_below_the_limit_is_read_also_behind_other_requests() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.post("/", b"x" * 50_000)
        peer.say(GET * 1000 + GET[:-2] + b"X: " + b"x" * (HEADER_BYTES - 100))
        for _ in range(1001):
            assert (await peer.response()).status == 200
        peer.say(b"\r\n\r\n")
        assert (await peer.response()).status == 200


@on_both_loops
async def test_trailers_without_end_are_refused() -> None:
    async with serving() as server:
        head = CHUNKED % b"/streamed" + b"1\r\na\r\n0\r\nX: "
        assert await _is_refused_while_it_comes(server, head, [b"x" * 50] * 10_000, b"431: ")
        assert server.app.gone == ["/streamed"]


MALFORMED = [
    b"GET\r\n\r\n",
    b"x" * 33 + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"BR\x00EW / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",  # no Host
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    b"GET / HTTP/0.9\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\nHost: x\n\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 1\r\n\r\na",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
    b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    CHUNKED % b"/" + b"Z\r\n",
    CHUNKED % b"/" + b"3\r\nfour\r\n0\r\n\r\n",
    CHUNKED % b"/" + b"11111111111111111\r\n",
    CHUNKED % b"/" + b"1;a\nb\r\nx\r\n0\r\n\r\n",
    CHUNKED % b"/streamed" + b"-1\r\n",
]


@pytest.mark.parametrize("data", MALFORMED)
async def test_bytes_that_are_no_http_are_400_after_the_answers_to_earlier_requests(data: bytes) -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.say(data + GET)
        answer = await peer.rest()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"400: Malformed HTTP request")
        assert answer.count(b"HTTP/1.1") == 1
        peer = await server.connect()
        peer.get("/slow")
        peer.get("/?2")
        peer.say(data + GET)
        await until(lambda: "/slow" in server.app.seen)
        server.app.go.set()
        assert [(await peer.response()).body for _ in range(2)] == [b"slow", b"GET /?2"]
        answer = await peer.rest()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.count(b"HTTP/1.1") == 1


@on_both_loops
async def test_a_refusal_reaches_a_client_that_goes_on_sending() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.say(CHUNKED % b"/" + b"Z\r\n")
        for _ in range(20):
            peer.say(b"x" * 10_000)
            await asyncio.sleep(0.001)
        assert (await peer.rest()).endswith(b"400: Malformed HTTP request")


@on_both_loops
async def test_bytes_after_the_last_request_are_not_looked_at() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.get("/", "Connection: close")
        peer.say(b"\r\n" + GET + b"nonsense")
        answer = await peer.rest()
        assert answer.endswith(b"GET /")
        assert answer.count(b"HTTP/1.1") == 1
        assert server.app.seen == ["/"]


@on_both_loops
async def test_a_header_that_would_be_two_is_never_sent() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.get("/split")
        assert await peer.rest() == b""
        assert server.app.seen == ["/split", "refused"]


async def _is_refused_while_it_comes(server: Server, head: bytes, rest: list[bytes], start: bytes) -> bool:
    peer = await server.connect()
    peer.say(head)
    for sent, each in enumerate(rest):
        if peer.reader.at_eof() or peer.reader._buffer:  # type: ignore[attr-defined]
            return sent < len(rest) and start in await peer.rest()
        peer.say(each)
        if sent % 20 == 0:
            await asyncio.sleep(0.001)
    return False
