"""Signing in through OAuth providers: a certified OpenID provider for Google's way, GitHub's endpoints for its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

import pytest
from prometheus_client import REGISTRY
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

import handlers.auth._oauth
from config.clock import now
from config.settings import Settings
from handlers._http.access import Gatekeeper
from handlers.auth._oauth import ProviderFailed, github_user, openid_user
from tests.peers.github import CLIENT_ID as GITHUB_ID
from tests.peers.github import CLIENT_SECRET as GITHUB_SECRET
from tests.peers.github import GitHub, github_api
from tests.peers.openid import CLIENT_ID, CLIENT_SECRET, Person, openid_provider
from tests.support.accounts import PASSWORD, Answer, Browser, World, accounts_world

API = "http://localhost:8000"  # where browsers are said to reach us: the tests go to the real port instead
FRONTEND = "http://localhost:3000/auth/callback"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """The OpenID provider of this module."""
    with openid_provider(f"{API}/auth/oauth/google/callback") as url:
        yield url


@asynccontextmanager
async def google_world(settings: Settings, issuer: str, **replaced: Any) -> AsyncIterator[World]:
    google = {
        "google_client_id": CLIENT_ID,
        "google_client_secret": CLIENT_SECRET,
        "google_authorize_url": f"{issuer}/auth",
        "google_token_url": f"{issuer}/token",
        "google_userinfo_url": f"{issuer}/me",
    }
    async with accounts_world(settings, **google | replaced) as world:
        yield world


async def start(browser: Browser, provider: str = "google") -> str:
    """Start a login; return the URL to which the browser is sent."""
    answer = (await browser.send("GET", f"/auth/oauth/{provider}")).expect(302)
    return str(answer.headers["Location"])


async def come_back(browser: Browser, url: str) -> Answer:
    """Follow the provider's redirect back to the server."""
    parts = urlsplit(url)
    assert f"{parts.scheme}://{parts.netloc}" == API
    return await browser.send("GET", f"{parts.path}?{parts.query}")


def told(answer: Answer) -> dict[str, str]:
    """Return what the frontend receives in the URL's fragment."""
    address, _, fragment = str(answer.expect(302).headers["Location"]).partition("#")
    assert address == FRONTEND
    return dict(parse_qsl(fragment))


async def sign_in(browser: Browser, login: str) -> dict[str, str]:
    answer = await come_back(browser, await Person(login).allow(await start(browser)))
    fragment = told(answer)
    browser.token = fragment.get("access_token")
    return fragment


def counted(result: str) -> float:
    """Return how many of Google's logins had this result."""
    return REGISTRY.get_sample_value("tradestream_logins_total", {"method": "google", "result": result}) or 0.0


def with_query(url: str, **changes: str | None) -> str:
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()} | changes
    return urlunsplit(
        parts._replace(query=urlencode({name: value for name, value in query.items() if value is not None}))
    )


async def test_a_new_person_signs_in_and_has_a_verified_account(settings: Settings, issuer: str) -> None:
    async with google_world(settings, issuer) as world:
        browser, before = world.browser(), counted("granted")
        fragment = await sign_in(browser, "ann")
        assert set(fragment) == {"access_token", "token_type", "expires_in"}
        assert counted("granted") == before + 1
        claims = Gatekeeper(world.settings).read_token(fragment["access_token"])
        assert (claims.email, claims.email_verified) == ("ann@example.com", True)
        me = (await browser.send("GET", "/auth/me")).expect(200).json
        assert me["display_name"] == "Ann Ämter"
        assert me["avatar_url"] == "https://example.com/ann.png"
        (await browser.refresh()).expect(200)
        again = world.browser()
        await sign_in(again, "ann")
        assert again.claims["sub"] == browser.claims["sub"]
        assert await world.value("SELECT count(*) FROM users") == 1
        (await again.login("ann@example.com")).problem(401, "UNAUTHORIZED")
        assert await world.emails_to("ann@example.com") == 0


