"""Rate limits over HTTP: every request of a route counts, from any caller, in one round trip."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from config._variables import networks
from config.settings import Settings
from db._redis import create_redis
from handlers._http.access import AUTHENTICATED, OPTIONAL, PUBLIC, permission
from handlers._http.base import GatewayHandler
from handlers._http.endpoint import endpoint
from handlers._http.limits import EXEMPT, Limiter, Rule
from handlers._http.routes import Route
from server.openapi import build_document
from server.routes import effective_limits
from tests.api.serving import SETTINGS, Client, Response, serving
from tests.unit.test_access import token

LIMITED = SETTINGS.replace(rate_limit_enabled=True)


class Thing(GatewayHandler):
    """A handler that answers."""

    @endpoint("Get")
    async def get(self) -> object:
        return {}

    @endpoint("Put")
    async def put(self) -> object:
        return {}


ROUTES = [
    Route("GET", "/mine", Thing, AUTHENTICATED, Rule(2)),
    Route("GET", "/write", Thing, permission("write:provider"), Rule(2)),
    Route("GET", "/optional", Thing, OPTIONAL, Rule(2)),
    Route("GET", "/public", Thing, PUBLIC, Rule(2)),
    Route("PUT", "/public", Thing, AUTHENTICATED, Rule(5), user_limit=Rule(3, window_seconds=3600)),
    Route("PUT", "/mine", Thing, AUTHENTICATED, EXEMPT, user_limit=Rule(1)),
]
HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


@asynccontextmanager
async def limited(url: str, settings: Settings = LIMITED) -> AsyncIterator[tuple[Client, Any]]:
    redis = create_redis(url)
    try:
        limiter = Limiter(redis, standard_limit=settings.rate_limit_per_minute)
        async with serving(settings, ROUTES, limiter=limiter) as client:
            yield client, redis
    finally:
        await redis.aclose()


def bearer(**changes: Any) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {token(**changes)}"}


def figures(response: Response) -> list[str | None]:
    return [response.headers.get(name) for name in HEADERS]


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/mine", {}, 401, "UNAUTHORIZED"),
        ("/mine", {"Authorization": "Bearer nonsense"}, 401, "UNAUTHORIZED"),
        ("/mine", bearer(exp=1), 401, "UNAUTHORIZED"),
        ("/optional", bearer(exp=1), 401, "UNAUTHORIZED"),
        ("/mine", bearer(sub="demo", is_demo=True), 403, "FORBIDDEN"),
        ("/write", bearer(), 403, "FORBIDDEN"),
    ],
)
async def test_refused_clients_are_counted_and_told_so(
    redis_url: str, path: str, headers: Mapping[str, str], status: int, code: str
) -> None:
    async with limited(redis_url) as (client, _):
        for remaining in ("1", "0"):
            response = await client.request("GET", path, headers=headers)
            response.problem(status, code)
            assert figures(response)[:2] == ["2", remaining]
        over = await client.request("GET", path, headers=headers)
        assert over.problem(429, "RATE_LIMITED")["retry_after"] == int(over.headers["X-RateLimit-Reset"])
        # The address is out, with a good token too.
        (await client.request("GET", path, headers=bearer())).problem(429, "RATE_LIMITED")


async def test_a_request_is_counted_in_one_round_trip_whoever_is_counted(redis_url: str) -> None:
    async with limited(redis_url) as (client, redis):
        await client.request("GET", "/public")  # loads the script
        for method, path, headers, status in (
            ("GET", "/public", {}, 200),
            ("GET", "/mine", {}, 401),
            ("PUT", "/public", {}, 401),
            ("PUT", "/public", bearer(), 200),
        ):
            before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
            response = await client.request(method, path, headers=headers)
            assert response.status == status
            assert (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] - before == 1


async def test_a_users_own_limit_holds_beside_that_of_the_address(redis_url: str) -> None:
    async with limited(redis_url) as (client, _):
        answers = [await client.request("PUT", "/public", headers=bearer(sub="ann")) for _ in range(4)]
        assert [each.status for each in answers] == [200, 200, 200, 429]
        assert [figures(each)[:2] for each in answers] == [["3", "2"], ["3", "1"], ["3", "0"], ["3", "0"]]
        assert int(answers[3].headers["Retry-After"]) > 3500
        # Another user of the address: it has one left, and says so, since that is less than the user has.
        other = await client.request("PUT", "/public", headers=bearer(sub="bob"))
        assert (other.status, figures(other)[:2]) == (200, ["5", "0"])
        (await client.request("PUT", "/public", headers=bearer(sub="bob"))).problem(429, "RATE_LIMITED")


async def test_a_user_is_not_charged_for_what_is_refused_before(redis_url: str) -> None:
    async with limited(redis_url) as (client, redis):
        for _ in range(5):
            (await client.request("PUT", "/public")).problem(401, "UNAUTHORIZED")
        (await client.request("PUT", "/public", headers=bearer(sub="ann"))).problem(429, "RATE_LIMITED")
        assert await redis.keys("*user:*") == []


async def test_a_route_without_a_limit_for_addresses_may_have_one_for_users(redis_url: str) -> None:
    async with limited(redis_url) as (client, _):
        assert [(await client.request("PUT", "/mine", headers=bearer())).status for _ in range(2)] == [200, 429]
        refused = await client.request("PUT", "/mine")
        refused.problem(401, "UNAUTHORIZED")
        assert figures(refused)[:2] == [str(LIMITED.rate_limit_per_minute), str(LIMITED.rate_limit_per_minute - 1)]


async def test_both_limits_are_counted_here_without_redis() -> None:
    async with limited("redis://127.0.0.1:1") as (client, _):
        answers = [await client.request("PUT", "/public", headers=bearer(sub="ann")) for _ in range(4)]
        assert [each.status for each in answers] == [200, 200, 200, 429]
        assert (await client.request("PUT", "/public", headers=bearer(sub="bob"))).status == 200
        assert (await client.request("PUT", "/public", headers=bearer(sub="bob"))).status == 429


async def test_unknown_paths_and_methods_and_preflights_are_not_counted(redis_url: str) -> None:
    async with limited(redis_url) as (client, redis):
        for method, path, status in (("GET", "/nothing", 404), ("BREW", "/public", 405), ("OPTIONS", "/public", 204)):
            response = await client.request(method, path)
            assert (response.status, figures(response)) == (status, [None] * 3)
        assert await redis.keys("*") == []


def test_the_limit_of_a_user_is_configured_and_documented() -> None:
    settings = LIMITED.replace(rate_limits=(("PUT /public per user", 7), ("PUT /public", 9)))
    rules = effective_limits(ROUTES, settings)
    assert (rules["PUT /public"].limit, rules["PUT /public per user"].limit) == (9, 7)
    assert rules["PUT /public per user"].window_seconds == 3600
    text = build_document(ROUTES, LIMITED).decode()
    assert "At most 5 requests a minute from one address.\\n\\nAt most 3 requests an hour by one user." in text


@pytest.mark.parametrize("url", ["redis", "away"])
async def test_all_addresses_of_one_ipv6_network_are_one_client(redis_url: str, url: str) -> None:
    """The kind: a limit per address, where its subject has 2^64 addresses. With Redis and without it."""
    proxied = LIMITED.replace(trusted_proxies=networks("127.0.0.1/32"))
    async with limited(redis_url if url == "redis" else "redis://127.0.0.1:1", proxied) as (client, _):
        answers = [
            (await client.get("/public", X_Forwarded_For=address)).status
            for address in ("2001:db8:1:2::1", "2001:db8:1:2:ffff::7", "2001:db8:1:2::3", "2001:db8:1:3::1")
        ]
        assert answers == [200, 200, 429, 200]
        mapped = [
            (await client.get("/public", X_Forwarded_For=address)).status
            for address in ("::ffff:198.51.100.7", "198.51.100.7", "::ffff:198.51.100.7", "::ffff:198.51.100.8")
        ]
        assert mapped == [200, 200, 429, 200]
