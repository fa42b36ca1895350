"""A new user's steps through a whole system of two gateways, with only HTTP and the mail folder."""

from __future__ import annotations

import asyncio
import mailbox
import re
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, cast

from tests.api.serving import Client, Response
from tests.support.services import Server, wait_until

ADDRESS, PASSWORD, OTHER = "new@example.com", "correct horse battery", "quite another horse"


class User:
    """A browser: one refresh cookie, one access token; each request over a connection of its own, to either gateway."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.token: str | None = None
        self.cookie = ""

    async def send(self, method: str, path: str, json: Any = None) -> Response:
        headers = {"Cookie": f"refresh_token={self.cookie}"} if self.cookie and path.startswith("/auth") else {}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        response = await self.client.request(method, path, headers=headers, json=json)
        for line in response.headers.get_list("Set-Cookie"):
            self.cookie = SimpleCookie(line)["refresh_token"].value
        return response

    async def log_in(self, password: str = PASSWORD) -> Response:
        response = await self.send("POST", "/auth/login", {"email": ADDRESS, "password": password})
        if response.status == 200:
            self.token = response.json["access_token"]
        return response

    async def refused_everywhere(self) -> None:
        """Within a second by both gateways: twenty connections in a row are likely to reach each of them."""
        loop = asyncio.get_running_loop()
        deadline, refused = loop.time() + 1.0, 0
        while refused < 20:
            refused = refused + 1 if (await self.send("GET", "/auth/me")).status == 401 else 0
            assert refused or loop.time() < deadline, "it is still let in"


def read_mail(folder: Path, subject: str) -> str:
    """Return the token of the newest e-mail with that subject once it has come."""

    def newest() -> str | None:
        emails = [] if not folder.exists() else [each for each in mailbox.Maildir(folder) if each["Subject"] == subject]
        found = re.findall(r"token=([A-Za-z0-9_-]{43})\n", "".join(each.as_string() for each in emails))
        return found[-1] if found else None

    token = wait_until(newest, 60)
    assert token is not None
    return token


async def test_a_new_user_with_only_http_and_the_mail_folder(tmp_path: Path) -> None:
    limits = "POST /auth/register=200,GET /auth/me=1000"
    with Server(tmp_path / "data", WORKERS="2", RATE_LIMITS=limits).start() as server:
        await asyncio.to_thread(wait_for_both, server)
        client = Client(server.port, cast(Any, None))
        await register_at_once(client)
        here, there = await verify_and_log_in(client, server.data_dir / "mail")
        await keep_something(here)
        await be_thrown_out(here, there)
        await reset_the_password(here, there, server.data_dir / "mail")
        await be_limited(client)


def wait_for_both(server: Server) -> None:
    """Wait for the second gateway, which starts when the first is ready."""
    server.wait_ready(150)
    wait_until(lambda: "✓ Gateway 2" in server.output, 60)


async def register_at_once(client: Client) -> None:
    body = {"email": ADDRESS, "password": PASSWORD, "display_name": "New"}
    answers = await asyncio.gather(*(client.post("/auth/register", body) for _ in range(100)))
    assert sorted(each.status for each in answers) == [201] + [409] * 99
    (await client.post("/auth/register", body | {"password": "password"})).problem(400, "VALIDATION_ERROR")


async def verify_and_log_in(client: Client, folder: Path) -> tuple[User, User]:
    here, there = User(client), User(client)
    (await here.log_in()).problem(403, "FORBIDDEN")
    (await here.log_in("wrong horse")).problem(401, "UNAUTHORIZED")
    token = await asyncio.to_thread(read_mail, folder, "Verify your e-mail address")
    led_on = await here.send("GET", f"/auth/verify-email?token={token}")
    assert (led_on.status, led_on.headers["Location"].partition("#")[2]) == (302, f"token={token}")
    (await here.log_in()).problem(403, "FORBIDDEN")
    for _ in range(2):
        assert (await here.send("POST", "/auth/verify-email", {"token": token})).status == 200
    assert (await here.log_in()).status == (await there.log_in()).status == 200
    return here, there


async def keep_something(here: User) -> None:
    saved = await here.send("PUT", "/api/user/settings", {"theme": "light", "timezone": "Europe/Vienna"})
    assert (saved.status, saved.json["timezone"]) == (200, "Europe/Vienna")
    assert (await here.send("POST", "/api/user/watchlist", {"symbol": "SOL/USD"})).status == 201
    assert (await here.send("DELETE", "/api/user/watchlist/SOL/USD")).status == 200
    first = here.cookie
    refreshed = await here.send("POST", "/auth/refresh")
    assert refreshed.status == 200
    assert here.cookie != first
    here.token = refreshed.json["access_token"]


async def be_thrown_out(here: User, there: User) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", here.client.port)
    head = f"GET /api/signals/stream?access_token={there.token} HTTP/1.1\r\nHost: test\r\n\r\n"
    writer.write(head.encode())
    assert b"200 OK" in await reader.readuntil(b"session_start")
    listed = (await here.send("GET", "/auth/sessions")).json["sessions"]
    [other] = [each["id"] for each in listed if not each["current"]]
    assert (await here.send("DELETE", f"/auth/sessions/{other}")).status == 200
    await there.refused_everywhere()
    async with asyncio.timeout(5):
        assert b"SESSION_REVOKED" in await reader.read(-1)
    writer.close()
    (await there.send("POST", "/auth/refresh")).problem(401, "UNAUTHORIZED")
    assert (await here.send("GET", "/auth/me")).status == 200


async def reset_the_password(here: User, there: User, folder: Path) -> None:
    assert (await there.client.post("/auth/forgot-password", {"email": ADDRESS})).status == 200
    token = await asyncio.to_thread(read_mail, folder, "Reset your password")
    weak = {"token": token, "new_password": "short"}
    (await there.client.post("/auth/reset-password", weak)).problem(400, "VALIDATION_ERROR")
    assert (await there.client.post("/auth/reset-password", weak | {"new_password": OTHER})).status == 200
    await here.refused_everywhere()
    (await here.log_in()).problem(401, "UNAUTHORIZED")
    assert (await here.log_in(OTHER)).status == 200
    assert (await here.send("GET", "/api/user/settings")).json["theme"] == "light"


async def be_limited(client: Client) -> None:
    statuses = [(await client.post("/auth/forgot-password", {"email": ADDRESS})).status for _ in range(4)]
    assert statuses[-1] == 429
    (await client.post("/auth/forgot-password", {"email": ADDRESS})).problem(429, "RATE_LIMITED")
