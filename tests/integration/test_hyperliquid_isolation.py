"""A Hyperliquid with bad coins, old mids or no answers affects only these coins' signals, for a bounded time."""

from __future__ import annotations

import asyncio

import orjson
from prometheus_client import REGISTRY

from config.tasks import spawn
from tests.integration.hyperliquid_market import QUERIES, scene
from tests.peers.hyperliquid import body, reset, stall, status


async def test_an_old_mid_alone_is_stale_and_then_no_data() -> None:
    async with scene() as stage:
        await stage.ask("BTC")
        stage.peer.fault(status(503))
        stage.clocks.ahead += 50
        flags = (await stage.features("ETH")).flags
        assert flags.stale_data == ("mid",)
        assert flags.provider_errors == QUERIES
        assert flags.missing_data[:2] == ("quote", "order_book")
        stage.clocks.ahead += 11
        assert not (await stage.ask("ETH")).has_data


async def test_bad_coins_take_no_data_from_the_healthy_ones() -> None:
    """Eleven coins with a trouble each, and a moment later four without: the circuit does not open for these."""
    async with scene(timeout_seconds=1.5, weight_per_minute=5000) as stage:
        coins = [f"BAD{n}" for n in range(11)]
        names = dict.fromkeys((*coins, "BTC", "ETH", "SOL", "DOGE"), "1.5")
        stage.peer.fault(body(orjson.dumps(names)), "allMids")
        faults = (
            *(status(500), status(503), status(429), status(422), body(b"<html>", "text/html"), body(b"null")),
            *(body(b'{"error": []}'), reset(), stall(), body(b'[{"c": "-5"}]'), body(b'[{"c": NaN}]')),
        )
        for coin, fault in zip(coins, faults, strict=True):
            stage.peer.fault(fault, coin=coin)
        await stage.ask("BTC")
        stage.clocks.ahead += 1.2  # a success of a moment ago is not what protects them
        bad = [spawn(stage.ask(coin), name="a signal") for coin in coins]
        await asyncio.sleep(0.1)
        for _ in range(2):
            snapshots = await asyncio.gather(*(stage.ask(coin) for coin in ("BTC", "ETH", "SOL", "DOGE")))
            assert [snapshot.failures for snapshot in snapshots] == [()] * 4
            stage.clocks.ahead += 1.2
        assert all(snapshot.quote is not None for snapshot in await asyncio.gather(*bad))
        assert REGISTRY.get_sample_value("tradestream_market_breaker", {"provider": "Hyperliquid API"}) == 0


async def test_a_venue_that_is_stuck_costs_its_first_signal_a_time_out_and_the_next_nothing() -> None:
    async with scene(timeout_seconds=0.5) as stage:
        await stage.ask("BTC")
        stage.peer.fault(stall())
        stage.clocks.ahead += 1.6
        await stage.ask("ETH")
        calls = len(stage.peer.calls)
        snapshots = await asyncio.gather(*(stage.ask(coin) for coin in ("SOL", "DOGE")))
        assert len(stage.peer.calls) == calls
        for snapshot in snapshots:
            assert {f.message for f in snapshot.failures} >= {"Hyperliquid API timeout (calls are paused)"}
