"""Send requests to the server, from a given address, and keep the findings of the walk."""

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
    """A response; `json` is None if its body is no JSON."""

    status: int
    headers: HTTPHeaders
    json: Any
    text: str

    def expected(self, status: int) -> list[str]:
        """Return a difference if the answer has another status."""
        return [] if self.status == status else [f"status {self.status} instead of {status}: {self.text[:200]}"]

    def problem(self, status: int, code: str, field_name: str | None = None) -> list[str]:
        """Return the differences from an error of that code, about that field."""
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
    """A client of one server. `forwards`: the server trusts this client's X-Forwarded-For."""

    def __init__(self, url: str, *, forwards: bool) -> None:
        self._url = url
        self._forwards = forwards
        # Each group of requests comes from an address of its own, so that it meets no limit of the others'.
        self._addresses = (f"10.0.{n // 250}.{n % 250 + 1}" for n in itertools.count())
        self.address = next(self._addresses)

    def move(self) -> None:
        """Send from another address from now on."""
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
        """Send one request below BASE; a `patient` client waits and repeats it after a 429."""
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
        """Send a GET request."""
        return await self.ask("GET", path, **query)  # type: ignore[arg-type]  # a query names no option of ours

    async def post(self, path: str, body: Any, **headers: str) -> Answer:
        """Send a POST request."""
        return await self.ask("POST", path, body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def until(self, path: str, field_name: str, *values: Any, seconds: float = 30.0) -> Any:
        """Return the document at `path` once its field has one of these values."""
        deadline, pause = time.monotonic() + seconds, 0.1
        while True:
            answer = await self.get(path)
            if answer.status == 200 and answer.json[field_name] in values:
                return answer.json
            assert time.monotonic() < deadline, f"{path}: {answer.text}"
            await asyncio.sleep(pause)
            pause = min(1.0, 1.3 * pause)  # a minute of this stays under the limit of 60

    async def socket(self) -> Socket:
        """Open a WebSocket."""
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
        """Return the next message of that type; others are skipped."""
        async with asyncio.timeout(seconds):
            while True:
                text = await self.connection.read_message()
                assert text is not None, "the server has closed the socket"
                message = orjson.loads(text)
                if message["type"] == kind:
                    return message


@dataclass
class Findings:
    """The findings for each row: nothing, differences, or why it cannot be shown here."""

    rows: Sequence[str]
    found: dict[str, list[str]] = field(default_factory=dict)
    not_shown: dict[str, str] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    def add(self, row: str, *found: Sequence[str]) -> None:
        """Add findings to a row."""
        assert row in self.rows, f"the document has no row {row!r}"
        self.found.setdefault(row, []).extend(text for each in found for text in each)

    def skip(self, row: str, reason: str) -> None:
        """Note that a row cannot be shown on this server, and why."""
        assert row in self.rows, f"the document has no row {row!r}"
        self.not_shown[row] = reason

    def of(self, row: str) -> list[str]:
        """Return the differences of a row; a row that was not walked is one."""
        if row in self.found:
            return self.found[row]
        return [] if row in self.not_shown else ["not walked"]

    @property
    def differences(self) -> list[str]:
        """Return all differences, and the faults of the walk itself."""
        return [f"{row}: {each}" for row in self.rows for each in self.of(row)] + self.troubles

    def table(self) -> str:
        """Return a line for each row, and for each of its differences."""
        width = max(map(len, self.rows))
        lines = []
        for row in self.rows:
            found = self.of(row)
            state = "not shown: " + self.not_shown[row] if row in self.not_shown and not found else "ok"
            lines += [f"{row:{width}}  {each}" for each in found or [state]]
        return "\n".join([*lines, *self.troubles])
