"""Answers of the server itself, to bytes that never become a request."""

from __future__ import annotations

import asyncio

import pytest

from tests.api.serving import SETTINGS, Response, serving


@pytest.mark.llhttp
@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "VALIDATION_ERROR"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000 + b"\r\n\r\n", 431, "PAYLOAD_TOO_LARGE"),
    ],
)
async def test_bytes_that_are_no_http_get_an_error_like_any_other(data: bytes, status: int, code: str) -> None:
    """The kind: an answer made below the handlers lacks what all have, first of all the request's id as a header."""
    async with serving() as client:
        told = Response.read(await client.raw(data))
    error = told.problem(status, code)
    assert "retry_after" not in error
    assert told.headers["X-Content-Type-Options"] == "nosniff"
    assert told.headers["Cache-Control"] == "no-store"
    assert told.headers["Connection"] == "close"


async def test_one_connection_too_many_is_told_in_head_and_body_when_to_come_again() -> None:
    async with serving(SETTINGS.replace(max_connections=1)) as client:
        _, first = await asyncio.open_connection("127.0.0.1", client.port)
        told = Response.read(await client.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"))
        first.close()
    assert told.problem(503, "SERVICE_UNAVAILABLE")["retry_after"] == 5
