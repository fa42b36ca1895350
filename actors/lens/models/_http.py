"""Make the HTTP client that the vendors' SDKs use: bounded, to the configured host only, and for JSON only."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Final

import httpx2
import orjson

from actors.lens._responses import unreadable
from actors.lens.models._failures import ModelFailure
from actors.lens.models._remote import ModelOptions

_MOST_ANSWER_BYTES: Final = 1 << 20  # an answer of 1000 tokens is some 5 kB
_CONNECT_SECONDS: Final = 10.0
_KEEPALIVE_SECONDS: Final = 60.0
_LOGGERS: Final = ("httpx2", "httpcore2", "openai", "anthropic", "google_genai")

for _name in _LOGGERS:  # a line for each request at INFO, and whole prompts at DEBUG
    logging.getLogger(_name).setLevel(logging.WARNING)


def open_client(options: ModelOptions) -> httpx2.AsyncClient:
    """Open a client for one model. It follows no redirect and takes no proxy from the environment: keys go to one host.

    A success that is not JSON fails here, where the body is known: the SDKs would each fail on it in their own way.
    """
    limits = httpx2.Limits(
        max_connections=options.concurrency,
        max_keepalive_connections=options.concurrency,
        keepalive_expiry=_KEEPALIVE_SECONDS,
    )
    return httpx2.AsyncClient(
        transport=_Bounded(limits=limits, trust_env=False),
        timeout=time_limits(options),
        event_hooks={"response": [_refuse_other_than_json]},
        follow_redirects=False,
        trust_env=False,
    )


def time_limits(options: ModelOptions) -> httpx2.Timeout:
    """Return the time limits of single reads and writes; the deadline of the whole call is the caller's."""
    seconds = options.timeout_seconds
    return httpx2.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))


def unreachable(vendor: str, error: BaseException | None) -> ModelFailure:
    """Return the failure for a call that ended without a complete response; `error` is httpx2's."""
    if isinstance(error, httpx2.TimeoutException):
        where = " while connecting" if isinstance(error, httpx2.ConnectTimeout) else ""
        return ModelFailure("TIMEOUT", f"{vendor} timeout{where}")
    if isinstance(error, _NotJson):
        return ModelFailure("PROVIDER_ERROR", f"{vendor} answered {error}")
    if isinstance(error, httpx2.DecodingError):
        return ModelFailure("PROVIDER_ERROR", f"{vendor} answered what cannot be read: {error}")
    if isinstance(error, httpx2.ConnectError):
        return ModelFailure("NETWORK_ERROR", f"{vendor} cannot be reached: {error}")
    cause = f": {error}" if error is not None and str(error) else ""
    return ModelFailure("NETWORK_ERROR", f"{vendor} closed the connection{cause}")


class _NotJson(httpx2.DecodingError):
    """A success whose body is not JSON; the message is its status and what the body is."""


async def _refuse_other_than_json(response: httpx2.Response) -> None:
    if not response.is_success:
        return
    body = await response.aread()
    try:
        orjson.loads(body)
    except json.JSONDecodeError as error:
        what = unreadable(body, response.headers.get("content-type", ""), error)
        raise _NotJson(f"{response.status_code} with {what}", request=response.request) from error


class _Bounded(httpx2.AsyncHTTPTransport):
    """A transport that cuts off a response larger than any answer can be."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _BoundedStream(response.stream, request)
        return response


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, request: httpx2.Request) -> None:
        self._stream = stream
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > _MOST_ANSWER_BYTES:
                message = f"a body of more than {_MOST_ANSWER_BYTES} bytes"
                raise httpx2.DecodingError(message, request=self._request)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
