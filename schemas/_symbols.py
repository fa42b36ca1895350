"""Asset classes: their categories, their symbols' forms, and the lists that `GET /api/assets` shows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from schemas._instruments import is_run_together, parse_option
from schemas._vocabulary import AssetCategory, AssetType

CATEGORY_OF: Mapping[AssetType, AssetCategory] = MappingProxyType(
    {
        "crypto": "crypto",
        "stock": "equities",
        "option": "equities",
        "etf": "equities",
        "forex": "forex",
        "prediction": "prediction",
    }
)
"""The category of every asset type, in the document's order."""

_TYPE_LABELS: Mapping[AssetType, str] = {
    "crypto": "Crypto",
    "stock": "Stocks",
    "option": "Options",
    "etf": "ETFs",
    "forex": "Forex",
    "prediction": "Predictions",
}
_CATEGORIES: Sequence[tuple[AssetCategory, str, str]] = (
    ("crypto", "Crypto", "#f97316"),
    ("equities", "Equities", "#a855f7"),
    ("forex", "Forex", "#3b82f6"),
    ("prediction", "Predictions", "#ec4899"),
)

# Ranges are spelled out: with IGNORECASE, [a-z] would also match the Kelvin sign and the long s.
_TICKER = re.compile(r"[A-Za-z0-9._:-]{1,64}(/[A-Za-z0-9._:-]{1,20})?")
_PAIR = re.compile(r"([A-Za-z]{3})/([A-Za-z]{3})")
# By name: the schema of `asset_data`, the asset types that have it, and their symbols' form in a request.
ASSET_FORMS: Mapping[str, tuple[str, Sequence[AssetType], str | None]] = MappingProxyType(
    {
        "Spot": ("SpotData", ("crypto", "stock", "etf"), f"^{_TICKER.pattern}$"),
        "Forex": ("SpotData", ("forex",), r"^[A-Za-z]{3}/[A-Za-z]{3}$"),
        "Option": (
            "OptionData",
            ("option",),
            (
                r"^[A-Za-z0-9._-]{1,20} (?=[0-9.]*[1-9])[0-9]{1,9}(\.[0-9]{1,6})?[CcPp] "
                r"((0?[1-9]|1[0-2])/(0?[1-9]|[12][0-9]|3[01])(/(20)?[0-9]{2})?"
                r"|[1-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01]))$"
            ),
        ),
        "Prediction": ("PredictionData", ("prediction",), None),
    }
)
_FREE_TEXT_CHARACTERS = 100


def asset_category(asset_type: AssetType) -> AssetCategory:
    """Return the category under which lists and filters show the type."""
    return CATEGORY_OF[asset_type]


def normalise_symbol(symbol: str, asset_type: AssetType) -> str:
    """Return the symbol's stored form: upper case, but for predictions, whose free text is only trimmed.

    Raises ValueError with a message for the field `symbol`.
    """
    if asset_type == "prediction":
        return _free_text(symbol)
    if asset_type == "forex":
        return _pair(symbol)
    if asset_type == "option":
        parse_option(symbol)
        return symbol.upper()
    if not _TICKER.fullmatch(symbol):
        raise ValueError("must be 1-64 letters, digits, '.', '_', ':' or '-', optionally followed by '/QUOTE'")
    if asset_type == "crypto" and is_run_together(symbol):
        raise ValueError("must separate the two currencies of a pair, as in ETH/BTC")
    return symbol.upper()


def is_symbol(text: str) -> bool:
    """Return whether a stored symbol of any type may be this, ignoring case: a prediction's is free text."""
    return text == text.strip() and 1 <= len(text) <= _FREE_TEXT_CHARACTERS and text.isprintable()


def describe_assets() -> dict[str, list[dict[str, object]]]:
    """Return the body of `GET /api/assets`."""
    return {
        "asset_types": [
            {"type": each, "category": category, "label": _TYPE_LABELS[each], "enabled": True}
            for each, category in CATEGORY_OF.items()
        ],
        "categories": [{"id": each, "label": label, "color": color} for each, label, color in _CATEGORIES],
    }


def _free_text(symbol: str) -> str:
    text = symbol.strip()
    if not 1 <= len(text) <= _FREE_TEXT_CHARACTERS:
        raise ValueError(f"must be 1-{_FREE_TEXT_CHARACTERS} characters")
    if not text.isprintable():
        raise ValueError("must not contain control characters")
    return text


def _pair(symbol: str) -> str:
    match = _PAIR.fullmatch(symbol)
    if match is None:
        raise ValueError("must be BASE/QUOTE, two three-letter currency codes, as in EUR/USD")
    if match[1].upper() == match[2].upper():
        raise ValueError("must name two different currencies")
    return symbol.upper()
