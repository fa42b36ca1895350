"""Two users: one refers the other, who follows; one publishes; the achievements of both show at once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from config.clock import now
from config.settings import Settings
from tests.support.accounts import Browser, World
from tests.support.progress import get, until
from tests.support.providers_factory import Trade, id_of, new_provider, post_trades, providers_world

MINE = "/api/achievements/me"


async def brought(world: World, code: str, address: str) -> Browser:
    """Return a user who has followed a referral link, registered, and verified the address."""
    link = (await world.browser().send("GET", f"/join/{code}")).expect(302)
    carried = link.headers["Location"].rpartition("referral_code=")[2]
    assert (await world.register(address, referral_code=carried)).status == 201
    browser = world.browser()
    (await browser.send("POST", "/auth/verify-email", {"token": await world.email(address)})).expect(200)
    (await browser.login(address)).expect(200)
    return browser


async def unlocked(browser: Browser) -> set[str]:
    return {each["achievement_id"] for each in (await get(browser, MINE))["unlocked"]}


async def test_a_first_follow_rewards_who_brought_the_follower(settings: Settings) -> None:
    async with providers_world(settings) as world:
        king = await new_provider(world, "king@example.com", "King")
        friend = await world.logged_in("friend@example.com", referral_code="FRIEND")
        fan = await brought(world, "friend", "fan@example.com")
        assert (await get(friend, "/api/referrals"))["stats"]["pending_referrals"] == 1
        (await fan.send("POST", f"/api/social/follow/{id_of(king)}")).expect(201)

        async def rewarded() -> Any:
            mine = await get(friend, "/api/referrals")
            return mine if mine["stats"]["qualified_referrals"] else None

        mine = await until(rewarded)
        assert mine["stats"] == {
            "total_referrals": 1,
            "qualified_referrals": 1,
            "pending_referrals": 0,
            "total_earned": 25.0,
            "pending_earnings": 0.0,
        }
        assert [(each["referee_name"], each["reward_amount"]) for each in mine["referrals"]] == [("Trader***", 25.0)]
        assert await unlocked(friend) == {"referral_1"}
        (await fan.send("DELETE", f"/api/social/follow/{id_of(king)}")).expect(200)
        (await fan.send("POST", f"/api/social/follow/{id_of(king)}")).expect(201)
        assert (await get(friend, "/api/referrals"))["stats"]["total_earned"] == 25.0


async def test_publishing_unlocks_and_rewards(settings: Settings) -> None:
    async with providers_world(settings) as world:
        friend = await world.logged_in("friend@example.com", referral_code="FRIEND")
        king = await brought(world, "FRIEND", "king@example.com")
        (await king.send("POST", "/api/providers/become", {"display_name": "King"})).expect(201)
        assert await unlocked(king) == set()
        mine = id_of(king)
        await post_trades(world, [Trade(mine)], at=now())
        assert await unlocked(king) == {"first_signal", "provider_first"}
        await post_trades(world, [Trade(mine, opens=False, price=Decimal(110))], at=now())
        assert await unlocked(king) == {"first_signal", "provider_first", "first_win"}

        async def rewarded() -> Any:
            return (await get(friend, "/api/referrals"))["stats"]["qualified_referrals"]

        assert await until(rewarded) == 1
        streaks = {each["streak_type"]: each for each in (await get(king, "/api/achievements/streaks"))["streaks"]}
        today = now().date().isoformat()
        for name in ("profitable_signal", "provider_signal"):
            assert streaks[name] == {
                "streak_type": name,
                "current_count": 1,
                "longest_count": 1,
                "last_activity_date": today,
            }


async def test_followers_unlock_for_whom_they_follow(settings: Settings) -> None:
    async with providers_world(settings) as world:
        king = await new_provider(world, "king@example.com", "King")
        for number in range(10):
            fan = await world.logged_in(f"fan{number}@example.com")
            (await fan.send("POST", f"/api/social/follow/{id_of(king)}")).expect(201)
        assert await unlocked(king) == {"follower_10"}
        (await fan.send("DELETE", f"/api/social/follow/{id_of(king)}")).expect(200)
        mine = await get(king, MINE)
        assert [each["achievement_id"] for each in mine["unlocked"]] == ["follower_10"]
        nexts = {each["id"]: each["progress"] for each in mine["next_achievements"]}
        assert nexts["follower_100"] == 9
