"""Sessions: how they go on, how they end, and how other gateways learn of the end."""

from __future__ import annotations

import asyncio
from datetime import datetime
from email.utils import parsedate_to_datetime

import pytest

from config.clock import now
from config.ids import uuid7
from config.settings import Settings
from handlers._http.security import cookies_named
from tests.support.accounts import PASSWORD, Browser, accounts_world, gateway_of

ADDRESS = "trader@example.com"


async def refused_within_a_second(browser: Browser) -> None:
    async with asyncio.timeout(1):
        while (await browser.send("GET", "/auth/me")).status == 200:
            pass


async def test_the_refresh_cookie_has_the_flags_that_keep_it(settings: Settings) -> None:
    for api_url, secure in (("http://127.0.0.1:8000", ""), ("https://api.tradestream.io", True)):
        async with accounts_world(settings, api_url=api_url) as world:
            await world.verified(f"{'s' if secure else 'p'}@example.com")
            answer = await world.browser().login(f"{'s' if secure else 'p'}@example.com")
            cookie = answer.cookie()
            assert cookie["httponly"] is True
            assert cookie["samesite"] == "Lax"
            assert cookie["path"] == "/auth"
            assert cookie["max-age"] == str(7 * 24 * 3600)
            assert cookie["secure"] == secure
            assert cookie["domain"] == ""
            assert len(cookie.value) == 43


