"""Market data of a local Hyperliquid with real recorded prices: answers, their sharing, refreshing and isolation."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import numpy as np
import pytest

from actors.lens.indicators import frame_of
from actors.lens.market import CANDLE_COUNT
from actors.lens.market._moving_data import MovingMarketData
from actors.lens.market.hyperliquid import HyperliquidMarketData
from actors.lens.market.source import open_market
from actors.lens.model import Candles, DataQuality, Interval, MarketSnapshot
from config.settings import Settings
from config.tasks import spawn
from db._postgres import Pool
from schemas._vocabulary import AssetType
from tests.integration.hyperliquid_market import OF_A_COIN, OF_THE_VENUE, QUERIES, eventually, scene
from tests.peers.hyperliquid import FUTURE_HOURS, INTERVAL_MS, edited, replaced, stall
from tests.peers.prices import quarters_of, recorded

COINS = ("BTC", "ETH", "SOL", "DOGE", "KPEPE")


async def test_the_setting_opens_the_adapter() -> None:
    settings = Settings.load(env_file=None)
    pool = cast(Pool, None)
    hyperliquid, prices = open_market(settings.replace(market_data="hyperliquid"), pool)
    simulated, _ = open_market(settings.replace(market_data="simulated"), pool)
    assert isinstance(hyperliquid, HyperliquidMarketData)
    assert isinstance(simulated, MovingMarketData)
    assert prices.has_source("crypto")
    assert not prices.has_source("stock")
    await hyperliquid.close()


async def test_a_snapshot_gives_every_feature_of_the_full_profile() -> None:
    async with scene() as stage:
        features = await stage.features("BTC/USD")
        price = stage.peer.price("BTC")
    document = features.to_dict()
    assert features.flags == DataQuality()
    assert [name for name, value in document.items() if value is None] == []
    assert [name for frame in document["frames"].values() for name, value in frame.items() if value is None] == []
    assert (features.mid, features.mark_price, features.funding_rate) == (price, price, 1.25e-5)
    assert features.drift_bps == 0
    assert features.spread_bps == pytest.approx(2.0)
    assert features.order_book_imbalance == pytest.approx(0.5)
    assert features.support is not None
    assert features.resistance is not None
    assert features.support < price < features.resistance


async def test_candles_are_the_recorded_ones_and_their_indicators_too() -> None:
    async with scene() as stage:
        snapshot = await stage.ask("BTC")
        now_ms = stage.clocks.now_ms()
    hours = snapshot.candles["1h"]
    complete = recorded("GOOG")[:, : -FUTURE_HOURS - 1][:, -CANDLE_COUNT + 1 :]
    assert len(hours) == CANDLE_COUNT
    np.testing.assert_array_equal(hours.ohlcv[:4, :-1], complete[:4])
    np.testing.assert_allclose(hours.ohlcv[4, :-1], complete[4])
    for interval, candles in snapshot.candles.items():
        assert candles.last_open_ms == now_ms // INTERVAL_MS[interval] * INTERVAL_MS[interval]
    ours = frame_of(Candles("1h", 0, np.ascontiguousarray(hours.ohlcv[:, :-1])))
    theirs = frame_of(Candles("1h", 0, np.ascontiguousarray(complete)))
    assert ours == theirs


async def test_the_intervals_of_a_coin_agree_with_each_other() -> None:
    async with scene() as stage:
        candles = (await stage.ask("ETH")).candles
    steps: tuple[tuple[Interval, Interval], ...] = (("15m", "1h"), ("1h", "4h"))
    for small, large in steps:
        first = candles[large].ohlcv[0, -10]  # ten large candles back, none of them cut by the window
        start = candles[large].last_open_ms - 9 * INTERVAL_MS[large]
        skip = (start - candles[small].last_open_ms) // INTERVAL_MS[small] - 1
        inner = candles[small].ohlcv[:, skip:]
        assert inner[0, 0] == first
        assert inner[1, :4].max() == candles[large].ohlcv[1, -10]
        assert inner[2, :4].min() == candles[large].ohlcv[2, -10]
        assert inner[3, -1] == candles[large].ohlcv[3, -1]
        assert inner[4].sum() == pytest.approx(candles[large].ohlcv[4, -10:].sum())


def test_the_recorded_hours_are_the_sum_of_the_served_quarters() -> None:
    hours = recorded("EURUSD")
    quarters = quarters_of(hours).reshape(5, -1, 4)
    np.testing.assert_array_equal(quarters[0, :, 0], hours[0])
    np.testing.assert_array_equal(quarters[1].max(axis=1), hours[1])
    np.testing.assert_array_equal(quarters[2].min(axis=1), hours[2])
    np.testing.assert_array_equal(quarters[3, :, -1], hours[3])


async def test_a_young_coin_has_what_candles_there_are_and_flags_for_the_rest() -> None:
    async with scene() as stage:
        features = await stage.features("NEW")
    assert features.flags.missing_data == ("ema_50_4h", "macd_4h")
    assert features.flags.provider_errors == ()
    assert features.frames["1h"].ema_50 is not None


@pytest.mark.parametrize("symbol", ["BTC", "btc", "BTC/USD", "BTC/USDC", "BTC-PERP", "BTCUSDT"])
async def test_a_symbol_in_any_usual_form_is_the_coin(symbol: str) -> None:
    async with scene() as stage:
        snapshot = await stage.ask(symbol)
        assert snapshot.quote is not None
        assert snapshot.quote.mid == stage.peer.price("BTC")
        assert stage.peer.count("l2Book", "BTC") == 1


async def test_a_coin_keeps_the_case_of_its_venue() -> None:
    async with scene() as stage:
        snapshot = await stage.ask("KPEPE/USD")
        assert len(snapshot.candles) == 3
        assert stage.peer.count("candleSnapshot", "kPEPE") == 3


async def test_an_unknown_coin_has_no_data_and_costs_no_call_of_its_own() -> None:
    async with scene() as stage:
        for symbol in ("NOSUCH", "ETH/BTC", "NOSUCH", "DEAD2") * 5:
            snapshot = await stage.ask(symbol)
            assert not snapshot.has_data
            assert snapshot.failures == ()
        assert [call["type"] for call in stage.peer.calls] == ["allMids"]


async def test_a_coin_is_known_as_soon_as_the_venue_lists_it() -> None:
    async with scene() as stage:
        stage.peer.fault(replaced(stage.peer, lambda mids: {"BTC": mids["BTC"]}), "allMids", times=1)
        assert not (await stage.ask("ETH")).has_data
        stage.clocks.ahead += 2
        assert (await stage.ask("ETH")).has_data


async def test_a_coin_without_a_mid_has_the_rest() -> None:
    async with scene() as stage:
        stage.peer.fault(edited(stage.peer, lambda mids: mids.update(ETH=None)), "allMids")
        snapshot = await stage.ask("ETH")
        features = await stage.features("ETH")
    assert snapshot.quote is None
    assert snapshot.failures == ()
    assert features.mid is not None  # the middle of the book


@pytest.mark.parametrize("asset_type", ["stock", "option", "etf", "forex", "prediction"])
async def test_other_asset_types_have_no_data_here(asset_type: AssetType) -> None:
    async with scene() as stage:
        snapshot = await stage.ask("BTC", asset_type=asset_type)
        assert not snapshot.has_data
        assert snapshot.failures == ()
        assert stage.peer.calls == []


async def test_a_hundred_signals_at_once_make_one_call_a_question() -> None:
    async with scene() as stage:
        stage.peer.latency_seconds = 0.05
        snapshots = await asyncio.gather(*(stage.ask(COINS[n % 5]) for n in range(100)))
        assert all(not snapshot.failures and len(snapshot.candles) == 3 for snapshot in snapshots)
        assert len(stage.peer.calls) == 5 * OF_A_COIN + OF_THE_VENUE
        assert stage.peer.count("allMids") == stage.peer.count("metaAndAssetCtxs") == 1
        assert all(stage.peer.count("candleSnapshot", coin) == 3 for coin in ("BTC", "ETH", "SOL", "DOGE", "kPEPE"))
        assert snapshots[0].candles["1h"] is snapshots[5].candles["1h"]


async def test_only_the_queries_of_the_profile_are_asked() -> None:
    async with scene() as stage:
        await stage.ask(queries=("mid", "candles_1h"))
        assert [call["type"] for call in stage.peer.calls] == ["allMids", "candleSnapshot"]


@pytest.mark.slow  # its deadlines are the wall clock's: a busy machine breaks them
async def test_a_slow_venue_costs_the_throughput_nothing() -> None:
    async def seconds_for(latency_seconds: float) -> tuple[float, int]:
        async with scene() as stage:
            stage.peer.latency_seconds = latency_seconds
            started = time.perf_counter()
            await asyncio.gather(*(stage.ask(COINS[n % 5]) for n in range(2000)))
            return time.perf_counter() - started, len(stage.peer.calls)

    fast, fast_calls = await seconds_for(0.0)
    slow, slow_calls = await seconds_for(0.1)
    assert fast_calls == slow_calls == 22
    # The names of the coins, then all the rest in parallel: two latencies, whatever the number of signals.
    assert slow < fast + 2 * 0.1 + 0.4


async def test_under_steady_traffic_no_signal_waits_for_a_refresh() -> None:
    async with scene() as stage:
        await stage.ask()
        stage.peer.fault(stall(0.5))
        stage.clocks.ahead += 1.1  # the mids and the book want to be refreshed, but are still good
        calls = len(stage.peer.calls)
        started = time.perf_counter()
        for _ in range(20):
            snapshot = await stage.ask()
        assert time.perf_counter() - started < 0.25
        assert snapshot.quote is not None
        await eventually(lambda: len(stage.peer.calls) == calls + 2)


async def test_an_answer_is_asked_anew_when_it_has_aged_and_not_before() -> None:
    async with scene() as stage:
        await stage.ask()
        expected = OF_A_COIN + OF_THE_VENUE
        # Mids and book after 1 s, contexts after 5 s, candles after a sixtieth of their interval.
        for seconds, aged in ((0, 0), (2, 2), (6, 3), (10, 4), (60, 5), (240, 6), (2, 2)):
            stage.clocks.ahead += seconds
            await asyncio.gather(*(stage.ask() for _ in range(10)))
            expected += aged
            await eventually(lambda expected=expected: len(stage.peer.calls) >= expected)  # type: ignore[misc]
            assert len(stage.peer.calls) == expected


async def test_the_next_candle_is_fetched_when_the_forming_one_is_complete() -> None:
    async with scene() as stage:
        quarter = INTERVAL_MS["15m"]
        to_close = quarter - stage.clocks.now_ms() % quarter
        stage.clocks.ahead += (to_close - 4000) / 1000
        before = (await stage.ask()).candles["15m"]
        stage.clocks.ahead += 5.0
        after = (await stage.ask()).candles["15m"]
    assert after.last_open_ms == before.last_open_ms + quarter
    np.testing.assert_array_equal(after.ohlcv[:, :-2], before.ohlcv[:, 1:-1])


@pytest.mark.parametrize("interval", ["15m", "1h", "4h"])
@pytest.mark.parametrize(("behind", "is_stale"), [(1, False), (2, True)])
async def test_candles_are_stale_by_their_own_interval(interval: Interval, behind: int, is_stale: bool) -> None:
    async with scene() as stage:

        def cut(rows: list[dict[str, Any]]) -> None:
            if rows[0]["i"] == interval:
                del rows[-behind:]

        stage.peer.fault(edited(stage.peer, cut), "candleSnapshot")
        flags = (await stage.features()).flags
    assert flags == DataQuality(stale_data=(f"candles_{interval}",) if is_stale else ())


@pytest.mark.slow  # its deadlines are the wall clock's: a busy machine breaks them
async def test_a_stuck_coin_delays_no_other() -> None:
    async with scene(timeout_seconds=0.6) as stage:
        await stage.ask("BTC")  # the names are known
        stage.peer.fault(stall(), coin="ETH")
        started = time.perf_counter()
        stuck = [spawn(stage.ask("ETH"), name="a signal") for _ in range(50)]
        await asyncio.gather(*(stage.ask(coin) for coin in ("BTC", "SOL", "DOGE") * 20))
        others = time.perf_counter() - started
        snapshots = await asyncio.gather(*stuck)
        assert others < 0.4
        assert time.perf_counter() - started < 1.5
        assert stage.peer.count(coin="ETH") == OF_A_COIN
    for snapshot in snapshots:
        assert {failure.reason for failure in snapshot.failures} == {"TIMEOUT"}
        assert {failure.message for failure in snapshot.failures} == {"Hyperliquid API timeout"}
        assert len(snapshot.failures) == OF_A_COIN
        assert snapshot.quote is not None  # the venue's answers about all coins are not stuck
        assert snapshot.asset_context is not None


@pytest.mark.slow  # its deadlines are the wall clock's: a busy machine breaks them
async def test_a_coin_that_stays_stuck_is_asked_ever_more_rarely_and_fails_at_once() -> None:
    async with scene(timeout_seconds=0.05) as stage:
        await stage.ask("BTC")
        stage.peer.fault(stall(), coin="ETH")
        started = time.perf_counter()
        for _ in range(100):  # ten seconds
            stage.clocks.ahead += 0.1
            failed = {failure.query for failure in (await stage.ask("ETH")).failures}
            assert failed >= {"order_book", "candles_15m", "candles_1h", "candles_4h"}
        # After 0.5, 1, 2 and 4 s more, each within a quarter: five times, each for one deadline.
        assert 4 <= stage.peer.count("l2Book", "ETH") <= 6
        assert time.perf_counter() - started < 2.0


async def test_a_question_of_a_cancelled_signal_is_answered_for_the_others() -> None:
    async with scene() as stage:
        stage.peer.latency_seconds = 0.1
        first = spawn(stage.ask(), name="a signal")
        await eventually(lambda: stage.peer.count() == 1)
        others = [spawn(stage.ask(), name="a signal") for _ in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        snapshots: list[MarketSnapshot] = await asyncio.gather(*others)
        assert all(not snapshot.failures and snapshot.has_data for snapshot in snapshots)
        assert len(stage.peer.calls) == OF_A_COIN + OF_THE_VENUE


async def test_closing_ends_the_calls_under_way() -> None:
    async with scene() as stage:
        await stage.ask("BTC")
        stage.peer.fault(stall())
        waiting = spawn(stage.ask("ETH"), name="a signal")
        await eventually(lambda: stage.peer.count(coin="ETH") == OF_A_COIN)
        await stage.market.close()
        assert not (await waiting).candles


async def test_a_snapshot_from_the_cache_costs_microseconds() -> None:
    async with scene() as stage:
        await stage.ask()
        rounds, best = 500, float("inf")
        for _ in range(3):
            started = time.process_time()
            for _ in range(rounds):
                await stage.ask(queries=QUERIES)
            best = min(best, (time.process_time() - started) / rounds)
        assert best < 200e-6  # 25 µs on an idle machine
