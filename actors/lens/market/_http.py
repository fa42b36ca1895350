"""Call one JSON API over pooled connections, with its different failures told apart.

aiohttp, because the actors may not import Tornado: of the asyncio clients it takes the least CPU per call, is
maintained, and is installed anyway, as Ray's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar

import aiohttp
import msgspec
import orjson

from actors.lens._responses import retry_after_seconds, returned, unreadable
from actors.lens.model import FailureReason
from config.documents import Document, Json
from config.masking import redact
from config.texts import escape_unstorable

T = TypeVar("T")

MAX_BODY_BYTES: Final = 10 << 20  # the largest real answer is below 100 kB
_MAX_RETRY_AFTER_SECONDS: Final = 300.0  # a wrong header must not end the market data for a day
_KEEPALIVE_SECONDS: Final = 60.0
_LIMITED: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.IM_A_TEAPOT})  # 418: Binance, of one that went on


class CallFailed(Exception):
    """A call without a usable answer. `retry_after_seconds` is the wait that the provider asked for, if it did.

    `is_outage`: it may concern the provider itself, which cannot be reached, does not answer or answers 5xx. A provider
    with any other answer is up, and has failed this query only. `status` is that of an answer that is not 200.
    """

    def __init__(
        self,
        reason: FailureReason,
        message: str,
        retry_after_seconds: float | None = None,
        *,
        is_outage: bool | None = None,
        status: int | None = None,
    ) -> None:
        self.message = escape_unstorable(redact(message))
        super().__init__(self.message)
        self.reason: FailureReason = reason
        self.retry_after_seconds = retry_after_seconds
        self.is_outage = reason in {"TIMEOUT", "NETWORK_ERROR"} if is_outage is None else is_outage
        self.status = status


class JsonApi:
    """Ask one address. `name` begins every error message: "Hyperliquid API returned 503 …".

    `headers` go with every call: a vendor's key, which no redirect takes elsewhere.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        max_connections: int,
        max_body_bytes: int = MAX_BODY_BYTES,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._name = name
        self._url = url
        self._max_connections = max_connections
        self._max_body_bytes = max_body_bytes
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"} | dict(headers or {})
        self._session: aiohttp.ClientSession | None = None

    async def post(self, document: Document) -> Json:
        """Return the parsed answer to a read. Raises CallFailed; the caller sets the time limit."""
        body = orjson.dumps(document)
        answer: Json = await self._ask("POST", self._url, orjson.loads, body=body)
        return answer

    async def get(
        self, path: str, kind: type[T], params: Mapping[str, str] | None = None, *, unknown: Collection[int] = ()
    ) -> T | None:
        """Return the answer as `kind`, whose decimals are exact; None where its status is one of `unknown`.

        Raises CallFailed, also for an answer in another form; the caller sets the time limit.
        """
        try:
            return await self._ask("GET", self._url + path, partial(_decoded, kind), params=params)
        except CallFailed as failure:
            if failure.status in unknown:
                return None
            raise

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _ask(
        self,
        method: str,
        url: str,
        parse: Callable[[bytes], T],
        *,
        body: bytes | None = None,
        params: Mapping[str, str] | None = None,
    ) -> T:
        for is_last in (False, True):
            try:
                async with self._open().request(
                    method, url, data=body, params=params, allow_redirects=False
                ) as response:
                    if response.status != HTTPStatus.OK:
                        raise self._refusal(response)
                    return self._parse(await self._read(response), response, parse)
            except (aiohttp.ClientError, OSError) as error:
                # Most often a kept-alive connection that the server was just closing. Repeating a read is safe.
                if is_last or not _is_cut(error):
                    raise self._failure(error) from error
        raise AssertionError("unreachable")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:  # not in __init__: a session belongs to the running loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._max_connections, keepalive_timeout=_KEEPALIVE_SECONDS),
                timeout=aiohttp.ClientTimeout(total=None),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        announced = response.content_length
        if announced is not None and announced > self._max_body_bytes:
            raise self._nonsense(f"a body of {announced} bytes")
        chunks, size = [], 0
        async for chunk in response.content.iter_any():  # counted after decompression
            size += len(chunk)
            if size > self._max_body_bytes:
                raise self._nonsense(f"a body of more than {self._max_body_bytes} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    def _parse(self, body: bytes, response: aiohttp.ClientResponse, parse: Callable[[bytes], T]) -> T:
        try:
            return parse(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._nonsense(f"nonsense: {error}") from error
        except json.JSONDecodeError as error:
            # The header itself: aiohttp's property invents one where there is none.
            content_type = response.headers.get("Content-Type", "")
            raise self._nonsense(f"200 with {unreadable(body, content_type, error)}") from error

    def _nonsense(self, what: str) -> CallFailed:
        return CallFailed("PROVIDER_ERROR", f"{self._name} answered {what}")

    def _refusal(self, response: aiohttp.ClientResponse) -> CallFailed:
        status = response.status
        reason: FailureReason = "RATE_LIMITED" if status in _LIMITED else "PROVIDER_ERROR"
        wait = retry_after_seconds(response.headers.get("Retry-After", ""))
        return CallFailed(
            reason,
            f"{self._name} {returned(status)}",
            None if wait is None else min(wait, _MAX_RETRY_AFTER_SECONDS),
            is_outage=status >= HTTPStatus.INTERNAL_SERVER_ERROR,
            status=status,
        )

    def _failure(self, error: Exception) -> CallFailed:
        if isinstance(error, aiohttp.ClientConnectorError):
            return CallFailed("NETWORK_ERROR", f"{self._name} cannot be reached: {_why(error.os_error)}")
        if isinstance(error, (aiohttp.ClientConnectionError, OSError)):
            return CallFailed("NETWORK_ERROR", f"{self._name} closed the connection")
        if isinstance(error, aiohttp.ClientPayloadError):
            return self._nonsense("a body that was cut off or garbled")
        return self._nonsense("no valid HTTP")


def _decoded(kind: type[T], body: bytes) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        orjson.loads(body)  # its error says where the body ends
        raise


def _is_cut(error: Exception) -> bool:
    """Return whether an open connection broke before the answer's headers."""
    is_connection = isinstance(error, (aiohttp.ClientConnectionError, OSError))
    return is_connection and not isinstance(error, aiohttp.ClientConnectorError)


def _why(error: OSError) -> str:
    """Return the system's error text, without the addresses that asyncio adds."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else error.strerror or type(error).__name__
