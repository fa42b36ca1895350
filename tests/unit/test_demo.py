"""The demo: recorded prices, rules, contracts, the backfill, and the stored state."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from config.clock import now
from schemas.backfill import MOST_BACKFILL, BackfillSignal, BackfillSignals
from server.demo import DemoFailed
from server.demo.cast import FOLLOWERS, KING, PROVIDERS, SMALL, STRATEGIES, Cast, Trader
from server.demo.client import DemoClient, Host
from server.demo.community import Community
from server.demo.contracts import choose, describe, price_of
from server.demo.emails import Emails
from server.demo.prices import INSTRUMENTS, Market, open_markets
from server.demo.signals import imagine
from server.demo.state import State
from server.demo.trading import QUARTER_MINUTE, Style, Trade, next_trade, past_trades
from server.demo.trickle import Trickle

ANCHOR = datetime(2026, 3, 1, 12, tzinfo=UTC)
MARKETS = open_markets()
TRADERS = Cast().traders
DAYS = Cast().days
NEWCOMERS = {each.name for each in TRADERS if each.is_newcomer}


def test_every_market_ends_now_and_goes_on_as_far_as_anybody_waits() -> None:
    for market in MARKETS.values():
        assert market.time_of(0, ANCHOR) == ANCHOR
        far = market.window(3 * market.length, market.length)
        assert far.min() > 0
        assert {round(each, 9) for each in far[3]} <= {round(each, 9) for each in market.window(0, market.length)[3]}


def test_prices_are_those_that_were_recorded() -> None:
    assert MARKETS["GOOG"].close(0) == 806.19
    assert MARKETS["EUR/USD"].close(0) == 1.22904
    assert MARKETS["BTC"].close(0) == 67580.0
    months = [MARKETS["BTC"].close(-96 * back) for back in range(4)]
    assert months == [67580.0, 59150.0, 71034.0, 60775.0], "a month in four days"
    assert [MARKETS["GOOG"].close(-6 * back) for back in range(3)] == [806.19, 801.2, 799.78], "a day in six hours"


def test_prices_go_by_the_clock_from_one_recorded_close_to_the_next() -> None:
    for market in MARKETS.values():
        assert market.moment_of(ANCHOR + timedelta(minutes=90), ANCHOR) == 1.5
        ticks = np.array([market.close(second / 3600) for second in range(3601)])
        assert (ticks[0], ticks[-1]) == (market.close(0), market.close(1))
        moves = np.abs(np.diff(ticks) / ticks[:-1])
        assert 0 < moves.max() < 0.0005, "from a second to the next"
        assert np.count_nonzero(moves) > 3500, "each tick has its own price"
        bars = market.window(0.75, 3)
        assert bars[3].tolist() == [market.close(-1), market.close(0), market.close(0.75)]


def test_a_day_moves_prices_as_far_as_a_lively_day_does() -> None:
    for market in MARKETS.values():
        closes = market.window(24, 24 * 64)[3]
        day = closes[24:] / closes[:-24] - 1
        assert np.abs(day).max() < 0.2, market.instrument.symbol
        assert np.std(day) < 0.06


@pytest.mark.parametrize("trader", TRADERS, ids=lambda each: each.name)
def test_no_single_trade_wins_or_loses_a_fortune(trader: Trader) -> None:
    for symbol in trader.markets:
        market = MARKETS[symbol]
        past = list(past_trades(trader.style, market, ANCHOR, DAYS))
        most = 0.25 if market.instrument.asset_type in ("option", "prediction") else 0.15
        returns = [_returned(*pair) for pair in zip(past[::2], past[1::2], strict=False)]
        assert max(map(abs, returns)) < most
        live = _live(trader.style, market)
        assert max(map(abs, live), default=0.0) < 0.02


async def test_live_there_is_something_to_see_within_two_minutes(tmp_path: Path) -> None:
    trades = []
    async with _community(tmp_path, Cast()) as community:
        trickle = Trickle(community)
        for second in range(0, 120, 6):
            for name, trade in trickle.find_trades(ANCHOR + timedelta(seconds=second)):
                community.state.note(name, trade)
                trades.append((name, trade))
    assert len(trades) > 30
    assert any(trade.closes for _, trade in trades)
    assert {trade.moment for _, trade in trades} <= {second / 3600 for second in range(120)}, "by the clock"
    assert not [name for name, trade in trades if name in NEWCOMERS and trade.closes], "they hold for hours"


@pytest.mark.parametrize("cast", [SMALL, Cast()], ids=["small", "whole"])
async def test_passive_people_do_nothing_so_their_referrals_stay_pending(tmp_path: Path, cast: Cast) -> None:
    async with _community(tmp_path, cast) as community:
        active = {each.person.name for each in community.active}
        acting = {community.somebody().person.name for _ in range(2000)}
    passive = {each.name for each in cast.people if each.is_passive}
    assert len(passive) == 2
    assert active == {each.name for each in cast.people} - passive
    assert passive.isdisjoint(each.name for each in cast.traders)
    assert passive.isdisjoint(acting)


@asynccontextmanager
async def _community(tmp_path: Path, cast: Cast) -> AsyncIterator[Community]:
    """Return accounts that send no request."""
    (tmp_path / "new").mkdir()
    host = Host("http://127.0.0.1:9", Emails(tmp_path))
    try:
        accounts = {each.name: DemoClient(host, each) for each in cast.people}
        yield Community(cast, host, MARKETS, State(ANCHOR), tmp_path / "demo.json", accounts)
    finally:
        await host.close()


def _returned(session_opened: Trade, closing: Trade) -> float:
    change = closing.price / session_opened.price - 1
    return change if session_opened.position.side == "long" else -change


def _live(style: Style, market: Market) -> list[float]:
    """Return the returns of the trades that a quarter of an hour brings."""
    session_opened: Trade | None = None
    returns = []
    for second in range(0, 900, 6):
        position = None if session_opened is None else session_opened.position
        trade = next_trade(style, market, ANCHOR + timedelta(seconds=second), ANCHOR, position, QUARTER_MINUTE)
        if trade is not None and session_opened is not None:
            returns.append(_returned(session_opened, trade))
        session_opened = session_opened if trade is None else None if trade.closes else trade
    return returns


def test_past_the_end_the_recording_is_played_backwards_and_each_bar_opens_at_the_last_close() -> None:
    market = MARKETS["GOOG"]
    assert [market.close(n) for n in (1, 2, 3)] == [market.close(-n) for n in (1, 2, 3)]
    bars = market.window(2, 6)
    assert (bars[0, 1:] == bars[3, :-1]).all()
    assert (bars[1] >= bars[[0, 3]].max(axis=0)).all()
    assert (bars[2] <= bars[[0, 3]].min(axis=0)).all()


def test_missing_files_are_reported_with_the_way_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DemoFailed, match="pip install --no-deps --require-hashes"):
        open_markets(tmp_path)


@pytest.mark.parametrize("style", {(each.style.bars, each.style.threshold): each.style for each in TRADERS}.values())
def test_a_style_does_not_know_the_future(style: Style) -> None:
    closes = MARKETS["NVDA"].window(0, 900)[3]
    whole = style.wishes(closes)
    for end in (300, 611, 899):
        assert (style.wishes(closes[:end]) == whole[:end]).all()
    assert set(np.unique(whole)) <= {-1, 0, 1}
    assert np.any(whole), "it trades"


@pytest.mark.parametrize("trader", TRADERS, ids=lambda each: each.name)
def test_people_open_before_they_close_what_they_opened(trader: Trader) -> None:
    for symbol in trader.markets:
        trades = list(past_trades(trader.style, MARKETS[symbol], ANCHOR, DAYS))
        assert trades, f"{trader.name} never trades {symbol}"
        for session_opened, closing in zip(trades[::2], trades[1::2], strict=False):
            assert (session_opened.closes, closing.closes) == (False, True)
            assert closing.position is session_opened.position
            assert 0 < closing.moment - session_opened.moment <= trader.style.patience


def test_live_trades_are_those_that_the_past_would_have_had() -> None:
    style, market = PROVIDERS[0].style, MARKETS["ETH"]
    first, second, *_ = past_trades(style, market, ANCHOR, DAYS)
    opened = next_trade(style, market, market.time_of(first.moment, ANCHOR), ANCHOR, None)
    assert opened is not None
    assert (opened.price, opened.raw_fields) == (first.price, first.raw_fields)
    bars = range(int(first.moment), int(second.moment) + 1)
    between = [next_trade(style, market, market.time_of(bar, ANCHOR), ANCHOR, first.position) for bar in bars]
    assert [each is not None for each in between] == [False] * (len(bars) - 1) + [True]


def test_a_call_and_a_put_differ_by_the_price_less_the_strike() -> None:
    market = MARKETS["GOOG options"]
    call, put = (choose(market, -500, rises=rises, at=ANCHOR) for rises in (True, False))
    assert call.strike == put.strike is not None
    for bar in (-500, -480):
        difference = price_of(call, market, bar) - price_of(put, market, bar)
        assert math.isclose(difference, market.close(bar) - call.strike, abs_tol=0.011)
    greeks = describe(call, market, -500)["greeks"]
    assert 0 < greeks["delta"] < 1
    assert greeks["theta"] < 0 < min(greeks["gamma"], greeks["vega"], greeks["iv"])


def test_a_prediction_gains_when_the_price_rises() -> None:
    market = MARKETS["GOOG predictions"]
    bars = range(-400, -300)
    question = choose(market, -400, rises=True, at=ANCHOR)
    prices = [price_of(question, market, bar) for bar in bars]
    assert np.corrcoef(prices, [market.close(bar) for bar in bars])[0, 1] > 0.8
    assert all(0 < each < 1 for each in prices)


@cache
def _imagined() -> tuple[State, list[tuple[str, dict[str, Any]]]]:
    state = State(now())
    return state, imagine(SMALL, MARKETS, state)


def test_the_past_is_what_the_import_takes_in_order_and_of_every_asset_type() -> None:
    state, past = _imagined()
    documents = [orjson.loads(orjson.dumps(document)) for _, document in past]
    for start in range(0, len(documents), MOST_BACKFILL):
        assert not BackfillSignals().validate({"signals": documents[start : start + MOST_BACKFILL]})
    times = [each["published_at"] for each in documents]
    assert times == sorted(times)
    assert {each["asset_type"] for each in documents} == {each.asset_type for each in INSTRUMENTS.values()}
    assert len({each["id"] for each in documents}) == len(documents)
    opened = sum(each["event_type"] == "OPEN_SIGNAL" for each in documents)
    assert 2 * opened - len(documents) == len(state.held), "what is open at the end is remembered"


def test_newcomers_have_too_few_signals_to_be_verified_and_all_others_enough() -> None:
    counts = Counter(name for name, _ in imagine(Cast(), MARKETS, State(now())))
    assert len(NEWCOMERS) == 2
    assert {name: 0 < counts[name] < 8 for name in NEWCOMERS} == dict.fromkeys(NEWCOMERS, True)
    assert min(counts[each.name] for each in TRADERS if not each.is_newcomer) >= 10


def test_the_past_is_the_same_when_it_is_imagined_again() -> None:
    state, past = _imagined()
    assert imagine(SMALL, MARKETS, State(state.anchor)) == past


def test_a_signal_of_the_future_is_no_past() -> None:
    _, past = _imagined()
    document = past[0][1] | {"published_at": (now() + timedelta(minutes=1)).isoformat()}
    found = BackfillSignal().validate(orjson.loads(orjson.dumps(document)))
    assert found == {"published_at": "must not be in the future"}


def test_the_cast_has_a_silver_referrer_and_nobody_comes_before_who_brings_them() -> None:
    for cast in (SMALL, Cast()):
        names = [each.name for each in cast.people]
        assert len(names) == len(set(names)) == len({each.email for each in cast.people})
        assert all(each.referrer in names for each in cast.people if each.referrer is not None)
        brought = [each for each in cast.people if each.referrer == KING]
        assert 5 <= sum(not each.is_passive for each in brought) <= 7, "silver, some short of gold"
        assert sum(each.is_passive for each in brought) == 2
    assert len(PROVIDERS) + len(STRATEGIES) == 20
    assert len(FOLLOWERS) + len(PROVIDERS) == 60


def test_the_saved_memory_is_read_again(tmp_path: Path) -> None:
    imagined, _ = _imagined()
    state, path = State(imagined.anchor, begun=True, past=True, held=imagined.held), tmp_path / "data" / "demo.json"
    state.save(path)
    again = State.load(path)
    assert again == state
    assert (again.begun, again.past, again.filled) == (True, True, False)
    path.write_text("{")
    new = State.load(path)
    assert (new.begun, new.past, new.filled, new.held) == (False, False, False, {}), "it begins anew"


async def test_a_letter_that_came_since_is_read_by_its_address(tmp_path: Path) -> None:
    def write(name: str, token: str) -> None:
        message = EmailMessage()
        message["To"] = "ana@demo.example.com"
        message.set_content(f"Open\nhttp://127.0.0.1:8000/auth/verify-email?token={token}\n")
        (tmp_path / "new" / name).write_bytes(bytes(message))

    (tmp_path / "new").mkdir()
    write("1", "a" * 43)
    emails = Emails(tmp_path)
    write("2", "b" * 43)
    assert await emails.token_for("ana@demo.example.com") == "b" * 43


def test_market_is_told_apart_from_its_neighbours() -> None:
    """A trade's price is the close of its own market and bar."""
    market: Market = MARKETS["SPY"]
    trade: Trade = next(iter(past_trades(TRADERS[-2].style, market, ANCHOR, DAYS)))
    assert trade.price == float(f"{market.close(trade.moment):.8g}")
    assert trade.asset_data["price"] == trade.price
