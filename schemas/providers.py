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
from schemas._queries import Paging, QueryFlag, QuerySchema, QueryWhole
from schemas._vocabulary import EquityPeriod, ProviderSort, RiskLevel, VerificationLevel
from schemas.leaderboards import MissingGateSchema
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


class EquityQuery(QuerySchema):
    """The period of a curve, and how many points it is thinned to."""

    period = Choice(EquityPeriod, load_default="month", **about("The days before today; all: since the first."))
    points = QueryWhole(min=2, max=500, load_default=100, **about("Most points; the turning points always stay."))


class EquityPoint(Schema):
    """A provider's equity at the end of a day, or now. Amounts are parts of the equity that the period began with."""

    t = Timestamp(required=True, **about("The end of the day; of the last point, now."))
    equity = Number(required=True, **about("What one unit has become; 0 is ruin."))
    realised = Number(required=True, **about("What closed positions and costs made of it: equity − 1 − open."))
    open = Number(required=True, **about("What open positions made of it, at the last mid."))
    exposure = Number(required=True, **about("Open units, of the greatest number that was open at once."))
    drawdown = Number(required=True, **about("How far it is below its highest, as a part of that."))


class EquityMonth(Schema):
    """A calendar month of a curve."""

    month = Text(required=True, **about("As in 2026-11."))
    return_ = Number(data_key="return", required=True, **about("What the equity returned in it."))


class SideCosts(Schema):
    """The cost of one side of a trade by asset type, in basis points of the part that is traded."""

    crypto = Number(required=True, **about("Of crypto."))
    stock = Number(required=True, **about("Of stocks."))
    option = Number(required=True, **about("Of options."))
    etf = Number(required=True, **about("Of ETFs."))
    forex = Number(required=True, **about("Of forex."))
    prediction = Number(required=True, **about("Of predictions."))


class Equity(Schema):
    """A provider's curve by the market's prices."""

    as_of = Timestamp(required=True, **about("When it was computed."))
    as_of_seq = Whole(required=True, min=0, **about("The number in the feed of the newest signal in it."))
    basis = Text(required=True, **about("How positions are valued: `marked_daily`."))
    cost_bps = Nested(SideCosts, required=True, **about("What one side of a trade costs, in basis points."))
    points = Stored(EquityPoint, many=True, required=True, **about("In the order of time."))
    months = Nested(EquityMonth, many=True, required=True, **about("The calendar months of the period."))
    max_drawdown = Number(required=True, **about("The deepest drawdown of the period."))
    ruined = Flag(required=True, **about("Whether the equity has come to 0, where it stays."))


class WinRateInterval(Schema):
    """Wilson's 95 % interval of a win rate."""

    lower = Number(required=True, **about("Its lower end."))
    upper = Number(required=True, **about("Its upper end."))


class Companion(Schema):
    """A provider whose days move with another's."""

    provider_id = Text(required=True, metadata={"format": "uuid", "description": "The other provider."})
    correlation = Number(required=True, **about("Of the daily returns of the last 90 days: −1 to 1."))


class ProviderRecord(Schema):
    """A record by the market's prices, with what is open at the last mid. Null where there is nothing to divide by.

    Bets are counted: positions on one instrument whose lives overlap are one, its result the mean of theirs after
    costs. Only positions whose opening had a quote are in it, but for `share_verified`.
    """

    profit_factor = Number(required=True, allow_none=True, **about("All gains by all losses; null without losses."))
    payoff = Number(required=True, allow_none=True, **about("The mean gain by the mean loss; null without losses."))
    expectancy = Number(required=True, allow_none=True, **about("The mean result of a bet."))
    median_holding_seconds = Whole(
        required=True, allow_none=True, **about("Of closed positions, each rounded down to three digits.")
    )
    oldest_open_seconds = Whole(
        required=True, allow_none=True, **about("The age of the oldest open position, in whole minutes.")
    )
    share_open = Number(required=True, allow_none=True, **about("Open bets, of all."))
    share_verified = Number(required=True, allow_none=True, **about("Positions with a quote, of all ever opened."))
    worst_day = Number(required=True, allow_none=True, **about("The smallest daily return."))
    open = Whole(required=True, min=0, **about("Open bets."))
    closed = Whole(required=True, min=0, **about("Closed bets."))
    breakeven = Whole(required=True, min=0, **about("Closed bets whose result is exactly 0."))
    stale = Whole(required=True, min=0, **about("Open positions without a price for a day; they count."))
    days = Whole(required=True, min=0, **about("Days with exposure."))
    win_rate_interval = Nested(
        WinRateInterval, required=True, allow_none=True, **about("Of the share of bets with a gain; never ranked by.")
    )
    missing = Nested(
        MissingGateSchema,
        many=True,
        required=True,
        **about("Every gate that keeps it off the boards `skill` and `steady`; empty: it is eligible."),
    )
    risk_score = Whole(
        required=True,
        min=1,
        max=10,
        allow_none=True,
        **about("The tenth of all providers by the loss that 95 % of days stay within; 10 is the largest."),
    )
    moves_with = Nested(Companion, many=True, required=True, **about("|correlation| above 0.9; the closest first."))


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
    record = Nested(ProviderRecord, **about("The record by the market's prices."))
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
