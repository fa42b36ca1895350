"""Hold the table of achievements, and decide (pure) which are due."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Fact = Literal["signals", "wins", "login_days", "followers", "first_as_provider", "verified", "referrals"]
Facts = Mapping[Fact, int]
"""A user's facts; one that is not named is 0."""


@dataclass(frozen=True, slots=True)
class Achievement:
    """An achievement: unlocked when the fact reaches the target."""

    id: str
    name: str
    description: str
    category: str
    icon: str
    points: int
    rarity: str
    fact: Fact
    target: int


# fmt: off
ACHIEVEMENTS = (
    Achievement("first_signal", "First Signal", "Your first published signal",
                "trading", "🎯", 10, "common", "signals", 1),
    Achievement("first_win", "First Win", "Your first profitable signal",
                "trading", "🏆", 25, "common", "wins", 1),
    Achievement("win_10", "Getting Started", "10 profitable signals",
                "trading", "📈", 50, "uncommon", "wins", 10),
    Achievement("win_100", "Consistent Winner", "100 profitable signals",
                "trading", "💰", 200, "rare", "wins", 100),
    Achievement("win_1000", "Trading Master", "1,000 profitable signals",
                "trading", "👑", 1000, "legendary", "wins", 1000),
    Achievement("streak_7", "Week Warrior", "Logged in 7 days in a row",
                "engagement", "🔥", 50, "common", "login_days", 7),
    Achievement("streak_30", "Monthly Dedication", "Logged in 30 days in a row",
                "engagement", "💪", 150, "uncommon", "login_days", 30),
    Achievement("streak_100", "Century Club", "Logged in 100 days in a row",
                "engagement", "⭐", 500, "rare", "login_days", 100),
    Achievement("streak_365", "Year of Commitment", "Logged in 365 days in a row",
                "engagement", "💎", 2000, "legendary", "login_days", 365),
    Achievement("follower_10", "Building Community", "10 followers",
                "social", "👥", 50, "common", "followers", 10),
    Achievement("follower_100", "Rising Star", "100 followers",
                "social", "🌟", 200, "uncommon", "followers", 100),
    Achievement("follower_1000", "Influencer", "1,000 followers",
                "social", "🚀", 1000, "rare", "followers", 1000),
    Achievement("follower_10000", "Legend", "10,000 followers",
                "social", "🏛️", 5000, "legendary", "followers", 10_000),
    Achievement("provider_first", "Signal Provider", "Became a provider and published a signal",
                "provider", "📡", 100, "uncommon", "first_as_provider", 1),
    Achievement("provider_verified", "Verified Provider", "Became a verified provider",
                "provider", "✅", 500, "rare", "verified", 1),
    Achievement("referral_1", "Sharing is Caring", "Your first qualified referral",
                "social", "🤝", 100, "common", "referrals", 1),
    Achievement("referral_5", "Growth Hacker", "5 qualified referrals",
                "social", "📢", 300, "uncommon", "referrals", 5),
    Achievement("referral_10", "Ambassador", "10 qualified referrals",
                "social", "🎖️", 750, "rare", "referrals", 10),
)
# fmt: on
BY_ID: Mapping[str, Achievement] = {each.id: each for each in ACHIEVEMENTS}


def due(facts: Facts) -> list[str]:
    """Return the ids of what these facts unlock, in the table's order."""
    return [each.id for each in ACHIEVEMENTS if facts.get(each.fact, 0) >= each.target]


def points(unlocked: Iterable[str]) -> int:
    """Return the sum of the points of what is unlocked; an id that is no longer in the table counts nothing."""
    return sum(BY_ID[each].points for each in unlocked if each in BY_ID)


def nearest(facts: Facts, unlocked: Iterable[str]) -> list[tuple[Achievement, int]]:
    """Return the nearest locked achievement of each requirement with its progress, by progress/target descending.

    Ties come in the table's order.
    """
    have = frozenset(unlocked)
    locked: dict[Fact, list[Achievement]] = defaultdict(list)
    for each in ACHIEVEMENTS:
        if each.id not in have:
            locked[each.fact].append(each)
    nexts = [min(each, key=lambda one: one.target) for each in locked.values()]
    reached = [(each, min(facts.get(each.fact, 0), each.target)) for each in nexts]
    return sorted(reached, key=lambda pair: -pair[1] / pair[0].target)
