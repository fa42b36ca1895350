"""Refine the OpenAPI document for client generators, beyond what the schemas say by themselves.

Every vocabulary is one named component, every property says what it means, and a schema whose `asset_data` depends on
its `asset_type` is a choice by that discriminator: so a client keeps an option's strike and a prediction's odds.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from config.model_sdks import MODELS
from schemas import _vocabulary as words
from schemas._descriptions import DESCRIPTIONS
from schemas._fields import PRICE_DECIMALS
from schemas._symbols import ASSET_FORMS
from schemas.problem import CODES

Node = dict[str, Any]  # an object of the OpenAPI document

_REF = "#/components/schemas/"
_DESCRIBED: Mapping[str, tuple[object, str]] = {
    "AssetType": (words.AssetType, "A kind of asset."),
    "AssetCategory": (words.AssetCategory, "A category of asset types."),
    "Direction": (words.Side, "The side of a position."),
    "PublicAction": (words.PublicAction, "What a signal says to do; `yes` and `no` of predictions."),
    "PublicActionUpper": (words.UPPER_ACTIONS, "What a signal says to do, as details, feeds and settings write it."),
    "PublishedAction": (words.PublishedAction, "What a signal that opens a position says to do."),
    "ChangePeriod": (words.ChangePeriod, "What a change compares with."),
    "DecisionKind": (words.DecisionKind, "What a model decides."),
    "DeadLetterStage": (words.DeadLetterStage, "A stage of the pipeline that something failed in."),
    "ErrorCode": (CODES, "What kind of error it is."),
    "EventStage": (words.EventStage, "A stage of the pipeline."),
    "EventState": (words.EventState, "A step of an event's way."),
    "EventType": (words.EventType, "Whether a signal opens a position or closes one."),
    "BoardGate": (words.Gate, "What a provider needs to be on a board."),
    "LeaderboardKind": (words.Board, "What a board ranks by."),
    "LeaderboardPeriod": (words.Period, "The time that counts on a board."),
    "ModelName": (MODELS, "A model that judges signals."),
    "ModelStatus": (words.ModelStatus, "How a model's run ended."),
    "OpportunityTier": (words.OpportunityTier, "The class that a score falls into."),
    "OptionType": (words.OptionType, "The right to buy, or to sell."),
    "OrderType": (words.OrderType, "How an order is placed."),
    "CloseReason": (words.CloseReason, "What closed a position: a signal, or what the market did."),
    "OutcomeStatus": (words.OutcomeStatus, "What became of a position."),
    "PredictionPlatform": (words.PredictionPlatform, "Where a prediction market is."),
    "EquityPeriod": (words.EquityPeriod, "The part of a curve."),
    "ProviderSort": (words.ProviderSort, "What providers are sorted by."),
    "ReactionType": (words.ReactionType, "A kind of reaction."),
    "ReadyStatus": (words.ReadyStatus, "Whether the server can do its work."),
    "ReasonCode": (words.ReasonCode, "Why something failed."),
    "RiskLevel": (words.RiskLevel, "How much risk somebody takes."),
    "SignalDirection": (words.Direction, "What a raw signal does with which side."),
    "StopMethod": (words.StopMethod, "How a stop is kept."),
    "StrategySignal": (words.VoteSide, "A strategy's vote."),
    "Theme": (words.Theme, "The colours of the page."),
    "VerificationLevel": (words.VerificationLevel, "How far a provider was checked."),
    "YesOrNo": (("yes", "no"), "Yes, or no."),
}
VOCABULARIES = {name: (words.values_of(vocabulary), text) for name, (vocabulary, text) in _DESCRIBED.items()}
# OpenAPI has no word for "depends on the value of another field" but JSON Schema's own.
_OPENS, _CLOSES = "What opens a position.", "What closes a position."
_DIRECTIONS_BY_TYPE: Node = {
    "if": {"properties": {"event_type": {"const": "OPEN_SIGNAL", "description": _OPENS}}},
    "then": {
        "properties": {"signal_direction": {"enum": list(words.DIRECTIONS_OF["OPEN_SIGNAL"]), "description": _OPENS}}
    },
    "else": {
        "properties": {"signal_direction": {"enum": list(words.DIRECTIONS_OF["CLOSE_SIGNAL"]), "description": _CLOSES}}
    },
}
_EXAMPLES = {"Forex": ("EUR/USD", 1.085), "Option": ("AAPL 195C 3/15", 4.2), "Prediction": ("Fed Rate Cut March", 0.68)}
_PROBABILITY = "The probability of YES: below 1 where it opens a position."
_ABOVE_ZERO: Node = {"minimum": 10.0**-PRICE_DECIMALS}
_MAY_END_WORTHLESS = {
    form: words.MAY_END_WORTHLESS.issuperset(asset_types) for form, (_, asset_types, _) in ASSET_FORMS.items()
}
_NAMES = {values: name for name, (values, _) in VOCABULARIES.items()}


def refine(document: Node) -> Node:
    """Apply all refinements to the document, in place."""
    schemas: dict[str, Node] = document["components"]["schemas"]
    for name, schema in schemas.items():
        _describe(name, schema)
    for operation in _operations(document):
        for parameter in operation.get("parameters", ()):
            parameter.setdefault("description", DESCRIPTIONS.get(parameter["name"], ""))
            if parameter["in"] == "query":
                _forget_null(parameter["schema"])
    for name, schema in list(schemas.items()):
        if {"asset_type", "asset_data"} <= schema.get("properties", {}).keys():
            schemas |= _by_asset_type(name, schema)
    _name_vocabularies(document)
    for name, (values, description) in VOCABULARIES.items():
        schemas[name] = {"type": "string", "enum": list(values), "description": description}
    used = _references(document)
    for name in VOCABULARIES:
        if name not in used:
            del schemas[name]
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    return document


def _operations(document: Node) -> Iterator[Node]:
    for methods in document["paths"].values():
        yield from methods.values()


def _describe(name: str, schema: Node) -> None:
    for field, each in schema.get("properties", {}).items():
        if "description" not in each:
            each["description"] = DESCRIPTIONS.get(f"{name}.{field}") or DESCRIPTIONS.get(field, "")


def _forget_null(schema: Node) -> None:
    """Remove null from a parameter's types: a query cannot express it."""
    if isinstance(schema.get("type"), list):
        [schema["type"]] = [each for each in schema["type"] if each != "null"]
    if None in schema.get("enum", ()):
        schema["enum"] = [each for each in schema["enum"] if each is not None]
    if schema.get("default", 0) is None:
        del schema["default"]