async def test_the_way_there_has_a_state_and_a_challenge_and_a_cookie_bound_to_both(
    settings: Settings, issuer: str
) -> None:
    async with google_world(settings, issuer) as world:
        browser = world.browser()
        answer = (await browser.send("GET", "/auth/oauth/google")).expect(302)
        query = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
        assert query["code_challenge_method"] == "S256"
        assert len(query["code_challenge"]) == 43
        assert len(query["state"]) == 43
        assert (query["client_id"], query["response_type"]) == (CLIENT_ID, "code")
        assert query["scope"] == "openid email profile"
        cookie = answer.cookie("oauth_state")
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/auth/oauth")
        assert int(cookie["max-age"]) == 600
        assert CLIENT_SECRET not in str(answer.headers)
        second = parse_qs(urlsplit(await start(world.browser())).query)
        assert second["state"][0] != query["state"]
        assert second["code_challenge"][0] != query["code_challenge"]


async def test_denied_consent_is_reported(settings: Settings, issuer: str) -> None:
    async with google_world(settings, issuer) as world:
        browser, before = world.browser(), counted("access_denied")
        answer = await come_back(browser, await Person("ann").deny(await start(browser)))
        assert told(answer) == {"error": "access_denied"}
        assert counted("access_denied") == before + 1
        assert answer.cookie("refresh_token") is None
        assert await world.value("SELECT count(*) FROM users") == 0


async def test_a_forged_state_is_refused(settings: Settings, issuer: str) -> None:
    async with google_world(settings, issuer) as world:
        browser = world.browser()
        back = await Person("ann").allow(await start(browser))
        cookie = browser.cookies["oauth_state"]
        # The state cookie is deleted at every return: each try begins with it again.
        for forged in (
            with_query(back, state="x" * 43),
            with_query(back, state=None),
            with_query(back, state=""),
            with_query(back, state="é"),
            with_query(back, error="access_denied", state="x" * 43),
        ):
            browser.cookies["oauth_state"] = cookie
            assert told(await come_back(browser, forged)) == {"error": "invalid_state"}
        for broken in ("", "x", cookie[1][:-1], cookie[1].replace("google", "github"), "a.b.c.d", "...", "é"):
            browser.cookies["oauth_state"] = ("/auth", broken)
            assert told(await come_back(browser, back)) == {"error": "invalid_state"}
        browser.cookies["oauth_state"] = cookie
        assert "access_token" in told(await come_back(browser, back))


async def test_a_victims_browser_cannot_be_sent_back_with_an_attackers_state(settings: Settings, issuer: str) -> None:
    async with google_world(settings, issuer) as world:
        attacker, victim = world.browser(), world.browser()
        back = await Person("ann").allow(await start(attacker))
        assert told(await come_back(victim, back)) == {"error": "invalid_state"}
        await start(victim)
        assert told(await come_back(victim, back)) == {"error": "invalid_state"}


async def test_a_state_that_comes_back_twice_is_refused(settings: Settings, issuer: str) -> None:
    async with google_world(settings, issuer) as world:
        browser = world.browser()
        back = await Person("ann").allow(await start(browser))
        cookies = dict(browser.cookies)
        copies = [world.browser() for _ in range(5)]
        for each in copies:
            each.cookies = dict(cookies)
        answers = await asyncio.gather(*(come_back(each, back) for each in copies))
        fragments = [told(each) for each in answers]
        assert sum("access_token" in each for each in fragments) == 1
        assert [each for each in fragments if "error" in each] == [{"error": "invalid_state"}] * 4


