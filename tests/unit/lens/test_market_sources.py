"""Market data by asset type: the setting, and the source that is asked."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from actors.lens.market import NO_SOURCE
from actors.lens.market._moving import Anchor, path_of
from actors.lens.market._moving_data import MovingMarketData, snapshot_of
from actors.lens.market.hyperliquid import HyperliquidMarketData
from actors.lens.market.source import MarketByType, open_market
from config._market import ASSET_TYPES, SOURCES, market_sources
from config.settings import ConfigurationError, Settings
from db._postgres import Pool
from schemas._symbols import CATEGORY_OF
from tests.unit.lens.factories import NOW, make_request

NO_POOL = cast(Pool, None)  # venues need none

ALL_SOURCES = "simulated, hyperliquid, binance, alpaca, oanda, polymarket, kalshi"


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("simulated", dict.fromkeys(ASSET_TYPES, "simulated")),
        ("hyperliquid", {"crypto": "hyperliquid"}),
        ("crypto:hyperliquid", {"crypto": "hyperliquid"}),
        (" crypto : hyperliquid , stock:simulated,", {"crypto": "hyperliquid", "stock": "simulated"}),
        (
            "binance,alpaca,oanda,prediction:kalshi",
            {
                "crypto": "binance",
                **dict.fromkeys(("stock", "option", "etf"), "alpaca"),
                "forex": "oanda",
                "prediction": "kalshi",
            },
        ),
        ("crypto:hyperliquid,simulated", dict.fromkeys(ASSET_TYPES, "simulated") | {"crypto": "hyperliquid"}),
    ],
)
def test_a_setting_names_the_source_of_each_type(text: str, sources: dict[str, str]) -> None:
    assert market_sources(text) == sources


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nasdaq", f"'nasdaq' is not one of {ALL_SOURCES}, or nothing"),
        ("crypto:nasdaq", f"'nasdaq' is not one of {ALL_SOURCES}, or nothing"),
        ("stock:binance", "binance has no market data of stock, only of crypto"),
        ("crypto:binance,hyperliquid,crypto:hyperliquid", "crypto has two sources: binance and hyperliquid"),
        ("alpaca", "alpaca needs ALPACA_KEY_ID"),
        ("forex:oanda", "oanda needs OANDA_TOKEN"),
        ("bond:simulated", "'bond' is not an asset type: crypto, stock, option, etf, forex, prediction"),
        ("stock:hyperliquid", "hyperliquid has no market data of stock, only of crypto"),
        ("crypto:hyperliquid,crypto:simulated", "crypto has two sources: hyperliquid and simulated"),
        ("simulated,hyperliquid", "crypto has two sources: simulated and hyperliquid"),
        (",", "names no source"),
    ],
)
def test_a_setting_that_names_none_says_what_is_wrong(text: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKET_DATA", text)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(env_file=None)
    assert f"MARKET_DATA: {problem}" in caught.value.problems


@pytest.mark.parametrize("text", ["simulated", "crypto:hyperliquid,stock:simulated"])
def test_production_takes_nothing_simulated_of_any_type(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("MARKET_DATA", text)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(env_file=Path("/nowhere"))
    assert any(each.startswith("MARKET_DATA: ") for each in caught.value.problems)


def test_the_setting_knows_every_asset_type() -> None:
    assert ASSET_TYPES == SOURCES["simulated"] == tuple(CATEGORY_OF)


async def test_each_type_asks_its_own_source_and_one_without_has_none() -> None:
    """The kind: one source for all types, which has no data of one type, and that counts as its failure."""
    settings = Settings.load(env_file=None)
    both, _ = open_market(settings.replace(market_data="crypto:hyperliquid,stock:simulated"), NO_POOL)
    assert isinstance(both, MarketByType)
    assert both.snapshot_at_once(make_request(asset_type="stock", symbol="AAPL")) is None
    for asset_type in ("option", "etf", "forex", "prediction"):
        request = make_request(asset_type=asset_type)
        assert both.snapshot_at_once(request) is await both.snapshot(request) is NO_SOURCE
    await both.close()
    alone, _ = open_market(settings.replace(market_data="hyperliquid"), NO_POOL)
    assert isinstance(alone, HyperliquidMarketData)
    assert alone.snapshot_at_once(make_request(asset_type="etf")) is NO_SOURCE
    await alone.close()
    assert isinstance(open_market(settings.replace(market_data="simulated"), NO_POOL)[0], MovingMarketData)


async def test_prices_and_indicators_ask_one_source() -> None:
    data, prices = open_market(Settings.load(env_file=None).replace(market_data="hyperliquid"), NO_POOL)
    assert prices._sources == {"crypto": data}
    await prices.close()


async def test_the_simulated_market_of_an_instrument_is_one_however_it_is_spelled() -> None:
    now = NOW.timestamp()
    one, two = (path_of("crypto", each, Anchor(42_000.5, now)) for each in ("BTC", "BTC/USD"))
    snapshots = [snapshot_of(way, make_request(symbol=each)) for way, each in ((one, "BTC"), (two, "BTC/USD"))]
    assert snapshots[0].candles["1h"] is snapshots[1].candles["1h"]
    assert snapshots[0].order_book == snapshots[1].order_book
    assert snapshots[0].venue_quote == snapshots[1].venue_quote


async def test_shards_share_what_hyperliquid_allows_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.load(env_file=None).replace(market_data="hyperliquid", lens_shards=4)
    market, _ = open_market(settings, NO_POOL)
    assert isinstance(market, HyperliquidMarketData)
    try:
        assert market._guard._budget._limit == 300
    finally:
        await market.close()
    monkeypatch.setenv("MARKET_DATA", "crypto:hyperliquid,stock:simulated")
    monkeypatch.setenv("LENS_SHARDS", "33")
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(env_file=None)
    assert caught.value.problems == ["LENS_SHARDS: at most 32 can share what hyperliquid allows an address"]
