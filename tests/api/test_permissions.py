"""Every route of the table answers every kind of caller as the contract says, row by row."""

from __future__ import annotations

import re

import pytest

from config.settings import Settings
from handlers._http.routes import Route
from server.routes import ROUTES
from tests.support.accounts import accounts_world, token_of

CALLERS = ("none", "demo", "unverified", "verified", "provider")
DEMO_REFUSED = "Demo users cannot access this resource"

# The callers admitted by prefix; the first match counts. Written from the contract, not from the table.
ANYBODY = set(CALLERS)
PEOPLE = {"unverified", "verified", "provider"}
VERIFIED = {"verified", "provider"}
DOORS: tuple[tuple[str, set[str]], ...] = (
    ("POST /auth/logout", PEOPLE),
    ("POST /auth/change-password", PEOPLE),
    ("GET /auth/me", PEOPLE),
    ("PATCH /auth/me", PEOPLE),
    ("GET /auth/sessions", PEOPLE),
    ("DELETE /auth/sessions", PEOPLE),
    ("GET /api/user/", PEOPLE),
    ("PUT /api/user/settings", VERIFIED),
    ("POST /api/user/watchlist", VERIFIED),
    ("DELETE /api/user/watchlist", VERIFIED),
    ("POST /api/user/saved-views", VERIFIED),
    ("PUT /api/user/saved-views", VERIFIED),
    ("DELETE /api/user/saved-views", VERIFIED),
)
MINE = [route for route in ROUTES if route.path.startswith(("/auth/", "/api/user/"))]


def door_of(route: Route) -> set[str]:
    return next((who for prefix, who in DOORS if route.name.startswith(prefix)), ANYBODY)


def path_of(route: Route) -> str:
    return re.sub(r"\{[^}]*\}", "nothing", route.path)


def test_the_doors_of_this_test_are_those_of_routes_that_exist() -> None:
    for prefix, _ in DOORS:
        assert any(route.name.startswith(prefix) for route in MINE), prefix
    assert len(MINE) == 26


@pytest.mark.parametrize("caller", CALLERS)
async def test_access_policies_by_caller(settings: Settings, caller: str) -> None:
    async with accounts_world(settings) as world:
        for route in MINE:
            browser = world.browser()
            browser.token = token_of(world.settings, caller)
            body = None if route.method in ("GET", "DELETE") else {"no such field": 1}
            answer = await browser.send(route.method, path_of(route), body)
            if caller in door_of(route):
                # Admitted: further errors are about the body, the path, or an account that does not exist.
                if answer.status == 401:
                    told = answer.json["error"]["message"]
                    assert told in {"A refresh token is required", "The account of this token does not exist"}, told
                else:
                    assert answer.status != 403, route.name
            elif caller == "none":
                problem = answer.problem(401, "UNAUTHORIZED")
                assert problem["message"] == "Authentication required"
                assert answer.headers["WWW-Authenticate"] == "Bearer"
            else:
                problem = answer.problem(403, "FORBIDDEN")
                assert (problem["message"] == DEMO_REFUSED) == (caller == "demo"), route.name


async def test_a_demo_sees_what_the_document_shows_it_and_no_more(settings: Settings) -> None:
    """Every route of the table follows the matrix of the document's notes."""
    open_to_demo = ("/api/signals", "/api/providers", "/api/leaderboards", "/api/assets", "/api/openapi", "/api/docs")
    closed_to_demo = ("/api/user/", "/api/social/", "/api/achievements", "/api/referrals")
    async with accounts_world(settings) as world:
        browser = world.browser()
        browser.token = token_of(world.settings, "demo")
        seen = 0
        for route in ROUTES:
            if route.path.startswith(closed_to_demo):
                body = None if route.method in ("GET", "DELETE") else {}
                answer = await browser.send(route.method, path_of(route), body)
                assert answer.problem(403, "FORBIDDEN")["message"] == DEMO_REFUSED, route.name
                seen += 1
            elif route.method == "GET" and route.path.startswith(open_to_demo):
                allowed = route.access.identity != "required" or route.access.permission in {
                    "read:signals",
                    "read:providers",
                }
                assert allowed or route.path.endswith("/me"), route.name
        assert seen >= 9
