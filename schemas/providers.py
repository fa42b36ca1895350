"""Schemas of providers: their list, their profiles, and changes to a profile."""

from __future__ import annotations

import re
from typing import Unpack

from marshmallow import ValidationError

from schemas._fields import (
    Choice,
    ConvertedText,
    Distinct,
    FieldOptions,
    Flag,
    Nested,
    Number,
    Schema,
    Stored,
    Text,
    Timestamp,
    Whole,
    about,
)
from schemas._names import RENAME_DAYS
from schemas._people import DisplayName, HttpsUrl, Prose, is_plain_text, normalise_text
from schemas._queries import Paging, QueryFlag, QueryWhole
from schemas._vocabulary import ProviderSort, RiskLevel, VerificationLevel
from schemas.signals import SignalItem

SPECIALTIES = 10
SPECIALTY_CHARACTERS = 30

_NAME = "2-50 characters. Nobody has it or one like it: case, width, what shows nothing, Unicode's confusables count."

_HANDLE = re.compile(r"@?([A-Za-z0-9_]{1,15})")


class Handle(ConvertedText):
    """A name on Twitter, loaded without its @."""

    def convert(self, text: str) -> str:
        match = _HANDLE.fullmatch(text.strip())
        if match is None:
            raise ValidationError("must be a Twitter handle: 1-15 letters, digits and _")
        return match[1]


class Specialty(ConvertedText):
    """A word or two, trimmed."""

    def convert(self, text: str) -> str:
        words = normalise_text(text).strip()
        if not is_plain_text(words):
            raise ValidationError("must not contain control characters")
        return words


class Specialties(Distinct):
    """At most ten, each once ignoring case."""

    def __init__(self, **options: Unpack[FieldOptions]) -> None:
        super().__init__(Specialty(min=1, max=SPECIALTY_CHARACTERS), max=SPECIALTIES, **options)


class ProvidersQuery(Paging):
    """The providers to list, and their order; ties by id."""

    limit = QueryWhole(min=1, max=100, load_default=20, **about("Most items of one answer."))
    sort = Choice(ProviderSort, load_default="followers", **about("The most first."))
    verified_only = QueryFlag(load_default=False)


class ProviderItemSchema(Schema):
    """A provider in a list. Rates and returns are fractions, to 4 decimals; null while nothing is closed."""

    user_id = Text(required=True, metadata={"format": "uuid"})
    display_name = Text(required=True)
    bio = Text(required=True, allow_none=True)
    avatar_url = Text(required=True, allow_none=True)
    risk_level = Choice(RiskLevel, required=True, allow_none=True)
    specialties = Specialties(required=True)
    total_signals = Whole(required=True, min=0, **about("Every signal published, closes included."))
    win_rate = Number(required=True, allow_none=True)
    avg_return = Number(required=True, allow_none=True)
    total_return = Number(required=True)
    current_streak = Whole(required=True, min=0)
    longest_streak = Whole(required=True, min=0)
    follower_count = Whole(required=True, min=0)
    is_verified = Flag(required=True)
    verification_level = Choice(VerificationLevel, required=True)


class PageOfProviders(Schema):
    """Providers. `total` is exact."""

    providers = Nested(ProviderItemSchema, many=True, required=True)
    total = Whole(required=True, min=0)
    limit = Whole(required=True)
    offset = Whole(required=True)


class ProviderStats(Schema):
    """A track record. Positions that are not closed yet count in `total_signals` alone."""

    total_signals = Whole(required=True, min=0)
    win_count = Whole(required=True, min=0)
    loss_count = Whole(required=True, min=0)
    win_rate = Number(required=True, allow_none=True)
    avg_return = Number(required=True, allow_none=True)
    total_return = Number(required=True)
    sharpe_ratio = Number(required=True, allow_none=True, **about("Null under two closed signals."))
    max_drawdown = Number(required=True, **about("The deepest fall of 1 + the running sum of returns."))
    current_streak = Whole(required=True, min=0, **about("Signals closed with a profit in a row."))
    longest_streak = Whole(required=True, min=0)
    follower_count = Whole(required=True, min=0)
    signal_likes_total = Whole(required=True, min=0)


class ProviderProfile(Schema):
    """A provider. `is_following` is false without a token. `recent_signals` are the newest ten."""

    user_id = Text(required=True, metadata={"format": "uuid"})
    display_name = Text(required=True)
    bio = Text(required=True, allow_none=True)
    strategy_description = Text(required=True, allow_none=True)
    avatar_url = Text(required=True, allow_none=True)
    banner_url = Text(required=True, allow_none=True)
    website_url = Text(required=True, allow_none=True)
    twitter_handle = Text(required=True, allow_none=True)
    risk_level = Choice(RiskLevel, required=True, allow_none=True)
    specialties = Specialties(required=True)
    stats = Nested(ProviderStats, required=True)
    is_verified = Flag(required=True)
    verification_level = Choice(VerificationLevel, required=True)
    verified_at = Timestamp(required=True, allow_none=True)
    former_name = Text(**about(f"Only for {RENAME_DAYS} days after another name was taken: the one before."))
    former_name_until = Timestamp(**about("Until then nobody else may take the former name."))
    recent_signals = Stored(SignalItem, many=True, required=True)
    is_following = Flag(required=True)
    created_at = Timestamp(required=True)


class ProfileFields(Schema):
    """A provider's profile fields; null removes one."""

    bio = Prose(max=500, allow_none=True)
    strategy_description = Prose(max=2000, allow_none=True)
    avatar_url = HttpsUrl(allow_none=True)
    banner_url = HttpsUrl(allow_none=True)
    website_url = HttpsUrl(allow_none=True)
    twitter_handle = Handle(allow_none=True, metadata={"examples": ["cryptoking42"]})
    risk_level = Choice(RiskLevel, allow_none=True)
    specialties = Specialties(**about(f"At most {SPECIALTIES}.", examples=[["crypto"]]))


class NewProvider(ProfileFields):
    """The profile of a new provider. The name must not be, or look like, another provider's."""

    display_name = DisplayName(may_idle=True, required=True, **about(_NAME))


class ProviderChange(ProfileFields):
    """Fields that are given are set; null removes one."""

    display_name = DisplayName(may_idle=True, **about(f"{_NAME} Once in {RENAME_DAYS} days."))
