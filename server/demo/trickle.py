"""Keep a filled server active: each second a person trades at the present price, reacts, comments or follows."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from config.clock import now, rfc3339
from config.ids import uuid7
from schemas._vocabulary import ReactionType, values_of
from server.demo._progress import Progress
from server.demo.cast import COMMENTS
from server.demo.client import DemoClient, DemoFailed, RequestRefused
from server.demo.community import Community
from server.demo.state import State
from server.demo.trading import Trade, commentary_of, next_quick_trade, next_trade, size_of

TICK_SECONDS = (0.5, 1.3)
_LOOK_TICKS = 3  # until all traders look at the prices again
_SAVE_TICKS = 10
_RISE_SECONDS = 120  # for which a person is drawn more often
_NEWEST = 30  # signals that people still talk about
_REFUSALS = 20  # in a row: then the fault is a lasting one
_KINDS = values_of(ReactionType)
_WEIGHTS = (10, 6, 4, 1)


class Trickle:
    """Perform an act a tick. A refusal is reported and skipped; many in a row end the run."""

    def __init__(self, community: Community, state: State, progress: Progress) -> None:
        self._community = community
        self._state = state
        self._progress = progress
        self._random = random.Random()  # noqa: S311 - no two evenings are the same
        self._reader = DemoClient(community.host)
        self._strategies = {each.name: DemoClient(community.host) for each in community.cast.strategies}
        self._due: list[tuple[str, Trade]] = []
        self._newest: list[dict[str, Any]] = []
        self._done: Counter[str] = Counter()
        self._said: set[str] = set()
        self._refusals = 0
        self._last = ""

    async def run(self, *, seconds: float | None = None) -> None:
        """Run until cancelled, or for some seconds; report the acts at the end. Raises DemoFailed."""
        until = None if seconds is None else time.monotonic() + seconds
        tick = 0
        try:
            while until is None or time.monotonic() < until:
                await self._tick(tick)
                tick += 1
                self._show()
                await asyncio.sleep(self._random.uniform(*TICK_SECONDS))
        finally:
            self._state.save()
            self._progress.say("  " + ", ".join(f"{count} {what}" for what, count in self._done.most_common()))

    async def _tick(self, tick: int) -> None:
        if tick % _LOOK_TICKS == 0:
            self._due = self.find_trades(now())
        if tick % _SAVE_TICKS == 0:
            self._newest = (await self._reader.get(f"/api/signals?limit={_NEWEST}"))["signals"]
            self._state.save()
        acts: tuple[Callable[[], Awaitable[str]], ...] = (self._react, self._comment, self._follow, self._unfollow)
        act = self._random.choices(acts, (10, 4, 5, 3))[0]
        if self._due and self._random.random() < 0.6:
            act = self._trade
        try:
            self._done[await act()] += 1
            self._refusals = 0
        except RequestRefused as error:
            self._note(error)

    def _note(self, error: RequestRefused) -> None:
        self._done["refused"] += 1
        if error.status == 429:  # this account's limit is reached; others' are not
            return
        self._refusals += 1
        if self._refusals >= _REFUSALS:
            raise DemoFailed(f"{_REFUSALS} requests in a row were refused, the last one: {error}")
        if str(error) not in self._said:
            self._said.add(str(error))
            self._progress.say(f"  ! {error}")

    def _show(self) -> None:
        counts = ", ".join(f"{count} {what}" for what, count in self._done.most_common(6))
        self._progress.show(f"  live  {counts}  | {self._last}")

    # --- trades

    def find_trades(self, at: datetime) -> list[tuple[str, Trade]]:
        """Return the trades that all styles make at that time, in any order; newcomers look at bars of an hour."""
        found = []
        newcomers = self._community.cast.newcomers
        for name, symbols, style in self._community.cast.traders:
            for symbol in symbols:
                market = self._community.markets[symbol]
                moment = market.moment_of(at, self._state.anchor)
                act = next_trade if name in newcomers else next_quick_trade
                trade = act(style, market, moment, self._state.held.get((name, symbol)), at)
                if trade is not None:
                    found.append((name, trade))
        self._random.shuffle(found)
        return found

    async def _trade(self) -> str:
        name, trade = self._due.pop()
        strategy = self._strategies.get(name)
        if strategy is not None:
            await self._submit(strategy, name, trade)
        else:
            await self._publish(self._community.accounts[name], trade)
        self._state.note(name, trade)
        symbol = trade.position.contract.symbol
        self._last = f"{name} {'closes' if trade.closes else 'opens'} {trade.position.side} {symbol}"
        return "signals closed" if trade.closes else "signals opened"

    async def _publish(self, account: DemoClient, trade: Trade) -> None:
        position = trade.position
        words = ("yes", "no") if position.contract.asset_type == "prediction" else ("buy", "sell")
        body = {
            "symbol": position.contract.symbol,
            "action": words[position.side == "short"],
            "asset_type": position.contract.asset_type,
            "entry_price": trade.price,
            "size": size_of(trade),
            "asset_data": trade.asset_data,
            "commentary": commentary_of(trade),
            "close": trade.closes,
        }
        await account.ask("POST", "/api/signals", body, key=str(uuid7()), patient=False)

    async def _submit(self, client: DemoClient, name: str, trade: Trade) -> None:
        contract = trade.position.contract
        body = {
            "event_type": trade.event_type,
            "signal_direction": trade.direction,
            "symbol": contract.symbol,
            "asset_type": contract.asset_type,
            "entry_price": trade.price,
            "size": size_of(trade),
            "ts_utc": rfc3339(now()),
            "source": name,
            "asset_data": trade.asset_data,
            "commentary": commentary_of(trade),
        }
        await client.ask("POST", "/api/v1/signals", body, key=str(uuid7()), patient=False)

    # --- people

    def somebody(self) -> DemoClient:
        """Draw a person who takes part."""
        # Never a passive one: with the first follow, their referral would be pending no longer.
        return self._random.choice(self._community.active)

    def _signal(self) -> str:
        if not self._newest:
            raise DemoFailed("there are no signals to talk about; was the filling complete?")
        return str(self._random.choice(self._newest)["id"])

    async def _react(self) -> str:
        kind = self._random.choices(_KINDS, _WEIGHTS)[0]
        path = f"/api/social/signals/{self._signal()}/react"
        await self.somebody().ask("POST", path, {"reaction_type": kind}, patient=False)
        return "reactions"

    async def _comment(self) -> str:
        path = f"/api/social/signals/{self._signal()}/comments"
        account = self.somebody()
        try:
            await account.ask("POST", path, {"content": self._random.choice(COMMENTS)}, patient=False)
        except RequestRefused as error:
            if error.status != 409:  # the same comment was made there a moment ago
                raise
        return "comments"

    async def _follow(self) -> str:
        # Some are on the rise: a person who is drawn is drawn again for a while.
        rising = int(time.time() // _RISE_SECONDS) % len(self._community.providers)
        charm = [each.charm + (0.5 if place == rising else 0.0)
                 for place, each in enumerate(self._community.cast.providers)]  # fmt: skip
        provider = self._random.choices(self._community.providers, charm)[0]
        account = self.somebody()
        if account is not provider:
            await account.ask("POST", f"/api/social/follow/{provider.user_id}", {}, patient=False)
            self._last = f"{account.person.name} follows {provider.person.name}"
        return "follows"

    async def _unfollow(self) -> str:
        account = self.somebody()
        following = (await account.get("/api/social/following?limit=100"))["following"]
        if len(following) > 1:  # each keeps one
            one = self._random.choice(following)["provider"]
            await account.ask("DELETE", f"/api/social/follow/{one['user_id']}", patient=False)
            self._last = f"{account.person.name} no longer follows {one['display_name']}"
        return "unfollows"
