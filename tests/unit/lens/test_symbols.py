"""Symbols and asset classes: what each type accepts, how it is stored, and the document's asset lists."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.lens.symbols import CATEGORY_OF, asset_category, describe_assets, normalise_symbol


@pytest.mark.parametrize(
    ("asset_type", "symbol", "stored"),
    [
        ("crypto", "btc", "BTC"),
        ("crypto", "eth/usd", "ETH/USD"),
        ("crypto", "kPEPE", "KPEPE"),
        ("stock", "BRK.B", "BRK.B"),
        ("stock", "A" * 20, "A" * 20),
        ("etf", "qqq", "QQQ"),
        ("forex", "eur/usd", "EUR/USD"),
        ("option", "AAPL 195C 3/15", "AAPL 195C 3/15"),
        ("option", "spy 450.5p 12/20/2026", "SPY 450.5P 12/20/2026"),
        ("option", "SPY 450P 2/29", "SPY 450P 2/29"),
        ("option", "NVDA 900c 2026-03-20", "NVDA 900C 2026-03-20"),
        ("prediction", "Fed Rate Cut March", "Fed Rate Cut March"),
        ("prediction", "  ¿Lluvia mañana?  ", "¿Lluvia mañana?"),
        ("prediction", "x" * 100, "x" * 100),
    ],
)
def test_a_symbol_is_stored_in_upper_case_except_a_predictions_free_text(asset_type, symbol, stored):
    assert normalise_symbol(symbol, asset_type) == stored


@pytest.mark.parametrize(
    ("asset_type", "symbol", "says"),
    [
        ("crypto", "", "1-20"),
        ("crypto", "A" * 21, "1-20"),
        ("crypto", "BTC USD", "1-20"),
        ("crypto", " BTC", "1-20"),
        ("crypto", "BTC\n", "1-20"),
        ("crypto", "BTC/", "1-20"),
        ("crypto", "BTC/USD/X", "1-20"),
        ("crypto", "BIT\u212aOIN", "1-20"),
        ("stock", "stra\u00dfe", "1-20"),
        ("etf", "\u0661\u0662", "1-20"),
        ("forex", "EURUSD", "BASE/QUOTE"),
        ("forex", "EUR/USDT", "BASE/QUOTE"),
        ("forex", "EUR/eur", "different"),
        ("option", "AAPL", "UNDERLYING"),
        ("option", "AAPL 195X 3/15", "UNDERLYING"),
        ("option", "AAPL  195C 3/15", "UNDERLYING"),
        ("option", "AAPL 0C 3/15", "strike"),
        ("option", "AAPL 195C 13/15", "expiry"),
        ("option", "AAPL 195C 2/30", "expiry"),
        ("option", "AAPL 195C 2/29/2026", "expiry"),
        ("option", "AAPL 195C 3/15/026", "expiry"),
        ("option", "AAPL 195C 2026-3-15", "expiry"),
        ("prediction", "   ", "1-100"),
        ("prediction", "x" * 101, "1-100"),
        ("prediction", "two\nlines", "control"),
    ],
)
def test_a_malformed_symbol_is_refused_with_a_message_that_says_what_is_expected(asset_type, symbol, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        normalise_symbol(symbol, asset_type)


@given(st.text(max_size=120), st.sampled_from(sorted(CATEGORY_OF)))
def test_normalising_twice_is_normalising_once(text, asset_type):
    try:
        stored = normalise_symbol(text, asset_type)
    except ValueError:
        return
    assert normalise_symbol(stored, asset_type) == stored
    assert 1 <= len(stored) <= 100


def test_the_asset_lists_are_the_documents():
    assert describe_assets() == {
        "asset_types": [
            {"type": "crypto", "category": "crypto", "label": "Crypto", "enabled": True},
            {"type": "stock", "category": "equities", "label": "Stocks", "enabled": True},
            {"type": "option", "category": "equities", "label": "Options", "enabled": True},
            {"type": "etf", "category": "equities", "label": "ETFs", "enabled": True},
            {"type": "forex", "category": "forex", "label": "Forex", "enabled": True},
            {"type": "prediction", "category": "prediction", "label": "Predictions", "enabled": True},
        ],
        "categories": [
            {"id": "crypto", "label": "Crypto", "color": "#f97316"},
            {"id": "equities", "label": "Equities", "color": "#a855f7"},
            {"id": "forex", "label": "Forex", "color": "#3b82f6"},
            {"id": "prediction", "label": "Predictions", "color": "#ec4899"},
        ],
    }


def test_every_asset_type_has_its_category():
    assert asset_category("option") == asset_category("etf") == asset_category("stock") == "equities"
    assert {asset_category(each) for each in CATEGORY_OF} == {"crypto", "equities", "forex", "prediction"}
