"""Symbols and the venue's coins: each symbol is mapped to its own coin, and to no similar one."""

from __future__ import annotations

import pytest

from actors.lens.market._hyperliquid_coins import Coins


def known() -> Coins:
    coins = Coins()
    coins.learn(["BTC", "ETH", "kPEPE", "USDE", "PURR/USDC", "@107"])
    return coins


@pytest.mark.parametrize(
    ("symbol", "coin"),
    [
        ("BTC", "BTC"),
        ("btc", "BTC"),
        ("BTC/USD", "BTC"),
        ("BTC/USDC", "BTC"),
        ("BTC/USDT", "BTC"),
        ("BTC-PERP", "BTC"),
        ("BTC-USD", "BTC"),
        ("BTC-USD-PERP", "BTC"),
        ("BTC/USD-PERP", "BTC"),
        ("BTC_USDT", "BTC"),
        ("BTCUSDT", "BTC"),
        ("KPEPE", "kPEPE"),
        ("KPEPE/USD", "kPEPE"),
        ("kPEPE-PERP", "kPEPE"),
        ("USDE", "USDE"),
        ("USDE/USDC", "USDE"),
        ("PURR/USDC", "PURR/USDC"),
        ("PURR", None),
        ("PEPE", "kPEPE"),
        ("PEPE-PERP", "kPEPE"),
        ("BINANCE:BTCUSDT", "BTC"),
        ("BTC/USDT:USDT", "BTC"),
        ("BINANCE:ETH/BTC", None),
        ("ETH/BTC", None),
        ("BTC/EUR", None),
        ("ETH/BTC/USD", None),
        ("USD", None),
        ("@107", None),
        ("", None),
        ("/USD", None),
    ],
)
def test_a_symbol_means_a_coin_that_is_quoted_in_dollars(symbol: str, coin: str | None) -> None:
    assert known().find(symbol) == coin


@pytest.mark.parametrize(("symbol", "power"), [("PEPE", 3), ("PEPE/USD", 3), ("KPEPE", 0), ("BTC", 0)])
def test_a_coin_that_is_sold_by_the_thousand_is_told(symbol: str, power: int) -> None:
    coin = known().find(symbol)
    assert coin is not None
    assert Coins.power_of(coin, symbol) == power


def test_a_symbol_is_a_guess_until_the_venue_has_named_its_coins() -> None:
    assert Coins.guess("btc/usd") == "BTC"
    assert Coins.guess("SOL-PERP") == "SOL"
    assert Coins.guess("ETH/BTC") is None
    assert not Coins()


def test_a_coin_that_was_delisted_is_unlearnt() -> None:
    coins = known()
    coins.learn(["ETH"])
    assert coins.find("BTC") is None
    assert coins.find("ETH") == "ETH"
