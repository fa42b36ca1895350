"""Hyperliquid down, slow, limited or with invalid answers: flags on its signals, the open circuit, recovery."""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from prometheus_client import REGISTRY

from actors.lens.market.hyperliquid import HyperliquidMarketData
from actors.lens.model import MarketSnapshot, QueryFailure
from tests.integration.hyperliquid_market import OF_A_COIN, OF_THE_VENUE, Scene, scene
from tests.peers.hyperliquid import Fault, HyperliquidPeer, body, edited, endless, raw, reset, stall, status, truncated

ALL = OF_A_COIN + OF_THE_VENUE
QUESTION = {
    "mid": "allMids",
    "order_book": "l2Book",
    "candles_15m": "candleSnapshot",
    "candles_1h": "candleSnapshot",
    "candles_4h": "candleSnapshot",
    "asset_context": "metaAndAssetCtxs",
}
Make = Callable[[HyperliquidPeer], Fault]


def answered(snapshot: MarketSnapshot) -> set[str]:
    """Return the queries that the snapshot has an answer to."""
    names = {f"candles_{interval}" for interval in snapshot.candles}
    for name, value in (
        ("mid", snapshot.quote),
        ("order_book", snapshot.order_book),
        ("asset_context", snapshot.asset_context),
    ):
        names |= {name} if value is not None else set()
    return names


def meter(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"tradestream_market_{name}", labels) or 0.0


ANSWERED = "Hyperliquid API answered 200 with"
GZIP = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: "
BOMB = gzip.compress(b" " * (20 << 20))

FAULTS: list[tuple[str, Make, str, str]] = [
    ("503", lambda _: status(503), "PROVIDER_ERROR", "Hyperliquid API returned 503 Service Unavailable"),
    ("500", lambda _: status(500), "PROVIDER_ERROR", "Hyperliquid API returned 500 Internal Server Error"),
    ("403", lambda _: status(403), "PROVIDER_ERROR", "Hyperliquid API returned 403 Forbidden"),
    ("redirect", lambda _: status(302, Location="/"), "PROVIDER_ERROR", "Hyperliquid API returned 302 Found"),
    ("unheard of", lambda _: status(599), "PROVIDER_ERROR", "Hyperliquid API returned 599"),
    ("429", lambda _: status(429), "RATE_LIMITED", "Hyperliquid API returned 429 Too Many Requests"),
    ("stuck", lambda _: stall(), "TIMEOUT", "Hyperliquid API timeout"),
    ("reset", lambda _: reset(), "NETWORK_ERROR", "Hyperliquid API closed the connection"),
    ("truncated", truncated, "PROVIDER_ERROR", "Hyperliquid API answered a body that was cut off or garbled"),
    ("endless", endless, "PROVIDER_ERROR", "Hyperliquid API answered a body of more than 10485760 bytes"),
    (
        "HTML",
        lambda _: body(b"<html>Please wait</html>", "text/html"),
        "PROVIDER_ERROR",
        "Hyperliquid API answered 200 with text/html instead of JSON",
    ),
    (
        "huge",
        lambda _: body(b" " * (11 << 20)),
        "PROVIDER_ERROR",
        f"Hyperliquid API answered a body of {11 << 20} bytes",
    ),
    ("no HTTP", lambda _: raw(b"HELLO\r\n\r\n"), "PROVIDER_ERROR", "Hyperliquid API answered no valid HTTP"),
    (
        "garbled",
        lambda _: raw(GZIP + b"5\r\n\r\nhello"),
        "PROVIDER_ERROR",
        "Hyperliquid API answered a body that was cut",
    ),
    (
        "bomb",
        lambda _: raw(GZIP + b"%d\r\n\r\n" % len(BOMB) + BOMB),
        "PROVIDER_ERROR",
        "Hyperliquid API answered a body of more than 10485760 bytes",
    ),
    ("empty", lambda _: body(b""), "PROVIDER_ERROR", "Hyperliquid API answered 200 with an empty body"),
    ("half a JSON", lambda _: body(b'{"BTC": "97'), "PROVIDER_ERROR", f"{ANSWERED} JSON that is cut off"),
    ("NaN", lambda _: body(b'{"BTC": NaN}'), "PROVIDER_ERROR", f"{ANSWERED} what is not JSON (12 bytes)"),
    ("deep", lambda _: body(b"[" * 100_000), "PROVIDER_ERROR", f"{ANSWERED} what is not JSON (100000 bytes)"),
    ("no UTF-8", lambda _: body(b'{"BTC": "\xc3('), "PROVIDER_ERROR", f"{ANSWERED} what is not JSON (11 bytes)"),
    ("a number", lambda _: body(b"5"), "PROVIDER_ERROR", "Hyperliquid API answered nonsense: "),
    ("a text", lambda _: body(b'"error"'), "PROVIDER_ERROR", "Hyperliquid API answered nonsense: "),
    ("an object", lambda _: body(b'{"error": []}'), "PROVIDER_ERROR", "Hyperliquid API answered nonsense: "),
]


