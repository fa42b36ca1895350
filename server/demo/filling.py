"""Fill the server with accounts, months of signals, and people's reactions to them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress

from config.documents import Loaded
from config.tasks import cancel, spawn
from schemas._vocabulary import ASSET_TYPES
from server.demo import DemoFailed
from server.demo.cast import KING, REPLIES, Person, Trader
from server.demo.client import AlreadyThere, DemoClient, LimitReached, RequestRefused, say
from server.demo.community import Community, for_each
from server.demo.signals import imagine

_RECORDS_SECONDS = 300.0  # without any progress of the records
_BATCH = 40  # 50 kB of the 64 that a body may have
_ZONES = ("America/New_York", "Europe/London", "Europe/Berlin", "Asia/Singapore", "Asia/Tokyo", "UTC")
_WATCHED = (("BTC/USD", 42000.0), ("ETH/USD", None), ("NVDA", 120.5))


class Filling:
    """Fill the server once. The results of an earlier run that was interrupted are kept."""

    def __init__(self, community: Community) -> None:
        self._community = community
        self._state = community.state
        self._random = random.Random(42)  # noqa: S311 - the same community each time
        self._client = DemoClient(community.host)

    async def run(self) -> None:
        """Run all steps. Raises DemoFailed."""
        if self._state.past:
            await self._accounts()
        else:
            # While accounts are made: the server hashes passwords meanwhile.
            world = self._community.cast, self._community.markets, self._state
            past = spawn(asyncio.to_thread(imagine, *world), name="score the past")
            try:
                await self._accounts()
                await self._import(await past)
            finally:
                await cancel(past)
        if not self._state.filled:
            await self._follow()
            await self._talk()
            await for_each("watchlists, saved views", self._community.active, self._keep)
            await self._choose_code()
            self._state.filled = True
            self._community.save()

    async def _accounts(self) -> None:
        accounts, people = self._community.accounts, self._community.cast.people
        await for_each("accounts, verified", people, self._enter)
        # In the order of the cast, not that of completion.
        self._community.accounts = {each.name: accounts[each.name] for each in people}

    async def _enter(self, person: Person) -> None:
        accounts, code = self._community.accounts, ""
        if person.referrer is not None:
            while person.referrer not in accounts:  # noqa: ASYNC110 - they come before those whom they refer
                await asyncio.sleep(0.1)
            code = (await accounts[person.referrer].get("/api/referrals?limit=1"))["referral_code"]
        account = DemoClient(self._community.host, person)
        await account.enter(code)
        provider = next((each for each in self._community.cast.providers if each.name == person.name), None)
        if not self._state.filled:
            bio = "Here to learn." if provider is None else provider.bio
            await account.ask("PATCH", "/auth/me", {"avatar_url": person.avatar_url, "bio": bio})
            settings = {
                "timezone": _ZONES[len(person.name) % len(_ZONES)],
                "onboarding_completed": True,
                "onboarding_step": 5,
            }
            await account.ask("PUT", "/api/user/settings", settings)
        if provider is not None and not account.is_provider:
            await account.post("/api/providers/become", provider.profile)
            await account.log_in()
        accounts[person.name] = account

    async def _import(self, past: Sequence[tuple[str, Loaded]]) -> None:
        king, accounts = self._community.accounts[KING], self._community.accounts
        if await self._signals_of(king) and not self._state.begun:
            say("  The server has a past already; it is left as it is.")
            self._state.held.clear()
        else:
            self._state.begun = True
            self._community.save()  # so that a second try imports the same signals, and not others
            # A provider's source is the account's id, a strategy's its own name.
            signals = [
                document | ({"source": str(accounts[name].user_id)} if name in accounts else {})
                for name, document in past
            ]
            for start in range(0, len(signals), _BATCH):
                await self._client.post("/api/v1/demo/signals", {"signals": signals[start : start + _BATCH]})
            say(f"  ✓ {'signals of the past':<32} {len(past):>6}")
            await self._records_follow(sum(name == KING for name, _ in past))
        self._state.past = True
        self._community.save()

    async def _records_follow(self, count: int) -> None:
        """Wait until the king's record has so many signals: the months are marked hour by hour meanwhile."""
        king, counted, deadline = self._community.accounts[KING], -1, 0.0
        while counted < count:
            before, counted = counted, await self._signals_of(king)
            if counted > before:
                deadline = time.monotonic() + _RECORDS_SECONDS
            elif time.monotonic() > deadline:
                raise DemoFailed("the providers' records do not follow the imported signals; see the server's log")
            await asyncio.sleep(0.5)

    async def _signals_of(self, account: DemoClient) -> int:
        return int((await account.get(f"/api/providers/{account.user_id}"))["stats"]["total_signals"])

    async def _follow(self) -> None:
        providers, active = self._community.cast.providers, self._community.active
        pairs = [
            (account, each)
            for account in active
            for each in providers
            if each.name != account.person.name and self._random.random() < each.charm
        ]
        # Every active person follows somebody: a referral qualifies by the first follow.
        following = {account.person.name for account, _ in pairs} | {KING}
        pairs += [(each, providers[0]) for each in active if each.person.name not in following]

        async def follow(pair: tuple[DemoClient, Trader]) -> None:
            account, provider = pair
            target = self._community.accounts[provider.name].user_id
            await account.post(f"/api/social/follow/{target}", {"notify_on_signal": len(provider.name) % 3 > 0})

        await for_each("follows", pairs, follow)

    async def _talk(self) -> None:
        # The newest of all are the busiest traders': a few more of each type, so that each gets comments.
        pages = [await self._client.get("/api/signals?limit=100")]
        pages += [await self._client.get(f"/api/signals?limit=3&asset_types={each}") for each in ASSET_TYPES]
        found = {each["id"]: each for page in pages for each in page["signals"]}
        newest, active = list(found.values()), self._community.active
        if not newest:
            return
        favour = [1 / (1 + place) ** 0.5 for place in range(len(newest))]
        acts: list[tuple[DemoClient, Loaded, str | None]]
        acts = [(account, each, None) for account in active for each in self._random.choices(newest, favour, k=12)]
        acts += [(account, each, "like") for each in newest[100:] for account in active[:3]]
        await for_each("reactions", acts, lambda act: self._community.react(act[0], act[1]["id"], act[2]))
        chosen = [*newest[:30:2], *self._random.choices(newest, favour, k=len(active)), *newest[100:]]
        await for_each("comments, with replies", chosen, self._discuss)

    async def _discuss(self, signal: Loaded) -> None:
        account = self._random.choice(self._community.active)
        with suppress(LimitReached):
            said = await self._community.comment(account, signal["id"])
            author = self._community.accounts.get(signal["provider"]["name"])
            if said and author is not None and author is not account and self._random.random() < 0.6:
                reply = self._random.choice(REPLIES)
                await self._community.comment(author, signal["id"], content=reply, parent_id=said["id"])

    async def _keep(self, account: DemoClient) -> None:
        for symbol, price in self._random.sample(_WATCHED, 2):
            owned = (
                {"entry_price": price, "position_size": 0.5, "notes": "Long-term hold"} if price else {"notes": None}
            )
            await account.post("/api/user/watchlist", {"symbol": symbol, "alert_enabled": True, **owned})
        view = {
            "name": "High Confidence BUY",
            "description": "What I look at first",
            "filters": {"actions": ["BUY"], "minOpportunityScore": 0.80},
        }
        with suppress(AlreadyThere):
            await account.post("/api/user/saved-views", view)

    async def _choose_code(self) -> None:
        """Choose a referral code, which needs silver: the tier may still be rising from what others have just done."""
        for _ in range(20):
            try:
                await self._community.accounts[KING].post("/api/referrals/custom-code", {"code": "KING42"})
            except RequestRefused as error:
                if error.status != 403:
                    raise
                await asyncio.sleep(0.5)
            else:
                return