async def test_an_expired_state_is_refused(settings: Settings, issuer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with google_world(settings, issuer) as world:
        browser = world.browser()
        back = await Person("ann").allow(await start(browser))
        monkeypatch.setattr(handlers.auth._oauth, "now", lambda: now() + timedelta(minutes=11))
        assert told(await come_back(browser, back)) == {"error": "invalid_state"}


async def test_an_address_that_the_provider_has_not_verified_makes_and_links_nothing(
    settings: Settings, issuer: str
) -> None:
    async with google_world(settings, issuer) as world:
        await world.verified("bob@example.com")
        browser = world.browser()
        assert await sign_in(browser, "bob") == {"error": "no_verified_email"}
        assert await sign_in(browser, "eve") == {"error": "no_verified_email"}
        assert await world.value("SELECT count(*) FROM user_identities") == 0
        (await browser.login("bob@example.com")).expect(200)


async def test_a_verified_account_is_linked_and_keeps_its_password(settings: Settings, issuer: str) -> None:
    async with google_world(settings, issuer) as world:
        before = await world.logged_in("ann@example.com")
        browser = world.browser()
        await sign_in(browser, "ann")
        assert browser.claims["sub"] == before.claims["sub"]
        (await before.send("GET", "/auth/me")).expect(200)
        (await world.browser().login("ann@example.com")).expect(200)
        assert await world.value("SELECT count(*) FROM users") == 1


async def test_an_account_that_was_never_verified_is_taken_from_whoever_made_it(
    settings: Settings, issuer: str
) -> None:
    async with google_world(settings, issuer) as world:
        squatted = (await world.register("ann@example.com")).json["user_id"]
        verification = await world.email("ann@example.com")
        await world.client.post("/auth/forgot-password", {"email": "ann@example.com"})
        browser = world.browser()
        await sign_in(browser, "ann")
        assert browser.claims["sub"] == squatted
        (await world.browser().login("ann@example.com", PASSWORD)).problem(401, "UNAUTHORIZED")
        await world.client.post("/auth/verify-email", {"token": verification})
        (await world.browser().login("ann@example.com", PASSWORD)).problem(401, "UNAUTHORIZED")
        with pytest.raises(AssertionError, match="no unread letter"):
            await world.email("ann@example.com")  # the link that would have set a password was dropped
        # The owner may have a password, too: by the e-mail that only they can read.
        await world.client.post("/auth/forgot-password", {"email": "ann@example.com"})
        token = await world.email("ann@example.com")
        await world.client.post("/auth/reset-password", {"token": token, "new_password": "a horse of her own"})
        (await world.browser().login("ann@example.com", "a horse of her own")).expect(200)


async def test_a_scanner_that_opens_the_link_verifies_nothing_and_the_owner_gets_an_account_without_traces(
    settings: Settings, issuer: str
) -> None:
    """The kind of fault: somebody else's preparations (a password, a session, a name, a referral) outlive the owner's
    arrival, because what a program does by itself, opening a link, counts as what only the owner does.
    """
    async with google_world(settings, issuer) as world:
        king = await world.verified("king@example.com")
        code = await world.value("SELECT referral_code FROM users WHERE id = $1", king)
        squatter = world.browser()
        await world.register("ann@example.com", display_name="Send me money", referral_code=code)
        await world.client.post("/auth/forgot-password", {"email": "ann@example.com"})
        token = await world.email("ann@example.com")
        for method in ("GET", "HEAD", "GET"):
            (await squatter.send(method, f"/auth/verify-email?token={token}")).expect(302)
        (await squatter.login("ann@example.com")).problem(403, "FORBIDDEN")
        owner = world.browser()
        await sign_in(owner, "ann")
        (await squatter.login("ann@example.com")).problem(401, "UNAUTHORIZED")
        me = (await owner.send("GET", "/auth/me")).expect(200).json
        assert (me["display_name"], me["avatar_url"]) == ("Ann Ämter", "https://example.com/ann.png")
        [session] = (await owner.send("GET", "/auth/sessions")).json["sessions"]
        assert session["current"]
        assert await world.value("SELECT count(*) FROM referrals") == 0
        # The e-mail that was on its way all the time is worth no more than a word.
        (await squatter.send("POST", "/auth/verify-email", {"token": token})).expect(200)
        (await squatter.login("ann@example.com")).problem(401, "UNAUTHORIZED")


async def test_two_state_cookies_are_no_state(settings: Settings, issuer: str) -> None:
    """A page of a sibling domain can plant the cookie of a login that it began, beside the browser's own."""
    async with google_world(settings, issuer) as world:
        browser, attacker = world.browser(), world.browser()
        back = await Person("ann").allow(await start(attacker))
        await start(browser)
        planted = f"oauth_state={browser.cookies['oauth_state'][1]}; oauth_state={attacker.cookies['oauth_state'][1]}"
        browser.cookies = {}
        parts = urlsplit(back)
        answer = await browser.send("GET", f"{parts.path}?{parts.query}", headers={"Cookie": planted})
        assert told(answer) == {"error": "invalid_state"}


async def test_two_first_sign_ins_at_once_make_one_account(settings: Settings, issuer: str) -> None:
    async with google_world(settings, issuer) as world:
        browsers = [world.browser() for _ in range(4)]
        backs = [await Person("ann").allow(await start(each)) for each in browsers]
        answers = await asyncio.gather(*(come_back(each, back) for each, back in zip(browsers, backs, strict=True)))
        assert all("access_token" in told(each) for each in answers)
        assert await world.value("SELECT count(*) FROM users") == 1
        assert await world.value("SELECT count(*) FROM user_identities") == 1


async def test_a_code_is_worthless_without_our_verifier(settings: Settings, issuer: str) -> None:
    """PKCE: a thief of the code, and even of our secret, cannot exchange it."""
    async with google_world(settings, issuer) as world:
        browser = world.browser()
        back = await Person("ann").allow(await start(browser))
        code = parse_qs(urlsplit(back).query)["code"][0]
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": f"{API}/auth/oauth/google/callback",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "code_verifier": "x" * 43,
        }
        client = AsyncHTTPClient(force_instance=True)
        stolen = await client.fetch(
            HTTPRequest(f"{issuer}/token", method="POST", body=urlencode(form)), raise_error=False
        )
        client.close()
        assert stolen.code == 400


