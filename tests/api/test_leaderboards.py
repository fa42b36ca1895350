"""Leaderboards over HTTP: live after a follow and a close, for everybody, and while their actor is unavailable."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from actors._runtime.context import Behaviour
from actors._runtime.messages import Message
from actors.leaderboards.leaderboards import Leaderboards
from actors.leaderboards.messages import LEADERBOARDS, PositionOf, Top
from actors.ledger.messages import LEDGER
from actors.providers.messages import PROVIDERS
from actors.providers.providers import Providers
from actors.users.messages import USERS
from actors.users.users import Users
from config.clock import now, rfc3339
from config.settings import Settings
from db import leaderboards as sql
from schemas._vocabulary import LIVE_BOARDS, Period, values_of
from schemas.errors import ActorUnavailable
from tests.support.accounts import Browser, World, gateway_of, token_of
from tests.support.local_actors import local_actors
from tests.support.providers_factory import Trade, id_of, new_provider, post_trades
from tests.support.quiet_ledger import quiet_ledger, with_log_key
from tests.support.streams import until

PATH = "/api/leaderboards"


class Gone:
    """A reference to an actor that is unavailable."""

    async def ask(self, *_: Any, **__: Any) -> Any:
        raise ActorUnavailable

    async def close(self) -> None:
        """Do nothing: no message waits."""


class Half:
    """A reference to an actor that answers in time to every kind of message but one."""

    def __init__(self, ref: Any, but: type[Message[Any]]) -> None:
        self._mailbox, self._but = ref, but

    async def ask(self, key: str, message: Message[Any], **options: Any) -> Any:
        if isinstance(message, self._but):
            raise ActorUnavailable
        return await self._mailbox.ask(key, message, **options)

    def tell(self, key: str, message: Message[Any]) -> bool:
        """Send the message."""
        told: bool = self._mailbox.tell(key, message)
        return told

    async def close(self) -> None:
        """Close the reference behind this one."""
        await self._mailbox.close()


@asynccontextmanager
async def boards_world(settings: Settings) -> AsyncIterator[World]:
    """A gateway, and the owners of users, providers and boards."""
    settings = settings.replace(rate_limit_enabled=False)
    behaviours: dict[str, Behaviour] = {
        PROVIDERS: Providers(),
        USERS: Users(),
        LEADERBOARDS: Leaderboards(),
        LEDGER: quiet_ledger(),
    }
    with with_log_key(settings) as settings:
        async with local_actors(settings, behaviours) as actors, gateway_of(settings, actors) as world:
            yield world


async def board(browser: Browser, name: str, query: str = "") -> Any:
    return (await browser.send("GET", f"{PATH}/{name}{query}")).expect(200).json


async def leads(browser: Browser, name: str, value: float, *, query: str = "") -> Any:
    """Return the board once its first entry has this value."""

    async def has_come() -> Any:
        found = await board(browser, name, query)
        return found if found["entries"] and found["entries"][0]["value"] == value else None

    return await until(has_come, seconds=2)


async def test_a_follow_and_a_close_move_the_boards(settings: Settings) -> None:
    async with boards_world(settings) as world:
        king = await new_provider(world, "king@example.com", "CryptoKing_42", avatar_url="https://x.example/k.png")
        await new_provider(world, "queen@example.com", "Queen")
        fan = await world.logged_in("fan@example.com")
        (await fan.send("POST", f"/api/social/follow/{id_of(king)}", {})).expect(201)
        found = await leads(fan, "followers", 1)
        assert {name: found[name] for name in found if name not in ("entries", "updated_at")} == {
            "leaderboard": "followers",
            "period": "all",
            "as_of": 0,
            "reason": None,
        }
        assert [(each["rank"], each["value"]) for each in found["entries"]] == [(1, 1), (2, 0)]
        assert found["entries"][0] == {
            "rank": 1,
            "provider": {
                "user_id": str(id_of(king)),
                "display_name": "CryptoKing_42",
                "avatar_url": found["entries"][0]["provider"]["avatar_url"],
                "is_verified": False,
            },
            "value": 1,
            "change": 1,
            "change_period": "week",
            **dict.fromkeys(("n", "days", "interval", "drawdown", "open_result", "share_verified", "luck")),
        }
        trades = [Trade(id_of(king)), Trade(id_of(king), opens=False, price=Decimal(110))]
        await post_trades(world, trades, at=now())
        assert (await leads(fan, "return", 0.1))["entries"][0]["change"] is None  # nothing was closed before
        month = await leads(fan, "streak", 1, query="?period=month")
        assert (month["period"], month["entries"][0]["change_period"]) == ("month", "month")
        assert (await leads(fan, "rising", 0.1))["period"] == "all"
        assert (await board(fan, "win_rate"))["entries"] == []  # not before ten


async def test_a_provider_sees_where_it_is(settings: Settings) -> None:
    async with boards_world(settings) as world:
        king = await new_provider(world, "king@example.com", "King")
        queen = await new_provider(world, "queen@example.com", "Queen")
        (await king.send("POST", f"/api/social/follow/{id_of(queen)}", {})).expect(201)
        await king.refresh()  # the token that says that it is a provider's
        await leads(king, "followers", 1)
        assert (await board(king, "followers", "?limit=1"))["me"] == {"rank": 2, "value": 0, "missing": []}
        assert (await board(king, "win_rate"))["me"] == {
            "rank": None,
            "value": None,
            "missing": [{"gate": "closed", "have": 0, "need": 10}],
        }
        fan = await world.logged_in("fan@example.com")
        assert "me" not in await board(fan, "followers")
        fan.token = token_of(world.settings, "demo")
        assert "me" not in await board(fan, "followers")
        fan.token = None
        assert len((await board(fan, "followers"))["entries"]) == 2


async def test_a_board_that_has_not_changed_is_not_sent_again(settings: Settings) -> None:
    async with boards_world(settings) as world:
        king = await new_provider(world, "king@example.com", "King")
        first = await king.send("GET", f"{PATH}/followers")
        again = await king.send("GET", f"{PATH}/followers", headers={"If-None-Match": first.headers["ETag"]})
        again.expect(304)


@pytest.mark.parametrize("path", ["nonsense", "Followers", "win_rate/x"])
async def test_any_other_board_is_unknown(settings: Settings, path: str) -> None:
    async with boards_world(settings) as world:
        (await world.browser().send("GET", f"{PATH}/{path}")).problem(404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("query", "field"), [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("period=year", "period")]
)
async def test_a_wrong_query_is_named(settings: Settings, query: str, field: str) -> None:
    async with boards_world(settings) as world:
        problem = (await world.browser().send("GET", f"{PATH}/streak?{query}")).problem(400, "VALIDATION_ERROR")
        assert [each["field"] for each in problem["details"]] == [field]


async def test_the_copy_is_read_while_the_actor_is_unavailable(settings: Settings) -> None:
    async with boards_world(settings) as world:
        king = await new_provider(world, "king@example.com", "King")
        await new_provider(world, "queen@example.com", "Queen")
        (await (await world.logged_in("fan@example.com")).send("POST", f"/api/social/follow/{id_of(king)}", {})).expect(
            201
        )
        await king.refresh()
        trades = [Trade(id_of(king), opens=number % 2 == 0, price=Decimal(100 + number)) for number in range(20)]
        await post_trades(world, trades, at=now())
        await leads(king, "streak", 10)
        live = {
            (name, period): await board(king, name, f"?period={period}")
            for name in LIVE_BOARDS
            for period in values_of(Period)
        }
        async with world.pool.acquire() as conn:
            await sql.refresh(conn)
        await world.actors.kill(LEADERBOARDS)
        world.actors.refs[LEADERBOARDS] = Gone()  # type: ignore[assignment]
        for (name, period), document in live.items():
            copied = await board(king, name, f"?period={period}")
            assert (copied["entries"], copied["me"]) == (document["entries"], document["me"])
        king.token = token_of(world.settings, "provider")  # an unknown provider, which the copy lacks
        assert "me" not in await board(king, "followers")


@pytest.mark.parametrize("silent_on", [Top, PositionOf])
async def test_the_board_and_my_place_come_from_one_source(settings: Settings, silent_on: type[Message[Any]]) -> None:
    async with boards_world(settings) as world:
        king = await new_provider(world, "king@example.com", "King")
        await king.refresh()
        async with world.pool.acquire() as conn:
            await sql.refresh(conn)  # the copy's state: a king without followers
        copied_at = now()
        await new_provider(world, "queen@example.com", "Queen")
        ace = await new_provider(world, "ace@example.com", "Ace")
        fan = await world.logged_in("fan@example.com")
        (await fan.send("POST", f"/api/social/follow/{id_of(ace)}", {})).expect(201)
        live = await leads(king, "followers", 1, query="?limit=1")
        assert live["me"]["rank"] > 1  # of the actor, as the board is
        ref = world.actors.refs[LEADERBOARDS]
        world.actors.refs[LEADERBOARDS] = Half(ref, silent_on)  # type: ignore[assignment]
        copied = await board(king, "followers", "?limit=1&period=month")  # no answer of before is kept for it
        assert [each["provider"]["user_id"] for each in copied["entries"]] == [str(id_of(king))]
        assert copied["me"] == {"rank": 1, "value": 0, "missing": []}
        assert copied["updated_at"] < rfc3339(copied_at)
        if silent_on is PositionOf:  # a request without a position gets the actor's board
            fan.token = None
            assert (await board(fan, "followers", "?limit=1&period=month"))["entries"][0]["value"] == 1
