"""An HTTP client of the server: an address each and, for a person, an account; patient with limits."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import sys
from dataclasses import dataclass
from uuid import UUID

import aiohttp
import orjson
from yarl import URL

from config.documents import Loaded
from server.demo import DemoFailed
from server.demo.cast import PASSWORD, Person
from server.demo.emails import Emails

NO_CODE = "?"
"""The code of a refusal without a code, which is not this product's."""

FASTER = "RATE_LIMIT_ENABLED=false at the server's start makes this fast."
_PATIENCE_SECONDS = 20.0  # that a server may take to restart before it counts as gone
_FIRST_ADDRESS = ipaddress.ip_address("127.77.0.1")


def say(text: str = "") -> None:
    """Write a line of progress, the same on a terminal and elsewhere."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class RequestRefused(DemoFailed):
    """The server has refused a request."""

    def __init__(self, what: str, status: int, document: object) -> None:
        document = document if isinstance(document, dict) else {}
        error = document.get("error")
        self.status = status
        self.code = error.get("code", NO_CODE) if isinstance(error, dict) else NO_CODE
        super().__init__(f"{what}: {status} {self.code}: {document.get('detail', 'no reason given')}")


class AlreadyThere(RequestRefused):
    """The request is refused, because its effect is there already."""


class LimitReached(RequestRefused):
    """The account or the address has asked too often."""


@dataclass(frozen=True, slots=True)
class ClientAnswer:
    """An answer of the server."""

    status: int
    json: Loaded
    retry_after: int


class Host:
    """The server, and the addresses of this machine that clients may connect from."""

    def __init__(self, url: str, emails: Emails) -> None:
        self.url = url.rstrip("/")
        self.emails = emails
        self.has_addresses = _has_addresses(self.url)
        self.was_there = False  # it has answered once
        self._sessions: list[aiohttp.ClientSession] = []
        self._waits = False

    def session(self) -> aiohttp.ClientSession:
        """Make a client session with an address of its own, where the machine has more than one."""
        address = (str(_FIRST_ADDRESS + len(self._sessions)), 0) if self.has_addresses else None
        opened = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(local_addr=address, limit=8, keepalive_timeout=30.0),
            timeout=aiohttp.ClientTimeout(total=30.0),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._sessions.append(opened)
        return opened

    async def wait(self, seconds: int) -> None:
        """Wait because the server limits our requests; report it once."""
        if not self._waits:
            self._waits = True
            say(f"  The server limits requests by address; waiting {seconds} s now and then. {FASTER}")
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close every connection."""
        for each in self._sessions:
            await each.close()


class DemoClient:
    """Requests from one address; of a `person`, with their account, which logs in again when its token has expired."""

    def __init__(self, host: Host, person: Person | None = None) -> None:
        self.host = host
        self.user_id = UUID(int=0)
        self.is_provider = False
        self._person = person
        self._session = host.session()
        self._token = ""

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
            return await self._send(method, path, body, headers, patient=patient)
        except RequestRefused as error:
            if error.status != 401 or self._person is None:
                raise
        await self.log_in()
        return await self._send(method, path, body, headers, patient=patient)

    async def get(self, path: str) -> Loaded:
        """Return the document at the path."""
        return (await self.ask("GET", path)).json

    async def post(self, path: str, body: object = None) -> Loaded:
        """Send a POST and return the answer's document."""
        return (await self.ask("POST", path, {} if body is None else body)).json

    async def enter(self, code: str = "") -> None:
        """Log in, creating the account, with a referral `code`, where there is none. Raises DemoFailed."""
        email = self.person.email
        try:
            await self.log_in()
        except RequestRefused as error:
            if error.status == 401:
                body = {"email": email, "password": PASSWORD, "display_name": self.person.name}
                await self._send("POST", "/auth/register", body | ({"referral_code": code} if code else {}))
            elif error.status == 403:  # of an earlier run, which ended before the e-mail was read
                await self._send("POST", "/auth/resend-verification", {"email": email})
            else:
                raise
            await self._send("POST", "/auth/verify-email", {"token": await self.host.emails.token_for(email)})
            await self.log_in()

    async def log_in(self) -> None:
        """Take a new token, which states the account's present role. Raises RequestRefused."""
        self._token = ""
        answer = await self._send("POST", "/auth/login", {"email": self.person.email, "password": PASSWORD})
        self._token = answer.json["access_token"]
        self.user_id = UUID(answer.json["user"]["user_id"])
        self.is_provider = answer.json["user"]["is_provider"]

    async def _send(
        self, method: str, path: str, body: object, headers: dict[str, str] | None = None, *, patient: bool = True
    ) -> ClientAnswer:
        waited = 0.0
        while True:
            answer = await self._exchange(method, path, body, headers or {}, is_last=waited >= _PATIENCE_SECONDS)
            if answer.status < 400:
                return answer
            if answer.status == 503 and waited < _PATIENCE_SECONDS:
                waited += answer.retry_after
                await asyncio.sleep(answer.retry_after)
            elif answer.status == 429 and patient:
                await self.host.wait(answer.retry_after)
            else:
                refusal = {409: AlreadyThere, 429: LimitReached}.get(answer.status, RequestRefused)
                raise refusal(f"{method} {path}", answer.status, answer.json)

    async def _exchange(
        self, method: str, path: str, body: object, headers: dict[str, str], *, is_last: bool
    ) -> ClientAnswer:
        """Send a request once. A server that is gone counts as one that restarts (503), until the last try."""
        if self._token:
            headers = headers | {"Authorization": f"Bearer {self._token}"}
        data = None if body is None else orjson.dumps(body)
        if data is not None:
            headers = headers | {"Content-Type": "application/json"}
        url = URL(self.host.url + path, encoded=True)  # as it stands: a symbol in a path may hold an encoded slash
        try:
            async with self._session.request(method, url, data=data, headers=headers, allow_redirects=False) as found:
                text, retry_after = await found.read(), int(found.headers.get("Retry-After", 1))
        except (aiohttp.ClientError, OSError) as error:  # a time-out is an OSError
            if not self.host.was_there:
                raise DemoFailed(
                    f"nobody answers at {self.host.url}: start the server first, `make run`; "
                    "one that runs elsewhere is found by its DATA_DIR, or by --url"
                ) from None
            if is_last:
                raise DemoFailed(f"{self.host.url} answers no more: {type(error).__name__} {error}") from None
            return ClientAnswer(503, {}, 1)
        self.host.was_there = True
        try:
            return ClientAnswer(found.status, orjson.loads(text or b"null"), retry_after)
        except orjson.JSONDecodeError:
            return ClientAnswer(found.status, {}, retry_after)


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