@pytest.mark.parametrize("query", ["order_book", "candles_1h", "asset_context"])
@pytest.mark.parametrize(("make", "reason", "message"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
async def test_a_question_that_fails_is_told_with_its_cause_and_the_others_are_answered(
    query: str, make: Make, reason: str, message: str
) -> None:
    async with scene(timeout_seconds=1.0 if reason == "TIMEOUT" else 5.0) as stage:
        fault = make(stage.peer)

        async def only_of_the_query(request: Any, document: Any) -> Any:
            interval = document.get("req", {}).get("interval")
            return await fault(request, document) if interval is None or query.endswith(interval) else None

        stage.peer.fault(only_of_the_query, QUESTION[query])
        snapshot = await stage.ask()
    [failure] = snapshot.failures
    assert (failure.query, failure.reason) == (query, reason)
    assert failure.message.startswith(message)
    assert len(failure.message) < 200
    # A 429 is for the address: what was not answered before it came may have been refused because of it.
    assert answered(snapshot) == set(QUESTION) - {query} or reason == "RATE_LIMITED"


@pytest.mark.parametrize(
    ("question", "edit", "query", "message"),
    [
        ("allMids", lambda mids: mids.update(BTC="-5"), "mid", "a mid of zero or less"),
        ("allMids", lambda mids: mids.update(BTC="NaN"), "mid", "a mid that is not finite"),
        ("metaAndAssetCtxs", lambda both: both[1].pop(), "asset_context", "contexts that do not match their universe"),
        ("metaAndAssetCtxs", lambda both: both[1][0].pop("markPx"), "asset_context", "an answer without its markPx"),
        ("l2Book", lambda book: book["levels"][0][0].update(px="0"), "order_book", "a price in a book of zero or less"),
        ("l2Book", lambda book: book["levels"][1].reverse(), "order_book", "a book that is not sorted from its best"),
    ],
)
async def test_an_answer_that_cannot_be_true_is_no_answer(question: str, edit: Any, query: str, message: str) -> None:
    async with scene() as stage:
        stage.peer.fault(edited(stage.peer, edit), question)
        snapshot = await stage.ask()
        assert not (await stage.ask("ETH")).failures or question in {"l2Book", "metaAndAssetCtxs"}
    [failure] = snapshot.failures
    assert failure.query == query
    assert failure.reason == "PROVIDER_ERROR"
    assert failure.message.startswith(f"Hyperliquid API answered nonsense: {message}")


@pytest.mark.parametrize(
    "edit",
    [
        lambda rows: rows.reverse(),
        lambda rows: rows.insert(150, rows[150]),
        lambda rows: rows[150].update(h="0.0001"),
        lambda rows: rows[150].update(v="-1"),
        lambda rows: rows[150].pop("o"),
    ],
)
async def test_candles_that_cannot_be_true_are_no_answer(edit: Any) -> None:
    async with scene() as stage:
        stage.peer.fault(edited(stage.peer, edit), "candleSnapshot")
        features = await stage.features()
    assert features.flags.provider_errors == ("candles_15m", "candles_1h", "candles_4h")
    assert features.flags.missing_data == ("candles_15m", "candles_1h", "candles_4h")
    assert features.mid is not None
    assert all(failure.message.startswith("Hyperliquid API answered nonsense: ") for failure in features.failures)


async def test_a_candle_that_the_venue_left_out_is_no_nonsense() -> None:
    """The kind: an interval without a trade, which venues leave out."""
    async with scene() as stage:
        stage.peer.fault(edited(stage.peer, lambda rows: rows.pop(150)), "candleSnapshot")
        features = await stage.features()
    assert features.flags.provider_errors == ()
    assert features.failures == ()
    assert set(features.frames) == {"15m", "1h", "4h"}
    assert features.flags.missing_data == ("candles_15m", "candles_1h", "candles_4h"), "what was filled is flagged"


async def test_a_kept_connection_that_the_server_closed_costs_no_answer() -> None:
    async with scene() as stage:
        stage.peer.fault(reset(), "l2Book", times=1)
        snapshot = await stage.ask()
        assert snapshot.failures == ()
        assert stage.peer.count("l2Book") == 2


async def test_a_venue_that_cannot_be_reached_is_a_network_error_until_it_is_back() -> None:
    async with scene() as stage:
        await stage.peer.stop()
        snapshot = await stage.ask()
        assert not snapshot.has_data
        assert [failure.query for failure in snapshot.failures] == list(stage_queries(snapshot))
        assert {failure.reason for failure in snapshot.failures} == {"NETWORK_ERROR"}
        assert {failure.message for failure in snapshot.failures} == {
            "Hyperliquid API cannot be reached: Connection refused"
        }
        await stage.peer.start()
        await recovered(stage)


def stage_queries(snapshot: MarketSnapshot) -> dict[str, QueryFailure]:
    return {failure.query: failure for failure in snapshot.failures}


async def recovered(stage: Scene, seconds: float = 30.0) -> MarketSnapshot:
    """Return the first whole snapshot; fails if there is none within that time."""
    deadline = time.monotonic() + seconds
    while (snapshot := await stage.ask()).failures:
        assert time.monotonic() < deadline, snapshot.failures
        await asyncio.sleep(0.02)
    assert len(answered(snapshot)) == ALL
    return snapshot


async def test_signals_fail_at_once_while_the_venue_is_down_and_a_probe_finds_it_back() -> None:
    async with scene() as stage:
        stage.peer.fault(status(503))
        first = await stage.ask()
        assert [failure.message for failure in first.failures] == [
            "Hyperliquid API returned 503 Service Unavailable"
        ] * ALL
        calls = len(stage.peer.calls)
        assert meter("breaker", provider="Hyperliquid API") == 2
        started = time.perf_counter()
        snapshots = await asyncio.gather(*(stage.ask(coin) for coin in ("BTC", "ETH", "SOL", "DOGE") * 50))
        assert time.perf_counter() - started < 0.5
        assert len(stage.peer.calls) == calls
        assert all(not snapshot.has_data for snapshot in snapshots)
        messages = {failure.message for snapshot in snapshots for failure in snapshot.failures}
        assert messages == {
            "Hyperliquid API returned 503 Service Unavailable",
            "Hyperliquid API returned 503 Service Unavailable (calls are paused)",
        }
        stage.peer.mend()
        await recovered(stage)
        assert [call["type"] for call in stage.peer.calls[calls : calls + 1]] == ["allMids"]
        assert meter("breaker", provider="Hyperliquid API") == 0


async def test_a_429_is_heeded_for_as_long_as_the_venue_asks() -> None:
    async with scene() as stage:
        stage.peer.fault(status(429, Retry_After="3"), times=1)
        limited = time.monotonic()
        await stage.ask("BTC")
        calls = len(stage.peer.calls)
        while len(stage.peer.calls) == calls:
            snapshot = await stage.ask("ETH")
            assert {failure.reason for failure in snapshot.failures} == {"RATE_LIMITED"}
            assert time.monotonic() - limited < 4.5
            await asyncio.sleep(0.01)
        assert time.monotonic() - limited >= 3.0
        await recovered(stage)


async def test_a_date_or_nonsense_in_retry_after_does_no_harm() -> None:
    for header in ("Wed, 21 Oct 2099 07:28:00 GMT", "soon", "-5", "nan", "1e999"):
        async with scene() as stage:
            stage.peer.fault(status(429, Retry_After=header), times=1)
            snapshot = await stage.ask("BTC", queries=("mid",))
            assert [failure.reason for failure in snapshot.failures] == ["RATE_LIMITED"]


async def test_older_answers_serve_while_the_venue_is_down_with_the_time_they_are_of() -> None:
    async with scene() as stage:
        before = await stage.ask()
        assert before.quote is not None
        stage.peer.fault(status(503))
        stage.clocks.ahead += 30
        features = await stage.features()
        assert features.mid == before.quote.mid
        assert features.flags.missing_data == ("quote",)
        assert features.flags.stale_data == ("mid", "order_book")
        # Hours and four hours are still fresh; what is older was asked for in vain.
        assert features.flags.provider_errors == ("mid", "order_book", "candles_15m", "asset_context")
        stage.clocks.ahead += 40  # a minute is past
        features = await stage.features()
        assert features.mid is None
        assert features.flags.stale_data == ()
        assert features.flags.missing_data == (
            "quote",
            "mid",
            "order_book",
            "funding_rate",
            "open_interest",
            "mark_price",
        )
        stage.clocks.ahead += 300
        assert len((await stage.ask()).candles) == 3


async def test_a_newer_answer_is_not_waited_for_long_where_an_older_one_is_at_hand() -> None:
    async with scene(timeout_seconds=3.0, patience_seconds=0.2) as stage:
        before = await stage.ask()
        stage.peer.fault(stall())
        stage.clocks.ahead += 30
        started = time.perf_counter()
        snapshot = await stage.ask()
        assert 0.15 < time.perf_counter() - started < 1.0
        assert snapshot.quote == before.quote  # its time is the first answer's
        assert len(answered(snapshot)) == ALL


async def test_coins_are_guessed_while_the_venue_does_not_name_them() -> None:
    async with scene(timeout_seconds=0.8, patience_seconds=0.1) as stage:
        stage.peer.fault(stall(), "allMids")
        started = time.perf_counter()
        snapshot = await stage.ask("BTC/USD")
        assert time.perf_counter() - started < 1.5
        assert answered(snapshot) == {"order_book", "candles_15m", "candles_1h", "candles_4h", "asset_context"}
        assert [failure.reason for failure in snapshot.failures] == ["TIMEOUT"]
        unknown = await stage.ask("NOSUCH")
        assert answered(unknown) == set()


async def test_the_minutes_budget_is_never_exceeded_and_a_refresh_gives_way_first() -> None:
    async with scene(weight_per_minute=220) as stage:
        first = await stage.ask("BTC")  # 2 + 20 + 2 + 3·25 = 99
        second = await stage.ask("ETH")  # 2 + 3·25 = 77
        assert first.failures == second.failures == ()
        third = await stage.ask("SOL")
        limited = stage_queries(third)
        assert set(limited) == {"candles_15m", "candles_1h", "candles_4h"} or len(limited) == 2
        assert {failure.reason for failure in third.failures} == {"RATE_LIMITED"}
        assert third.quote is not None
        calls = len(stage.peer.calls)
        stage.clocks.ahead += 20
        again = await stage.ask("BTC")
        # The budget allows a refresh of the mids only: other data is older, which is neither missing nor a failure.
        assert [call["type"] for call in stage.peer.calls[calls:]] == ["allMids"]
        assert again.failures == ()
        assert len(answered(again)) == ALL
        stage.clocks.ahead += 60
        assert (await stage.ask("SOL")).failures == ()


async def test_calls_under_way_are_bounded() -> None:
    async with scene(max_calls=4) as stage:  # one for each query about a coin, and two about the venue
        stage.peer.latency_seconds = 0.02
        under_way = most = 0

        async def watch(request: Any, document: Any) -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.01)
            under_way -= 1

        stage.peer.fault(watch)
        snapshots = await asyncio.gather(*(stage.ask(coin) for coin in ("BTC", "ETH", "SOL", "DOGE")))
        assert all(snapshot.failures == () for snapshot in snapshots)
        assert 3 <= most <= 4 + OF_THE_VENUE


async def test_calls_and_questions_are_counted_by_outcome() -> None:
    def counts() -> dict[str, float]:
        return {
            "success": meter("calls_total", query="order_book", outcome="success"),
            "provider_error": meter("calls_total", query="order_book", outcome="provider_error"),
            "timeout": meter("calls_total", query="order_book", outcome="timeout"),
            "called": meter("questions_total", query="order_book", met="called"),
            "cached": meter("questions_total", query="order_book", met="cached"),
            "shared": meter("questions_total", query="order_book", met="shared"),
            "held": meter("questions_total", query="order_book", met="held"),
            "seconds": meter("call_seconds_count", query="order_book"),
        }

    async with scene(timeout_seconds=0.2) as stage:
        before = counts()
        await asyncio.gather(*(stage.ask() for _ in range(3)))
        await stage.ask()
        stage.peer.fault(status(500), "l2Book", "ETH", times=1)
        stage.peer.fault(stall(), "l2Book", "SOL")
        await stage.ask("ETH")
        await stage.ask("ETH")
        await stage.ask("SOL")
        after = counts()
    assert {name: after[name] - before[name] for name in after} == {
        "success": 1,
        "provider_error": 1,
        "timeout": 1,
        "called": 3,
        "cached": 1,
        "shared": 2,
        "held": 1,
        "seconds": 3,
    }


async def test_a_question_is_what_the_venue_understands() -> None:
    async with scene() as stage:
        await stage.ask("KPEPE")
        now_ms = stage.clocks.now_ms()
        by_interval = {each["req"]["interval"]: each for each in stage.peer.calls if each["type"] == "candleSnapshot"}
        rest = [each for each in stage.peer.calls if each["type"] != "candleSnapshot"]
    assert rest == [{"type": "allMids"}, {"type": "l2Book", "coin": "kPEPE"}, {"type": "metaAndAssetCtxs"}]
    assert set(by_interval) == {"15m", "1h", "4h"}
    span = by_interval["1h"]["req"]
    assert set(by_interval["1h"]) == {"type", "req"}
    assert set(span) == {"coin", "interval", "startTime", "endTime"}
    assert span["startTime"] % 3_600_000 == 0
    assert now_ms - 2000 < span["endTime"] <= now_ms
    assert re.fullmatch(r"\d{13}", str(span["startTime"]))
    assert orjson.dumps(by_interval)


async def test_the_base_url_may_end_in_a_slash() -> None:
    async with HyperliquidPeer() as peer:
        market = HyperliquidMarketData(f"{peer.base_url}/")
        snapshot = await Scene(peer, market).ask(queries=("mid",))
        await market.close()
    assert snapshot.quote is not None
