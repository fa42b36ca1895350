"""Answers are compressed for clients that accept it.

The kind of fault: a large answer that costs more on the wire than in the making; and its opposite, an answer that a
client, a cache or an ETag takes for another one because it was compressed.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest

from handlers._http.access import PUBLIC
from handlers._http.base import GatewayHandler
from handlers._http.endpoint import endpoint
from handlers._http.routes import Route
from handlers.streams.connections import EVENT_STREAM_HEADERS
from tests.api.serving import Response, serving

ITEM = '{"id": "%d", "symbol": "BTC"}, '


class Sized(GatewayHandler):
    """A handler that answers with as many bytes as the path says."""

    @endpoint("Get")
    async def get(self, size: str) -> None:
        self.conditional = "conditional" in self.request.path
        self.finish(body(int(size)))

    @endpoint("Fail")
    async def post(self, size: str) -> None:
        self.set_status(400)
        self.finish(body(int(size)))

    @endpoint("Stream")
    async def put(self, size: str) -> None:
        for name, value in EVENT_STREAM_HEADERS:
            self.set_header(name, value)
        self.finish(body(int(size)))


ROUTES = [
    *(Route(method, "/sized/{size}", Sized, PUBLIC) for method in ("GET", "POST", "PUT")),
    Route("GET", "/conditional/{size}", Sized, PUBLIC),
    Route("GET", "/auth/{size}", Sized, PUBLIC),
]
SMALL, MIDDLE, LARGE = 1024, 1025, 300_000  # the last is compressed in a thread


def body(size: int) -> bytes:
    text = "".join(ITEM % number for number in range(size // 20 + 1))
    return f'"{text[: size - 2]}"'.encode()


def plain(response: Response) -> bytes:
    """Decode the body as a client does."""
    coding = response.headers.get("Content-Encoding")
    assert coding in {None, "gzip"}
    return response.body if coding is None else gzip.decompress(response.body)


@pytest.mark.parametrize("size", [MIDDLE, LARGE])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_answer_over_a_kilobyte_is_compressed_when_asked_for(method: str, size: int) -> None:
    async with serving(routes=ROUTES) as client:
        path = f"/sized/{size}"
        given = await client.request(method, path, headers={"Accept-Encoding": "gzip, deflate, br"})
        unasked = await client.request(method, path)
        assert unasked.body == plain(given) == body(size)
        assert "Content-Encoding" not in unasked.headers
        if method == "GET" or size == MIDDLE:  # a large error is not waited for
            assert given.headers["Content-Encoding"] == "gzip"
            assert len(given.body) < size / 4
        for each in (given, unasked):
            assert each.headers["Vary"] == "Origin, Accept-Encoding"
            assert int(each.headers["Content-Length"]) == len(each.body)
            assert each.headers["Content-Type"] == "application/json; charset=utf-8"


async def test_small_bodies_streams_and_tokens_are_not_compressed() -> None:
    async with serving(routes=ROUTES) as client:
        for method, path, size in (
            ("GET", f"/sized/{SMALL}", SMALL),
            ("PUT", f"/sized/{LARGE}", LARGE),
            ("GET", f"/auth/{LARGE}", LARGE),
        ):
            response = await client.request(method, path, headers={"Accept-Encoding": "gzip"})
            assert "Content-Encoding" not in response.headers
            assert response.headers["Vary"] == "Origin"
            assert response.body == body(size)


@pytest.mark.parametrize("accepted", ["br", "gzip;q=0", "identity", "*;q=0", ""])
async def test_clients_that_do_not_want_gzip_get_none(accepted: str) -> None:
    async with serving(routes=ROUTES) as client:
        response = await client.get(f"/sized/{LARGE}", Accept_Encoding=accepted)
        assert response.body == body(LARGE)


@pytest.mark.parametrize("size", [MIDDLE, LARGE])
async def test_head_agrees_with_get(size: int) -> None:
    async with serving(routes=ROUTES) as client:
        for path in (f"/sized/{size}", f"/conditional/{size}"):
            for asked in ({}, {"Accept-Encoding": "gzip"}):
                get = await client.request("GET", path, headers=asked)
                head = await client.request("HEAD", path, headers=asked)
                assert (head.status, head.body) == (200, b"")
                for name in ("Content-Length", "Content-Encoding", "Content-Type", "Vary", "Etag"):
                    assert head.headers.get(name) == get.headers.get(name), name


@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])
async def test_an_etag_of_either_form_saves_both(size: int) -> None:
    async with serving(routes=ROUTES) as client:
        path = f"/conditional/{size}"
        unasked = await client.get(path)
        given = await client.get(path, Accept_Encoding="gzip")
        assert unasked.headers["Etag"].startswith('"')
        if size > SMALL:
            # Equal tags of different bytes are weak (RFC 9110 § 8.8.3.3).
            assert given.headers["Etag"] == f"W/{unasked.headers['Etag']}"
        for tag in (unasked.headers["Etag"], given.headers["Etag"], f'"x", {given.headers["Etag"]}', "*"):
            for asked in ({}, {"Accept-Encoding": "gzip"}):
                for method in ("GET", "HEAD"):
                    again = await client.request(method, path, headers={"If-None-Match": tag, **asked})
                    assert (again.status, again.body) == (304, b"")
                    assert "Content-Encoding" not in again.headers
                    assert again.headers["Etag"].endswith(unasked.headers["Etag"])
        assert (await client.get(path, If_None_Match='"other"', Accept_Encoding="gzip")).status == 200


async def test_requests_for_the_same_body_share_one_compression(monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = [], zlib.compress

    def compress(given: bytes, level: int, wbits: int) -> bytes:
        made.append(len(given))
        return real(given, level, wbits)

    monkeypatch.setattr(zlib, "compress", compress)
    async with serving(routes=ROUTES) as client:
        answers = await asyncio.gather(*(client.get(f"/sized/{LARGE}", Accept_Encoding="gzip") for _ in range(20)))
        assert all(plain(each) == body(LARGE) for each in answers)
        assert made == [LARGE]


async def test_an_answer_that_cannot_be_compressed_is_sent_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zlib, "compress", None)
    async with serving(routes=ROUTES) as client:
        response = await client.get(f"/sized/{LARGE}", Accept_Encoding="gzip")
        assert "Content-Encoding" not in response.headers
        assert response.body == body(LARGE)


async def test_a_client_that_goes_meanwhile_harms_nobody() -> None:
    async with serving(routes=ROUTES) as client:
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", client.port)
            writer.write(f"GET /sized/{2 * LARGE} HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n".encode())
            await writer.drain()
            writer.close()
        assert plain(await client.get(f"/sized/{LARGE}", Accept_Encoding="gzip")) == body(LARGE)


async def test_requests_of_one_connection_are_answered_in_their_order() -> None:
    async with serving(routes=ROUTES) as client:
        ask = "GET /sized/{} HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n{}\r\n"
        text = ask.format(LARGE, "") + ask.format(SMALL, "") + ask.format(MIDDLE, "Connection: close\r\n")
        answer = await client.raw(text.encode())
        for size, is_compressed in ((LARGE, True), (SMALL, False), (MIDDLE, True)):
            response = Response.read(answer)
            length = int(response.headers["Content-Length"])
            response.body, rest = response.body[:length], response.body[length:]
            assert ("Content-Encoding" in response.headers) is is_compressed
            assert plain(response) == body(size)
            answer = rest


@pytest.mark.parametrize("path", ["/api/docs/swagger-ui.css", "/api/docs/swagger-ui-bundle.js"])
async def test_the_documentation_is_compressed_once(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    async with serving() as client:
        first = await client.get(path, Accept_Encoding="gzip")
        unasked = await client.get(path)
        assert plain(first) == unasked.body
        assert len(first.body) < len(unasked.body) / 1.5
        monkeypatch.setattr(zlib, "compress", None)
        assert (await client.get(path, Accept_Encoding="gzip")).body == first.body
        again = await client.get(path, Accept_Encoding="gzip", If_None_Match=first.headers["Etag"])
        assert again.status == 304


async def test_the_document_and_the_icon_are_as_they_were() -> None:
    async with serving() as client:
        document = await client.get("/api/openapi.json", Accept_Encoding="gzip")
        assert document.headers["Content-Encoding"] == "gzip"
        assert plain(document) == (await client.get("/api/openapi.json")).body
        icon = await client.get("/api/docs/favicon-32x32.png", Accept_Encoding="gzip")
        assert icon.body.startswith(b"\x89PNG")
        assert (await client.get("/api/docs/favicon-32x32.png", If_None_Match=icon.headers["Etag"])).status == 304
        assert (await client.get("/api/docs/../settings.py")).status == 404
