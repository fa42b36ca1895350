"""The metrics of accounts: logins by result and reason, and refresh tokens that were copied."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import REGISTRY

from config.settings import Settings
from tests.support.accounts import Browser, accounts_world

ADDRESS = "trader@example.com"


def figures(name: str) -> dict[tuple[str, ...], float]:
    """The counter's values by its labels' values."""
    [family] = [each for each in REGISTRY.collect() if each.name == f"tradestream_{name}"]
    return {tuple(each.labels.values()): each.value for each in family.samples if each.name.endswith("_total")}


def grown(name: str, before: Mapping[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """Return by how much the counters have grown."""
    growth = {labels: value - before.get(labels, 0.0) for labels, value in figures(name).items()}
    return {labels: value for labels, value in growth.items() if value}


async def test_logins_and_registrations_are_counted_by_their_results(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        logins, registrations = figures("logins"), figures("registrations")
        await world.verified(ADDRESS)
        (await world.browser().login(ADDRESS)).expect(200)
        for address in (ADDRESS, "nobody@example.com"):
            (await world.browser().login(address, "wrong horse")).expect(401)
        assert (await world.register("new@example.com")).status == 201
        for address in ("new@example.com", ADDRESS):
            assert (await world.register(address)).status == 409
        assert (await world.register("bad")).status == 400
        (await world.browser().login("new@example.com")).expect(403)
        assert grown("logins", logins) == {
            ("password", "granted"): 1,
            ("password", "bad_credentials"): 2,
            ("password", "unverified"): 1,
        }
        assert grown("registrations", registrations) == {("password", "made"): 1, ("password", "taken"): 2}


async def test_a_copied_refresh_token_shows(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        before = figures("refreshes")
        victim = await world.logged_in(ADDRESS)
        thief = Browser(world)
        thief.cookies = dict(victim.cookies)
        (await victim.refresh()).expect(200)
        (await thief.refresh()).expect(200)  # a retry, as far as anybody can tell
        assert grown("refreshes", before) == {("granted",): 2}
        thief.cookies = dict(victim.cookies)
        for _ in range(2):
            (await victim.refresh()).expect(200)
        (await thief.refresh()).expect(401)
        stranger = Browser(world)
        stranger.cookies = {"refresh_token": ("/auth", "a" * 43)}
        (await stranger.refresh()).expect(401)
        assert grown("refreshes", before) == {("granted",): 4, ("reused",): 1, ("unknown",): 1}
