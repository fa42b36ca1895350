"""What an asset is described by, per asset type: the `asset_data` of a signal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields

from schemas._fields import Choice, Day, Flag, Nested, Number, Schema, Text
from schemas._symbols import normalise_symbol


class SpotData(Schema):
    """Crypto, stock, ETF, forex."""

    price = Number(min=0)
    price_change_24h = Number(metadata={"description": "A fraction: 0.032 is 3.2 %."})


class Greeks(Schema):
    """An option's sensitivities, and its implied volatility."""

    delta = Number(min=-1, max=1)
    theta = Number()
    gamma = Number()
    vega = Number()
    iv = Number(min=0)


class OptionData(Schema):
    """An option contract."""

    underlying = Text(min=1, max=20)
    strike = Number(above=0)
    option_type = Choice(("call", "put"))
    expiry = Day()
    premium = Number(min=0)
    greeks = Nested(Greeks)
    open_interest = Number(min=0)
    volume = Number(min=0)


class PredictionData(Schema):
    """A prediction market."""

    platform = Choice(("polymarket", "kalshi"))
    market_id = Text(min=1, max=200)
    market_question = Text(min=1, max=500)
    probability = Number(min=0, max=1)
    prob_change_24h = Number(min=-1, max=1)
    volume_usd = Number(min=0)
    resolution_date = Day()


class AssetTypeInfo(Schema):
    """An asset type and how it is called."""

    type = Text(required=True)
    category = Text(required=True)
    label = Text(required=True)
    enabled = Flag(required=True)


class AssetCategoryInfo(Schema):
    """A category and how it is shown."""

    id = Text(required=True)
    label = Text(required=True)
    color = Text(required=True)


class Assets(Schema):
    """The supported asset classes."""

    asset_types = Nested(AssetTypeInfo, many=True, required=True)
    categories = Nested(AssetCategoryInfo, many=True, required=True)


_SPOT = SpotData()
ASSET_DATA: Mapping[str, Schema] = {
    "crypto": _SPOT,
    "stock": _SPOT,
    "option": OptionData(),
    "etf": _SPOT,
    "forex": _SPOT,
    "prediction": PredictionData(),
}


class AssetData(fields.Dict):
    """The object that describes an asset; its own schema is the asset type's, see `check_asset_data`."""

    default_error_messages = {"invalid": "must be an object"}  # noqa: RUF012
    alternatives = (SpotData, OptionData, PredictionData)

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return value


def check_asset_data(asset_type: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The validated `asset_data` of a signal, its numbers as int or float. Raises marshmallow's ValidationError."""
    try:
        loaded: dict[str, Any] = ASSET_DATA[asset_type].load(data)
    except ValidationError as error:
        raise ValidationError({"asset_data": error.messages}) from None
    return loaded


def asset_problems(data: Mapping[str, Any]) -> dict[str, Any]:
    """What `symbol` and `asset_data` of a loaded signal are not for its `asset_type`, of those that are there."""
    problems: dict[str, Any] = {}
    if "asset_type" not in data:
        return problems
    if "symbol" in data:
        try:
            normalise_symbol(data["symbol"], data["asset_type"])
        except ValueError as error:
            problems["symbol"] = str(error)
    if data.get("asset_data") is not None:
        try:
            check_asset_data(data["asset_type"], data["asset_data"])
        except ValidationError as error:
            problems |= error.messages_dict
    return problems


def store_asset(data: dict[str, Any]) -> dict[str, Any]:
    """`symbol` and `asset_data` of a signal without problems as they are stored."""
    data["symbol"] = normalise_symbol(data["symbol"], data["asset_type"])
    if data["asset_data"] is not None:
        data["asset_data"] = check_asset_data(data["asset_type"], data["asset_data"])
    return data
