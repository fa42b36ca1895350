"""The simulated market: it ends at the entry price, is consistent in itself, and the same in every process."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.lens.market import CANDLE_COUNT
from actors.lens.market.simulated import SimulatedMarketData, _pick, _run, _shape, _venue
from actors.lens.model import INTERVAL_SECONDS
from config.values import replace
from schemas._symbols import CATEGORY_OF
from tests.unit.lens.factories import NOW, NOW_MS, ask, make_request, priced

prices = st.one_of(st.floats(1e-12, 1e12), st.floats(0.001, 0.999))
requests = st.builds(
    lambda asset_type, symbol, price: make_request(asset_type=asset_type, symbol=symbol, entry_price=price),
    st.sampled_from(sorted(CATEGORY_OF)),
    st.text(min_size=1, max_size=100),
    prices,
)


@given(requests)
def test_every_interval_ends_at_the_entry_price_in_candles_that_can_be_true(request):
    snapshot = ask(request)
    assert list(snapshot.candles) == ["15m", "1h", "4h"]
    for interval in snapshot.candles:
        candles = priced(snapshot, interval)
        assert len(candles) == CANDLE_COUNT
        assert candles.ohlcv[3, -1] == request.entry_price
        assert candles.ohlcv[4].min() > 0
        np.testing.assert_allclose(candles.ohlcv[0, 1:], candles.ohlcv[3, :-1], rtol=1e-9)


@given(requests)
def test_the_quote_and_the_book_stand_around_the_entry_price(request):
    snapshot, price = ask(request), request.entry_price
    assert snapshot.quote.mid == price
    bids, asks = snapshot.order_book.bids, snapshot.order_book.asks
    assert 0 < bids[-1][0] < bids[0][0] < price < asks[0][0] < asks[-1][0]
    assert list(bids) == sorted(bids, reverse=True)
    assert list(asks) == sorted(asks)
    assert all(size > 0 for _, size in bids + asks)
    assert abs(snapshot.asset_context.mark_price / price - 1) <= 0.001 + 1e-12
    assert abs(snapshot.asset_context.funding_rate) <= 0.0005
    assert snapshot.asset_context.open_interest > 0


@given(st.floats(0.0001, 0.9999), st.text(min_size=1, max_size=100))
def test_a_probability_stays_a_probability(price, symbol):
    snapshot = ask(make_request(asset_type="prediction", symbol=symbol, entry_price=price))
    assert all(priced(snapshot, interval).ohlcv[:4].max() < 1 for interval in snapshot.candles)
    assert snapshot.order_book.asks[-1][0] < 1


@given(requests)
def test_the_same_question_has_the_same_answer(request):
    first = ask(request)
    for cached in (_pick, _run, _shape, _venue):
        cached.cache_clear()
    second = ask(request)
    assert first.order_book == second.order_book
    for interval in first.candles:
        np.testing.assert_array_equal(first.candles[interval].ohlcv, second.candles[interval].ohlcv)


def test_another_process_gives_the_same_answer():
    code = "from tests.unit.lens.factories import *; print(priced(ask(make_request()), '1h').ohlcv.sum().hex())"
    root, environment = Path(__file__).parents[3], {"PYTHONHASHSEED": "7"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == priced(ask(make_request()), "1h").ohlcv.sum().hex()


def test_symbols_asset_types_and_time_buckets_have_markets_of_their_own():
    first = ask(make_request()).candles["1h"].ohlcv[3, 0]
    for changes in ({"symbol": f"S{number}"} for number in range(5)):
        assert ask(make_request(**changes)).candles["1h"].ohlcv[3, 0] != first
    assert ask(make_request(asset_type="stock")).candles["1h"].ohlcv[3, 0] != first
    assert ask(make_request(now=NOW + timedelta(hours=1))).candles["1h"].ohlcv[3, 0] != first
    assert len({ask(make_request(symbol=f"S{number}")).order_book for number in range(200)}) > 50


def test_within_a_bucket_the_candles_stay_and_the_clock_moves_on():
    first, later = ask(make_request()), ask(make_request(now=NOW + timedelta(seconds=30)))
    assert first.candles["15m"] is later.candles["15m"]
    assert (first.quote.as_of_ms, later.quote.as_of_ms) == (NOW_MS, NOW_MS + 30_000)


def test_the_last_candle_is_the_one_that_forms_now():
    for interval, candles in ask(make_request()).candles.items():
        assert 0 <= NOW_MS - candles.last_open_ms < INTERVAL_SECONDS[interval] * 1000


def test_the_simulated_market_answers_only_what_is_asked():
    snapshot = ask(make_request(queries=("candles_1h",)))
    assert list(snapshot.candles) == ["1h"]
    assert (snapshot.quote, snapshot.order_book, snapshot.asset_context) == (None, None, None)


def test_signals_of_a_symbol_share_its_candles_and_cannot_change_them():
    first, second = (ask(make_request(entry_price=price)) for price in (1.0, 42000.5))
    assert first.candles == second.candles
    with pytest.raises(ValueError, match="read-only"):
        first.candles["1h"].ohlcv[:] = 0.0


@pytest.mark.parametrize(("asset_type", "least", "most"), [("crypto", 0.004, 0.02), ("forex", 0.0005, 0.003)])
def test_an_hour_moves_about_as_much_as_in_a_real_market(asset_type, least, most):
    deviations = []
    for number in range(50):
        opens, _, _, closes, _ = ask(make_request(symbol=f"S{number}", asset_type=asset_type)).candles["1h"].ohlcv
        deviations.append(np.std(closes / opens - 1))
    assert least < np.median(deviations) < most


def test_ten_thousand_symbols_need_no_more_shapes_than_a_few_hundred():
    _shape.cache_clear()
    for number in range(10_000):
        ask(make_request(symbol=f"S{number}", queries=("candles_1h",)))
    assert _shape.cache_info().misses <= 256
    assert _shape.cache_info().maxsize * CANDLE_COUNT * 5 * 8 < 20e6


async def test_the_simulated_market_is_asked_and_closed_as_every_source_is():
    market = SimulatedMarketData()
    snapshot = await market.snapshot(replace(make_request(), symbol="ETH"))
    assert snapshot.has_data
    assert snapshot.failures == ()
    await market.close()
