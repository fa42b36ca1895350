"""Attacks on accounts: taking one over, and finding out whether an address has one."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hmac
import logging
import statistics
import time
from typing import Any
from urllib.parse import quote

import jwt
import orjson
import pytest

from actors.users.messages import USERS, Register, account_key
from config.settings import Settings
from handlers.auth._passwords import Passwords
from schemas.errors import ActorUnavailable
from server.app import Application
from tests.api.serving import Response
from tests.support.accounts import PASSWORD, Browser, World, accounts_world, gateway_of
from tests.support.users_factory import account_row

ADDRESS = "trader@example.com"


def without_id(response: Response) -> Any:
    """Return the body without the fields that differ by request."""
    body = response.json
    body.get("error", {}).pop("request_id", None)
    return body


def unsigned(claims: dict[str, Any], algorithm: str, signature: bytes = b"") -> str:
    parts = [orjson.dumps({"alg": algorithm, "typ": "JWT"}), orjson.dumps(claims), signature]
    return ".".join(base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in parts)


def forgeries(settings: Settings, token: str) -> dict[str, str]:
    """Tokens that are wrong in one respect each."""
    secret = settings.jwt_secret
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    head, payload, signature = token.split(".")
    richer = claims | {"permissions": [*claims["permissions"], "write:provider"]}
    stolen = base64.urlsafe_b64encode(orjson.dumps(richer)).rstrip(b"=").decode()
    return {
        "alg none": unsigned(claims, "none"),
        "alg None": unsigned(claims, "None", b"x"),
        "another algorithm with our key": jwt.encode(claims, secret * 2, "HS512"),
        "our secret under another algorithm": jwt.encode(claims, secret, "HS384"),
        "another's key": jwt.encode(claims, "x" * 48, "HS256"),
        "the empty key": unsigned(claims, "HS256", hmac.digest(b"", unsigned(claims, "HS256")[:-1].encode(), "sha256")),
        "wrong audience": jwt.encode(claims | {"aud": "another-api"}, secret),
        "wrong issuer": jwt.encode(claims | {"iss": "evil.io"}, secret),
        "no issuer": jwt.encode({k: v for k, v in claims.items() if k != "iss"}, secret),
        "expired": jwt.encode(claims | {"exp": int(time.time()) - 1}, secret),
        "no expiry": jwt.encode({k: v for k, v in claims.items() if k != "exp"}, secret),
        "no audience": jwt.encode({k: v for k, v in claims.items() if k != "aud"}, secret),
        "no subject": jwt.encode({k: v for k, v in claims.items() if k != "sub"}, secret),
        "no id": jwt.encode({k: v for k, v in claims.items() if k != "jti"}, secret),
        "no time of issue": jwt.encode({k: v for k, v in claims.items() if k != "iat"}, secret),
        "no session": jwt.encode({k: v for k, v in claims.items() if k != "sid"}, secret),
        "another payload": f"{head}.{stolen}.{signature}",
        "a bit flipped": f"{head}.{payload}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
        "cut off": token[:-10],
        "nonsense": "nonsense",
    }


async def test_no_forged_token_opens_anything(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        assert browser.token is not None
        for name, forged in (forgeries(world.settings, browser.token) | {"refresh": browser.refresh_token}).items():
            for path in ("/auth/me", "/api/user/settings", "/auth/sessions"):
                answer = await browser.send("GET", path, headers={"Authorization": f"Bearer {forged}"})
                assert answer.status == 401, (name, path)
                answer.problem(401, "UNAUTHORIZED")
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        (await browser.send("GET", "/auth/me")).expect(200)


async def test_a_token_of_a_strange_subject_is_refused_and_not_an_error(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        for subject in ("demo", "1; DROP TABLE users", "", "00000000-0000-0000-0000-000000000000"):
            browser.token = jwt.encode(browser.claims | {"sub": subject}, world.settings.jwt_secret)
            (await browser.send("GET", "/auth/me")).problem(401, "UNAUTHORIZED")


async def test_an_unknown_address_is_told_the_same_as_a_wrong_password(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        await world.verified(ADDRESS)
        await world.register("unverified@example.com")
        await world.verified("oauth@example.com")
        await world.execute("UPDATE users SET password_hash = NULL WHERE email = 'oauth@example.com'")
        said = []
        for address in (ADDRESS, "unverified@example.com", "oauth@example.com", "nobody@example.com", "no address"):
            answer = await world.client.post("/auth/login", {"email": address, "password": "wrong horse"})
            assert answer.problem(401, "UNAUTHORIZED")["message"] == "Invalid credentials"
            said.append(without_id(answer))
        assert all(each == said[0] for each in said)


async def test_asking_for_a_letter_tells_nothing(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        await world.verified(ADDRESS)
        await world.register("unverified@example.com")
        for path in ("/auth/forgot-password", "/auth/resend-verification"):
            said = []
            for address in (ADDRESS, "unverified@example.com", "nobody@example.com", "no address"):
                waiting = await world.emails_to(address)
                answer = await world.client.post(path, {"email": address})
                assert answer.status == 200
                said.append(answer.json)
                # The same work, so the same time: who has the address is looked up when the e-mail is sent.
                assert await world.emails_to(address) == waiting + 1
            assert all(each == said[0] for each in said)


async def seconds_of(world: World, path: str, body: dict[str, Any]) -> float:
    began = time.perf_counter()
    await world.client.post(path, body)
    return time.perf_counter() - began


async def test_the_time_of_a_login_tells_nothing(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        dear = Passwords(settings.password_pepper, threads=1)
        services = world.client.application.gateway.services
        assert services is not None
        world.client.application.gateway.services = dataclasses.replace(
            services, accounts=dataclasses.replace(world.accounts, passwords=dear)
        )
        row = account_row(email=ADDRESS, password_hash=await dear.hash(PASSWORD))
        await world.actors.ref(USERS).ask(account_key(row.id), Register(row, None))
        known, unknown = [], []
        for number in range(5):
            wrong = {"email": ADDRESS, "password": "wrong horse"}
            known.append(await seconds_of(world, "/auth/login", wrong))
            unknown.append(await seconds_of(world, "/auth/login", wrong | {"email": f"nobody{number}@example.com"}))
        dear.close()
        assert min(unknown) > 0.5 * min(known)
        assert min(known) > 0.5 * min(unknown)


async def test_the_time_of_asking_for_a_letter_tells_nothing(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        known, unknown = [], []
        for number in range(40):
            await world.verified(f"trader{number}@example.com")
        for number in range(40):
            known.append(await seconds_of(world, "/auth/forgot-password", {"email": f"trader{number}@example.com"}))
            unknown.append(await seconds_of(world, "/auth/forgot-password", {"email": f"nobody{number}@example.com"}))
        assert statistics.median(unknown) == pytest.approx(statistics.median(known), rel=0.5, abs=0.003)


async def test_a_hundred_registrations_of_one_address_make_one_account(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        answers = await asyncio.gather(*(world.register(ADDRESS.upper() if n % 2 else ADDRESS) for n in range(100)))
        made = [each for each in answers if each.status == 201]
        assert len(made) == 1
        for each in answers:
            if each.status != 201:
                assert each.problem(409, "CONFLICT")["message"] == "Email already registered"
        assert await world.value("SELECT count(*) FROM users") == 1
        assert await world.emails_to(ADDRESS) == 1


async def test_several_gateways_make_one_account_of_one_address(settings: Settings) -> None:
    async with accounts_world(settings) as world, gateway_of(world.settings, world.actors) as other:
        answers = await asyncio.gather(*(each.register(ADDRESS) for _ in range(5) for each in (world, other)))
        assert sorted(each.status for each in answers) == [201] + [409] * 9
        assert await world.value("SELECT count(*) FROM users") == 1
        assert await world.emails_to(ADDRESS) == 1


async def test_registrations_fail_at_once_when_the_owner_is_unavailable(settings: Settings) -> None:
    async with accounts_world(settings) as world:

        class Away:
            async def ask(self, *_: Any, **__: Any) -> None:
                await asyncio.sleep(0.05)
                raise ActorUnavailable

        world.actors.refs[USERS], present = Away(), world.actors.refs[USERS]  # type: ignore[assignment]
        began = time.monotonic()
        answers = await asyncio.gather(*(world.register(ADDRESS) for _ in range(50)))
        assert {each.status for each in answers} == {503}
        assert time.monotonic() - began < 2
        world.actors.refs[USERS] = present
        assert (await world.register(ADDRESS, referral_code="NOSUCH")).status == 400
        assert (await world.register(ADDRESS)).status == 201


async def test_a_refresh_from_two_places_at_once_leads_to_one_session_not_two(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        copies = [copy_of(browser) for _ in range(12)]
        answers = await asyncio.gather(*(each.refresh() for each in copies))
        assert {each.status for each in answers} == {200}
        assert len({each.refresh_token for each in copies}) == 1
        assert len({each.claims["sid"] for each in copies}) == 1
        (await copies[5].refresh()).expect(200)


async def test_a_stolen_refresh_token_that_is_used_later_ends_the_thiefs_session_and_the_victims(
    settings: Settings,
) -> None:
    async with accounts_world(settings) as world:
        victim = await world.logged_in(ADDRESS)
        elsewhere = world.browser()
        await elsewhere.login(ADDRESS)
        thief = copy_of(victim)
        (await victim.refresh()).expect(200)
        await world.execute("UPDATE sessions SET rotated_at = rotated_at - interval '11 seconds'")
        await world.forget()
        (await thief.refresh()).problem(401, "UNAUTHORIZED")
        (await victim.send("GET", "/auth/me")).problem(401, "UNAUTHORIZED")
        (await victim.refresh()).problem(401, "UNAUTHORIZED")
        (await elsewhere.refresh()).expect(200)
        assert victim.claims["sid"] in world.ended_streams


async def test_a_link_is_followed_once_by_however_many_at_once(settings: Settings) -> None:
    """Verifying an address again changes nothing, so each request succeeds; a password is set once per link."""
    async with accounts_world(settings) as world:
        await world.register(ADDRESS)
        token = await world.email(ADDRESS)
        answers = await asyncio.gather(*(world.client.post("/auth/verify-email", {"token": token}) for _ in range(20)))
        assert [each.status for each in answers] == [200] * 20
        assert await world.value("SELECT count(*) FROM one_time_tokens WHERE used_at IS NOT NULL") == 1
        await world.client.post("/auth/forgot-password", {"email": ADDRESS})
        reset = await world.email(ADDRESS)
        answers = await asyncio.gather(
            *(
                world.client.post("/auth/reset-password", {"token": reset, "new_password": f"new horse {n}"})
                for n in range(8)
            )
        )
        assert sorted(each.status for each in answers) == [200] + [400] * 7
        working = [(await world.browser().login(ADDRESS, f"new horse {n}")).status for n in range(8)]
        assert sorted(working) == [200] + [401] * 7


async def test_a_page_of_another_origin_cannot_use_the_cookie(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        before = browser.refresh_token
        for origin in ("https://evil.example", "null", "https://tradestream.io.evil.example", "http://tradestream.io"):
            (await browser.refresh(Origin=origin)).problem(403, "FORBIDDEN")
        assert browser.refresh_token == before
        answer = (await browser.refresh(Origin="https://tradestream.io")).expect(200)
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        (await browser.refresh()).expect(200)


FOREIGN = (
    "https://evil.example",
    "null",
    "https://tradestream.io.evil.example",
    "http://tradestream.io",
    "https://test",
)


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_page_of_another_origin_cannot_touch_the_cookie(settings: Settings, origin: str) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        browser.cookies, kept = {}, browser.cookies
        credentials = {"email": ADDRESS, "password": PASSWORD}
        touching: tuple[tuple[str, str, Any], ...] = (
            ("POST", "/auth/login", credentials),  # a visitor would be logged in as somebody else
            ("POST", "/auth/refresh", None),
            ("POST", "/auth/logout", None),
            ("DELETE", f"/auth/sessions/{browser.claims['sid']}", None),
            ("GET", "/auth/oauth/google/callback?state=x&code=x", None),
            ("HEAD", "/auth/oauth/google/callback?state=x&code=x", None),
        )
        for method, path, body in touching:
            answer = (await browser.send(method, path, body, headers={"Origin": origin})).expect(403)
            assert answer.cookie() is None, path
        browser.cookies = kept
        for method, path, body in (*touching, ("GET", "/auth/me", None), ("POST", "/auth/demo", None)):
            (await browser.send(method, path, body, headers={"Origin": origin})).expect(403)
        assert browser.cookies == kept
        (await browser.send("GET", "/auth/me")).expect(200)
        (await browser.refresh()).expect(200)


async def test_routes_without_the_cookie_are_open_to_pages_of_any_origin(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        evil = {"Origin": "https://evil.example"}
        browser = await world.logged_in(ADDRESS)
        browser.cookies = {}
        for method, path, body in (("GET", "/auth/me", None), ("POST", "/auth/demo", None), ("GET", "/health", None)):
            answer = (await browser.send(method, path, body, headers=evil)).expect(200)
            assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("origin", ["https://tradestream.io", "http://localhost:3000", "http://test", "http://TEST"])
async def test_our_own_pages_log_in_and_out(settings: Settings, origin: str) -> None:
    async with accounts_world(settings) as world:
        await world.verified(ADDRESS)
        browser, ours = world.browser(), {"Origin": origin}
        body = {"email": ADDRESS, "password": PASSWORD}
        answer = (await browser.send("POST", "/auth/login", body, headers=ours)).expect(200)
        browser.token = answer.json["access_token"]
        (await browser.refresh(**ours)).expect(200)
        (await browser.send("POST", "/auth/logout", headers=ours)).expect(200)
        assert not browser.cookies


async def test_a_form_of_another_site_cannot_log_anybody_in(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        await world.verified(ADDRESS)
        body = orjson.dumps({"email": ADDRESS, "password": PASSWORD})
        for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            answer = await world.client.request("POST", "/auth/login", headers={"Content-Type": media_type}, body=body)
            answer.problem(415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("cookie", ["", "x", "a" * 43, "a" * 5000, "';DROP TABLE sessions;--", "é", '"unclosed'])
async def test_a_cookie_of_nonsense_is_refused(settings: Settings, cookie: str) -> None:
    async with accounts_world(settings) as world:
        answer = await world.client.request("POST", "/auth/refresh", headers={"Cookie": f"refresh_token={cookie}"})
        answer.problem(401, "UNAUTHORIZED")


PAYLOADS = (
    "'; DROP TABLE users; --",
    "' OR '1'='1",
    '" OR ""="',
    "$1",
    "%s %(x)s {0}",
    "\\'; SELECT pg_sleep(10); --",
    "x\r\nSet-Cookie: stolen=1",
    "x\r\nBcc: victim@example.com",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "{{7*7}}",
    "\u202egnp.exe",
    "\ud7ff\ue000\U0010ffff",
    "A" * 4000,
)


def targets() -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and a good body of every route that takes one."""
    credentials = {"email": ADDRESS, "password": PASSWORD}
    return [
        ("POST", "/auth/register", {**credentials, "display_name": "Ann", "referral_code": None}),
        ("POST", "/auth/login", credentials),
        ("POST", "/auth/verify-email", {"token": "x"}),
        ("POST", "/auth/resend-verification", {"email": "nobody@example.com"}),
        ("POST", "/auth/forgot-password", {"email": "nobody@example.com"}),
        ("POST", "/auth/reset-password", {"token": "x", "new_password": "x" * 20}),
        ("POST", "/auth/change-password", {"current_password": "x", "new_password": "x" * 20}),
        ("PATCH", "/auth/me", {"display_name": "Ann", "avatar_url": "https://a.example/x", "bio": "x"}),
        ("PUT", "/api/user/settings", {"theme": "dark", "timezone": "UTC", "risk_tolerance": "moderate"}),
        ("PUT", "/api/user/settings", {"default_action_filter": ["BUY"]}),
        ("POST", "/api/user/watchlist", {"symbol": "BTC", "notes": "x"}),
        ("POST", "/api/user/saved-views", {"name": "x", "description": "x", "filters": {"a": "b"}}),
    ]


