"""Test what indicators see of the simulated market that moves by itself: the prices that its quotes have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.lens.features import build_features
from actors.lens.market import CANDLE_COUNT
from actors.lens.market._moving import Anchor, SimulatedPrices, bars, path_of, quote_at
from actors.lens.market._moving_data import MovingMarketData, candles_of, snapshot_of
from actors.lens.market.quotes import PricedInstrument
from actors.lens.model import INTERVAL_SECONDS, Candles, Interval
from schemas._symbols import CATEGORY_OF
from schemas._vocabulary import AssetType
from tests.unit.lens.factories import NOW, KnownAnchors, make_request, make_signal
from tests.unit.lens.test_moving import way_of

SYMBOLS: dict[AssetType, str] = {"option": "AAPL 195C 3/19/2027", "forex": "EUR/USD", "prediction": "Will it rain?"}
START = datetime(2026, 12, 1, tzinfo=UTC)
LATER = st.integers(-20 * 86_400, 20 * 86_400)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(CATEGORY_OF)), LATER)
def test_a_snapshot_is_the_market_at_its_time(asset_type: AssetType, seconds: int) -> None:
    now = START + timedelta(seconds=seconds)
    way = way_of(asset_type, SYMBOLS.get(asset_type, "X"))
    request = make_request(asset_type=asset_type, symbol=SYMBOLS.get(asset_type, "X"), entry_price=0.5, now=now)
    snapshot, quote = snapshot_of(way, request), quote_at(way, asset_type, now)
    assert quote is not None
    assert snapshot.quote is not None
    assert snapshot.quote.mid == pytest.approx(float(quote.mid), abs=6e-5 if asset_type in SYMBOLS else 0, rel=1e-6)
    assert snapshot.order_book is not None
    bids, asks = snapshot.order_book.bids, snapshot.order_book.asks
    assert (bids[0][0], asks[0][0]) == (float(quote.bid), float(quote.ask))
    assert list(bids) == sorted(bids, reverse=True)
    assert list(asks) == sorted(asks)
    assert all(size > 0 for _, size in bids + asks)
    for interval, candles in snapshot.candles.items():
        checked = Candles.checked(interval, candles.last_open_ms, candles.ohlcv)
        assert len(checked) == CANDLE_COUNT
        age = now.timestamp() - candles.last_open_ms / 1000
        assert 0 <= age < INTERVAL_SECONDS[interval]
        np.testing.assert_array_equal(candles.ohlcv[0, 1:], candles.ohlcv[3, :-1])
        assert candles.ohlcv[4].min() > 0


@pytest.mark.parametrize("interval", ["15m", "1h", "4h"])
def test_candles_of_indicators_are_those_of_records(interval: Interval) -> None:
    way = path_of("crypto", "BTC", Anchor(67_000.0, START.timestamp()))
    minutes = INTERVAL_SECONDS[interval] // 60
    candles = candles_of(way, "crypto", interval, int(START.timestamp()) + 7000)
    first = candles.last_open_ms // 60_000 - 3 * minutes
    for place, bar in enumerate(bars(way, "crypto", first, 3, minutes)):
        shown = candles.ohlcv[:4, CANDLE_COUNT - 4 + place]
        np.testing.assert_allclose(shown, [float(each) for each in (bar.open, bar.high, bar.low, bar.close)], rtol=1e-6)


def test_candles_are_shared_until_they_are_refreshed() -> None:
    way = path_of("crypto", "BTC", Anchor(67_000.0, START.timestamp()))
    now = int(START.timestamp()) + 3600
    assert candles_of(way, "crypto", "1h", now) is candles_of(way, "crypto", "1h", now + 59)
    assert candles_of(way, "crypto", "1h", now) is not candles_of(way, "crypto", "1h", now + 60)
    assert candles_of(way, "crypto", "4h", now) is candles_of(way, "crypto", "4h", now + 239)
    assert not candles_of(way, "crypto", "4h", now).ohlcv.flags.writeable


async def test_a_symbol_starts_at_the_first_entry_price_and_goes_its_own_way() -> None:
    market = MovingMarketData(SimulatedPrices(KnownAnchors()))
    first = make_request(entry_price=42_000.0)
    assert market.snapshot_at_once(first) is None
    start = await market.snapshot(first)
    claim = make_request(entry_price=99_000.0)
    shown = await market.snapshot(claim)
    assert start.quote is not None
    assert start.quote == shown.quote
    assert start.quote.mid == pytest.approx(42_000.0)
    assert market.snapshot_at_once(claim) is not None
    features = build_features(make_signal(entry_price=99_000.0), shown, "full_v1", NOW)
    assert features.drift_bps is not None
    assert abs(features.drift_bps) > 1000
    await market.close()


async def test_an_option_without_a_form_has_no_data() -> None:
    market = MovingMarketData(SimulatedPrices(KnownAnchors()))
    snapshot = await market.snapshot(make_request(asset_type="option", symbol="AAPL"))
    assert not snapshot.has_data


async def test_anchors_are_exact() -> None:
    anchors = KnownAnchors()
    await MovingMarketData(SimulatedPrices(anchors)).snapshot(make_request(entry_price=0.1))
    assert anchors.known[PricedInstrument("crypto", "BTC")].price == float(Decimal("0.1"))
