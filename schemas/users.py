"""Schemas of a user's preferences: settings, watchlist, saved views."""

from __future__ import annotations

import zoneinfo
from decimal import Decimal
from functools import cache
from typing import Unpack

import orjson
from marshmallow import ValidationError

from config.documents import Document
from schemas._fields import (
    Choice,
    ConvertedText,
    Distinct,
    FieldOptions,
    Flag,
    Identifier,
    Nested,
    Number,
    Object,
    Price,
    Schema,
    Text,
    Timestamp,
    Whole,
)
from schemas._instruments import without_multiple
from schemas._people import Line, Prose
from schemas._symbols import normalise_symbol
from schemas._vocabulary import UPPER_ACTIONS, RiskLevel, Theme

MOST_ACTIONS = 100  # each may be named again, and counts once
FILTER_BYTES = 8 << 10
FILTER_DEPTH = 16

# Names in the zone database that are no place's time.
_NO_ZONES = frozenset({"Factory", "localtime", "posixrules"})


class Zone(ConvertedText):
    """The name of an IANA time zone."""

    def convert(self, text: str) -> str:
        if text not in _zones():
            raise ValidationError("must be an IANA time zone, as in America/New_York")
        return text


class Actions(Distinct):
    """Actions to show, each once."""

    def __init__(self, **options: Unpack[FieldOptions]) -> None:
        super().__init__(Choice(UPPER_ACTIONS), max=MOST_ACTIONS, **options)


class Symbol(ConvertedText):
    """A symbol of any asset class, in its stored form: upper case, but for the free text of predictions."""

    def convert(self, text: str) -> str:
        try:
            return stored_symbol(text)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class Filters(Object):
    """A JSON object of the client's own making, at most 8 KiB."""

    def read(self, value: object) -> Document:
        document = {name: _plain(each, FILTER_DEPTH - 1) for name, each in super().read(value).items()}
        if len(orjson.dumps(document)) > FILTER_BYTES:
            raise ValidationError(f"must have at most {FILTER_BYTES} bytes")
        return document


class UserSettings(Schema):
    """All settings of a user."""

    risk_tolerance = Choice(RiskLevel, required=True)
    min_opportunity_score = Number(required=True, min=0, max=1)
    default_action_filter = Actions(required=True)
    theme = Choice(Theme, required=True)
    timezone = Zone(required=True)
    onboarding_completed = Flag(required=True)
    onboarding_step = Whole(required=True, min=0, max=100)


class SettingsChange(Schema):
    """Fields that are given are set; others stay."""

    risk_tolerance = Choice(RiskLevel)
    min_opportunity_score = Number(min=0, max=1)
    default_action_filter = Actions()
    theme = Choice(Theme)
    timezone = Zone()
    onboarding_completed = Flag()
    onboarding_step = Whole(min=0, max=100)


class WatchlistItem(Schema):
    """A symbol that the user watches."""

    symbol = Text(required=True)
    notes = Text(required=True, allow_none=True)
    alert_enabled = Flag(required=True)
    position_size = Price(required=True, allow_none=True)
    entry_price = Price(required=True, allow_none=True)
    added_at = Timestamp(required=True)


class WatchlistEntry(Schema):
    """A symbol to watch, or changes to one that is watched."""

    symbol = Symbol(required=True, min=1, max=100, metadata={"examples": ["SOL/USD"]})
    notes = Prose(max=500, allow_none=True)
    alert_enabled = Flag()
    position_size = Price(allow_none=True)
    entry_price = Price(allow_none=True)


class Watchlist(Schema):
    """The watched symbols, in the order in which they were added."""

    watchlist = Nested(WatchlistItem, many=True, required=True)


class Unwatched(Schema):
    """A symbol that is no longer watched."""

    symbol = Text(required=True)
    removed = Flag(required=True)


class SavedView(Schema):
    """A filter under a name."""

    id = Identifier(required=True)
    name = Text(required=True)
    description = Text(required=True, allow_none=True)
    filters = Object(required=True)
    is_default = Flag(required=True)
    created_at = Timestamp(required=True)


class NewView(Schema):
    """A filter to save. At most one view is the default: a new one takes the place of the old.

    No two views of a user have the same name. "Momentum" and "momentum" are two: a name is only ever shown, never typed
    to find its view, so nothing would be gained by refusing one.
    """

    name = Line(required=True, min=1, max=100)
    description = Prose(max=500, load_default=None, allow_none=True)
    filters = Filters(required=True)
    is_default = Flag(load_default=False)


class ViewChange(Schema):
    """Fields that are given are set; others stay."""

    name = Line(min=1, max=100)
    description = Prose(max=500, allow_none=True)
    filters = Filters()
    is_default = Flag()


class SavedViews(Schema):
    """The saved views, the newest first."""

    saved_views = Nested(SavedView, many=True, required=True)


class ViewDeleted(Schema):
    """A view that has been deleted."""

    id = Identifier(required=True)
    deleted = Flag(required=True)


def _plain(value: object, depth: int) -> object:
    """Replace the Decimals that bodies are read with by floats, as a browser would read them."""
    if depth < 0:
        raise ValidationError(f"must be nested at most {FILTER_DEPTH} deep")
    if isinstance(value, dict):
        return {key: _plain(each, depth - 1) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, depth - 1) for each in value]
    if isinstance(value, Decimal):
        if value.is_finite() and value.adjusted() < 300:
            return float(value)
    elif not (isinstance(value, int) and abs(value) >= 1 << 63):
        return value
    raise ValidationError("must not hold a number that is too large")


def stored_symbol(text: str) -> str:
    """Return a symbol's form in a watchlist, which does not know its asset class. Raises ValueError."""
    for asset_type in ("crypto", "option"):
        try:
            symbol, _ = without_multiple(normalise_symbol(text.strip(), asset_type))
            return symbol
        except ValueError:
            continue
    return normalise_symbol(text, "prediction")


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones()) - _NO_ZONES
