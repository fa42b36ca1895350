"""For tests of streaks, achievements and referrals: facts as their owners leave them, and a clock to turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from actors._runtime.messages import Message
from actors.users.messages import USERS, FirstFollow, Qualify, progress_key
from actors.users.users import SETTINGS_CHANNEL
from config.clock import now
from config.settings import Settings
from handlers import _activity
from handlers import achievements as handlers
from tests.support.accounts import Browser, World, accounts_world
from tests.support.users_factory import account_row, register


class Clock:
    """The time as the gateway sees it."""

    def __init__(self) -> None:
        self.at = now()

    def time(self) -> float:
        """Return what time.time() shall return."""
        return self.at.timestamp()

    def now(self) -> datetime:
        """Return what config.clock.now() shall return."""
        return self.at

    def set(self, zone: str, text: str) -> None:
        """Set the clock to a local time in that zone: `2026-03-08 23:30`."""
        self.at = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)

    def forward(self, **by: float) -> None:
        """Move the clock forward by days, hours, …"""
        self.at += timedelta(**by)


@asynccontextmanager
async def progress_world(settings: Settings) -> AsyncIterator[World]:
    """Run the gateway and the owner, and report activity to the owner."""
    async with accounts_world(settings) as world:
        gateway = world.client.application.gateway
        assert gateway.services is not None
        services = gateway.services
        gateway.activity_recorder.start(services)
        try:

            async def listens() -> bool:  # until then it forgets, so as to have missed nothing
                [(_, count)] = await services.redis.pubsub_numsub(SETTINGS_CHANNEL)
                return bool(count)

            await until(listens)
            yield world
        finally:
            await gateway.activity_recorder.stop()


def turned(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the gateway's clock."""
    clock = Clock()
    monkeypatch.setattr(_activity, "time", clock)
    monkeypatch.setattr(handlers, "now", clock.now)
    return clock


async def tell(world: World, user_id: UUID, message: Message[Any]) -> None:
    """Send messages to the owner of the user's progress; they are durable when this returns."""
    key = progress_key(user_id)
    await world.actors.ref(USERS).ask(key, message)


async def as_provider(world: World, user_id: UUID, **stats: Any) -> None:
    """Insert the rows of a provider with these figures, without a domain event."""
    await world.execute(
        "INSERT INTO providers (user_id, display_name) VALUES ($1, $2) ON CONFLICT DO NOTHING", user_id, str(user_id)
    )
    await world.execute("INSERT INTO provider_stats (provider_id) VALUES ($1) ON CONFLICT DO NOTHING", user_id)
    for name, value in stats.items():
        await world.execute(f"UPDATE provider_stats SET {name} = $2 WHERE provider_id = $1", user_id, value)


async def newcomer(world: World, referrer_id: UUID | None = None, **changes: Any) -> UUID:
    """Make an account without the gateway."""
    row = account_row(**changes)
    await world.actors.ref(USERS).ask(str(row.id), register(row, referrer_id=referrer_id))
    return row.id


async def qualified(world: World, referrer_id: UUID, count: int) -> list[UUID]:
    """Make so many referees who have followed."""
    referees = [await newcomer(world, referrer_id) for _ in range(count)]
    for each in referees:
        await tell(world, each, FirstFollow(now()))
        await tell(
            world, referrer_id, Qualify(each, now())
        )  # the message of the referee's owner: repeated, it changes nothing
    return referees


async def until(condition: Callable[[], Awaitable[Any]], *, seconds: float = 30.0) -> Any:
    """Poll until the answer is true; return it."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (answer := await condition()):
        assert asyncio.get_running_loop().time() < deadline, f"still {answer!r} after {seconds} s"
        await asyncio.sleep(0.01)
    return answer


async def get(browser: Browser, path: str) -> Any:
    """Send a GET that must succeed; return its JSON."""
    return (await browser.send("GET", path)).expect(200).json
