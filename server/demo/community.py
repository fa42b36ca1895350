"""The participants of a demo, their accounts on the server, and what each of them can do there."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from config.documents import Loaded
from schemas._vocabulary import ReactionType, values_of
from server.demo.cast import COMMENTS, Cast
from server.demo.client import AlreadyThere, DemoClient, Host, say
from server.demo.markets import Market
from server.demo.state import State

_KINDS = values_of(ReactionType)

T = TypeVar("T")


@dataclass(slots=True)
class Community:
    """The demo's accounts, by name, and its state, which is saved at `path`."""

    cast: Cast
    host: Host
    markets: dict[str, Market]
    state: State
    path: Path
    accounts: dict[str, DemoClient] = field(default_factory=dict)
    random: random.Random = field(default_factory=random.Random)

    @property
    def active(self) -> list[DemoClient]:
        """Return the accounts of all who are not passive."""
        return [each for each in self.accounts.values() if not each.person.is_passive]

    def somebody(self) -> DemoClient:
        """Draw a person who takes part."""
        # Never a passive one: with the first follow, their referral would be pending no longer.
        return self.random.choice(self.active)

    def save(self) -> None:
        """Save the state."""
        self.state.save(self.path)

    async def react(self, account: DemoClient, signal_id: str, kind: str | None = None) -> None:
        """React to a signal."""
        body = {"reaction_type": kind or self.random.choices(_KINDS, (10, 6, 4, 1))[0]}
        await account.ask("POST", f"/api/social/signals/{signal_id}/react", body, patient=False)

    async def comment(self, account: DemoClient, signal_id: str, **fields: str) -> Loaded:
        """Comment on a signal; {} where the same comment was made a moment ago."""
        body = {"content": self.random.choice(COMMENTS), **fields}
        with suppress(AlreadyThere):
            return (await account.ask("POST", f"/api/social/signals/{signal_id}/comments", body, patient=False)).json
        return {}


async def for_each(what: str, items: Collection[T], act: Callable[[T], Awaitable[object]]) -> None:
    """Call `act` on all items, a few at once, and say how many there were; the first failure ends it."""
    slots, began = asyncio.Semaphore(8), time.monotonic()  # two cores are busy with less

    async def one(item: T) -> None:
        async with slots:
            await act(item)

    async with asyncio.TaskGroup() as group:
        for item in items:
            group.create_task(one(item), name="demo")
    say(f"  ✓ {what:<32} {len(items):>6}  {time.monotonic() - began:5.1f} s")
