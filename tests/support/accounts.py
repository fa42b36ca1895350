"""The gateway with accounts over a real Postgres and Valkey, the owner of accounts in this process, and browsers."""

from __future__ import annotations

import email
import email.policy
import mailbox
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email.message import Message
from http.cookies import SimpleCookie
from typing import Any
from uuid import UUID

import jwt

from actors.users.messages import USERS, Profile, Register, account_key
from actors.users.users import Users
from config.clock import now
from config.ids import uuid7
from config.settings import Settings
from db._postgres import Pool, connection, create_pool, transaction
from db._redis import create_redis
from handlers._http.limits import Limiter
from handlers.auth._accounts import Accounts
from handlers.auth._passwords import Passwords
from handlers.auth._tokens import AccessTokens
from server.mail import Mailer
from tests.api.serving import Client, Response, serving
from tests.support.local_actors import LocalActors, local_actors
from tests.support.users_factory import account_row

PASSWORD = "correct horse battery"
CHEAP = 4  # bcrypt's least cost: these tests are about everything else


@dataclass
class World:
    """A gateway's client with the services behind it and the mail."""

    client: Client
    actors: LocalActors
    pool: Pool
    settings: Settings
    accounts: Accounts
    ended_streams: list[str]  # sessions whose streams were ended
    read: set[str] = field(default_factory=set)  # e-mails

    async def register(self, address: str, **changes: Any) -> Response:
        """Send POST /auth/register."""
        body = {"email": address, "password": PASSWORD, "display_name": "Trader"} | changes
        return await self.client.post("/auth/register", body)

    async def verified(self, address: str, **changes: Any) -> UUID:
        """Make a verified account directly in the owner, without the gateway."""
        row = account_row(email=address, password_hash=await self.accounts.passwords.hash(PASSWORD), **changes)
        await self.actors.ref(USERS).ask(account_key(row.id), Register(row, None))
        return row.id

    async def logged_in(self, address: str, **changes: Any) -> Browser:
        """Return the browser of a verified account."""
        await self.verified(address, **changes)
        browser = self.browser()
        (await browser.login(address)).expect(200)
        return browser

    def browser(self) -> Browser:
        """Return a browser without a cookie."""
        return Browser(self)

    async def email(self, address: str) -> str:
        """The token of the link in the oldest unread e-mail to the address, which is sent now if it waits."""
        await self.send_mail()
        folder = mailbox.Maildir(self.settings.data_dir / "mail")
        for key in sorted(folder.keys()):
            message = email.message_from_bytes(folder.get_bytes(key), policy=email.policy.default)
            if message["To"] == address and key not in self.read:
                self.read.add(key)
                match = re.search(rb"token=([A-Za-z0-9_-]{43})\n", folder.get_bytes(key))
                assert match is not None
                return match[1].decode()
        raise AssertionError(f"there is no unread letter to {address}")

    async def send_mail(self) -> None:
        """Send the e-mails that wait."""
        mailer = Mailer(self.settings, self.pool)
        while await mailer.send_due():
            pass

    def emails(self, subject: str) -> list[Message]:
        """Return the sent e-mails with that subject."""
        folder = self.settings.data_dir / "mail"
        return [each for each in mailbox.Maildir(folder) if each["Subject"] == subject] if folder.exists() else []

    async def emails_to(self, address: str) -> int:
        """Return how many e-mails to the address wait or were sent."""
        folder = mailbox.Maildir(self.settings.data_dir / "mail") if (self.settings.data_dir / "mail").exists() else []
        sent = sum(message["To"] == address for message in folder)
        async with connection(self.pool) as conn:
            waiting: int = await conn.fetchval("SELECT count(*) FROM mail_outbox WHERE email = $1", address)
        return sent + waiting

    async def execute(self, statement: str, *arguments: Any) -> None:
        """Execute a statement directly in the database."""
        async with transaction(self.pool) as conn:
            await conn.execute(statement, *arguments)

    async def value(self, statement: str, *arguments: Any) -> Any:
        """Return one value of the database."""
        async with connection(self.pool) as conn:
            return await conn.fetchval(statement, *arguments)

    async def dump(self) -> str:
        """Return every row of every table as text."""
        async with connection(self.pool) as conn:
            names = await conn.fetch("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
            rows = [await conn.fetch(f'SELECT t::text FROM "{name}" t') for (name,) in names]
        return "\n".join(row[0] for table in rows for row in table)

    async def forget(self) -> None:
        """Restart the owner of accounts without its memory."""
        await self.actors.kill(USERS)
        await self.actors.start(USERS, Users(), self.settings)


class Answer:
    """A response with the cookies that a browser reads from it."""

    def __init__(self, response: Response) -> None:
        self.response = response
        self.status = response.status
        self.headers = response.headers

    @property
    def json(self) -> Any:
        return self.response.json

    def expect(self, status: int) -> Answer:
        assert self.status == status, (self.status, self.response.body)
        return self

    def problem(self, status: int, code: str) -> dict[str, Any]:
        return self.response.problem(status, code)

    def cookie(self, name: str = "refresh_token") -> Any:
        """Return the Set-Cookie of that name as a Morsel, or None."""
        found = None
        for line in self.headers.get_list("Set-Cookie"):
            jar: SimpleCookie = SimpleCookie(line)
            found = jar.get(name, found)
        return found


class Browser:
    """A browser: it keeps cookies by their paths, and the newest access token."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cookies: dict[str, tuple[str, str]] = {}  # by name: path, value
        self.token: str | None = None

    async def send(
        self, method: str, path: str, json: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        sent = dict(headers or {})
        cookies = [f"{name}={value}" for name, (under, value) in self.cookies.items() if path.startswith(under)]
        if cookies:
            sent["Cookie"] = "; ".join(cookies)
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        answer = Answer(await self.world.client.request(method, path, headers=sent, json=json))
        for line in answer.headers.get_list("Set-Cookie"):
            for name, morsel in SimpleCookie(line).items():
                if not morsel.value:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = (morsel["path"], morsel.value)
        return answer

    async def login(self, address: str, password: str = PASSWORD) -> Answer:
        answer = await self.send("POST", "/auth/login", {"email": address, "password": password})
        if answer.status == 200:
            self.token = answer.json["access_token"]
        return answer

    async def refresh(self, **headers: str) -> Answer:
        answer = await self.send("POST", "/auth/refresh", headers=headers)
        if answer.status == 200:
            self.token = answer.json["access_token"]
        return answer

    @property
    def claims(self) -> dict[str, Any]:
        assert self.token is not None
        claims: dict[str, Any] = jwt.decode(self.token, options={"verify_signature": False})
        return claims

    @property
    def refresh_token(self) -> str:
        return self.cookies["refresh_token"][1]


@asynccontextmanager
async def accounts_world(settings: Settings, **replaced: Any) -> AsyncIterator[World]:
    """One gateway and the owner; rate limits are off unless `rate_limit_enabled=True` is given."""
    settings = settings.replace(**{"rate_limit_enabled": False} | replaced)
    async with local_actors(settings, {USERS: Users()}) as actors, gateway_of(settings, actors) as world:
        yield world


@asynccontextmanager
async def gateway_of(settings: Settings, actors: LocalActors) -> AsyncIterator[World]:
    """Run another gateway over the same owner."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    pool = await create_pool(settings.database_url, 6, name="gateway")
    redis = create_redis(settings.redis_url)
    limiter = Limiter(redis, standard_limit=settings.rate_limit_per_minute, enabled=settings.rate_limit_enabled)
    made = Accounts.of(settings)
    made.passwords.close()
    accounts = replace(made, passwords=Passwords(settings.password_pepper, threads=2, cost=CHEAP))
    services = {"pool": pool, "redis": redis, "limiter": limiter, "actors": actors, "accounts": accounts}
    ended: list[str] = []
    try:
        async with serving(settings, **services) as client:
            revoked = client.application.gateway.revoked
            await revoked.start(pool, redis, ended.append)
            try:
                yield World(client, actors, pool, settings, accounts, ended)
            finally:
                await revoked.stop()
    finally:
        accounts.close()
        await redis.aclose()
        pool.terminate()


def token_of(settings: Settings, kind: str) -> str | None:
    """Return an access token without an account: `demo`, `unverified`, `verified` or `provider`; None for `none`."""
    tokens = AccessTokens(settings.jwt_secret, settings.jwt_algorithm)
    if kind == "none":
        return None
    if kind == "demo":
        return tokens.of_demo()
    profile = Profile(uuid7(), "nobody@example.com", kind != "unverified", "Nobody", None, None, now())
    return tokens.of_user(profile, uuid7(), is_provider=kind == "provider")
