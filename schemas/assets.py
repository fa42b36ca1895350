"""Schemas of `asset_data`, which describes a signal's asset, per asset type."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from marshmallow import ValidationError, fields

from config.documents import Loaded
from schemas._fields import AsItIs, Choice, Day, Flag, Nested, Number, Schema, Text, about
from schemas._instruments import OptionTerms, parse_option, without_multiple
from schemas._symbols import normalise_symbol
from schemas._vocabulary import MAY_END_WORTHLESS, OptionType, PredictionPlatform


class SpotData(Schema):
    """Crypto, stock, ETF, forex."""

    price = Number(min=0)
    price_change_24h = Number(**about("A fraction: 0.032 is 3.2 %."))


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
    option_type = Choice(OptionType)
    expiry = Day()
    premium = Number(min=0)
    greeks = Nested(Greeks)
    open_interest = Number(min=0)
    volume = Number(min=0)


class PredictionData(Schema):
    """A prediction market."""

    platform = Choice(PredictionPlatform)
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


Problems = dict[str, object]  # messages by field, nested as marshmallow nests them
_ONE_PROBABILITY = 1e-9  # two roundings of one number differ by less
_ONE_STRIKE = 1e-9
_PRICES = ("price", "entry_price", "liquidation_price", "stop_loss")

_SPOT = SpotData()
ASSET_DATA: Mapping[str, Schema] = {
    "crypto": _SPOT,
    "stock": _SPOT,
    "option": OptionData(),
    "etf": _SPOT,
    "forex": _SPOT,
    "prediction": PredictionData(),
}


class AssetData(AsItIs[Any], fields.Dict):
    """The object that describes an asset; its own schema is the asset type's, see `check_asset_data`."""

    default_error_messages = {"invalid": "must be an object"}  # noqa: RUF012
    alternatives = (SpotData, OptionData, PredictionData)


def check_asset_data(asset_type: str, data: Mapping[str, object]) -> Loaded:
    """Validate a signal's `asset_data`; returns it with int or float numbers. Raises marshmallow's ValidationError."""
    try:
        return ASSET_DATA[asset_type].load(data)
    except ValidationError as error:
        raise ValidationError({"asset_data": error.messages}) from None


def asset_problems(data: Loaded, *, closes: bool = False) -> Problems:
    """Return faults of a loaded signal's `symbol`, `asset_data` and `entry_price`, where given, for its `asset_type`.

    Each is checked by itself and against the others: two fields that say one thing must agree. `closes`: the signal
    ends a position, possibly as its asset ends.
    """
    problems: Problems = {}
    if "asset_type" not in data:
        return problems
    asset_type, described = data["asset_type"], None
    if "symbol" in data:
        try:
            normalise_symbol(data["symbol"], asset_type)
        except ValueError as error:
            problems["symbol"] = str(error)
    if data.get("asset_data") is not None:
        try:
            described = check_asset_data(asset_type, data["asset_data"])
        except ValidationError as error:
            problems |= error.messages_dict
    if data.get("entry_price") == 0 and not (closes and asset_type in MAY_END_WORTHLESS):
        problems["entry_price"] = "must be greater than 0"
    # A field that is wrong by itself is not compared.
    if asset_type == "option" and described and "symbol" in data and "symbol" not in problems:
        problems |= _option_problems(parse_option(data["symbol"]), described)
    if asset_type == "prediction" and problems.keys().isdisjoint({"asset_data", "entry_price"}):
        problems |= _probability_problems(data.get("entry_price"), described, closes)
    return problems


def _option_problems(terms: OptionTerms, described: Loaded) -> Problems:
    """Return faults where an option's data and its symbol describe two contracts."""
    checks: dict[str, Callable[[Any], bool]] = {
        "underlying": lambda value: value.strip().upper() == terms.underlying,
        "strike": lambda value: math.isclose(value, terms.strike, rel_tol=_ONE_STRIKE),
        "option_type": lambda value: value == ("call" if terms.is_call else "put"),
        "expiry": lambda value: terms.agrees_with(date.fromisoformat(value)),
    }
    contradicted = {
        name: ["must agree with the symbol"]
        for name, agrees in checks.items()
        if described.get(name) is not None and not agrees(described[name])
    }
    return {"asset_data": contradicted} if contradicted else {}


def _probability_problems(price: Decimal | None, described: Loaded | None, closes: bool) -> Problems:
    """Return faults where a prediction's price is not the probability of YES, or not the one in its data."""
    if price is None:
        return {}
    if price > 1 or (price == 1 and not closes):
        return {"entry_price": "must be below 1: it is the probability of YES"}
    probability = (described or {}).get("probability")
    if probability is not None and abs(float(price) - probability) > _ONE_PROBABILITY:
        return {"entry_price": "must agree with asset_data.probability: both are the probability of YES"}
    return {}


def store_asset(data: Loaded) -> Loaded:
    """Return a valid signal with `symbol`, `asset_data`, prices and size in their stored form."""
    data["symbol"] = normalise_symbol(data["symbol"], data["asset_type"])
    if data["asset_data"] is not None:
        data["asset_data"] = check_asset_data(data["asset_type"], data["asset_data"])
    return _of_one_unit(data)


def _of_one_unit(data: Loaded) -> Loaded:
    """Return a signal on `1000PEPE` as one on PEPE: prices of one unit, a thousand times the size; exactly."""
    symbol, power = without_multiple(data["symbol"])
    if data["asset_type"] != "crypto" or not power:
        return data
    scaled: Loaded = {name: Decimal(data[name]).scaleb(-power) for name in _PRICES if data.get(name) is not None}
    if data.get("take_profit"):
        scaled["take_profit"] = [Decimal(each).scaleb(-power) for each in data["take_profit"]]
    if data.get("size") is not None:
        scaled["size"] = Decimal(data["size"]).scaleb(power)
    if data["asset_data"] and data["asset_data"].get("price") is not None:
        price = float(Decimal(repr(data["asset_data"]["price"])).scaleb(-power))
        scaled["asset_data"] = {**data["asset_data"], "price": price}
    return {**data, **scaled, "symbol": symbol}
