"""The setting MARKET_DATA opens each source, for the asset types that it serves."""

from __future__ import annotations

from typing import cast

import pytest

from actors.lens.market.source import open_market, open_prices
from config._market import SOURCES
from config.settings import Settings
from db._postgres import Pool
from schemas._vocabulary import ASSET_TYPES

KEYS = {"alpaca_key_id": "k", "alpaca_secret_key": "s", "oanda_account": "a", "oanda_token": "t"}
ALL = "crypto:binance,alpaca,forex:oanda,prediction:kalshi"


@pytest.mark.parametrize("named", [*SOURCES, ALL])
async def test_the_setting_opens_a_source_for_the_types_that_it_serves(named: str) -> None:
    settings = Settings.load(env_file=None).replace(market_data=named, **KEYS)
    pool = cast(Pool, None)  # the simulated market asks it later
    market, shared = open_market(settings, pool)
    apart = open_prices(settings, pool)
    try:
        served = {each for each in ASSET_TYPES if shared.has_source(each)}
        assert served == {each for each in ASSET_TYPES if apart.has_source(each)}
        assert served == set(SOURCES.get(named, ASSET_TYPES))
    finally:
        await market.close()
        await apart.close()
