"""Refine the OpenAPI document for client generators, beyond what the schemas say by themselves.

Every vocabulary is one named component, every property says what it means, and a schema whose `asset_data` depends on
its `asset_type` is a choice by that discriminator: so a client keeps an option's strike and a prediction's odds.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from config.settings import MODELS
from schemas import leaderboards, lens, providers, signals, stream, users
from schemas._descriptions import DESCRIPTIONS
from schemas._signals import ACTIONS, REACTIONS
from schemas._symbols import ASSET_FORMS
from schemas.problem import CODES

Document = dict[str, Any]

_REF = "#/components/schemas/"
_UPPER = tuple(each.upper() for each in ACTIONS)

VOCABULARIES: Mapping[str, tuple[Sequence[str], str]] = {
    "AssetType": (stream.ASSET_TYPES, "A kind of asset."),
    "AssetCategory": (stream.CATEGORIES, "A category of asset types."),
    "Direction": (("long", "short"), "The side of a position."),
    "PublicAction": (ACTIONS, "What a signal says to do; `yes` and `no` of predictions."),
    "PublicActionUpper": (_UPPER, "What a signal says to do, as details, feeds and settings write it."),
    "PublishedAction": (("buy", "sell", "yes", "no"), "What a signal that opens a position says to do."),
    "ChangePeriod": (("week", "month"), "What a change compares with."),
    "DecisionKind": (lens.DECISIONS, "What a model decides."),
    "DeadLetterStage": (lens.DLQ_STAGES, "A stage of the pipeline that something failed in."),
    "ErrorCode": (CODES, "What kind of error it is."),
    "EventStage": (lens.STAGES, "A stage of the pipeline."),
    "EventState": (lens.STATUSES, "A step of an event's way."),
    "EventType": (tuple(lens.DIRECTIONS), "Whether a signal opens a position or closes one."),
    "LeaderboardKind": (leaderboards.BOARDS, "What a board ranks by."),
    "LeaderboardPeriod": (leaderboards.PERIODS, "The time that counts on a board."),
    "ModelName": (MODELS, "A model that judges signals."),
    "ModelStatus": (lens.MODEL_STATUSES, "How a model's run ended."),
    "OpportunityTier": (signals.TIERS, "The class that a score falls into."),
    "OptionType": (("call", "put"), "The right to buy, or to sell."),
    "OrderType": (("market", "limit"), "How an order is placed."),
    "OutcomeStatus": (signals.OUTCOMES, "What became of a position."),
    "PredictionPlatform": (("polymarket", "kalshi"), "Where a prediction market is."),
    "ProviderSort": (providers.SORTS, "What providers are sorted by."),
    "ReactionType": (REACTIONS, "A kind of reaction."),
    "ReadyStatus": (("ready", "not_ready"), "Whether the server can do its work."),
    "ReasonCode": (lens.REASON_CODES, "Why something failed."),
    "RiskLevel": (users.RISKS, "How much risk somebody takes."),
    "SignalDirection": (("long", "short", "close_long", "close_short"), "What a raw signal does with which side."),
    "StopMethod": (("fixed", "atr", "trailing"), "How a stop is kept."),
    "StrategySignal": (("BUY", "SELL", "HOLD"), "A strategy's vote."),
    "Theme": (users.THEMES, "The colours of the page."),
    "VerificationLevel": (providers.VERIFICATION_LEVELS, "How far a provider was checked."),
    "YesOrNo": (("yes", "no"), "Yes, or no."),
}
# OpenAPI has no word for "depends on the value of another field" but JSON Schema's own.
_OPENS, _CLOSES = "What opens a position.", "What closes a position."
_DIRECTIONS_BY_TYPE: Document = {
    "if": {"properties": {"event_type": {"const": "OPEN_SIGNAL", "description": _OPENS}}},
    "then": {"properties": {"signal_direction": {"enum": list(lens.DIRECTIONS["OPEN_SIGNAL"]), "description": _OPENS}}},
    "else": {
        "properties": {"signal_direction": {"enum": list(lens.DIRECTIONS["CLOSE_SIGNAL"]), "description": _CLOSES}}
    },
}
_EXAMPLES = {"Forex": ("EUR/USD", 1.085), "Option": ("AAPL 195C 3/15", 4.2), "Prediction": ("Fed Rate Cut March", 0.68)}
_PROBABILITY = "The probability of YES: below 1 where it opens a position."
_UNDECIDED: Document = {"entry_price": {"exclusiveMaximum": 1, "description": _PROBABILITY}}
_NAMES = {tuple(values): name for name, (values, _) in VOCABULARIES.items()}


def refine(document: Document) -> Document:
    """Apply all refinements to the document, in place."""
    schemas: dict[str, Document] = document["components"]["schemas"]
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


def _operations(document: Document) -> Iterator[Document]:
    for methods in document["paths"].values():
        yield from methods.values()


def _describe(name: str, schema: Document) -> None:
    for field, each in schema.get("properties", {}).items():
        if "description" not in each:
            each["description"] = DESCRIPTIONS.get(f"{name}.{field}") or DESCRIPTIONS.get(field, "")


def _forget_null(schema: Document) -> None:
    """Remove null from a parameter's types: a query cannot express it."""
    if isinstance(schema.get("type"), list):
        [schema["type"]] = [each for each in schema["type"] if each != "null"]
    if None in schema.get("enum", ()):
        schema["enum"] = [each for each in schema["enum"] if each is not None]
    if schema.get("default", 0) is None:
        del schema["default"]


