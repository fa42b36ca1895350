"""Schemas of providers: their list, their profiles, and changes to a profile."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from schemas._fields import (
    Choice,
    Flag,
    Items,
    Nested,
    Number,
    Paging,
    QueryFlag,
    QueryWhole,
    Schema,
    Text,
    Timestamp,
    Whole,
)
from schemas._names import RENAME_DAYS
from schemas._people import DisplayName, HttpsUrl, Prose, is_plain_text, normalise_text
from schemas.signals import SignalItem
from schemas.users import RISKS

SORTS = ("followers", "win_rate", "return", "streak")
VERIFICATION_LEVELS = ("none", "basic", "pro", "elite")
SPECIALTIES = 10
SPECIALTY_CHARACTERS = 30

_NAME = "2-50 characters. Nobody has it or one like it: case, width, what shows nothing, Unicode's confusables count."

_HANDLE = re.compile(r"@?([A-Za-z0-9_]{1,15})")


class Handle(Text):
    """A name on Twitter, loaded without its @."""

    default_error_messages = {"handle": "must be a Twitter handle: 1-15 letters, digits and _"}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        match = _HANDLE.fullmatch(super()._deserialize(value, attr, data, **kwargs).strip())
        if match is None:
            raise self.make_error("handle")
        return match[1]


class Specialty(Text):
    """A word or two, trimmed."""

    default_error_messages = {"control": "must not contain control characters"}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = normalise_text(super()._deserialize(value, attr, data, **kwargs)).strip()
        if not is_plain_text(text):
            raise self.make_error("control")
        return text


class Specialties(Items):
    """At most ten, each once ignoring case."""

    def __init__(self, **options: Any) -> None:
        super().__init__(Specialty(min=1, max=SPECIALTY_CHARACTERS), max=SPECIALTIES, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        given: Sequence[Any] = super()._deserialize(value, attr, data, **kwargs)
        first: dict[str, str] = {}
        for each in given:
            first.setdefault(each.casefold(), each)
        return tuple(first.values())

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return list(value)


class ReadySignals(Nested):
    """Signals that are JSON already."""

    def _serialize(self, *given: Any, **_: Any) -> Any:
        return given[0]


class ProvidersQuery(Paging):
    """The providers to list, and their order; ties by id."""

    limit = QueryWhole(min=1, max=100, load_default=20, metadata={"description": "Most items of one answer."})
    sort = Choice(SORTS, load_default="followers", metadata={"description": "The most first."})
    verified_only = QueryFlag(load_default=False)


def _figure(**options: Any) -> Number:
    return Number(required=True, **options)


class ProviderItem(Schema):
    """A provider in a list. Rates and returns are fractions, to 4 decimals; null while nothing is closed."""

    user_id = Text(required=True, metadata={"format": "uuid"})
    display_name = Text(required=True)
    bio = Text(required=True, allow_none=True)
    avatar_url = Text(required=True, allow_none=True)
    risk_level = Choice(RISKS, required=True, allow_none=True)
    specialties = Specialties(required=True)
    total_signals = Whole(required=True, min=0, metadata={"description": "Every signal published, closes included."})
    win_rate = _figure(allow_none=True)
    avg_return = _figure(allow_none=True)
    total_return = _figure()
    current_streak = Whole(required=True, min=0)
    longest_streak = Whole(required=True, min=0)
    follower_count = Whole(required=True, min=0)
    is_verified = Flag(required=True)
    verification_level = Choice(VERIFICATION_LEVELS, required=True)


class PageOfProviders(Schema):
    """Providers. `total` is exact."""

    providers = Nested(ProviderItem, many=True, required=True)
    total = Whole(required=True, min=0)
    limit = Whole(required=True)
    offset = Whole(required=True)


class ProviderStats(Schema):
    """A track record. Positions that are not closed yet count in `total_signals` alone."""

    total_signals = Whole(required=True, min=0)
    win_count = Whole(required=True, min=0)
    loss_count = Whole(required=True, min=0)
    win_rate = _figure(allow_none=True)
    avg_return = _figure(allow_none=True)
    total_return = _figure()
    sharpe_ratio = _figure(allow_none=True, metadata={"description": "Null under two closed signals."})
    max_drawdown = _figure(metadata={"description": "The deepest fall of 1 + the running sum of returns."})
    current_streak = Whole(required=True, min=0, metadata={"description": "Signals closed with a profit in a row."})
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
    risk_level = Choice(RISKS, required=True, allow_none=True)
    specialties = Specialties(required=True)
    stats = Nested(ProviderStats, required=True)
    is_verified = Flag(required=True)
    verification_level = Choice(VERIFICATION_LEVELS, required=True)
    verified_at = Timestamp(required=True, allow_none=True)
    former_name = Text(
        metadata={"description": f"Only for {RENAME_DAYS} days after another name was taken: the one before."}
    )
    former_name_until = Timestamp(metadata={"description": "Until then nobody else may take the former name."})
    recent_signals = ReadySignals(SignalItem, many=True, required=True)
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
    risk_level = Choice(RISKS, allow_none=True)
    specialties = Specialties(metadata={"description": f"At most {SPECIALTIES}.", "examples": [["crypto"]]})


class NewProvider(ProfileFields):
    """The profile of a new provider. The name must not be, or look like, another provider's."""

    display_name = DisplayName(may_idle=True, required=True, metadata={"description": _NAME})


class ProviderChange(ProfileFields):
    """Fields that are given are set; null removes one."""

    display_name = DisplayName(may_idle=True, metadata={"description": f"{_NAME} Once in {RENAME_DAYS} days."})
