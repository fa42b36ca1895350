"""Test quotes that are asked for together, of a vendor that limits calls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.lens.market._http import CallFailed
from actors.lens.market.quotes import PricedInstrument
from actors.lens.quote import VenueQuote
from tests.integration.market_vendors import ALPACA, OCC, OPTIONS
from tests.peers.hyperliquid import Fault, body, stall, status
from tests.peers.vendors import VendorPeer

NAMES = [f"{first}{second}" for first in "ABCDEFGHIJ" for second in "ABCDEFGHIJKLMNO"]
STOCKS = [PricedInstrument("stock", name) for name in NAMES]


def quotes_of(names: list[str], **changes: Any) -> dict[str, Any]:
    """Return the vendor's answer for these symbols."""
    one = ALPACA.answers[ALPACA.quote_path]["quotes"]["AAPL"]
    return {"quotes": dict.fromkeys(names, one | changes)}


def asked(peer: VendorPeer) -> list[list[str]]:
    """Return the symbols of each call."""
    return [call.query["symbols"].split(",") for call in peer.calls]


async def test_quotes_that_are_wanted_together_are_few_calls() -> None:
    async with VendorPeer({ALPACA.quote_path: quotes_of(NAMES)}) as peer:
        venue = ALPACA.venue(peer.base_url)
        quotes = await asyncio.gather(*(venue.quote(each) for each in STOCKS + STOCKS))
        assert all(isinstance(each, VenueQuote) for each in quotes)
        assert [len(names) for names in asked(peer)] == [100, 50]
        assert sorted(name for names in asked(peer) for name in names) == sorted(NAMES)
        await asyncio.gather(*(venue.quote(each) for each in STOCKS))
        assert len(peer.calls) == 2
        await venue.close()


async def test_asset_types_are_asked_apart() -> None:
    answers = ALPACA.answers | OPTIONS.answers | {ALPACA.quote_path: quotes_of(["AAPL", "SPY"])}
    wanted = [ALPACA.instrument, PricedInstrument("etf", "SPY"), OPTIONS.instrument]
    async with VendorPeer(answers) as peer:
        venue = ALPACA.venue(peer.base_url)
        assert None not in await asyncio.gather(*(venue.quote(each) for each in wanted))
        assert sorted(asked(peer)) == [["AAPL"], [OCC], ["SPY"]]
        await venue.close()


async def test_one_with_a_bad_quote_or_none_fails_alone() -> None:
    answer = quotes_of(["AA", "AB", "AC"])
    answer["quotes"] |= quotes_of(["AB"], bp=-1)["quotes"]
    async with VendorPeer({ALPACA.quote_path: answer}) as peer:
        venue = ALPACA.venue(peer.base_url)
        results = await asyncio.gather(
            *(venue.quote(PricedInstrument("stock", name)) for name in ("AA", "AB", "AC", "AD")), return_exceptions=True
        )
        assert len(peer.calls) == 1
        await venue.close()
    assert isinstance(results[0], VenueQuote)
    assert isinstance(results[1], CallFailed)
    assert "a price of zero or less" in results[1].message
    assert isinstance(results[2], VenueQuote)
    assert results[3] is None


async def test_a_symbol_that_is_refused_does_not_take_the_others_with_it() -> None:
    async def refuse(request: Any, _: Any) -> Any:
        return await status(400)(request, _) if "AC" in request.query["symbols"].split(",") else None

    async with VendorPeer({ALPACA.quote_path: quotes_of(NAMES)}) as peer:
        peer.fault = refuse
        venue = ALPACA.venue(peer.base_url)
        quotes = await asyncio.gather(*(venue.quote(each) for each in STOCKS[:16]))
        await venue.close()
    assert [each is None for each in quotes] == [each.symbol == "AC" for each in STOCKS[:16]]


@pytest.mark.parametrize(
    ("fault", "reason"), [(status(503), "PROVIDER_ERROR"), (stall(), "TIMEOUT"), (body(b"{}"), "PROVIDER_ERROR")]
)
async def test_a_call_that_fails_fails_for_all_and_the_next_is_another(fault: Fault, reason: str) -> None:
    async with VendorPeer({ALPACA.quote_path: quotes_of(NAMES)}) as peer:
        peer.fault = fault
        venue = ALPACA.venue(peer.base_url, timeout_seconds=0.3)
        results = await asyncio.gather(*(venue.quote(each) for each in STOCKS[:3]), return_exceptions=True)
        assert [each.reason for each in results if isinstance(each, CallFailed)] == [reason] * 3
        peer.fault = None
        assert await venue.quote(STOCKS[3]) is not None
        with pytest.raises(CallFailed):  # held back for a while, as any question that failed
            await venue.quote(STOCKS[0])
        await venue.close()


async def test_without_a_budget_nothing_is_asked_and_the_reason_is_said() -> None:
    async with VendorPeer({ALPACA.quote_path: quotes_of(NAMES)}) as peer:
        venue = ALPACA.venue(peer.base_url, weight_per_minute=2)
        assert await venue.quote(STOCKS[0]) is not None  # of two, a first answer may take 95 in a hundred
        for each in STOCKS[1:3]:
            with pytest.raises(CallFailed, match="the requests of this minute are used up"):
                await venue.quote(each)
        assert len(peer.calls) == 1
        await venue.close()


@pytest.mark.parametrize("symbol", ["BINANCE:BTCUSDT", "A,B", "AAPL MSFT", "1234", "TOOLONGS", "É"])
async def test_a_symbol_that_no_exchange_has_is_not_asked_for(symbol: str) -> None:
    async with VendorPeer({}) as peer:
        venue = ALPACA.venue(peer.base_url)
        assert await venue.quote(PricedInstrument("stock", symbol)) is None
        assert peer.calls == []
        await venue.close()