def _by_asset_type(name: str, schema: Document) -> dict[str, Document]:
    """Turn the schema into a choice, one for each form of `asset_data`, discriminated by `asset_type`."""
    mapping: dict[str, str] = {}
    found: dict[str, Document] = {}
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
        ref: Document = {"$ref": _REF + data}
        is_nullable = {"type": "null"} in old.get("anyOf", ())
        properties["asset_data"] = {**({"anyOf": [ref, {"type": "null"}]} if is_nullable else ref), **kept}
        if "pattern" not in properties["symbol"] and "maxLength" in properties["symbol"] and symbol is not None:
            properties["symbol"] = {**properties["symbol"], "pattern": symbol}
        if form != "Prediction" and properties.get("action", {}).get("enum") == list(ACTIONS) and "close" in properties:
            properties["action"]["enum"] = ["buy", "sell"]
        elif "close" in properties:
            properties["action"]["enum"] = ["buy", "sell", "yes", "no"]
        each["description"] = f"{schema.get('description', name)}\n\nFor {', '.join(f'`{kind}`' for kind in types)}."
        if {"event_type", "signal_direction"} <= properties.keys() and each.get("additionalProperties") is False:
            each |= copy.deepcopy(_DIRECTIONS_BY_TYPE)
        if "maxLength" in properties["symbol"]:  # what is sent, not what is shown
            _tell_of_form(form, each)
        found[form + name] = each
        mapping |= dict.fromkeys(types, _REF + form + name)
    whole: Document = {
        "description": schema.get("description", name),
        "oneOf": [{"$ref": _REF + each} for each in found],
        "discriminator": {"propertyName": "asset_type", "mapping": mapping},
    }
    return {name: whole, **found}


def _tell_of_form(form: str, request: Document) -> None:
    """Add the form's examples, and the bounds of a prediction's price."""
    properties = request["properties"]
    for name, example in zip(("symbol", "entry_price"), _EXAMPLES.get(form, ()), strict=False):
        if "examples" in properties[name]:
            properties[name]["examples"] = [example]
    if form != "Prediction":
        return
    price = properties["entry_price"]
    del price["exclusiveMaximum"]
    price |= {"maximum": 1, "description": _PROBABILITY}
    if "close" in properties:
        closes = {"close": {"const": True, "description": _CLOSES}}
        request |= {"if": {"properties": closes, "required": ["close"]}, "else": {"properties": _UNDECIDED}}
    else:
        request["then"]["properties"] |= _UNDECIDED


def _name_vocabularies(node: Any) -> None:
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


def _references(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(_references, node)) if node else set()
    if isinstance(node, dict):
        own = {node["$ref"].rpartition("/")[2]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(_references, node.values())) if node else own
    return set()
