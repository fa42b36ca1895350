"""The tiers of the referral program: what a referral is worth, by how many have qualified. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

REFERRALS = 500
"""Qualified ones of one referrer; those past it stay pending."""

CODES = 10
"""That one user may have had, the one made with the account not counted."""

CODES_FROM = "silver"
"""The tier from which on a user may choose a code."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Rewards are US dollars. `least` is the number of qualified referrals that it begins with."""

    id: str
    name: str
    least: int
    referrer_reward: Decimal
    referee_reward: Decimal


TIERS = (
    Tier("bronze", "Bronze", 0, Decimal("25.00"), Decimal("25.00")),
    Tier("silver", "Silver", 5, Decimal("50.00"), Decimal("25.00")),
    Tier("gold", "Gold", 10, Decimal("75.00"), Decimal("50.00")),
)


def tier_of(qualified: int) -> Tier:
    """The tier of who has so many qualified referrals."""
    return [tier for tier in TIERS if tier.least <= qualified][-1]


def tier_after(qualified: int) -> Tier | None:
    """The next tier; None: there is none above."""
    return next((tier for tier in TIERS if tier.least > qualified), None)


def may_choose_code(qualified: int) -> bool:
    """Whether a user of so many qualified referrals may have a code of their choice."""
    return any(tier.id == CODES_FROM and qualified >= tier.least for tier in TIERS)


def expected(qualified: int, pending: int) -> Decimal:
    """What the pending referrals would bring if they qualified now, one after another: each at the tier it leads to."""
    last = min(qualified + pending, REFERRALS)
    return sum((tier_of(each).referrer_reward for each in range(qualified + 1, last + 1)), Decimal("0.00"))
