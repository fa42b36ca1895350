"""Test the simulated market that moves by itself: one price for all who ask, in quotes and candles of every length."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.lens.market._moving import (
    Anchor,
    SimulatedOption,
    SimulatedPath,
    SimulatedPrices,
    bars,
    candles,
    option_of,
    path_of,
    quote_at,
)
from actors.lens.market.quotes import Declaration, PricedInstrument
from schemas._instruments import parse_option
from schemas._symbols import CATEGORY_OF
from schemas._vocabulary import AssetType
from tests.unit.lens.factories import KnownAnchors

START = 29_970_000 * 60.0  # a full minute of December 2026
EXPIRY = date(2027, 3, 19)
SYMBOL = "AAPL 195C 3/19/2027"
STRAIGHT = sorted(set(CATEGORY_OF) - {"option"})
TIMES = st.floats(-30 * 86_400, 30 * 86_400)


def way_of(asset_type: AssetType, symbol: str = "X", price: float | None = None) -> SimulatedPath | SimulatedOption:
    if asset_type == "option":
        return option_of(parse_option(SYMBOL), EXPIRY, Anchor(price or 12.5, START), None)
    return path_of(asset_type, symbol, Anchor(price or (0.4 if asset_type == "prediction" else 100.0), START))


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@settings(deadline=None)
@given(st.sampled_from(STRAIGHT), st.text(min_size=1, max_size=20), st.floats(1e-9, 1e9), st.floats(0.01, 0.99))
def test_an_instrument_starts_at_its_first_declared_price(
    asset_type: AssetType, symbol: str, price: float, odds: float
) -> None:
    price = odds if asset_type == "prediction" else price
    quote = quote_at(way_of(asset_type, symbol, price), asset_type, at(START))
    assert quote is not None
    assert float(quote.mid) == pytest.approx(price, rel=1e-6, abs=5.1e-5 if asset_type == "prediction" else 0)
    assert quote.bid < quote.mid < quote.ask
    assert quote.source == "simulated"


@settings(deadline=None)
@given(st.sampled_from(sorted(CATEGORY_OF)), st.text(min_size=1, max_size=20), TIMES, st.sampled_from([1, 15, 60, 240]))
def test_a_candle_closes_at_the_price_at_its_end_and_encloses_what_was_between(
    asset_type: AssetType, symbol: str, seconds: float, minutes: int
) -> None:
    way = way_of(asset_type, symbol)
    first = int((START + seconds) // 60)
    one, two = bars(way, asset_type, first, 2, minutes)
    ends = [quote_at(way, asset_type, at(60 * (first + step * minutes))) for step in (0, 1, 2)]
    assert [each.mid for each in ends if each is not None] == [one.open, one.close, two.close]
    assert two.open == one.close
    for part in np.linspace(0, 60 * minutes, 23):
        quote = quote_at(way, asset_type, at(60 * first + float(part)))
        assert quote is not None
        assert one.low <= quote.mid <= one.high


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(CATEGORY_OF)), TIMES)
def test_longer_candles_are_made_of_shorter_ones(asset_type: AssetType, seconds: float) -> None:
    way = way_of(asset_type)
    first = int((START + seconds) // 60)
    quarters, hour = bars(way, asset_type, first, 4, 15), bars(way, asset_type, first, 1, 60)[0]
    assert hour.open == quarters[0].open
    assert hour.close == quarters[-1].close
    assert hour.high == max(each.high for each in quarters)
    assert hour.low == min(each.low for each in quarters)


@settings(deadline=None)
@given(st.floats(0.002, 0.998), TIMES)
def test_a_probability_stays_one(price: float, seconds: float) -> None:
    quote = quote_at(way_of("prediction", "X", price), "prediction", at(START + 100 * seconds))
    assert quote is not None
    assert 0 < quote.bid < quote.ask < 1


def test_nobody_gains_by_holding() -> None:
    ends = []
    for number in range(3000):
        way = way_of("crypto", f"S{number}")
        ends.append(candles(way, int(START // 60) + 30 * 1440, 1, 1)[0, 0] / 100)
    deviation = 0.009 * np.sqrt(720)
    assert abs(np.mean(ends) - 1) < 4 * deviation / np.sqrt(3000)
    assert abs(np.std(np.log(ends)) / deviation - 1) < 0.06


@pytest.mark.parametrize(("right", "falls"), [("C", False), ("P", True)])
def test_an_option_moves_with_its_underlying_and_ends_at_what_it_is_worth(right: str, falls: bool) -> None:
    terms = parse_option(f"AAPL 195{right} 3/19/2027")
    path = path_of("stock", "AAPL", Anchor(200.0, START))
    option = option_of(terms, EXPIRY, Anchor(14.0, START), path)
    quote = quote_at(option, "option", at(START))
    assert quote is not None
    assert float(quote.mid) == pytest.approx(14.0, abs=1e-4)
    hours = range(int(START // 60), int(START // 60) + 60 * 24 * 20, 60)
    spots = np.array([candles(path, minute, 1, 1)[0, 0] for minute in hours])
    values = np.array([candles(option, minute, 1, 1)[0, 0] for minute in hours])
    assert (np.corrcoef(np.diff(spots), np.diff(values))[0, 1] < -0.9) == falls
    end = int(datetime(2027, 3, 19, 20, tzinfo=UTC).timestamp()) // 60
    spot, value = candles(path, end, 1, 1)[0, 0], candles(option, end, 1, 1)[0, 0]
    assert value == pytest.approx(max(0.0, (195 - spot) if falls else (spot - 195)), abs=1e-6)
    assert candles(option, end + 500, 1, 1)[0, 0] == pytest.approx(
        max(0.0, (1 if not falls else -1) * (candles(path, end + 500, 1, 1)[0, 0] - 195)), abs=1e-6
    )


@pytest.mark.parametrize("price", [0.0001, 0.5, 60.0, 1e6])
def test_an_option_whose_price_makes_no_sense_has_one_all_the_same(price: float) -> None:
    for underlying in (None, path_of("stock", "AAPL", Anchor(200.0, START))):
        for right in "CP":
            way = option_of(parse_option(f"AAPL 195{right} 3/19/2027"), EXPIRY, Anchor(price, START), underlying)
            rows = candles(way, int(START // 60), 10, 60)
            assert np.isfinite(rows).all()
            assert (rows >= 0).all()


def test_spellings_of_one_instrument_move_as_one_and_others_by_themselves() -> None:
    one, two, other = (way_of("crypto", symbol) for symbol in ("BTC", "BTC/USD", "ETH"))
    assert quote_at(one, "crypto", at(START + 999)) == quote_at(two, "crypto", at(START + 999))
    assert quote_at(one, "crypto", at(START + 999)) != quote_at(other, "crypto", at(START + 999))


async def test_the_source_prices_what_has_an_anchor() -> None:
    now = at(START + 600.5)
    known = {
        PricedInstrument("crypto", "BTC"): Anchor(67_000.0, START),
        PricedInstrument("option", SYMBOL, EXPIRY): Anchor(12.5, START),
    }

    source = SimulatedPrices(KnownAnchors(known), now=lambda: now)
    for instrument in known:
        quote = await source.quote(instrument)
        minutes = await source.minutes(instrument, now - timedelta(minutes=3))
        assert quote is not None
        assert quote.at == now
        assert [each.opened_ms // 60_000 for each in minutes] == [29_970_008, 29_970_009]
        assert await source.minutes(instrument, now) == ()
        assert len(await source.minutes(instrument, now - timedelta(days=7))) == 500
        assert await source.resolution(instrument) is None
    assert await source.quote(PricedInstrument("crypto", "ETH")) is None
    assert await source.minutes(PricedInstrument("crypto", "ETH"), now) == ()
    await source.close()


@pytest.mark.parametrize("asset_type", STRAIGHT)
@pytest.mark.parametrize("price", [1e-300, 1e-18, 1.0, 1e15, 1e300])
def test_a_price_at_the_end_of_all_prices_has_a_quote(asset_type: AssetType, price: float) -> None:
    way = path_of(asset_type, "X", Anchor(price, START))
    for years in (-3, 0, 3):
        quote = quote_at(way, asset_type, at(START + years * 31_557_600))
        assert quote is not None
        assert 0 < quote.bid < quote.mid < quote.ask


@pytest.mark.parametrize("price", [0.2, 0.7])
async def test_predictions_come_true_as_often_as_their_last_prices_say(price: float) -> None:
    day = at(START).date() + timedelta(days=2)
    instruments = [PricedInstrument("prediction", f"Q{number}", None, None, None, day) for number in range(1500)]
    anchors = KnownAnchors(dict.fromkeys(instruments, Anchor(price, START)))
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    before = SimulatedPrices(anchors, now=lambda: end - timedelta(milliseconds=1))
    after, later = (
        SimulatedPrices(anchors, now=lambda: end),
        SimulatedPrices(anchors, now=lambda: end + timedelta(days=90)),
    )
    assert await before.resolution(instruments[0]) is None
    ended = [await after.resolution(each) for each in instruments]
    assert ended[:20] == [await later.resolution(each) for each in instruments[:20]]
    assert set(ended) == {"yes", "no"}
    prices = [quote.mid for each in instruments if (quote := await after.quote(each)) is not None]
    assert abs(ended.count("yes") / 1500 - float(sum(prices)) / 1500) < 4 * (0.25 / 1500) ** 0.5
    undated = PricedInstrument("prediction", "Q1")
    anchors.known[undated] = Anchor(price, START)
    assert await after.resolution(undated) is None


async def test_an_option_on_an_etf_moves_with_that() -> None:
    symbol = "SPY 600C 3/19/2027"
    known = {
        PricedInstrument("etf", "SPY"): Anchor(600.0, START),
        PricedInstrument("option", symbol, EXPIRY): Anchor(20.0, START),
    }
    way = await SimulatedPrices(KnownAnchors(known)).way(PricedInstrument("option", symbol, EXPIRY))
    assert isinstance(way, SimulatedOption)
    assert way.underlying == path_of("etf", "SPY", Anchor(600.0, START))


async def test_an_underlying_that_is_priced_later_leaves_its_options_where_they_were() -> None:
    anchors = KnownAnchors()
    source = SimulatedPrices(anchors, now=lambda: at(START + 86_400))
    option, stock = PricedInstrument("option", SYMBOL, EXPIRY), PricedInstrument("stock", "AAPL")
    assert await source.quote(option) is None
    await source.declare_all([Declaration(option, Decimal("12.5"), at(START))])
    before = await source.quote(option)
    assert before is not None
    await source.declare_all([Declaration(stock, Decimal(300), at(START + 1))])
    assert await source.quote(option) == before
    anchors.known[stock] = Anchor(300.0, START - 1)
    assert await SimulatedPrices(anchors, now=lambda: at(START + 86_400)).quote(option) != before


def test_the_half_spread_is_at_least_one_step_and_the_middle_the_price() -> None:
    quote = quote_at(way_of("forex", "EUR/USD", 1.13), "forex", at(START + 60))
    assert quote is not None
    assert quote.mid == bars(way_of("forex", "EUR/USD", 1.13), "forex", int(START // 60), 1)[0].close
    assert quote.ask - quote.mid == quote.mid - quote.bid >= Decimal("0.000001")


def test_a_quote_costs_microseconds() -> None:
    """The bound is ten times what an idle core takes."""
    way = way_of("crypto")
    started = time.process_time()
    for step in range(500):
        quote_at(way, "crypto", at(START + step))
    assert (time.process_time() - started) / 500 < 1e-3
