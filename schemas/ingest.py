"""Schemas of other systems' scored signals, which come by Redis or Kafka as items of the public list."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Final, Unpack

import marshmallow
from marshmallow import ValidationError, post_load

from config.clock import now
from config.documents import Document, Loaded
from config.ids import parse_uuid
from schemas._fields import AnyCase, Choice, FieldOptions, Nested, Number, Price, Schema, Text, Timestamp, Whole, about
from schemas._loading import Reading
from schemas._orders import OrderFields, order_problems
from schemas._problems import field_errors
from schemas._symbols import CATEGORY_OF
from schemas._vocabulary import OPENED_BY, AssetCategory, AssetType, EventType, PublicAction
from schemas.assets import AssetData, asset_problems, store_asset
from schemas.errors import ValidationFailed

SCORED_SIGNALS: Final = "scored-signals"
"""The Redis channel, and the Kafka topic."""

MESSAGE_BYTES: Final = 64 << 10  # as a body of the API

ACTIONS = ("buy", "sell", "hold")

_IDS = uuid.UUID("0a3c8d52-5f6e-5c0b-9a55-3c5f3b7f4c21")
"""The UUIDv5 namespace of signals whose own id is no UUID. Never to be changed: repetitions are recognised by it."""

_MOST_AHEAD = timedelta(minutes=5)  # of our clock: one that is wrong would lead every list for as long


def signal_id(text: str) -> uuid.UUID:
    """Return the id under which a signal is stored once: its own if that is a UUID, else a UUIDv5 of it."""
    return parse_uuid(text) or uuid.uuid5(_IDS, text)


class _Key(Reading[str], Text):
    """An identifier of another system: a text of 1 to `max` characters that is not blank, or an integer."""

    def __init__(self, *, max: int, **options: Unpack[FieldOptions]) -> None:  # noqa: A002
        super().__init__(min=1, max=max, **options)

    def read(self, value: object) -> str:
        if type(value) is int:
            return str(value)
        if not isinstance(value, str):
            raise self.make_error("invalid")
        if not value.strip():
            raise ValidationError("must not be blank")
        return value


class _Score(Whole):
    """An integer, also one written with a fraction of zero: other systems keep scores as floats."""

    def read(self, value: object) -> int:
        if isinstance(value, Decimal) and value.is_finite() and value.adjusted() < 3 and value == value.to_integral():
            value = int(value)
        return super().read(value)


class ScoredProvider(Schema):
    """The provider of a scored signal. Figures of the provider in the message are ignored: ours are our own."""

    class Meta:
        """Unknown fields are ignored: a list item has more of a provider."""

        unknown = marshmallow.EXCLUDE

    id = _Key(max=100, required=True, **about("A user's id, or any name: then a system provider."))
    name = Text(max=100, load_default=None, allow_none=True, **about("Of a new system provider."))


class ScoredSignal(OrderFields):
    """A scored signal: `id`, `symbol`, `action`, `score` and its provider; the rest may be missing or null.

    Unknown fields are ignored: such a message has the fields of a list item (reactions, counts, the provider's
    figures), and other systems add their own.
    """

    class Meta:
        """Unknown fields are ignored."""

        unknown = marshmallow.EXCLUDE

    id = _Key(max=200, required=True, **about("The same id is the same signal, and stored once."))
    asset_type = Choice(AssetType, load_default="crypto")
    asset_category = Choice(AssetCategory, load_default=None, allow_none=True)
    symbol = Text(min=1, max=100, required=True, **about("In the form of its `asset_type`."))
    price = Price(zero=True, load_default=None, allow_none=True)
    event_type = Choice(EventType, load_default="OPEN_SIGNAL", allow_none=True)
    entry_price = Price(
        zero=True, load_default=None, allow_none=True, **about("What it opens or closes at. Default: `price`.")
    )
    liquidation_price = Price(load_default=None, allow_none=True)
    action = AnyCase(PublicAction, required=True, **about("`yes` and `no` of predictions only."))
    score = _Score(min=0, max=100, required=True)
    confidence = Number(min=0, max=1, load_default=None, allow_none=True)
    reasoning = Text(max=5000, load_default="", allow_none=True)
    commentary = Text(max=500, load_default=None, allow_none=True)
    provider = Nested(ScoredProvider, load_default=None, allow_none=True)
    provider_id = _Key(max=100, load_default=None, allow_none=True, **about("For `provider.id`."))
    asset_data = AssetData(load_default=None, allow_none=True)
    created_at = Timestamp(load_default=None, allow_none=True, **about("Default: when it arrived."))

    @post_load
    def check_together(self, data: Loaded, **_: object) -> Loaded:
        """Check fields against each other; `id` becomes a UUID, the provider `source` and its name."""
        asset_type = data["asset_type"]
        if asset_type != "prediction" and data["action"] not in ACTIONS:
            raise ValidationError(f"must be one of: {', '.join(ACTIONS)}", "action")
        if data.pop("asset_category") not in (None, CATEGORY_OF[asset_type]):
            raise ValidationError(f"must be {CATEGORY_OF[asset_type]} for asset_type {asset_type}", "asset_category")
        data["event_type"] = data["event_type"] or "OPEN_SIGNAL"
        closes = data["event_type"] == "CLOSE_SIGNAL"
        if closes and data["action"] == "hold":
            raise ValidationError("hold closes nothing", "action")
        for name in [name for name in ("price", "entry_price") if data[name] is not None] or ["price"]:
            if problems := asset_problems(data | {"entry_price": data[name]}, closes=closes):
                if "entry_price" in problems:
                    problems[name] = problems.pop("entry_price")
                raise ValidationError(problems)
        if problems := _terms_problems(data, closes):
            raise ValidationError(problems)
        if data["price"] is None:
            data["price"] = data["entry_price"]
        if data["created_at"] is not None and data["created_at"] > now() + _MOST_AHEAD:
            raise ValidationError("must not be in the future", "created_at")
        data["asset_data"] = data["asset_data"] or {}
        data = store_asset(data)
        data["id"] = signal_id(data["id"])
        data["reasoning"] = data["reasoning"] or ""
        data["source"], data["provider_name"] = _provider(data.pop("provider"), data.pop("provider_id"))
        return data


_SCHEMA = ScoredSignal()
_PROVIDER = ScoredProvider()
_KEYS = frozenset(field.data_key or name for name, field in _SCHEMA.fields.items())


def load_scored(document: Mapping[str, object], prefix: str = "") -> Loaded:
    """Check a scored signal's fields; returns them in our form. Raises ValidationFailed, its fields under `prefix`."""
    try:
        return _SCHEMA.load(document)
    except ValidationError as error:
        raise ValidationFailed(details=field_errors(error.messages, prefix)) from None


def patch_scored(document: Mapping[str, object], patch: Mapping[str, object]) -> Document:
    """Return the message with `patch` applied, without fields that a scored signal does not have."""
    patched = {name: value for name, value in {**document, **patch}.items() if name in _KEYS}
    if isinstance(provider := patched.get("provider"), dict):
        patched["provider"] = {name: value for name, value in provider.items() if name in _PROVIDER.fields}
    return patched


def _terms_problems(data: Loaded, closes: bool) -> dict[str, object]:
    """Return the faults of the terms; an order may have lapsed on its way here."""
    side, price = None if closes else OPENED_BY.get(data["action"]), data["entry_price"]
    priced = data | {"entry_price": data["price"] if price is None else price}
    is_long = None if side is None else side == "long"
    return order_problems(priced, closes=closes, is_long=is_long)


def _provider(provider: Loaded | None, provider_id: str | None) -> tuple[str, str]:
    if provider is None:
        if provider_id is None:
            raise ValidationError({"provider": {"id": ["is required"]}})
        return provider_id, provider_id
    if provider_id not in (None, provider["id"]):
        raise ValidationError("must be the same as provider.id", "provider_id")
    return provider["id"], (provider["name"] or "").strip() or provider["id"]
