"""Guessed passwords are counted by account, without letting strangers lock its owner out.

The kind of fault: a limit by address does not stop an attacker with many; one by account is a weapon against its owner.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

from config.settings import Settings
from tests.support.accounts import PASSWORD, Answer, Browser, World, accounts_world

ADDRESS = "trader@example.com"
HOME = "203.0.113.5"
_strangers = itertools.count(1)


@asynccontextmanager
async def world_of_many(settings: Settings, **replaced: Any) -> AsyncIterator[World]:
    """Rate limits are on, and every client may have an address of its own."""
    proxies = (ip_network("127.0.0.0/8"),)
    async with accounts_world(settings, rate_limit_enabled=True, trusted_proxies=proxies, **replaced) as world:
        yield world


async def log_in(browser: Browser, password: str, *, at: str, agent: str = "Browser/1", email: str = ADDRESS) -> Answer:
    body = {"email": email, "password": password}
    answer = await browser.send("POST", "/auth/login", body, headers={"X-Forwarded-For": at, "User-Agent": agent})
    if answer.status == 200:
        browser.token = answer.json["access_token"]
    return answer


async def attack(world: World, times: int = 10, email: str = ADDRESS) -> list[int]:
    """Send wrong passwords, each from another address."""
    answers = []
    for number in itertools.islice(_strangers, times):
        at = f"198.51.100.{number % 250}"
        answers.append(await log_in(world.browser(), "wrong horse", at=at, email=email))
    return [each.status for each in answers]


async def test_strangers_are_slowed_down_wherever_they_come_from_and_the_owner_gets_in(settings: Settings) -> None:
    async with world_of_many(settings) as world:
        await world.verified(ADDRESS)
        home = world.browser()
        (await log_in(home, PASSWORD, at=HOME)).expect(200)
        assert await attack(world) == [401] * 10
        refused = await log_in(world.browser(), "wrong horse", at="198.51.100.251")
        problem = refused.problem(429, "RATE_LIMITED")
        assert 1 <= problem["retry_after"] <= 60
        assert refused.headers["Retry-After"] == str(problem["retry_after"])
        # Known by address and program; by the cookie from any address; and after a logout, which deletes the cookie.
        (await log_in(world.browser(), PASSWORD, at=HOME)).expect(200)
        (await log_in(home, PASSWORD, at="192.0.2.77", agent="Other/2")).expect(200)
        (await home.send("POST", "/auth/logout")).expect(200)
        (await log_in(world.browser(), PASSWORD, at=HOME)).expect(200)
        # A stranger with the right password gets the same answer as one without.
        (await log_in(world.browser(), PASSWORD, at="198.51.100.252")).problem(429, "RATE_LIMITED")
        (await log_in(world.browser(), PASSWORD, at=HOME, agent="Other/2")).problem(429, "RATE_LIMITED")
        # Another account is none of theirs.
        await world.verified("other@example.com")
        (await log_in(world.browser(), PASSWORD, at="198.51.100.253", email="other@example.com")).expect(200)


async def test_a_known_device_that_is_wrong_as_well_is_told_to_wait_and_may_be_right_at_any_time(
    settings: Settings,
) -> None:
    async with world_of_many(settings, rate_limits=(("POST /auth/login", 100),)) as world:
        await world.verified(ADDRESS)
        home = world.browser()
        (await log_in(home, PASSWORD, at=HOME)).expect(200)
        for _ in range(10):
            await log_in(home, "wrong horse", at=HOME)
        (await log_in(home, "wrong horse", at=HOME)).problem(429, "RATE_LIMITED")
        (await log_in(home, PASSWORD, at=HOME)).expect(200)


async def test_strangers_may_try_again_one_at_a_time(settings: Settings) -> None:
    """The account is slowed, not locked: a new device with the right password gets in within minutes."""
    async with world_of_many(settings) as world:
        await world.verified(ADDRESS)
        await attack(world)
        (await log_in(world.browser(), PASSWORD, at="192.0.2.1")).problem(429, "RATE_LIMITED")
        world.accounts.attempts._turns[ADDRESS] = 0.0  # a minute later
        (await log_in(world.browser(), "wrong horse", at="192.0.2.2")).problem(401, "UNAUTHORIZED")
        (await log_in(world.browser(), PASSWORD, at="192.0.2.3")).problem(429, "RATE_LIMITED")
        world.accounts.attempts._turns[ADDRESS] = 0.0
        (await log_in(world.browser(), PASSWORD, at="192.0.2.4")).expect(200)


async def test_the_owner_is_told_once_a_day_and_nobody_else_is(settings: Settings) -> None:
    async with world_of_many(settings) as world:
        await world.verified(ADDRESS)
        await attack(world, 12)
        world.accounts.attempts._turns[ADDRESS] = 0.0
        await attack(world, 2)
        assert await world.emails_to(ADDRESS) == 1
        await world.forget()
        world.accounts.attempts._turns[ADDRESS] = 0.0
        await attack(world, 2)
        assert await world.emails_to(ADDRESS) == 1
        await world.send_mail()
        [email] = world.emails("Wrong passwords for your account")
        assert email["To"] == ADDRESS
        assert "token=" not in email.as_string()


async def test_an_address_that_nobody_has_is_slowed_down_alike(settings: Settings) -> None:
    async with world_of_many(settings) as world:
        await world.register("unverified@example.com")
        for email in ("nobody@example.com", "unverified@example.com"):
            assert await attack(world, 12, email) == [401] * 10 + [429] * 2
        await world.send_mail()
        assert not world.emails("Wrong passwords for your account")


async def test_the_present_password_is_counted_with_the_logins(settings: Settings) -> None:
    """A stolen token does not avoid the limit: its bearer counts as a stranger, the owner does not."""
    async with world_of_many(settings) as world:
        await world.verified(ADDRESS)
        home = world.browser()
        (await log_in(home, PASSWORD, at=HOME)).expect(200)
        thief = world.browser()
        thief.token = home.token
        body = {"current_password": "wrong horse", "new_password": "quite another horse"}
        for n in range(12):
            headers = {"X-Forwarded-For": f"198.51.100.{n}"}
            answer = await thief.send("POST", "/auth/change-password", body, headers=headers)
            assert answer.status == (400 if n < 10 else 429), n
        (await log_in(world.browser(), PASSWORD, at="192.0.2.9")).problem(429, "RATE_LIMITED")
        headers = {"X-Forwarded-For": HOME, "User-Agent": "Browser/1"}
        right = body | {"current_password": PASSWORD}
        (await home.send("POST", "/auth/change-password", right, headers=headers)).expect(200)


async def test_requests_without_limits_are_not_slowed_down(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        await world.verified(ADDRESS)
        for _ in range(25):
            (await world.browser().login(ADDRESS, "wrong horse")).problem(401, "UNAUTHORIZED")
        (await world.browser().login(ADDRESS)).expect(200)
        assert await world.emails_to(ADDRESS) == 0