async def test_hostile_text_in_any_field_stays_data(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        before = await world.value("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'")
        for method, path, body in targets():
            for name, payload in ((name, payload) for name in body for payload in PAYLOADS):
                value: Any = payload
                if isinstance(body[name], list):
                    value = [payload]
                elif isinstance(body[name], dict):
                    value = {payload: payload}
                answer = await browser.send(method, path, body | {name: value})
                assert answer.status < 500, (path, name, payload, answer.response.body)
                assert "stolen" not in str(answer.headers.get_list("Set-Cookie"))
        for payload in PAYLOADS:
            for method, path in (
                ("DELETE", "/api/user/watchlist/{}"),
                ("DELETE", "/api/user/saved-views/{}"),
                ("DELETE", "/auth/sessions/{}"),
                ("GET", "/auth/verify-email?token={}"),
                ("GET", "/auth/oauth/{}"),
                ("GET", "/auth/oauth/google/callback?code={}&state={}&error={}"),
                ("POST", "/auth/logout?all={}"),
            ):
                answer = await browser.send(method, path.replace("{}", quote(payload, safe="")))
                assert answer.status < 500, (path, payload, answer.response.body)
        assert (
            await world.value("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'") == before
        )
        assert await world.value("SELECT count(*) FROM users WHERE id = $1::uuid", browser.claims["sub"]) == 1
        (await browser.send("GET", "/auth/me")).expect(200)


async def test_text_like_sql_or_html_comes_back_as_it_was_written(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        text = '\'; DROP TABLE users; -- <b>"%s"</b>'
        assert (await browser.send("PATCH", "/auth/me", {"display_name": text})).json["display_name"] == text
        (await browser.send("POST", "/api/user/saved-views", {"name": text, "filters": {text: text}})).expect(201)
        [view] = (await browser.send("GET", "/api/user/saved-views")).json["saved_views"]
        assert (view["name"], view["filters"]) == (text, {text: text})


@pytest.mark.parametrize("name", ["X-Forwarded-For", "User-Agent"])
async def test_headers_that_are_stored_stay_data(settings: Settings, name: str) -> None:
    async with accounts_world(settings, trusted_proxies=()) as world:
        await world.verified(ADDRESS)
        body = {"email": ADDRESS, "password": PASSWORD}
        browser = world.browser()
        answer = await browser.send(
            "POST", "/auth/login", body, headers={name: "'; DELETE FROM sessions; --" + "x" * 3000}
        )
        browser.token = answer.expect(200).json["access_token"]
        [session] = (await browser.send("GET", "/auth/sessions")).json["sessions"]
        assert session["ip"] == "127.0.0.1"
        assert len(session["user_agent"] or "") <= 300


async def test_no_secret_is_ever_logged(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with accounts_world(settings) as world:
        await world.register(ADDRESS)
        token = await world.email(ADDRESS)
        browser = world.browser()
        await browser.send("GET", f"/auth/verify-email?token={token}")
        await browser.send("POST", "/auth/verify-email", {"token": token})
        await browser.login(ADDRESS, "wrong horse")
        await browser.login(ADDRESS)
        await browser.refresh()
        await browser.send("GET", f"/auth/me?access_token={browser.token}")
        await browser.send("GET", "/auth/oauth/google/callback?code=s3cr3t-code&state=x")
        assert isinstance(world.client.application, Application)
        said = "\n".join(f"{record.getMessage()} {record.args} {vars(record)}" for record in caplog.records)
        assert "/auth/verify-email" in said
        for secret in (token, browser.token, browser.refresh_token, PASSWORD, "wrong horse", "s3cr3t-code"):
            assert secret is not None
            assert secret not in said


async def test_letters_to_one_address_are_few_whoever_asks(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        await world.verified(ADDRESS)
        for _ in range(9):
            assert (await world.client.post("/auth/forgot-password", {"email": ADDRESS})).status == 200
        assert await world.emails_to(ADDRESS) == 5


def copy_of(browser: Browser) -> Browser:
    """Return another browser with the same cookies and token."""
    copied = browser.world.browser()
    copied.token, copied.cookies = browser.token, dict(browser.cookies)
    return copied