@pytest.mark.parametrize("changes", [{"code": "nonsense"}, {"code": None}, {"code": None, "error": "server_error"}])
async def test_faults_of_the_identity_provider_are_reported_as_such(
    settings: Settings, issuer: str, changes: dict[str, str | None]
) -> None:
    async with google_world(settings, issuer) as world:
        browser = world.browser()
        back = await Person("ann").allow(await start(browser))
        assert told(await come_back(browser, with_query(back, **changes))) == {"error": "provider_error"}


async def test_a_provider_that_is_away_is_told_as_such(settings: Settings, issuer: str) -> None:
    async with google_world(settings, issuer, google_token_url="http://127.0.0.1:1/token") as world:
        browser = world.browser()
        assert await sign_in(browser, "ann") == {"error": "provider_error"}


async def test_a_provider_that_is_unknown_or_not_configured_is_not_found(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        for name in ("google", "github", "facebook", "%2e%2e"):
            for path in (f"/auth/oauth/{name}", f"/auth/oauth/{name}/callback?code=x&state=y"):
                (await world.browser().send("GET", path)).problem(404, "NOT_FOUND")


@asynccontextmanager
async def github_world(settings: Settings) -> AsyncIterator[tuple[World, GitHub]]:
    async with github_api() as github:
        replaced = {
            "github_client_id": GITHUB_ID,
            "github_client_secret": GITHUB_SECRET,
            "github_authorize_url": f"{github.url}/login/oauth/authorize",
            "github_token_url": f"{github.url}/login/oauth/access_token",
            "github_api_url": github.url,
        }
        async with accounts_world(settings, **replaced) as world:
            yield world, github


async def github_sign_in(browser: Browser) -> dict[str, str]:
    client = AsyncHTTPClient(force_instance=True)
    sent = await client.fetch(HTTPRequest(await start(browser, "github"), follow_redirects=False), raise_error=False)
    client.close()
    assert sent.code == 302, sent.body
    return told(await come_back(browser, sent.headers["Location"]))


async def test_a_github_user_signs_in_with_the_primary_verified_address(settings: Settings) -> None:
    async with github_world(settings) as (world, github):
        browser = world.browser()
        browser.token = (await github_sign_in(browser))["access_token"]
        me = (await browser.send("GET", "/auth/me")).expect(200).json
        assert (me["email"], me["display_name"]) == ("octocat@example.com", "octocat")
        github.emails = []
        github.user["login"] = "renamed"
        again = world.browser()
        again.token = (await github_sign_in(again))["access_token"]
        assert again.claims["sub"] == browser.claims["sub"], "known by the id, whatever the address"


async def test_a_github_user_without_a_verified_address_is_refused(settings: Settings) -> None:
    async with github_world(settings) as (world, github):
        unverified = {"email": "a@example.com", "primary": True, "verified": False}
        for emails in ([], [unverified], None, {"message": "x"}, ["x"], [{"verified": True, "email": 7}]):
            github.emails = emails
            assert await github_sign_in(world.browser()) == {"error": "no_verified_email"}


@pytest.mark.parametrize("path", ["/login/oauth/access_token", "/user", "/user/emails"])
async def test_github_failing_is_told_as_such(settings: Settings, path: str) -> None:
    async with github_world(settings) as (world, github):
        github.fails[path] = 502
        assert await github_sign_in(world.browser()) == {"error": "provider_error"}


@pytest.mark.parametrize(
    "claims",
    [None, [], "x", {}, {"sub": 7}, {"sub": ""}, {"sub": "x" * 256}, {"sub": "a\nb"}],
)
def test_a_user_without_an_id_is_a_failure(claims: Any) -> None:
    with pytest.raises(ProviderFailed):
        openid_user("google", claims)


@pytest.mark.parametrize("user", [None, [], {}, {"id": "583231"}, {"id": None}, {"id": True}, {"id": 7.0}])
def test_a_github_user_without_an_id_is_a_failure(user: Any) -> None:
    with pytest.raises(ProviderFailed):
        github_user(user, [])


@pytest.mark.parametrize(
    ("claims", "email", "name"),
    [
        ({"email": "A@B.org", "email_verified": True}, "a@b.org", "Trader"),
        ({"email": "ann@b.org", "email_verified": "true"}, "ann@b.org", "ann"),
        ({"email": "ann@b.org", "email_verified": "false"}, None, "Trader"),
        ({"email": "ann@b.org", "email_verified": 1}, None, "Trader"),
        ({"email": "ann@b.org", "email_verified": 1.0}, None, "Trader"),
        ({"email": "ann@b.org", "email_verified": "True"}, None, "Trader"),
        ({"email": "ann@b.org", "email_verified": [True]}, None, "Trader"),
        ({"email": "ann@b.org", "email_verified": {"true": True}}, None, "Trader"),
        ({"name": "Zoe\u0308"}, None, "Zo\u00eb"),
        ({"email": "ann@b.org"}, None, "Trader"),
        ({"email": 7, "email_verified": True, "name": 7}, None, "Trader"),
        ({"email": "ann@b.org\r\nBcc: x@y.org", "email_verified": True}, None, "Trader"),
        ({"name": "  Ann \u202e\n B  "}, None, "Ann B"),
        ({"name": "x" * 99}, None, "x" * 50),
        ({"name": "x", "email": "yz@b.org", "email_verified": True}, "yz@b.org", "yz"),
    ],
)
def test_answers_of_the_identity_provider_are_checked(claims: dict[str, Any], email: str | None, name: str) -> None:
    """The kind of fault: a value that is merely truthy, or equals true, is taken for the provider's `true`."""
    user = openid_user("google", {"sub": "g-1"} | claims)
    assert (user.email, user.display_name) == (email, name)