async def test_logging_out_ends_this_session_and_leaves_the_others(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        here = await world.logged_in(ADDRESS)
        there = world.browser()
        await there.login(ADDRESS)
        kept = here.refresh_token
        answer = (await here.send("POST", "/auth/logout")).expect(200)
        assert answer.cookie().value == ""
        assert parsedate_to_datetime(answer.cookie()["expires"]) < now()
        assert "refresh_token" not in here.cookies
        (await here.send("GET", "/auth/me")).problem(401, "UNAUTHORIZED")
        here.cookies["refresh_token"] = ("/auth", kept)
        (await here.refresh()).problem(401, "UNAUTHORIZED")
        (await there.send("GET", "/auth/me")).expect(200)
        (await there.refresh()).expect(200)
        assert here.claims["sid"] in world.ended_streams
        assert there.claims["sid"] not in world.ended_streams


async def test_logging_out_everywhere_ends_every_session(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browsers = [await world.logged_in(ADDRESS), world.browser(), world.browser()]
        for each in browsers[1:]:
            await each.login(ADDRESS)
        (await browsers[0].send("POST", "/auth/logout?all=true")).expect(200)
        for each in browsers:
            (await each.send("GET", "/auth/me")).problem(401, "UNAUTHORIZED")
            (await each.refresh()).problem(401, "UNAUTHORIZED")


async def test_a_user_sees_and_ends_only_their_own_sessions(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        here = await world.logged_in(ADDRESS)
        there = world.browser()
        await there.send(
            "POST", "/auth/login", {"email": ADDRESS, "password": PASSWORD}, headers={"User-Agent": "Other/1.0"}
        )
        await there.login(ADDRESS)
        stranger = await world.logged_in("stranger@example.com")
        listed = (await here.send("GET", "/auth/sessions")).expect(200).json["sessions"]
        assert len(listed) == 3
        assert [each["id"] for each in listed if each["current"]] == [here.claims["sid"]]
        assert "Other/1.0" in {each["user_agent"] for each in listed}
        assert {each["ip"] for each in listed} == {"127.0.0.1"}
        for each in listed:
            assert datetime.fromisoformat(each["last_used_at"]) >= datetime.fromisoformat(each["created_at"])
        target = there.claims["sid"]
        (await stranger.send("DELETE", f"/auth/sessions/{target}")).problem(404, "NOT_FOUND")
        (await there.send("GET", "/auth/me")).expect(200)
        ended = (await here.send("DELETE", f"/auth/sessions/{target}")).expect(200)
        assert ended.json == {"id": target, "revoked": True}
        (await there.send("GET", "/auth/me")).problem(401, "UNAUTHORIZED")
        (await here.send("DELETE", f"/auth/sessions/{target}")).expect(200)
        for unknown in (str(uuid7()), "nonsense"):
            (await here.send("DELETE", f"/auth/sessions/{unknown}")).problem(404, "NOT_FOUND")


async def test_a_session_ended_elsewhere_is_refused_here_within_a_second(settings: Settings) -> None:
    """Another gateway ended the session; this one learns of it from Redis, or from Postgres."""
    async with accounts_world(settings) as world, gateway_of(world.settings, world.actors) as elsewhere:
        browser = await world.logged_in(ADDRESS)
        abroad = elsewhere.browser()
        abroad.token, abroad.cookies = browser.token, dict(browser.cookies)
        (await abroad.send("GET", "/auth/me")).expect(200)
        (await browser.send("POST", "/auth/logout")).expect(200)
        await refused_within_a_second(abroad)
        assert world.ended_streams[:1] == elsewhere.ended_streams[:1] == [browser.claims["sid"]]


async def test_a_gateway_that_starts_late_knows_what_ended_before(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        (await browser.send("POST", "/auth/logout")).expect(200)
    async with accounts_world(settings) as late:
        newcomer = late.browser()
        newcomer.token = browser.token
        (await newcomer.send("GET", "/auth/me")).problem(401, "UNAUTHORIZED")


async def test_sessions_that_end_while_redis_is_away_are_refused_all_the_same(settings: Settings) -> None:
    async with (
        accounts_world(settings) as world,
        gateway_of(world.settings.replace(redis_url="redis://127.0.0.1:1"), world.actors) as deaf,
    ):
        browser = await world.logged_in(ADDRESS)
        there = deaf.browser()
        there.token = browser.token
        (await there.send("GET", "/auth/me")).expect(200)
        (await browser.send("POST", "/auth/logout")).expect(200)
        await refused_within_a_second(there)


async def test_two_refresh_cookies_are_one_too_many(settings: Settings) -> None:
    """The kind of fault: of two values of one name the reader takes one, and the sender of the other chose which.

    A page of a sibling domain can plant a cookie that is sent beside ours; then the visitor works in the planter's
    account without noticing it.
    """
    async with accounts_world(settings) as world:
        victim, attacker = await world.logged_in(ADDRESS), await world.logged_in("eve@example.com")
        own, planted = victim.refresh_token, attacker.refresh_token
        client = world.client
        for sent in (
            f"refresh_token={own}; refresh_token={planted}",
            f"refresh_token={planted}; refresh_token={own}",
            f"refresh_token={own}; refresh_token={own}",
            f'refresh_token={own}; refresh_token="{planted}"',
            f"refresh_token={own};refresh_token={planted}",
            f"refresh_token={own}; refresh_token=",
            f"refresh_token={own}; a=b; \trefresh_token ={planted}",
        ):
            answer = await client.request("POST", "/auth/refresh", headers={"Cookie": sent})
            answer.problem(401, "UNAUTHORIZED")
        sent = f'refresh_token_={planted}; x=refresh_token; refresh_token="{own}"; Refresh_Token={planted}'
        answer = await client.request("POST", "/auth/refresh", headers={"Cookie": sent})
        assert (answer.status, answer.json["user"]["email"]) == (200, ADDRESS)
        assert (await attacker.refresh()).status == 200


@pytest.mark.parametrize(
    ("headers", "values"),
    [
        ([], []),
        (["refresh_token=a"], ["a"]),
        (["refresh_token=a", "refresh_token=b"], ["a", "b"]),
        (['refresh_token="a b"; c=refresh_token=d'], ["a b"]),
        (["refresh_token"], [""]),
        (["=refresh_token=a"], []),
        (["refresh_token=a=b="], ["a=b="]),
        (["\u00a0refresh_token\u2003=a; refresh_token=b"], ["a", "b"]),
    ],
)
def test_cookies_are_read_by_name_all_of_them(headers: list[str], values: list[str]) -> None:
    assert cookies_named(headers, "refresh_token") == values
