"""Fill the server with accounts, months of signals, and people's reactions to them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

from config.clock import rfc3339
from config.tasks import cancel, spawn
from schemas._vocabulary import ASSET_TYPES, ReactionType, values_of
from schemas.backfill import MOST_PAST
from server.demo._progress import Progress
from server.demo.cast import COMMENTS, KING, REPLIES, Person
from server.demo.client import DemoClient, DemoFailed, RequestRefused
from server.demo.community import Cast, Community, for_each
from server.demo.prices import Market
from server.demo.state import State
from server.demo.trading import past_signal, past_trades

_BATCH = min(40, MOST_PAST)  # 50 kB of the 64 that a body may have
_RECKONED_SECONDS = 60.0
_KINDS = values_of(ReactionType)
_WEIGHTS = (10, 6, 4, 1)


class Filling:
    """Fill the server once. The results of an earlier run that was interrupted are kept."""

    def __init__(self, community: Community, state: State, progress: Progress) -> None:
        self._community = community
        self._state = state
        self._progress = progress
        self._random = random.Random(42)  # noqa: S311 - the same community each time
        self._client = DemoClient(community.host)

    async def run(self) -> None:
        """Run all steps. Raises DemoFailed, RequestRefused."""
        # While accounts are made: the server hashes passwords meanwhile.
        past = None if self._state.past else spawn(self._score(), name="score the past")
        try:
            await self._accounts()
            if past is not None:
                self._state.save()  # so that a second try imports the same signals, and not others
                await self._import(await past)
        finally:
            if past is not None:
                await cancel(past)
        if not self._state.filled:
            await self._follow()
            await self._talk()
            await self._keep()
            await self._choose_code()
            self._state.filled = True
            self._state.save()

    # --- accounts

    async def _accounts(self) -> None:
        people = self._community.cast.people
        referrers = {each.referrer for each in people} - {None}
        with self._progress.step("accounts registered, verified", len(people)) as advance:
            # Referrers are registered before those whom they refer.
            first = [each for each in people if each.referrer is None]
            second = [each for each in people if each.referrer is not None and each.name in referrers]
            rest = [each for each in people if each not in first and each not in second]
            for wave in (first, second, rest):
                await for_each(advance, wave, self._enter)
        # In the order of the cast, not that of completion.
        accounts = self._community.accounts
        self._community.accounts = {each.name: accounts[each.name] for each in people}

    async def _enter(self, person: Person) -> None:
        account = DemoClient(self._community.host, person)
        referrer = self._community.accounts.get(person.referrer or "")
        code = None if referrer is None else (await referrer.get("/api/referrals?limit=1"))["referral_code"]
        await account.enter(code, expected=self._state.filled)
        provider = next((each for each in self._community.cast.providers if each.person is person), None)
        if account.is_new:
            bio = "Here to learn." if provider is None else provider.bio
            await account.ask("PATCH", "/auth/me", {"avatar_url": person.avatar_url, "bio": bio})
            settings = {"timezone": person.timezone, "onboarding_completed": True, "onboarding_step": 5}
            await account.ask("PUT", "/api/user/settings", settings)
        if provider is not None and not account.is_provider:
            try:
                await account.post("/api/providers/become", provider.profile)
            except RequestRefused as error:
                if error.status != 409:  # an earlier run has done this
                    raise
            await account.renew()
        self._community.accounts[person.name] = account

    # --- backfill

    async def _score(self) -> list[tuple[str, dict[str, Any]]]:
        return await asyncio.to_thread(imagine, self._community.cast, self._community.markets, self._state)

    async def _import(self, past: Sequence[tuple[str, dict[str, Any]]]) -> None:
        king = self._community.accounts[KING]
        before = (await king.get(f"/api/providers/{king.user_id}"))["stats"]["total_signals"]
        if before and self._state.is_new:
            self._progress.say("  The server has a past already; it is left as it is.")
            self._state.held.clear()
        else:
            with self._progress.step("signals of the past", len(past)) as advance:
                for start in range(0, len(past), _BATCH):
                    batch = [
                        {**document, "source": self._community.source(name)}
                        for name, document in past[start : start + _BATCH]
                    ]
                    await self._client.post("/api/v1/demo/signals", {"signals": batch})
                    advance(len(batch))
            mine = sum(name == KING for name, _ in past)
            await self._until_reckoned(king, mine)
        self._state.past = True
        self._state.save()

    async def _until_reckoned(self, king: DemoClient, signals: int) -> None:
        deadline = time.monotonic() + _RECKONED_SECONDS
        while (await king.get(f"/api/providers/{king.user_id}"))["stats"]["total_signals"] < signals:
            if time.monotonic() > deadline:
                raise DemoFailed("the providers' records do not follow the imported signals; see the server's log")
            await asyncio.sleep(0.5)

    # --- people

    async def _follow(self) -> None:
        providers = self._community.cast.providers
        pairs = [
            (account, each)
            for account in self._community.active
            for each in providers
            if each.name != account.person.name and self._random.random() < each.charm
        ]
        # Every active person follows somebody: a referral qualifies by the first follow.
        following = {account.person.name for account, _ in pairs}
        pairs += [(each, providers[0]) for each in self._community.active if each.person.name not in following | {KING}]

        async def follow(pair: tuple[DemoClient, Any]) -> None:
            account, provider = pair
            target = self._community.accounts[provider.name].user_id
            await account.post(f"/api/social/follow/{target}", {"notify_on_signal": len(provider.name) % 3 > 0})

        with self._progress.step("follows", len(pairs)) as advance:
            await for_each(advance, pairs, follow)

    async def _talk(self) -> None:
        signals = (await self._client.get("/api/signals?limit=100"))["signals"]
        signals += await self._newest_of_each_type(signals)
        if not signals:
            return
        favour = [1 / (1 + place) ** 0.5 for place in range(len(signals))]
        active = self._community.active
        acts = [
            (account, each["id"], self._random.choices(_KINDS, _WEIGHTS)[0])
            for account in active
            for each in self._random.choices(signals, favour, k=12)
        ]
        acts += [(account, each["id"], "like") for each in signals[100:] for account in active[:3]]

        async def react(act: tuple[DemoClient, str, str]) -> None:
            account, signal_id, kind = act
            await account.post(f"/api/social/signals/{signal_id}/react", {"reaction_type": kind})

        with self._progress.step("reactions", len(acts)) as advance:
            await for_each(advance, acts, react)
        chosen = [*signals[:30:2], *self._random.choices(signals, favour, k=len(active)), *signals[100:]]
        with self._progress.step("comments, with replies", len(chosen)) as advance:
            await for_each(advance, chosen, self._discuss)

    async def _newest_of_each_type(self, signals: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Take a few signals of each type, so that each gets comments: the newest of all are the busiest traders'."""
        known = {each["id"] for each in signals}
        pages = [await self._client.get(f"/api/signals?limit=3&asset_types={each}") for each in ASSET_TYPES]
        return [each for page in pages for each in page["signals"] if each["id"] not in known]

    async def _discuss(self, signal: dict[str, Any]) -> None:
        path = f"/api/social/signals/{signal['id']}/comments"
        account = self._random.choice(self._community.active)
        try:
            said = (await account.ask("POST", path, {"content": self._random.choice(COMMENTS)}, patient=False)).json
            author = self._community.accounts.get(signal["provider"]["name"])
            if author is not None and author is not account and self._random.random() < 0.6:
                answer = {"content": self._random.choice(REPLIES), "parent_id": said["id"]}
                await author.ask("POST", path, answer, patient=False)
        except RequestRefused as error:
            if error.status not in (409, 429):  # the same comment a moment ago; or 20 within the hour
                raise

    async def _keep(self) -> None:
        async def keep(account: DemoClient) -> None:
            for symbol, price in self._random.sample((("BTC/USD", 42000.0), ("ETH/USD", None), ("NVDA", 120.5)), 2):
                entry: dict[str, Any] = {
                    "symbol": symbol,
                    "notes": "Long-term hold" if price else None,
                    "alert_enabled": True,
                }
                if price:
                    entry |= {"entry_price": price, "position_size": 0.5}
                await account.post("/api/user/watchlist", entry)
            view = {
                "name": "High Confidence BUY",
                "description": "What I look at first",
                "filters": {"actions": ["BUY"], "minOpportunityScore": 0.80},
            }
            try:
                await account.post("/api/user/saved-views", view)
            except RequestRefused as error:
                if error.status != 409:
                    raise

        with self._progress.step("watchlists, saved views", len(self._community.active)) as advance:
            await for_each(advance, self._community.active, keep)

    async def _choose_code(self) -> None:
        """Choose a referral code, which needs silver: the tier may still be rising from what others have just done."""
        king = self._community.accounts[KING]
        for _ in range(20):
            try:
                await king.post("/api/referrals/custom-code", {"code": "KING42"})
            except RequestRefused as error:
                if error.status != 403:
                    raise
                await asyncio.sleep(0.5)
            else:
                return


def imagine(cast: Cast, markets: dict[str, Market], state: State) -> list[tuple[str, dict[str, Any]]]:
    """Simulate every style's past trades, as (name, past signal) in the order of publication.

    Positions that are still open are kept in the state.
    """
    past: list[tuple[str, dict[str, Any]]] = []
    state.held.clear()
    for name, symbols, style in cast.traders:
        for symbol in symbols:
            for trade in past_trades(style, markets[symbol], state.anchor, cast.days_of(name)):
                past.append((name, past_signal(trade, name, name, state.anchor)))
                if trade.closes:
                    del state.held[name, symbol]
                else:
                    state.held[name, symbol] = trade.position
    latest = rfc3339(state.anchor)
    return sorted(
        (each for each in past if each[1]["published_at"] <= latest), key=lambda each: each[1]["published_at"]
    )
