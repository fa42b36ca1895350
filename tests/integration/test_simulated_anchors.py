"""Test what the simulated market starts at: the first declared price that was stored, for every process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from actors.lens.market._anchors import StoredAnchors
from actors.lens.market._moving import Anchor, SimulatedPrices
from actors.lens.market.quotes import Declaration, PricedInstrument
from actors.lens.market.source import open_prices
from config import clock
from config.settings import Settings
from db._postgres import Pool, create_pool

BTC = PricedInstrument("crypto", "BTC")
AT = datetime(2026, 11, 30, 2, 30, 0, 123456, UTC)


@asynccontextmanager
async def pools(database_url: str, count: int) -> AsyncIterator[list[Pool]]:
    """Open as many pools as there are processes."""
    opened = [await create_pool(database_url, 2, name=f"test-{number}") for number in range(count)]
    try:
        yield opened
    finally:
        for pool in opened:
            await pool.close()


async def test_the_first_declared_price_is_everybodys(database_url: str) -> None:
    async with pools(database_url, 3) as opened:
        processes = [StoredAnchors(pool) for pool in opened]
        assert await processes[0].of(BTC) is None
        await asyncio.gather(
            *(
                each.declare(BTC, Decimal(67_000 + number), AT + timedelta(seconds=number))
                for number, each in enumerate(processes)
            )
        )
        anchors = {await each.of(BTC) for each in processes}
        assert len(anchors) == 1
        assert anchors == {await StoredAnchors(opened[0]).of(BTC)}  # after a restart
        await processes[1].declare(BTC, Decimal(1), AT)
        assert {await each.of(BTC) for each in processes} == anchors
        sources = [SimulatedPrices(each, now=lambda: AT + timedelta(days=3)) for each in processes]
        quotes = {await each.quote(PricedInstrument("crypto", "BTC/USD")) for each in sources}
        assert len(quotes) == 1
        assert None not in quotes


async def test_an_anchor_keeps_its_price_and_its_microseconds(database_url: str) -> None:
    async with pools(database_url, 2) as (one, two):
        await StoredAnchors(one).declare(BTC, Decimal("0.000012345"), AT)
        assert await StoredAnchors(two).of(BTC) == Anchor(0.000012345, AT.timestamp())


async def test_spellings_are_one_instrument_and_options_of_two_years_are_two(database_url: str) -> None:
    async with pools(database_url, 1) as (pool,):
        anchors = StoredAnchors(pool)
        await anchors.declare(PricedInstrument("crypto", "ETH-PERP"), Decimal(3000), AT)
        assert await anchors.of(PricedInstrument("crypto", "ETH/USD")) is not None
        assert await anchors.of(PricedInstrument("stock", "ETH")) is None
        one, other = (PricedInstrument("option", "AAPL 195C 3/15", date(year, 3, 15)) for year in (2027, 2028))
        await anchors.declare(one, Decimal(5), AT)
        assert await anchors.of(one) == await anchors.of(
            PricedInstrument("option", "AAPL 195.0C 2027-03-15", one.expiry)
        )
        assert await anchors.of(other) is None


async def test_the_source_that_is_configured_prices_what_was_declared(database_url: str) -> None:
    settings = Settings.load(env_file=None).replace(market_data="simulated,crypto:binance")
    async with pools(database_url, 1) as (pool,):
        prices = open_prices(settings, pool)
        stock = PricedInstrument("stock", "AAPL")
        assert await prices.quote(stock) is None
        await prices.declare([Declaration(stock, Decimal(226), clock.now())])
        quote = await prices.quote(stock)
        assert quote is not None
        assert abs(quote.mid / 226 - 1) < Decimal("0.01")
        await prices.declare([Declaration(BTC, Decimal(67_000), AT)])  # a venue's prices are its own
        assert await StoredAnchors(pool).of(BTC) is None
        assert await prices.minutes(stock, clock.now()) == ()
        assert await prices.resolution(stock) is None
        await prices.close()


async def test_a_price_of_nothing_starts_nothing(database_url: str) -> None:
    async with pools(database_url, 1) as (pool,):
        anchors = StoredAnchors(pool)
        await anchors.declare(BTC, Decimal(0), AT)
        assert await anchors.of(BTC) is None


async def test_what_is_known_is_asked_once(database_url: str) -> None:
    async with pools(database_url, 1) as (pool,):
        anchors = StoredAnchors(pool)
        await anchors.declare(BTC, Decimal(67_000), AT)
        await pool.close()
        assert await anchors.of(BTC) is not None
        await anchors.declare(BTC, Decimal(1), AT)
