"""Test Hyperliquid's quotes and minutes, which share the guard and the cells of its market data."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import orjson
import pytest

from actors.lens.market._http import CallFailed
from actors.lens.market.quotes import PricedInstrument
from tests.integration.hyperliquid_market import scene
from tests.peers.hyperliquid import body, edited, status

BTC = PricedInstrument("crypto", "BTC/USD")


def candle(opened_ms: int, close: str, coin: str = "BTC") -> dict[str, object]:
    prices = {"o": "100.5", "h": "101.0", "l": "99.75", "c": close, "v": "12.5"}
    return {"t": opened_ms, "T": opened_ms + 59_999, "s": coin, "i": "1m", "n": 3} | prices


async def test_a_quote_is_the_best_of_the_book_exactly_and_shared_with_the_snapshot() -> None:
    async with scene() as s:
        await s.ask("BTC")
        asked = s.peer.count("l2Book", "BTC")
        book = edited(
            s.peer,
            lambda answer: answer.update(
                levels=[[{"px": "0.0012345", "sz": "1", "n": 1}], [{"px": "0.0012347", "sz": "2", "n": 1}]],
                time=s.peer.now_ms() - 700,
            ),
        )
        s.peer.fault(book, "l2Book")
        s.clocks.ahead += 2.0
        quote = await s.market.quote(BTC)
        again = await s.market.quote(BTC)
        assert s.peer.count("l2Book", "BTC") == asked + 1
        now_ms = s.peer.now_ms()
    assert quote is not None
    assert (str(quote.bid), str(quote.ask), str(quote.mid)) == ("0.0012345", "0.0012347", "0.0012346")
    assert quote.source == "hyperliquid"
    assert quote == again
    assert 0 <= now_ms - quote.at.timestamp() * 1000 - 700 < 2000


async def test_a_coin_that_it_does_not_know_and_other_types_have_no_price() -> None:
    async with scene() as s:
        assert await s.market.quote(PricedInstrument("crypto", "NOSUCH")) is None
        assert await s.market.minutes(PricedInstrument("crypto", "NOSUCH"), s.clocks.now()) == ()
        assert await s.market.quote(PricedInstrument("stock", "BTC")) is None
        assert await s.market.resolution(BTC) is None


@pytest.mark.parametrize(
    "levels",
    [
        [[{"px": "1e17", "sz": "1", "n": 1}], [{"px": "1e18", "sz": "1", "n": 1}]],
        [[{"px": "2", "sz": "1", "n": 1}], [{"px": "1", "sz": "1", "n": 1}]],
        [[{"px": "0", "sz": "1", "n": 1}], [{"px": "1", "sz": "1", "n": 1}]],
        [[{"px": "NaN", "sz": "1", "n": 1}], [{"px": "1", "sz": "1", "n": 1}]],
    ],
)
async def test_an_implausible_book_is_a_failure_and_an_empty_side_no_quote(levels: list[object]) -> None:
    async with scene() as s:
        s.peer.fault(edited(s.peer, lambda answer: answer.update(levels=levels)), "l2Book", "BTC")
        with pytest.raises(CallFailed, match="answered nonsense"):
            await s.market.quote(BTC)
    async with scene() as s:
        s.peer.fault(edited(s.peer, lambda answer: answer["levels"].__setitem__(1, [])), "l2Book")
        assert await s.market.quote(BTC) is None


@pytest.mark.parametrize("question", ["allMids", "l2Book"])
async def test_a_venue_that_fails_is_a_failure(question: str) -> None:
    async with scene() as s:
        s.peer.fault(status(503), question)
        if question == "allMids":
            assert (await s.market.quote(BTC)) is not None  # the coin is guessed
            with pytest.raises(CallFailed):
                await s.market.quote(PricedInstrument("crypto", "ETH/BTC"))
        else:
            with pytest.raises(CallFailed, match="503"):
                await s.market.quote(BTC)


async def test_minutes_are_the_complete_ones_since_a_time() -> None:
    async with scene() as s:
        now_ms = s.peer.now_ms()
        minute = now_ms // 60_000 * 60_000
        rows = [candle(minute - 60_000 * back, f"100.{back}") for back in (3, 2, 1, 0)]
        s.peer.fault(body(orjson.dumps(rows)), "candleSnapshot")
        bars = await s.market.minutes(BTC, s.clocks.now() - timedelta(minutes=3))
        assert s.peer.calls[-1]["req"]["interval"] == "1m"
    assert [(bar.opened_ms - minute) // 60_000 for bar in bars] == [-2, -1]
    assert bars[0].close == Decimal("100.2")


@pytest.mark.parametrize(
    "change", [{"s": "ETH"}, {"i": "15m"}, {"c": None}, {"c": "NaN"}, {"l": "-1"}, {"h": "1"}, {"t": "x"}]
)
async def test_nonsense_among_the_minutes_is_a_failure(change: dict[str, object]) -> None:
    async with scene() as s:
        minute = s.peer.now_ms() // 60_000 * 60_000 - 120_000
        s.peer.fault(body(orjson.dumps([candle(minute, "100.5") | change])), "candleSnapshot")
        with pytest.raises(CallFailed, match="answered nonsense"):
            await s.market.minutes(BTC, s.clocks.now() - timedelta(minutes=5))
