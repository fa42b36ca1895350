"""Asks the server, from wherever it is told to, and keeps the findings of the walk."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import orjson
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.httputil import HTTPHeaders
from tornado.websocket import WebSocketClientConnection, websocket_connect

BASE = "/api/v1"


@dataclass
class Answer:
    """What came back; `json` is None where it is none."""

    status: int
    headers: HTTPHeaders
    json: Any
    text: str

    def expected(self, status: int) -> list[str]:
        """The difference, if it has another status."""
        return [] if self.status == status else [f"status {self.status} instead of {status}: {self.text[:200]}"]

    def problem(self, status: int, code: str, field_name: str | None = None) -> list[str]:
        """What is wrong with it as an error of that code, about that field."""
        if found := self.expected(status):
            return found
        error = self.json["error"]
        if error["code"] != code:
            found.append(f"error.code: {error['code']} instead of {code}")
        if error["request_id"] != self.headers.get("X-Request-ID"):
            found.append("error.request_id is not the header's")
        if not isinstance(self.json["detail"], str):
            found.append("detail: no text")
        if field_name is not None and [each["field"] for each in error.get("details", ())] != [field_name]:
            found.append(f"error.details does not name {field_name}: {error.get('details')}")
        return found


class Client:
    """A client of one server. `forwards`: the server believes who we say that we are."""

    def __init__(self, url: str, *, forwards: bool) -> None:
        self._url = url
        self._forwards = forwards
        # Each group of requests comes from an address of its own, so that it meets no limit of the others'.
        self._addresses = (f"10.0.{n // 250}.{n % 250 + 1}" for n in itertools.count())
        self.address = next(self._addresses)

    def move(self) -> None:
        """Be somebody else from now on."""
        self.address = next(self._addresses)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        address: str | None = None,
        patient: bool = True,
        **query: object,
    ) -> Answer:
        """One request below BASE; a `patient` client that is told to slow down waits and asks again."""
        target = self._url + BASE + path + ("?" + urlencode(query) if query else "")
        fields = {"Content-Type": "application/json"} if body is not None else {}
        fields |= headers or {}
        if self._forwards:
            fields["X-Forwarded-For"] = address or self.address
        # Without a body Tornado's client would send a POST in chunks.
        data = orjson.dumps(body) if body is not None else b"" if method == "POST" else None
        request = HTTPRequest(target, method, fields, data, allow_nonstandard_methods=True, request_timeout=15)
        while True:
            response = await AsyncHTTPClient().fetch(request, raise_error=False)
            if response.code == 429 and patient:
                await asyncio.sleep(int(response.headers["Retry-After"]))
                continue
            text = response.body.decode() if response.body else ""
            is_json = response.headers.get("Content-Type", "").startswith("application/json")
            return Answer(response.code, response.headers, orjson.loads(text) if is_json and text else None, text)

    async def get(self, path: str, **query: object) -> Answer:
        """GET."""
        return await self.ask("GET", path, **query)  # type: ignore[arg-type]  # a query names no option of ours

    async def post(self, path: str, body: Any, **headers: str) -> Answer:
        """POST."""
        return await self.ask("POST", path, body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def until(self, path: str, field_name: str, *values: Any, seconds: float = 30.0) -> Any:
        """The document at `path` when its field has one of these values."""
        deadline, pause = time.monotonic() + seconds, 0.1
        while True:
            answer = await self.get(path)
            if answer.status == 200 and answer.json[field_name] in values:
                return answer.json
            assert time.monotonic() < deadline, f"{path}: {answer.text}"
            await asyncio.sleep(pause)
            pause = min(1.0, 1.3 * pause)  # a minute of this stays under the limit of 60

    async def socket(self) -> Socket:
        """An open WebSocket."""
        url = f"ws{self._url.removeprefix('http')}{BASE}/ws/stream"
        fields = {"X-Forwarded-For": self.address} if self._forwards else {}
        return Socket(await websocket_connect(HTTPRequest(url, headers=fields, connect_timeout=10)))


@dataclass
class Socket:
    """The Lens API's WebSocket."""

    connection: WebSocketClientConnection

    async def say(self, message: Any) -> None:
        """Send a message."""
        await self.connection.write_message(orjson.dumps(message).decode())

    async def hear(self, kind: str, *, seconds: float = 10.0) -> Any:
        """The next message of that type; others are passed over."""
        async with asyncio.timeout(seconds):
            while True:
                text = await self.connection.read_message()
                assert text is not None, "the server has closed the socket"
                message = orjson.loads(text)
                if message["type"] == kind:
                    return message


@dataclass
class Findings:
    """What was found for each row: nothing, differences, or why it cannot be shown here."""

    rows: Sequence[str]
    found: dict[str, list[str]] = field(default_factory=dict)
    not_shown: dict[str, str] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    def add(self, row: str, *found: Sequence[str]) -> None:
        """What was found for a row, in addition to what was found before."""
        assert row in self.rows, f"the document has no row {row!r}"
        self.found.setdefault(row, []).extend(text for each in found for text in each)

    def skip(self, row: str, reason: str) -> None:
        """A row that cannot be shown on this server."""
        assert row in self.rows, f"the document has no row {row!r}"
        self.not_shown[row] = reason

    def of(self, row: str) -> list[str]:
        """The differences of a row; that it was not walked is one."""
        if row in self.found:
            return self.found[row]
        return [] if row in self.not_shown else ["not walked"]

    @property
    def differences(self) -> list[str]:
        """All of them, and what went wrong on the way."""
        return [f"{row}: {each}" for row in self.rows for each in self.of(row)] + self.troubles

    def table(self) -> str:
        """A line for each row, and for each of its differences."""
        width = max(map(len, self.rows))
        lines = []
        for row in self.rows:
            found = self.of(row)
            state = "not shown: " + self.not_shown[row] if row in self.not_shown and not found else "ok"
            lines += [f"{row:{width}}  {each}" for each in found or [state]]
        return "\n".join([*lines, *self.troubles])
