"""Keep a filled server active: each second a person trades at the present price, reacts, comments or follows."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import datetime

from config.clock import now, rfc3339
from config.ids import uuid7
from server.demo import DemoFailed
from server.demo.client import DemoClient, LimitReached, RequestRefused, say
from server.demo.community import Community
from server.demo.signals import fields_of
from server.demo.state import place_of
from server.demo.trading import HOUR, QUARTER_MINUTE, Trade, next_trade

_LOOK_TICKS = 3  # until all traders look at the prices again
_SAVE_TICKS = 10
_RISE_SECONDS = 120  # for which a person is drawn more often
_NEWEST = 30  # signals that people still talk about
_REFUSALS = 20  # in a row: then the fault is a lasting one


class Trickle:
    """Perform an act a tick. A refusal is reported and skipped; many in a row end the run."""

    def __init__(self, community: Community) -> None:
        self._community = community
        self._random = community.random
        self._anybody = DemoClient(community.host)
        self._due: list[tuple[str, Trade]] = []
        self._newest: list[str] = []
        self._done: Counter[str] = Counter()
        self._said: set[str] = set()
        self._refusals = 0

    async def run(self, *, seconds: float | None = None) -> None:
        """Run until cancelled, or for some seconds; report the acts now and then. Raises DemoFailed."""
        until = None if seconds is None else time.monotonic() + seconds
        tick = 0
        try:
            while until is None or time.monotonic() < until:
                await self._tick(tick)
                tick += 1
                await asyncio.sleep(self._random.uniform(0.5, 1.3))
        finally:
            self._community.save()
            self._report()

    async def _tick(self, tick: int) -> None:
        if tick % _LOOK_TICKS == 0:
            self._due = self.find_trades(now())
        if tick % _SAVE_TICKS == 0:
            page = await self._anybody.get(f"/api/signals?limit={_NEWEST}")
            self._newest = [each["id"] for each in page["signals"]]
            self._community.save()
            self._report()
        acts = ((10, self._react), (4, self._comment), (5, self._follow), (3, self._unfollow), (33, self._trade))
        weights, possible = zip(*(acts if self._due else acts[:-1]), strict=True)
        try:
            self._done[await self._random.choices(possible, weights)[0]()] += 1
            self._refusals = 0
        except RequestRefused as error:
            self._note(error)

    def _note(self, error: RequestRefused) -> None:
        self._done["refused"] += 1
        if isinstance(error, LimitReached):  # this account's limit is reached; others' are not
            return
        self._refusals += 1
        if self._refusals >= _REFUSALS:
            raise DemoFailed(f"{_REFUSALS} requests in a row were refused, the last one: {error}")
        if str(error) not in self._said:
            self._said.add(str(error))
            say(f"  ! {error}")

    def _report(self) -> None:
        if self._done:
            say("  " + ", ".join(f"{count} {what}" for what, count in self._done.most_common()))

    def find_trades(self, at: datetime) -> list[tuple[str, Trade]]:
        """Return the trades that all styles make at that time, in any order; newcomers look at bars of an hour."""
        found = []
        state = self._community.state
        for trader in self._community.cast.traders:
            bar = HOUR if trader.is_newcomer else QUARTER_MINUTE
            for name in trader.markets:
                market, position = self._community.markets[name], state.held.get(place_of(trader.name, name))
                trade = next_trade(trader.style, market, at, position, bar)
                if trade is not None:
                    found.append((trader.name, trade))
        self._random.shuffle(found)
        return found

    async def _trade(self) -> str:
        name, trade = self._due.pop()
        account = self._community.accounts.get(name)
        body, side = fields_of(trade) | trade.terms, trade.position.side
        if account is None:
            path = "/api/v1/signals"
            body |= {**trade.raw_fields, "ts_utc": rfc3339(now()), "source": name}
        else:
            path = "/api/signals"
            words = ("yes", "no") if trade.position.contract.asset_type == "prediction" else ("buy", "sell")
            body |= {"action": words[side == "short"], "close": trade.closes}
        await (account or self._anybody).ask("POST", path, body, key=str(uuid7()), patient=False)
        self._community.state.note(name, trade)
        return "signals closed" if trade.closes else "signals opened"

    def _signal(self) -> str:
        if not self._newest:
            raise DemoFailed("there are no signals to talk about; was the filling complete?")
        return self._random.choice(self._newest)

    async def _react(self) -> str:
        await self._community.react(self._community.somebody(), self._signal())
        return "reactions"

    async def _comment(self) -> str:
        await self._community.comment(self._community.somebody(), self._signal())
        return "comments"

    async def _follow(self) -> str:
        # Some are on the rise: a person who is drawn is drawn again for a while.
        providers = self._community.cast.providers
        rising = providers[int(time.time() // _RISE_SECONDS) % len(providers)]
        charm = [each.charm + 0.5 * (each is rising) for each in providers]
        provider = self._community.accounts[self._random.choices(providers, charm)[0].name]
        account = self._community.somebody()
        if account is not provider:
            await account.ask("POST", f"/api/social/follow/{provider.user_id}", {}, patient=False)
        return "follows"

    async def _unfollow(self) -> str:
        account = self._community.somebody()
        following = (await account.get("/api/social/following?limit=100"))["following"]
        if len(following) > 1:  # each keeps one
            user_id = self._random.choice(following)["provider"]["user_id"]
            await account.ask("DELETE", f"/api/social/follow/{user_id}", patient=False)
        return "unfollows"
