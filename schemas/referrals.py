"""Schemas of the referral program, and of the code that a user chooses."""

from __future__ import annotations

import re
from typing import Any

from schemas._fields import Flag, Identifier, Items, Nested, Number, Paging, QueryWhole, Schema, Text, Timestamp, Whole

CODE_CHARACTERS = (4, 20)
_CODE = re.compile(rf"[A-Z0-9]{{{CODE_CHARACTERS[0]},{CODE_CHARACTERS[1]}}}")
SHOWN_CHARACTERS = 6


class Code(Text):
    """A referral code, loaded in upper case."""

    default_error_messages = {  # noqa: RUF012
        "code": f"must be {CODE_CHARACTERS[0]}-{CODE_CHARACTERS[1]} letters A-Z and digits"
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        # Letters outside ASCII may have an upper-case form inside it: ſ becomes S.
        if not text.isascii() or not _CODE.fullmatch(text.upper()):
            raise self.make_error("code")
        return text.upper()


class CodeChoice(Schema):
    """A code of one's own."""

    code = Code(required=True, metadata={"examples": ["CRYPTOKING"]})


class CodeInForce(Schema):
    """The code that is shown from now on; earlier codes go on working."""

    referral_code = Text(required=True)
    referral_url = Text(required=True)


class ReferralTier(Schema):
    """The user's tier, and what a referral is worth in it."""

    id = Text(required=True)
    name = Text(required=True)
    referrer_reward = Number(required=True)
    referee_reward = Number(required=True)


class NextTier(Schema):
    """The tier above, and how many more referrals must qualify for it."""

    id = Text(required=True)
    name = Text(required=True)
    referrals_needed = Whole(required=True)
    referrer_reward = Number(required=True)


class ReferralStats(Schema):
    """All of a user's referrals in figures."""

    total_referrals = Whole(required=True)
    qualified_referrals = Whole(required=True)
    pending_referrals = Whole(required=True)
    total_earned = Number(required=True)
    pending_earnings = Number(
        required=True, metadata={"description": "What the pending ones would bring if all of them qualified now."}
    )


class Referral(Schema):
    """A person who registered with the user's code."""

    referee_name = Text(required=True)
    status = Text(required=True)
    reward_amount = Number(required=True, allow_none=True, metadata={"description": "Null until it has qualified."})
    created_at = Timestamp(required=True)
    qualified_at = Timestamp(required=True, allow_none=True)


class Dashboard(Schema):
    """A user's part in the program; `referrals` the newest first, paged."""

    referral_code = Text(required=True)
    referral_url = Text(required=True)
    tier = Nested(ReferralTier, required=True)
    stats = Nested(ReferralStats, required=True)
    next_tier = Nested(NextTier, required=True, allow_none=True)
    referrals = Nested(Referral, many=True, required=True)


class ReferralsQuery(Paging):
    """The part of the list to show."""


class ClustersQuery(Paging):
    """The part of the list to show."""

    least = QueryWhole(min=2, max=1000, load_default=2, metadata={"description": "How many referees make a cluster."})


class ReferralCluster(Schema):
    """Referees of one referrer who were signed in from one network address within the last weeks."""

    referrer_id = Identifier(required=True, metadata={"description": "The user who brought them."})
    address = Text(required=True, metadata={"description": "An IPv4 address, or the /64 of an IPv6 one."})
    is_referrers = Flag(required=True, metadata={"description": "Whether the referrer was signed in from there, too."})
    referees = Whole(required=True, min=1, metadata={"description": "How many of them there are."})
    qualified = Whole(required=True, min=0, metadata={"description": "How many of them have qualified."})
    rewards = Number(required=True, metadata={"description": "US dollars, of the referrer and the referees together."})
    first_at = Timestamp(required=True, metadata={"description": "When the first of them registered."})
    last_at = Timestamp(required=True, metadata={"description": "When the last of them registered."})
    referee_ids = Items(Identifier(), required=True, metadata={"description": "The newest hundred."})


class ReferralClusters(Schema):
    """Clusters, the largest first. `total` is exact."""

    clusters = Nested(
        ReferralCluster, many=True, required=True, metadata={"description": "This page, the largest first."}
    )
    total = Whole(required=True, min=0)
    limit = Whole(required=True)
    offset = Whole(required=True)


def masked(name: str) -> str:
    """Mask a name, of which others may see the beginning."""
    return f"{name[:SHOWN_CHARACTERS]}***"
