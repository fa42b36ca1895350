"""The participants of a demo, small or whole, and their accounts on the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from server.demo.cast import FOLLOWERS, PROVIDERS, STRATEGIES, Person, Provider, Strategy
from server.demo.client import DemoClient, Host
from server.demo.prices import Market
from server.demo.rules import Style
from server.demo.trading import HISTORY_DAYS

AT_ONCE = 8  # clients: two cores are busy with less
NEWCOMER_DAYS = 1.5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cast:
    """The participants: all of them, or few enough for a test."""

    providers: Sequence[Provider] = PROVIDERS
    strategies: Sequence[Strategy] = STRATEGIES
    followers: Sequence[Person] = FOLLOWERS
    days: float = HISTORY_DAYS

    @property
    def traders(self) -> list[tuple[str, tuple[str, ...], Style]]:
        """Return the name, markets and style of every trader."""
        traders: list[Provider | Strategy] = [*self.providers, *self.strategies]
        return [(each.name, each.markets, each.style) for each in traders]

    @property
    def newcomers(self) -> frozenset[str]:
        """Return the names of the providers who have only begun."""
        return frozenset(each.name for each in self.providers if each.is_newcomer)

    def days_of(self, name: str) -> float:
        """Return the days that a trader has been trading."""
        return NEWCOMER_DAYS if name in self.newcomers else self.days

    @property
    def people(self) -> list[Person]:
        """Return all people with an account, referrers before those whom they refer."""
        everybody = [*(each.person for each in self.providers), *self.followers]
        return [each for each in everybody if each.referrer is None] + [each for each in everybody if each.referrer]


SMALL = Cast(PROVIDERS[:6], STRATEGIES[:1], FOLLOWERS[:10], days=48.0)
"""Every asset type, and a person who refers seven, as in the document."""


@dataclass(slots=True)
class Community:
    """The demo's accounts, by name."""

    cast: Cast
    host: Host
    markets: dict[str, Market]
    accounts: dict[str, DemoClient] = field(default_factory=dict)

    @property
    def providers(self) -> list[DemoClient]:
        """Return the providers' accounts."""
        return [self.accounts[each.name] for each in self.cast.providers]

    @property
    def active(self) -> list[DemoClient]:
        """Return the accounts of all who are not passive."""
        return [each for each in self.accounts.values() if not each.person.is_passive]

    def source(self, name: str) -> str:
        """Return a trader's `source` in a signal: the account's id, or a strategy's own name."""
        account = self.accounts.get(name)
        return name if account is None else str(account.user_id)


async def for_each(advance: Callable[[int], None], items: Iterable[T], act: Callable[[T], Awaitable[object]]) -> None:
    """Call `act` on all items, a few at once; the first failure ends it."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(item: T) -> None:
        async with slots:
            await act(item)
        advance(1)

    async with asyncio.TaskGroup() as group:
        for item in items:
            group.create_task(one(item), name="demo")
