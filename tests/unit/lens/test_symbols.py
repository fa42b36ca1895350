"""Symbols and asset classes: what each type accepts, how it is stored, and the document's asset lists."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas._instruments import CryptoPair, crypto_pair, instrument_of, is_expired, without_multiple
from schemas._symbols import CATEGORY_OF, asset_category, describe_assets, normalise_symbol
from schemas.assets import store_asset
from tests.unit.lens.factories import NOW


@pytest.mark.parametrize(
    ("asset_type", "symbol", "stored"),
    [
        ("crypto", "btc", "BTC"),
        ("crypto", "eth/usd", "ETH/USD"),
        ("crypto", "kPEPE", "KPEPE"),
        ("stock", "BRK.B", "BRK.B"),
        ("stock", "A" * 64, "A" * 64),
        ("crypto", "binance:btcusdt", "BINANCE:BTCUSDT"),
        ("crypto", "BTC/USDT:USDT", "BTC/USDT:USDT"),
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
        ("crypto", "", "1-64"),
        ("crypto", "A" * 65, "1-64"),
        ("stock", "BTC/" + "U" * 21, "1-64"),
        ("crypto", "BTC USD", "1-64"),
        ("crypto", " BTC", "1-64"),
        ("crypto", "BTC\n", "1-64"),
        ("crypto", "BTC/", "1-64"),
        ("crypto", "BTC/USD/X", "1-64"),
        ("crypto", "BIT\u212aOIN", "1-64"),
        ("stock", "stra\u00dfe", "1-64"),
        ("etf", "\u0661\u0662", "1-64"),
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


@pytest.mark.parametrize(
    ("asset_type", "spellings", "others"),
    [
        ("crypto", ["BTC", "BTC/USD", "BTC-PERP"], ["BTC/EUR", "BTCUSD", "BTC/USDT", "WBTC"]),
        ("stock", ["AAPL", "AAPL/USD"], ["AAPL/EUR", "AAPL.L"]),
        ("forex", ["EUR/USD"], ["EUR/GBP"]),
        ("prediction", ["Snow/USD"], ["Snow", "snow/USD"]),
    ],
)
def test_one_instrument_has_one_name_however_it_is_spelled(asset_type, spellings, others):
    """The kind: two spellings of one name that are compared character by character."""
    [name] = {instrument_of(each, asset_type, None, NOW) for each in spellings}
    assert name not in {instrument_of(each, asset_type, None, NOW) for each in others}


def test_an_option_is_named_with_its_full_expiry():
    march = [
        instrument_of(symbol, "option", data, NOW)
        for symbol, data in [
            ("AAPL 195C 3/15", None),
            ("AAPL 195C 3/15", {"expiry": "2026-03-15"}),
            ("AAPL 195.0C 03/15/2026", None),
            ("AAPL 195C 3/15/26", None),
            ("AAPL 195C 2026-03-15", {}),
        ]
    ]
    assert set(march) == {"AAPL 195C 2026-03-15"}
    assert instrument_of("AAPL 195C 1/16", "option", None, NOW) == "AAPL 195C 2027-01-16", "the next such date"
    assert instrument_of("AAPL 195C 1/16", "option", {"expiry": "2026-01-16"}, NOW) == "AAPL 195C 2026-01-16"
    assert instrument_of("SPY 450P 2/29", "option", None, NOW) == "SPY 450P 2028-02-29"
    assert instrument_of("AAPL 195P 3/15", "option", None, NOW) not in march


def test_an_option_is_over_at_four_in_new_york():
    last = datetime(2026, 3, 20, 19, 59, 59, tzinfo=UTC)  # daylight saving: 15:59:59
    for symbol, data in (("AAPL 195C 3/20/2026", None), ("AAPL 195C 3/20", {"expiry": "2026-03-20"})):
        assert not is_expired(symbol, "option", data, last)
        assert is_expired(symbol, "option", data, last + timedelta(seconds=1))
    assert not is_expired("AAPL 195C 3/20", "option", None, last + timedelta(days=1)), "it is the next one's"
    assert not is_expired("AAPL 195C 3/20/2020", "stock", {"expiry": "2020-03-20"}, last)
    assert instrument_of("AAPL 195C 3/20", "option", None, last) == "AAPL 195C 2026-03-20"
    assert instrument_of("AAPL 195C 3/20", "option", None, last + timedelta(seconds=1)) == "AAPL 195C 2027-03-20"


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


@pytest.mark.parametrize("symbol", ["ETHBTC", "btceth", "BINANCE:ETHBTC", "SOLEUR", "ETHBTC-PERP", "BTCTRY"])
def test_a_pair_of_which_nothing_separates_the_currencies_is_refused(symbol):
    with pytest.raises(ValueError, match="must separate the two currencies"):
        normalise_symbol(symbol, "crypto")
    assert normalise_symbol(symbol.replace("-PERP", ""), "stock")


@pytest.mark.parametrize(
    "symbol",
    ["WBTC", "STETH", "CBETH", "BTCUSDT", "BTC", "ETH/BTC", "UNIBTC", "LBTC", "BNB", "TETHER", "EUR"],
)
def test_a_coin_that_ends_like_another_is_a_coin(symbol):
    assert normalise_symbol(symbol, "crypto") == symbol


@pytest.mark.parametrize(
    ("symbol", "of_one", "power"),
    [
        ("1000PEPE", "PEPE", 3),
        ("1000SHIB/USD", "SHIB/USD", 3),
        ("1000BONK-PERP", "BONK-PERP", 3),
        ("1000000MOG", "MOG", 6),
        ("BINANCE:1000PEPEUSDT", "BINANCE:PEPEUSDT", 3),
        ("1INCH", "1INCH", 0),
        ("10SET", "10SET", 0),
        ("1000", "1000", 0),
        ("1000/USD", "1000/USD", 0),
        ("100X", "100X", 0),
    ],
)
def test_a_symbol_of_many_units_is_the_coin_s(symbol, of_one, power):
    assert without_multiple(symbol) == (of_one, power)
    assert instrument_of(symbol, "crypto", None, NOW) == instrument_of(of_one, "crypto", None, NOW)
    assert instrument_of(symbol, "stock", None, NOW) == instrument_of(symbol, "stock", None, NOW)


def test_a_signal_of_many_units_is_stored_with_the_prices_of_one():
    signal = {
        "symbol": "1000pepe-perp",
        "asset_type": "crypto",
        "entry_price": Decimal("0.01123456789"),
        "liquidation_price": Decimal("0.009"),
        "stop_loss": None,
        "take_profit": [Decimal("0.012"), Decimal("0.013")],
        "size": Decimal("2.5"),
        "asset_data": {"price": 0.0112, "price_change_24h": 0.1},
    }
    assert store_asset(signal) == {
        "symbol": "PEPE-PERP",
        "asset_type": "crypto",
        "entry_price": Decimal("0.00001123456789"),
        "liquidation_price": Decimal("0.000009"),
        "stop_loss": None,
        "take_profit": [Decimal("0.000012"), Decimal("0.000013")],
        "size": Decimal(2500),
        "asset_data": {"price": 0.0000112, "price_change_24h": 0.1},
    }
    stock = {"symbol": "1000PEPE", "asset_type": "stock", "entry_price": Decimal(1), "asset_data": None}
    assert store_asset(dict(stock)) == stock


def test_euros_and_other_coins_are_instruments_of_their_own():
    names = {instrument_of(each, "crypto", None, NOW) for each in ("BTC", "BTC/EUR", "BTC/ETH", "ETH/BTC", "ETH")}
    assert len(names) == 5
    for symbol in ("BTC/USDT:USDT", "BINANCE:BTCUSDT", "BTC-PERP", "BTC/USD", "BTC"):
        assert crypto_pair(symbol) == CryptoPair("BTC", None)
    assert crypto_pair("BTC/EUR") == CryptoPair("BTC", "EUR")