def _by_asset_type(name: str, schema: Node) -> dict[str, Node]:
    """Turn the schema into a choice, one for each form of `asset_data`, discriminated by `asset_type`."""
    mapping: dict[str, str] = {}
    found: dict[str, Node] = {}
    for form, (data, types, symbol) in ASSET_FORMS.items():
        each = copy.deepcopy(schema)
        properties = each["properties"]
        properties["asset_type"] = {
            **{key: value for key, value in properties["asset_type"].items() if key not in ("enum", "default")},
            **({"const": types[0]} if len(types) == 1 else {"enum": list(types)}),
        }
        if "asset_type" not in each.get("required", ()) and types[0] != "crypto":
            each["required"] = sorted([*each.get("required", ()), "asset_type"])
        old = properties["asset_data"]
        kept = {key: value for key, value in old.items() if key in ("description", "default")}
        ref: Node = {"$ref": _REF + data}
        is_nullable = {"type": "null"} in old.get("anyOf", ())
        properties["asset_data"] = {**({"anyOf": [ref, {"type": "null"}]} if is_nullable else ref), **kept}
        if "pattern" not in properties["symbol"] and "maxLength" in properties["symbol"] and symbol is not None:
            properties["symbol"] = {**properties["symbol"], "pattern": symbol}
        if "close" in properties:
            actions = words.PUBLISHED_ACTIONS if form == "Prediction" else ("buy", "sell")
            properties["action"]["enum"] = list(actions)
        each["description"] = f"{schema.get('description', name)}\n\nFor {', '.join(f'`{kind}`' for kind in types)}."
        if {"event_type", "signal_direction"} <= properties.keys() and each.get("additionalProperties") is False:
            each |= copy.deepcopy(_DIRECTIONS_BY_TYPE)
        if "maxLength" in properties["symbol"]:  # what is sent, not what is shown
            _tell_of_form(form, each)
        found[form + name] = each
        mapping |= dict.fromkeys(types, _REF + form + name)
    whole: Node = {
        "description": schema.get("description", name),
        "oneOf": [{"$ref": _REF + each} for each in found],
        "discriminator": {"propertyName": "asset_type", "mapping": mapping},
    }
    return {name: whole, **found}


def _tell_of_form(form: str, request: Node) -> None:
    """Add the form's examples, and the bounds of its price."""
    properties = request["properties"]
    for name, example in zip(("symbol", "entry_price"), _EXAMPLES.get(form, ()), strict=False):
        if "examples" in properties[name]:
            properties[name]["examples"] = [example]
    price = properties["entry_price"]
    if not _MAY_END_WORTHLESS[form]:
        price |= _ABOVE_ZERO
        return
    opening: Node = dict(_ABOVE_ZERO)
    if form == "Prediction":
        del price["exclusiveMaximum"]
        price |= {"maximum": 1, "description": _PROBABILITY}
        opening |= {"exclusiveMaximum": 1, "description": _PROBABILITY}
    else:
        opening["description"] = DESCRIPTIONS["entry_price"]
    if "close" in properties:
        closes = {"close": {"const": True, "description": _CLOSES}}
        request |= {
            "if": {"properties": closes, "required": ["close"]},
            "else": {"properties": {"entry_price": opening}},
        }
    else:
        request["then"]["properties"]["entry_price"] = opening


def _name_vocabularies(node: object) -> None:
    """Replace each vocabulary that has a name by a reference."""
    if isinstance(node, list):
        for each in node:
            _name_vocabularies(each)
    elif isinstance(node, dict):
        for key, each in node.items():
            if key not in ("example", "examples", "default"):
                _name_vocabularies(each)
        values = node.get("enum")
        name = _NAMES.get(tuple(each for each in values if each is not None)) if isinstance(values, list) else None
        if name is not None:
            is_nullable = None in (values or ())
            del node["enum"]
            node.pop("type", None)
            ref = {"$ref": _REF + name}
            node |= {"anyOf": [ref, {"type": "null"}]} if is_nullable else ref


def _references(node: object) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(_references, node)) if node else set()
    if isinstance(node, dict):
        own = {node["$ref"].rpartition("/")[2]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(_references, node.values())) if node else own
    return set()
