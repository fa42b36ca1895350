"""Targets in their four forms (RFC 9112 § 3.2), and numbers that are larger than any message.

The kind: what a proxy, a library or a script may write by the standard, read by us in one form only.
"""

from __future__ import annotations

import asyncio

import pytest

from server._http1.parser import Incomplete, RequestParser
from tests.api.serving import serving as gateway
from tests.support.http1 import on_both_loops, serving

JSON = "Content-Type: application/json\r\n"


class _Seen:
    """A receiver that records the targets."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str | None]] = []

    def begin_request(self, start_line, headers, *, keep_alive, is_tunnel) -> None:  # type: ignore[no-untyped-def]
        self.requests.append((start_line.method, start_line.path, headers.get("Host")))

    def receive_body(self, chunk: bytes) -> None: ...

    def end_request(self) -> None: ...


@pytest.mark.parametrize(
    ("line", "host", "path", "effective"),
    [
        ("GET http://example.org/a/b?c=d", "example.org", "/a/b?c=d", "example.org"),
        ("GET http://example.org", "example.org", "/", "example.org"),
        ("GET http://example.org?c", "example.org", "/?c", "example.org"),
        ("GET HTTP://Example.org:8000/", "other", "/", "Example.org:8000"),
        ("GET https://[::1]:8000/x", "[::1]:8000", "/x", "[::1]:8000"),
        ("OPTIONS http://example.org", "example.org", "*", "example.org"),
        ("OPTIONS http://example.org/", "example.org", "/", "example.org"),
        ("OPTIONS *", "example.org", "*", "example.org"),
        ("BREW http://example.org/pot", "example.org", "/pot", "example.org"),
        ("GET //example.org/a", "test", "//example.org/a", "test"),
        ("GET /http://example.org/a", "test", "/http://example.org/a", "test"),
    ],
)
def test_a_target_is_its_path_and_its_host_is_the_targets(line: str, host: str, path: str, effective: str) -> None:
    seen = _Seen()
    RequestParser(seen, 4000).feed(f"{line} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert seen.requests == [(line.split(maxsplit=1)[0], path, effective)]


@on_both_loops
async def test_other_targets_are_400_and_so_is_a_wrong_host_beside_a_right_target() -> None:
    async with serving() as server:
        for target, host in (
            ("ftp://example.org/", "Host: example.org\r\n"),
            ("http:///path", "Host: example.org\r\n"),
            ("http://user:secret@example.org/", "Host: example.org\r\n"),
            ("http://example.org\\@evil/", "Host: example.org\r\n"),
            ("http://a,b/", "Host: a\r\n"),
            ("http://example.org/#x", "Host: example.org\r\n"),
            ("example.org/", "Host: example.org\r\n"),
            ("*x", "Host: example.org\r\n"),
            ("http://example.org/", ""),
            ("http://example.org/", "Host: a\r\nHost: b\r\n"),
            ("http://example.org/", "Host: a b\r\n"),
        ):
            peer = await server.connect()
            peer.say(f"GET {target} HTTP/1.1\r\n{host}\r\n".encode())
            assert (await peer.rest()).startswith(b"HTTP/1.1 400 "), target
        assert server.app.seen == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        *((f"Content-Length: {number}", 400) for number in ("1e100", "9" * 30, "0x10", "1_0", "1.0", "-0", "१", "")),
        ("Content-Length: 18446744073709551616", 400),
        (f"{JSON}Content-Length: 18446744073709551615", 413),
        (f"{JSON}Content-Length: 9223372036854775808", 413),
        ("Content-Length: 18446744073709551615", 415),
        ("Content-Length: 0000000000000000000004", 415),
        ("Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF", 415),
        (f"{JSON}Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF", 400),
        (f"{JSON}Transfer-Encoding: chunked\r\n\r\n1e+100", 400),
        (f"{JSON}Transfer-Encoding: chunked\r\n\r\n7FFFFFFFFFFFFFFF\r\n" + "x" * 70_000, 413),
    ],
)
async def test_numbers_that_are_none_or_too_large_are_refused_in_words(headers: str, status: int) -> None:
    async with gateway() as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(f"POST /auth/login HTTP/1.1\r\nHost: test\r\n{headers}\r\n\r\nbody".encode())
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 %d " % status)
        writer.transport.abort()
        await asyncio.sleep(0)


async def test_a_request_through_a_proxys_form_is_the_same_request() -> None:
    async with gateway() as client:
        for target in ("http://test/health?x=1", "/health?x=1", "https://test:8443/health"):
            assert (await client.request("GET", target)).json == {"status": "ok"}
        assert (await client.request("GET", "http://test")).status == 302


def test_an_incomplete_target_says_so() -> None:
    assert Incomplete.status == 400
