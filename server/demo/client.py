"""An HTTP client of the server: an address each and, for a person, an account; patient with limits."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any
from uuid import UUID

import aiohttp
import orjson
from yarl import URL

from server.demo.cast import PASSWORD, Person
from server.demo.emails import Emails

REQUEST_SECONDS = 30.0
NO_CODE = "?"
"""The code of a refusal without a code, which is not this product's."""

_PATIENCE_SECONDS = 20.0  # that a server may take to restart before it counts as gone
_FIRST_ADDRESS = ipaddress.ip_address("127.77.0.1")


class DemoFailed(Exception):
    """The demo cannot go on; the text is for the person who started it."""


class RequestRefused(Exception):
    """The server has refused a request."""

    def __init__(self, what: str, status: int, document: Any) -> None:
        document = document if isinstance(document, dict) else {}
        error = document.get("error")
        self.status = status
        self.code = error.get("code", NO_CODE) if isinstance(error, dict) else NO_CODE
        super().__init__(f"{what}: {status} {self.code}: {document.get('detail', 'no reason given')}")


@dataclass(frozen=True, slots=True)
class ClientAnswer:
    """An answer of the server."""

    status: int
    json: Any
    cookies: SimpleCookie


class Host:
    """The server, and the addresses of this machine that clients may connect from."""

    def __init__(self, url: str, emails: Emails, say: Callable[[str], object]) -> None:
        self.url = url.rstrip("/")
        self.emails = emails
        self.has_addresses = _has_addresses(self.url)
        self.was_there = False  # it has answered once
        self._say = say
        self._sessions: list[aiohttp.ClientSession] = []
        self._waits = False

    def session(self) -> aiohttp.ClientSession:
        """Make a client session with an address of its own, where the machine has more than one."""
        address = (str(_FIRST_ADDRESS + len(self._sessions)), 0) if self.has_addresses else None
        opened = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(local_addr=address, limit=8, keepalive_timeout=30.0),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._sessions.append(opened)
        return opened

    async def wait(self, seconds: int) -> None:
        """Wait because the server limits our requests; report it once."""
        if not self._waits:
            self._waits = True
            self._say(
                f"  The server limits requests by address; waiting {seconds} s now and then. "
                "RATE_LIMIT_ENABLED=false at its start makes this fast."
            )
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close every connection."""
        for each in self._sessions:
            await each.close()


class DemoClient:
    """Requests from one address; of a `person`, with their account, whose token is renewed when it has expired."""

    def __init__(self, host: Host, person: Person | None = None) -> None:
        self.host = host
        self.user_id = UUID(int=0)
        self.is_provider = self.is_new = False
        self._person = person
        self._session = host.session()
        self._token = self._cookie = ""

    @property
    def person(self) -> Person:
        """Return the person whose account it is."""
        assert self._person is not None
        return self._person

    async def ask(
        self, method: str, path: str, body: object = None, *, key: str | None = None, patient: bool = True
    ) -> ClientAnswer:
        """Send a request, with an idempotency `key` if given; a `patient` client waits when limited.

        Raises RequestRefused; DemoFailed when no server answers.
        """
        headers = {} if key is None else {"X-Idempotency-Key": key}
        try:
            return await self._send(method, path, body, headers | self._authorization, patient)
        except RequestRefused as error:
            if error.status != 401 or self._person is None:
                raise
        await self.renew()
        return await self._send(method, path, body, headers | self._authorization, patient)

    async def get(self, path: str) -> Any:
        """Return the document at the path."""
        return (await self.ask("GET", path)).json

    async def post(self, path: str, body: object = None) -> Any:
        """Send a POST and return the answer's document."""
        return (await self.ask("POST", path, {} if body is None else body)).json

    async def enter(self, referral_code: str | None, *, expected: bool) -> None:
        """Log in, creating the account where there is none. `expected`: it should exist.

        The likelier case is tried first: the server takes a quarter of a second for each password.
        Raises DemoFailed, RequestRefused, NoEmail.
        """
        if expected and await self._can_log_in(401, 403):
            return
        body = {"email": self.person.email, "password": PASSWORD, "display_name": self.person.name}
        if referral_code is not None:
            body["referral_code"] = referral_code
        try:
            await self._send("POST", "/auth/register", body)
        except RequestRefused as error:
            if error.status != 409:
                raise
            # Of an earlier run, which may have ended before the e-mail was read.
            if await self._can_log_in(403):
                return
            await self._send("POST", "/auth/resend-verification", {"email": self.person.email})
        else:
            self.is_new = True
        token = await self.host.emails.token_for(self.person.email)
        await self._send("POST", "/auth/verify-email", {"token": token})
        await self._log_in()

    async def renew(self) -> None:
        """Renew the token, which states the account's present role."""
        try:
            cookie = {"Cookie": f"refresh_token={self._cookie}"}
            self._take(await self._send("POST", "/auth/refresh", headers=cookie))
        except RequestRefused as error:
            if error.status != 401:
                raise
            await self._log_in()

    async def _can_log_in(self, *refusals: int) -> bool:
        """Log in, unless the server refuses it by one of these statuses."""
        try:
            await self._log_in()
        except RequestRefused as error:
            if error.status not in refusals:
                raise
            return False
        return True

    async def _log_in(self) -> None:
        self._take(await self._send("POST", "/auth/login", {"email": self.person.email, "password": PASSWORD}))

    def _take(self, answer: ClientAnswer) -> None:
        self._token = answer.json["access_token"]
        self._cookie = answer.cookies["refresh_token"].value
        self.user_id = UUID(answer.json["user"]["user_id"])
        self.is_provider = answer.json["user"]["is_provider"]

    @property
    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    async def _send(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, patient: bool = True
    ) -> ClientAnswer:
        waited = 0.0
        while True:
            try:
                answer, retry_after = await self._exchange(method, path, body, headers or {})
            except (aiohttp.ClientError, OSError) as error:  # a time-out is an OSError
                if not self.host.was_there:
                    raise DemoFailed(
                        f"nobody answers at {self.host.url}: start the server first, `make run`; "
                        "one that runs elsewhere is found by its DATA_DIR, or by --url"
                    ) from None
                if waited >= _PATIENCE_SECONDS:
                    raise DemoFailed(f"{self.host.url} answers no more: {type(error).__name__} {error}") from None
                waited += 1.0
                await asyncio.sleep(1.0)
                continue
            self.host.was_there = True
            if answer.status < 400:
                return answer
            if answer.status == 503 and waited < _PATIENCE_SECONDS:
                waited += retry_after
                await asyncio.sleep(retry_after)
            elif answer.status == 429 and patient:
                await self.host.wait(retry_after)
            else:
                raise RequestRefused(f"{method} {path}", answer.status, answer.json)

    async def _exchange(
        self, method: str, path: str, body: object, headers: dict[str, str]
    ) -> tuple[ClientAnswer, int]:
        data = None if body is None else orjson.dumps(body)
        fields = headers if data is None else headers | {"Content-Type": "application/json"}
        # Encoded as it stands: a symbol in a path may hold an encoded slash.
        url = URL(self.host.url + path, encoded=True)
        async with self._session.request(method, url, data=data, headers=fields, allow_redirects=False) as response:
            try:
                document = orjson.loads(await response.read() or b"null")
            except orjson.JSONDecodeError:
                document = None
            answer = ClientAnswer(response.status, document, response.cookies)
            return answer, int(response.headers.get("Retry-After", 1))


def _has_addresses(url: str) -> bool:
    """Whether this machine owns all of 127.0.0.0/8, as Linux does, and the server is on it."""
    if not (URL(url).host or "").startswith("127."):
        return False
    with socket.socket() as probe:
        try:
            probe.bind((str(_FIRST_ADDRESS), 0))
        except OSError:
            return False
    return True
