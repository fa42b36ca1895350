"""Schemas of a user's preferences: settings, watchlist, saved views."""

from __future__ import annotations

import zoneinfo
from decimal import Decimal
from functools import cache
from typing import Any

import orjson
from marshmallow import ValidationError

from schemas._fields import (
    Choice,
    Flag,
    Identifier,
    Items,
    Nested,
    Number,
    Object,
    Price,
    Schema,
    Text,
    Timestamp,
    Whole,
)
from schemas._people import Prose, is_plain_text
from schemas._symbols import normalise_symbol

RISKS = ("conservative", "moderate", "aggressive")
ACTIONS = ("BUY", "SELL", "HOLD", "YES", "NO")
MOST_ACTIONS = 100  # each may be named again, and counts once
THEMES = ("dark", "light", "system")
FILTER_BYTES = 8 << 10
FILTER_DEPTH = 16

# Names in the zone database that are no place's time.
_NO_ZONES = frozenset({"Factory", "localtime", "posixrules"})


class Zone(Text):
    """The name of an IANA time zone."""

    default_error_messages = {"zone": "must be an IANA time zone, as in America/New_York"}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if text not in _zones():
            raise self.make_error("zone")
        return text


class Actions(Items):
    """Actions to show, each once."""

    def __init__(self, **options: Any) -> None:
        super().__init__(Choice(ACTIONS), max=MOST_ACTIONS, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return tuple(dict.fromkeys(super()._deserialize(value, attr, data, **kwargs)))

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return list(value)


class Symbol(Text):
    """A symbol of any asset class, in its stored form: upper case, but for the free text of predictions."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        try:
            return stored_symbol(super()._deserialize(value, attr, data, **kwargs))
        except ValueError as error:
            raise ValidationError(str(error)) from None


class Name(Text):
    """A line of text, trimmed."""

    default_error_messages = {"control": "must not contain control characters"}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = str(super()._deserialize(value, attr, data, **kwargs)).strip()
        if not is_plain_text(text):
            raise self.make_error("control")
        return text


class Filters(Object):
    """A JSON object of the client's own making, at most 8 KiB."""

    default_error_messages = {  # noqa: RUF012
        "large": f"must have at most {FILTER_BYTES} bytes",
        "deep": f"must be nested at most {FILTER_DEPTH} deep",
        "number": "must not hold a number that is too large",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        given: Any = super()._deserialize(value, attr, data, **kwargs)
        document = self._plain(given, FILTER_DEPTH)
        if len(orjson.dumps(document)) > FILTER_BYTES:
            raise self.make_error("large")
        return document

    def _plain(self, value: Any, depth: int) -> Any:
        """Replace the Decimals that bodies are read with by floats, as a browser would read them."""
        if depth < 0:
            raise self.make_error("deep")
        if isinstance(value, dict):
            return {key: self._plain(each, depth - 1) for key, each in value.items()}
        if isinstance(value, list):
            return [self._plain(each, depth - 1) for each in value]
        if isinstance(value, Decimal):
            value = float(value) if value.is_finite() and value.adjusted() < 300 else None
            if value is None:
                raise self.make_error("number")
        elif isinstance(value, int) and abs(value) >= 1 << 63:
            raise self.make_error("number")
        return value


class UserSettings(Schema):
    """All settings of a user."""

    risk_tolerance = Choice(RISKS, required=True)
    min_opportunity_score = Number(required=True, min=0, max=1)
    default_action_filter = Actions(required=True)
    theme = Choice(THEMES, required=True)
    timezone = Zone(required=True)
    onboarding_completed = Flag(required=True)
    onboarding_step = Whole(required=True, min=0, max=100)


class SettingsChange(Schema):
    """Fields that are given are set; others stay."""

    risk_tolerance = Choice(RISKS)
    min_opportunity_score = Number(min=0, max=1)
    default_action_filter = Actions()
    theme = Choice(THEMES)
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

    name = Name(required=True, min=1, max=100)
    description = Prose(max=500, load_default=None, allow_none=True)
    filters = Filters(required=True)
    is_default = Flag(load_default=False)


class ViewChange(Schema):
    """Fields that are given are set; others stay."""

    name = Name(min=1, max=100)
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


def stored_symbol(text: str) -> str:
    """Return a symbol's form in a watchlist, which does not know its asset class. Raises ValueError."""
    for asset_type in ("crypto", "option"):
        try:
            return normalise_symbol(text.strip(), asset_type)
        except ValueError:
            continue
    return normalise_symbol(text, "prediction")


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones()) - _NO_ZONES
