"""An HTTP client of the server: an address and an account each, patient with limits, clear about errors."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any, NoReturn
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
_FIRST_ADDRESS = int(ipaddress.ip_address("127.77.0.1"))


class DemoFailed(Exception):
    """The demo cannot go on; the text is for the person who started it."""


class RequestRefused(Exception):
    """The server has refused a request."""

    def __init__(self, what: str, status: int, code: str, detail: str) -> None:
        super().__init__(f"{what}: {status} {code}: {detail}")
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the server."""

    status: int
    json: Any
    cookies: SimpleCookie


class Host:
    """The server, and the addresses of this machine that clients may connect from."""

    def __init__(self, url: str, emails: Emails, say: Callable[[str], object]) -> None:
        self.url = url.rstrip("/")
        self.emails = emails
        self.say = say
        self.has_addresses = _has_addresses(self.url)
        self._sessions: list[aiohttp.ClientSession] = []
        self.was_there = False  # it has answered once
        self._waits = False

    def session(self) -> aiohttp.ClientSession:
        """Make a client session with an address of its own, where the machine has more than one."""
        number = len(self._sessions)
        address = (str(ipaddress.ip_address(_FIRST_ADDRESS + number)), 0) if self.has_addresses else None
        opened = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(local_addr=address, limit=8, keepalive_timeout=30.0),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._sessions.append(opened)
        return opened

    def tell_wait(self, seconds: int) -> None:
        """Report, once, that the server limits our requests."""
        if not self._waits:
            self._waits = True
            self.say(
                f"  The server limits requests by address; waiting {seconds} s now and then. "
                "RATE_LIMIT_ENABLED=false at its start makes this fast."
            )

    async def close(self) -> None:
        """Close every connection."""
        for each in self._sessions:
            await each.close()


class Client:
    """Requests from one address, without an account."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._session = host.session()

    async def ask(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, patient: bool = True
    ) -> Answer:
        """Send a request; a `patient` client waits when limited. Raises RequestRefused; DemoFailed with no server."""
        waited = 0.0
        data = None if body is None else orjson.dumps(body)
        fields = {**(headers or {}), **({} if data is None else {"Content-Type": "application/json"})}
        # Encoded as it stands: a symbol in a path may hold an encoded slash.
        url = URL(self.host.url + path, encoded=True)
        while True:
            try:
                async with self._session.request(
                    method, url, data=data, headers=fields, allow_redirects=False
                ) as response:
                    text = await response.read()
                    answer = Answer(response.status, _parse(text), response.cookies)
                    after = int(response.headers.get("Retry-After", 1))
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if not self.host.was_there:
                    raise DemoFailed(
                        f"nobody answers at {self.host.url}: start the server first, `make run`; "
                        "one that runs elsewhere is found by its DATA_DIR, or by --url"
                    ) from None
                if waited >= _PATIENCE_SECONDS:
                    raise DemoFailed(
                        f"{self.host.url} does not answer any more: {type(error).__name__} {error}"
                    ) from None
                waited += 1.0
                await asyncio.sleep(1.0)
                continue
            self.host.was_there = True
            if answer.status < 400:
                return answer
            if answer.status == 503 and waited < _PATIENCE_SECONDS:
                waited += after
                await asyncio.sleep(after)
            elif answer.status == 429 and patient:
                self.host.tell_wait(after)
                await asyncio.sleep(after)
            else:
                _refuse(f"{method} {path}", answer)

    async def get(self, path: str) -> Any:
        """Return the document at the path."""
        return (await self.ask("GET", path)).json

    async def post(self, path: str, body: Any = None) -> Any:
        """Send a POST and return the answer's document."""
        return (await self.ask("POST", path, {} if body is None else body)).json


class Account(Client):
    """A person's client: registers, reads their e-mail, logs in, and renews the token when it has expired."""

    def __init__(self, host: Host, person: Person) -> None:
        super().__init__(host)
        self.person = person
        self.user_id = UUID(int=0)
        self.is_provider = False
        self.is_new = False
        self._token = ""
        self._cookie = ""

    async def enter(self, referral_code: str | None, *, expected: bool) -> None:
        """Log in, creating the account where there is none. `expected`: it should exist.

        The likelier case is tried first: the server takes a quarter of a second for each password.
        Raises DemoFailed, RequestRefused, NoEmail.
        """
        if expected:
            try:
                return await self._log_in()
            except RequestRefused as error:
                if error.status not in (401, 403):
                    raise
        try:
            await self._register(referral_code)
        except RequestRefused as error:
            if error.status != 409:
                raise
            await self._return()
        else:
            await self._verify()
        return None

    async def _return(self) -> None:
        """Log in to an account of an earlier run, which may have ended before the e-mail was read."""
        try:
            await self._log_in()
        except RequestRefused as error:
            if error.status != 403:
                raise
            await super().ask("POST", "/auth/resend-verification", {"email": self.person.email})
            await self._verify()

    async def _verify(self) -> None:
        token = await self.host.emails.token_for(self.person.email)
        await super().ask("POST", "/auth/verify-email", {"token": token})
        await self._log_in()

    async def ask(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, patient: bool = True
    ) -> Answer:
        """Send a request with the account's token."""
        for is_last in (False, True):
            given = {**(headers or {}), "Authorization": f"Bearer {self._token}"}
            try:
                return await super().ask(method, path, body, headers=given, patient=patient)
            except RequestRefused as error:
                if error.status != 401 or is_last:
                    raise
            await self.renew()
        raise AssertionError("not reached")

    async def renew(self) -> None:
        """Renew the token, which states the account's present role."""
        try:
            self._take(await super().ask("POST", "/auth/refresh", headers={"Cookie": f"refresh_token={self._cookie}"}))
        except RequestRefused as error:
            if error.status != 401:
                raise
            await self._log_in()

    async def _register(self, referral_code: str | None) -> None:
        body = {"email": self.person.email, "password": PASSWORD, "display_name": self.person.name}
        if referral_code is not None:
            body["referral_code"] = referral_code
        await super().ask("POST", "/auth/register", body)
        self.is_new = True

    async def _log_in(self) -> None:
        self._take(await super().ask("POST", "/auth/login", {"email": self.person.email, "password": PASSWORD}))

    def _take(self, answer: Answer) -> None:
        self._token = answer.json["access_token"]
        self._cookie = answer.cookies["refresh_token"].value
        self.user_id = UUID(answer.json["user"]["user_id"])
        self.is_provider = answer.json["user"]["is_provider"]


def _has_addresses(url: str) -> bool:
    """Whether this machine owns all of 127.0.0.0/8, as Linux does, and the server is on it."""
    if not (URL(url).host or "").startswith("127."):
        return False
    with socket.socket() as probe:
        try:
            probe.bind((str(ipaddress.ip_address(_FIRST_ADDRESS)), 0))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EINVAL, errno.EACCES):
                return False
            raise
    return True


def _parse(text: bytes) -> Any:
    try:
        return orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return None


def _refuse(what: str, answer: Answer) -> NoReturn:
    document = answer.json if isinstance(answer.json, dict) else {}
    error = document.get("error")
    error = error if isinstance(error, dict) else {}
    raise RequestRefused(what, answer.status, error.get("code", NO_CODE), document.get("detail", "no reason given"))
