"""Compute a referral's worth (pure): the tiers of the program, by the number of qualified referrals."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from schemas._vocabulary import ReferralTierId

REFERRALS = 500
"""The most qualified referrals of one referrer; those past it stay pending."""

CODES = 10
"""The most codes that one user may ever have, not counting the one made with the account."""

CODES_FROM: ReferralTierId = "silver"
"""The tier from which on a user may choose a code."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier of the program; rewards are US dollars; `least` is the number of qualified referrals it begins at."""

    id: ReferralTierId
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
    """Return the tier at a number of qualified referrals."""
    return [tier for tier in TIERS if tier.least <= qualified][-1]


def tier_after(qualified: int) -> Tier | None:
    """Return the next tier; None: there is none above."""
    return next((tier for tier in TIERS if tier.least > qualified), None)


def may_choose_code(qualified: int) -> bool:
    """Return whether a user with so many qualified referrals may choose a code."""
    return any(tier.id == CODES_FROM and qualified >= tier.least for tier in TIERS)


def expected(qualified: int, pending: int) -> Decimal:
    """Return the pending referrals' rewards if they qualified now, in turn: each at the tier it leads to."""
    last = min(qualified + pending, REFERRALS)
    return sum((tier_of(each).referrer_reward for each in range(qualified + 1, last + 1)), Decimal("0.00"))
