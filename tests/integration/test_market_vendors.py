"""Test the vendors of prices against servers that speak their protocols: good answers, bad ones, and none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from actors.lens.market import NO_SOURCE, MarketRequest
from actors.lens.market._http import CallFailed
from actors.lens.market.quotes import PricedInstrument, use_of
from tests.integration.market_vendors import ALPACA, CASES, KALSHI, MINUTE, OANDA, OPTIONS, POLYMARKET, SINCE_MS, Case
from tests.peers.hyperliquid import Fault, body, endless, reset, stall, status, truncated
from tests.peers.vendors import Status, VendorPeer

EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
PREDICTIONS = pytest.mark.parametrize("case", [KALSHI, POLYMARKET], ids=lambda case: case.name)


@EACH
async def test_a_quote_is_exact_and_has_the_venues_time_or_that_of_receipt(case: Case) -> None:
    async with VendorPeer(case.answers) as peer:
        venue = case.venue(peer.base_url)
        before = datetime.now(UTC)
        quote = await venue.quote(case.instrument)
        await venue.close()
    assert quote is not None
    assert (quote.bid, quote.ask) == (Decimal(case.bid), Decimal(case.ask))
    assert quote.mid == (Decimal(case.bid) + Decimal(case.ask)) / 2
    assert quote.source == case.name.partition(" ")[0]
    if case.at is None:
        assert before <= quote.at <= datetime.now(UTC)
    else:
        assert quote.at == case.at


async def test_a_price_that_no_float_holds_is_kept_to_its_last_digit() -> None:
    written = b'{"quotes":{"AAPL":{"t":"2026-09-21T14:30:05Z","bp":226.12345678901234567,"ap":226.2}}}'
    async with VendorPeer({ALPACA.quote_path: written}) as peer:
        venue = ALPACA.venue(peer.base_url)
        quote = await venue.quote(ALPACA.instrument)
        await venue.close()
    assert quote is not None
    assert str(quote.bid) == "226.12345678901234567"


@EACH
async def test_minutes_are_the_complete_ones_since_a_time(case: Case) -> None:
    async with VendorPeer(case.answers) as peer:
        venue = case.venue(peer.base_url)
        bars = await venue.minutes(case.instrument, MINUTE - timedelta(seconds=30))
        later = await venue.minutes(case.instrument, MINUTE + timedelta(seconds=1))
        await venue.close()
    assert tuple(bar.close for bar in bars) == tuple(map(Decimal, case.closes))
    assert all(bar.opened_ms % 60_000 == 0 and bar.low <= bar.open <= bar.high for bar in bars)
    assert [bar for bar in bars if bar.opened_ms > SINCE_MS] == list(later)


@EACH
async def test_quotes_within_a_second_are_one_call(case: Case) -> None:
    async with VendorPeer(case.answers) as peer:
        venue = case.venue(peer.base_url)
        quotes = await asyncio.gather(*(venue.quote(case.instrument) for _ in range(10)))
        assert len({id(each) for each in (*quotes, await venue.quote(case.instrument))}) == 1
        assert [call.path for call in peer.calls].count(case.quote_path) == 1
        await venue.close()


LABELLED: list[tuple[str, Callable[[VendorPeer], Fault], str, str]] = [
    ("503", lambda _: status(503), "PROVIDER_ERROR", "returned 503 Service Unavailable"),
    ("403", lambda _: status(403), "PROVIDER_ERROR", "returned 403 Forbidden"),
    ("429", lambda _: status(429, Retry_After="7"), "RATE_LIMITED", "returned 429 Too Many Requests"),
    ("418", lambda _: status(418), "RATE_LIMITED", "returned 418 I'm a Teapot"),
    ("slow", lambda _: stall(), "TIMEOUT", "timeout"),
    ("cut", lambda _: reset(), "NETWORK_ERROR", "closed the connection"),
    ("half a body", truncated, "PROVIDER_ERROR", "answered a body that was cut off or garbled"),
    ("huge", endless, "PROVIDER_ERROR", "answered a body of more than 10485760 bytes"),
    ("half of JSON", lambda _: body(b'{"quotes": {"A'), "PROVIDER_ERROR", "answered 200 with JSON that is cut off"),
    ("a page", lambda _: body(b"<html>", "text/html"), "PROVIDER_ERROR", "answered 200 with text/html instead of JSON"),
    ("a list", lambda _: body(b"[[[]]]"), "PROVIDER_ERROR", "answered nonsense: "),
    ("deep", lambda _: body(b'{"x":' * 100_000), "PROVIDER_ERROR", "answered "),
]


@EACH
@pytest.mark.parametrize(("make", "reason", "text"), [fault[1:] for fault in LABELLED], ids=[f[0] for f in LABELLED])
async def test_a_failure_says_what_happened(
    case: Case, make: Callable[[VendorPeer], Fault], reason: str, text: str
) -> None:
    async with VendorPeer(case.answers) as peer:
        peer.fault = make(peer)
        venue = case.venue(peer.base_url, timeout_seconds=0.3)
        with pytest.raises(CallFailed) as caught:
            await venue.quote(case.instrument)
        assert caught.value.message.startswith(f"{case.make(peer.base_url).label} {text}")
        assert caught.value.reason == reason
        with pytest.raises(CallFailed) as caught:
            await venue.minutes(case.instrument, MINUTE)
        assert caught.value.reason == reason
        await venue.close()


@EACH
@pytest.mark.parametrize(
    ("bid", "ask", "text"),
    [
        ("-1", None, "a price of zero or less"),
        ("9e15", None, ""),
        (None, "9e16", ""),
        ("NaN", None, "a price that is not finite"),
        (True, None, "bool"),
        ([], None, "array"),
        ("abc", None, "decimal"),
    ],
)
async def test_an_implausible_quote_is_a_failure(case: Case, bid: Any, ask: Any, text: str) -> None:
    document = case.document(case.quote_path)
    if bid is not None:
        case.edit_bid(document, bid)
    if ask is not None:
        case.edit_ask(document, ask)
    async with VendorPeer(case.answers | {case.quote_path: document}) as peer:
        venue = case.venue(peer.base_url)
        with pytest.raises(CallFailed) as caught:
            await venue.quote(case.instrument)
        await venue.close()
    assert "answered nonsense" in caught.value.message
    assert text in caught.value.message
    assert caught.value.reason == "PROVIDER_ERROR"
    assert not caught.value.is_outage


@EACH
async def test_a_crossed_market_is_a_failure_and_a_locked_one_is_none(case: Case) -> None:
    crossed, locked = case.document(case.quote_path), case.document(case.quote_path)
    for document, bid, ask in ((crossed, case.ask, case.bid), (locked, case.bid, case.bid)):
        case.edit_bid(document, bid)
        case.edit_ask(document, ask)
    async with VendorPeer(case.answers | {case.quote_path: crossed}) as peer:
        venue = case.venue(peer.base_url)
        with pytest.raises(CallFailed, match="a crossed market"):
            await venue.quote(case.instrument)
        await venue.close()
    async with VendorPeer(case.answers | {case.quote_path: locked}) as peer:
        venue = case.venue(peer.base_url)
        quote = await venue.quote(case.instrument)
        await venue.close()
    assert quote is not None
    assert quote.bid == quote.ask == quote.mid == Decimal(case.bid)


@EACH
async def test_a_missing_field_is_named(case: Case) -> None:
    for path, ask in ((case.quote_path, "quote"), (case.bars_path, "minutes")):
        async with VendorPeer(case.answers | {path: {}}) as peer:
            venue = case.venue(peer.base_url)
            with pytest.raises(CallFailed, match="answered nonsense"):
                await (venue.quote(case.instrument) if ask == "quote" else venue.minutes(case.instrument, MINUTE))
            await venue.close()


@EACH
@pytest.mark.parametrize("low", ["-0.5", "NaN", "1e300"])
async def test_implausible_minutes_are_a_failure(case: Case, low: str) -> None:
    document = case.document(case.bars_path)
    case.edit_low(document, low)
    async with VendorPeer(case.answers | {case.bars_path: document}) as peer:
        venue = case.venue(peer.base_url)
        with pytest.raises(CallFailed, match="answered nonsense"):
            await venue.minutes(case.instrument, MINUTE)
        await venue.close()


@EACH
async def test_an_instrument_that_the_venue_does_not_know_has_no_price(case: Case) -> None:
    unknown = Status(404 if case in (KALSHI, POLYMARKET) else 400, {"code": -1121, "msg": "Invalid symbol."})
    answers = case.answers | {case.quote_path: unknown, case.bars_path: unknown}
    async with VendorPeer(answers) as peer:
        venue = case.venue(peer.base_url)
        assert await venue.quote(case.instrument) is None
        assert await venue.minutes(case.instrument, MINUTE) == ()
        other = "forex" if case is not OANDA else "stock"
        assert await venue.quote(PricedInstrument(other, "X/Y")) is None
        await venue.close()


@EACH
async def test_an_empty_side_is_no_quote(case: Case) -> None:
    document = case.document(case.quote_path)
    case.edit_ask(document, "0")
    async with VendorPeer(case.answers | {case.quote_path: document}) as peer:
        venue = case.venue(peer.base_url)
        assert await venue.quote(case.instrument) is None
        await venue.close()


async def test_an_option_that_nobody_bids_for_is_worth_nothing() -> None:
    document = OPTIONS.document(OPTIONS.quote_path)
    OPTIONS.edit_bid(document, 0)
    async with VendorPeer(OPTIONS.answers | {OPTIONS.quote_path: document}) as peer:
        venue = OPTIONS.venue(peer.base_url)
        quote = await venue.quote(OPTIONS.instrument)
        await venue.close()
    assert quote is not None
    assert (quote.bid, quote.mid) == (0, Decimal("17.775"))


async def test_a_price_of_a_closed_market_stands_at_its_own_time() -> None:
    document = OANDA.document(OANDA.quote_path)
    document["prices"][0]["tradeable"] = False
    async with VendorPeer(OANDA.answers | {OANDA.quote_path: document}) as peer:
        venue = OANDA.venue(peer.base_url)
        quote = await venue.quote(OANDA.instrument)
        await venue.close()
    assert quote is not None
    assert quote.at == datetime(2026, 9, 21, 14, 29, 58, 881250, UTC)


@pytest.mark.parametrize("at", ["2026-09-21T14:30:05", "soon", 5, None, "", "2026-13-01T00:00:00Z"])
@pytest.mark.parametrize("case", [ALPACA, OPTIONS, OANDA, POLYMARKET], ids=lambda case: case.name)
async def test_a_time_that_is_none_is_a_failure(case: Case, at: Any) -> None:
    document = case.document(case.quote_path)
    if case is OANDA:
        document["time"] = at
    elif case is POLYMARKET:
        document["timestamp"] = at
    else:
        next(iter(document["quotes"].values()))["t"] = at
    async with VendorPeer(case.answers | {case.quote_path: document}) as peer:
        venue = case.venue(peer.base_url)
        with pytest.raises(CallFailed, match="answered nonsense"):
            await venue.quote(case.instrument)
        await venue.close()


@pytest.mark.parametrize("at", ["0", "-5", "99999999999999999999", "1e12"])
async def test_a_book_without_a_time_is_a_failure(at: str) -> None:
    document = POLYMARKET.document(POLYMARKET.quote_path) | {"timestamp": at}
    async with VendorPeer(POLYMARKET.answers | {POLYMARKET.quote_path: document}) as peer:
        venue = POLYMARKET.venue(peer.base_url)
        with pytest.raises(CallFailed, match="answered nonsense"):
            await venue.quote(POLYMARKET.instrument)
        await venue.close()


@EACH
async def test_an_old_quote_keeps_its_time_and_is_not_the_receipts(case: Case) -> None:
    async with VendorPeer(case.answers) as peer:
        venue = case.venue(peer.base_url)
        quote = await venue.quote(case.instrument)
        await venue.close()
    received = MINUTE + timedelta(seconds=60) if case.at else datetime.now(UTC)
    assert use_of(quote, received, received + timedelta(seconds=2)) == ("give_up" if case.at else "use")


async def test_keys_go_with_every_call() -> None:
    for case, name, value in ((ALPACA, "APCA-API-SECRET-KEY", "secret"), (OANDA, "Authorization", "Bearer token")):
        async with VendorPeer(case.answers) as peer:
            venue = case.venue(peer.base_url)
            await venue.quote(case.instrument)
            await venue.minutes(case.instrument, MINUTE)
            assert [call.headers[name] for call in peer.calls] == [value, value]
            await venue.close()


@EACH
async def test_a_vendor_that_is_down_is_left_alone_until_a_probe_finds_it_up(case: Case) -> None:
    async with VendorPeer(case.answers) as peer:
        peer.fault = status(429, Retry_After="3600")
        venue = case.venue(peer.base_url)
        with pytest.raises(CallFailed):
            await venue.quote(case.instrument)
        asked = len(peer.calls)
        with pytest.raises(CallFailed, match="calls are paused"):
            await venue.minutes(case.instrument, MINUTE)
        assert len(peer.calls) == asked
        peer.fault = None
        await venue._probe()
        assert len(peer.calls) == asked + 1
        await venue.close()


@EACH
async def test_a_minutes_budget_is_kept(case: Case) -> None:
    async with VendorPeer(case.answers) as peer:
        venue = case.venue(peer.base_url, weight_per_minute=case.make(peer.base_url).weight * 3)
        for _ in range(2):
            await venue.minutes(case.instrument, MINUTE)
        with pytest.raises(CallFailed, match="the requests of this minute are used up"):
            await venue.minutes(case.instrument, MINUTE)
        await venue.close()


@EACH
async def test_indicators_get_the_same_prices(case: Case) -> None:
    data = {"platform": case.instrument.platform, "market_id": case.instrument.market_id}
    request = MarketRequest(
        case.instrument.symbol,
        case.instrument.asset_type,
        100.0,
        ("mid", "order_book", "candles_15m", "asset_context"),
        MINUTE,
        data if case.instrument.market_id else None,
    )
    bars = case.document(case.bars_path)
    if case is ALPACA:
        bars["bars"]["AAPL"].reverse()  # the newest are asked for, and come first
    async with VendorPeer(case.answers | {case.bars_path: bars}) as peer:
        venue = case.venue(peer.base_url)
        assert venue.snapshot_at_once(request) is None
        snapshot = await venue.snapshot(request)
        again = venue.snapshot_at_once(request)
        peer.fault = status(503)
        failing = case.venue(peer.base_url)
        failed = await failing.snapshot(request)
        other = MarketRequest("X", "forex" if case is not OANDA else "stock", 1.0, request.queries, MINUTE)
        assert await venue.snapshot(other) is NO_SOURCE
        await venue.close()
        await failing.close()
    assert snapshot.quote is not None
    assert snapshot.quote.mid == pytest.approx((float(case.bid) + float(case.ask)) / 2)
    assert snapshot.order_book is not None
    assert snapshot.order_book.bids[0][0] == float(case.bid)
    assert not snapshot.failures
    if case in (KALSHI, POLYMARKET):
        assert not snapshot.candles
    else:
        assert len(snapshot.candles["15m"]) == len(case.closes)
    assert again is not None
    assert again.quote == snapshot.quote
    assert {each.query for each in failed.failures} >= {"mid", "order_book"}
    assert not failed.has_data


@pytest.mark.parametrize(
    ("status_", "result", "resolution"),
    [
        ("active", "", None),
        ("determined", "yes", None),
        ("finalized", "yes", "yes"),
        ("finalized", "no", "no"),
        ("finalized", "scalar", "void"),
        ("finalized", "", "void"),
    ],
)
async def test_kalshi_resolves_when_its_settlement_is_final(status_: str, result: str, resolution: str | None) -> None:
    path = "/markets/KXHIGHNY-26SEP21-T90"
    document = KALSHI.document(path)
    document["market"] |= {"status": status_, "result": result}
    async with VendorPeer(KALSHI.answers | {path: document}) as peer:
        venue = KALSHI.venue(peer.base_url)
        assert await venue.resolution(KALSHI.instrument) == resolution
        await venue.close()


@pytest.mark.parametrize(
    ("changes", "resolution"),
    [
        ({}, None),
        ({"closed": True, "outcomePrices": '["1", "0"]'}, None),
        ({"closed": True, "umaResolutionStatus": "proposed", "outcomePrices": '["1", "0"]'}, None),
        ({"closed": True, "umaResolutionStatus": "resolved", "outcomePrices": '["1", "0"]'}, "yes"),
        ({"closed": True, "umaResolutionStatus": "resolved", "outcomePrices": '["0", "1"]'}, "no"),
        ({"closed": True, "umaResolutionStatus": "resolved", "outcomePrices": '["0.5", "0.5"]'}, "void"),
        ({"closed": True, "automaticallyResolved": True, "outcomePrices": '["0", "1"]'}, "no"),
        (
            {
                "closed": True,
                "umaResolutionStatus": "resolved",
                "outcomes": '["No", "Yes"]',
                "outcomePrices": '["0", "1"]',
            },
            "yes",
        ),
    ],
)
async def test_polymarket_resolves_when_its_oracle_has(changes: dict[str, Any], resolution: str | None) -> None:
    path = "/markets/512345"
    async with VendorPeer(POLYMARKET.answers | {path: POLYMARKET.document(path) | changes}) as peer:
        venue = POLYMARKET.venue(peer.base_url)
        assert await venue.resolution(POLYMARKET.instrument) == resolution
        await venue.close()


@pytest.mark.parametrize("prices", [None, '["2", "-1"]', "[]", "1", '["x", "y"]'])
async def test_a_payout_that_is_none_is_a_failure(prices: str | None) -> None:
    path = "/markets/512345"
    changes = {"closed": True, "umaResolutionStatus": "resolved", "outcomePrices": prices}
    async with VendorPeer(POLYMARKET.answers | {path: POLYMARKET.document(path) | changes}) as peer:
        venue = POLYMARKET.venue(peer.base_url)
        with pytest.raises(CallFailed, match="answered nonsense"):
            await venue.resolution(POLYMARKET.instrument)
        await venue.close()


@pytest.mark.parametrize(
    ("market_id", "path"),
    [
        ("512345", "/markets/512345"),
        ("seoul-23c", "/markets/slug/seoul-23c"),
        ("0x9c1a", "/markets"),
    ],
)
async def test_a_market_of_polymarket_goes_by_each_of_its_names(market_id: str, path: str) -> None:
    market = POLYMARKET.document("/markets/512345")
    answers = {"/book": POLYMARKET.answers["/book"], path: [market] if path == "/markets" else market}
    async with VendorPeer(answers) as peer:
        venue = POLYMARKET.venue(peer.base_url)
        quote = await venue.quote(PricedInstrument("prediction", "x", None, "polymarket", market_id))
        await venue.close()
    assert quote is not None
    assert quote.bid == Decimal(POLYMARKET.bid)


@PREDICTIONS
async def test_a_prediction_of_another_platform_is_not_asked_for(case: Case) -> None:
    async with VendorPeer(case.answers) as peer:
        venue = case.venue(peer.base_url)
        assert await venue.quote(PricedInstrument("prediction", "x", None, "elsewhere", "1")) is None
        assert await venue.resolution(PricedInstrument("prediction", "x")) is None
        assert peer.calls == []
        await venue.close()
