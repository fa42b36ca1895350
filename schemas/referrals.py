"""Schemas of the referral program, and of the code that a user chooses."""

from __future__ import annotations

import re

from marshmallow import ValidationError

from schemas._fields import (
    ConvertedText,
    Flag,
    Identifier,
    Items,
    Nested,
    Number,
    Schema,
    Text,
    Timestamp,
    Whole,
    about,
)
from schemas._queries import Paging, QueryWhole

CODE_CHARACTERS = (4, 20)
_CODE = re.compile(rf"[A-Z0-9]{{{CODE_CHARACTERS[0]},{CODE_CHARACTERS[1]}}}")
SHOWN_CHARACTERS = 6


class Code(ConvertedText):
    """A referral code, loaded in upper case."""

    def convert(self, text: str) -> str:
        # Letters outside ASCII may have an upper-case form inside it: ſ becomes S.
        if not text.isascii() or not _CODE.fullmatch(text.upper()):
            raise ValidationError(f"must be {CODE_CHARACTERS[0]}-{CODE_CHARACTERS[1]} letters A-Z and digits")
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
    pending_earnings = Number(required=True, **about("What the pending ones would bring if all of them qualified now."))


class Referral(Schema):
    """A person who registered with the user's code."""

    referee_name = Text(required=True)
    status = Text(required=True)
    reward_amount = Number(required=True, allow_none=True, **about("Null until it has qualified."))
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


class ClustersQuery(Paging):
    """The part of the list to show."""

    least = QueryWhole(min=2, max=1000, load_default=2, **about("How many referees make a cluster."))


class ReferralCluster(Schema):
    """Referees of one referrer who were signed in from one network address within the last weeks."""

    referrer_id = Identifier(required=True, **about("The user who brought them."))
    address = Text(required=True, **about("An IPv4 address, or the /64 of an IPv6 one."))
    is_referrers = Flag(required=True, **about("Whether the referrer was signed in from there, too."))
    referees = Whole(required=True, min=1, **about("How many of them there are."))
    qualified = Whole(required=True, min=0, **about("How many of them have qualified."))
    rewards = Number(required=True, **about("US dollars, of the referrer and the referees together."))
    first_at = Timestamp(required=True, **about("When the first of them registered."))
    last_at = Timestamp(required=True, **about("When the last of them registered."))
    referee_ids = Items(Identifier(), required=True, **about("The newest hundred."))


class ReferralClusters(Schema):
    """Clusters, the largest first. `total` is exact."""

    clusters = Nested(ReferralCluster, many=True, required=True, **about("This page, the largest first."))
    total = Whole(required=True, min=0)
    limit = Whole(required=True)
    offset = Whole(required=True)


def masked(name: str) -> str:
    """Mask a name, of which others may see the beginning."""
    return f"{name[:SHOWN_CHARACTERS]}***"
