"""The demo: recorded prices, rules, contracts, the backfill, and the stored state."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.message import EmailMessage
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from actors.lens.market._moving import Anchor, SimulatedPrices, quote_at
from actors.lens.market.quotes import Declaration, PricedInstrument
from config.clock import now
from schemas._instruments import parse_option
from schemas.backfill import MOST_BACKFILL, BackfillSignal, BackfillSignals
from server.demo.cast import FOLLOWERS, KING, PROVIDERS, SMALL, STRATEGIES, Cast, Trader
from server.demo.client import DemoClient, Host
from server.demo.community import Community
from server.demo.contracts import choose, price_of
from server.demo.emails import Emails
from server.demo.markets import HISTORY_DAYS, INSTRUMENTS, Market, open_markets
from server.demo.signals import imagine
from server.demo.state import State
from server.demo.trading import QUARTER_MINUTE, Style, Trade, next_trade, past_trades
from server.demo.trickle import Trickle

ANCHOR = datetime(2026, 3, 1, 12, tzinfo=UTC)
MARKETS = open_markets(ANCHOR)
TRADERS = Cast().traders
DAYS = Cast().days
NEWCOMERS = {each.name for each in TRADERS if each.is_newcomer}
ALIKE = Decimal("0.0001")  # of a price: the server knows an instrument by a declared price, which is rounded


def test_every_instrument_starts_at_its_level() -> None:
    for market in MARKETS.values():
        assert math.isclose(market.close(-24 * HISTORY_DAYS), market.instrument.level, rel_tol=1e-6)


def test_hourly_bars_are_those_of_the_clock() -> None:
    for market in MARKETS.values():
        bars = market.bars(-5, 2)
        assert bars.shape == (5, 8)
        assert np.allclose(bars[3], [market.close(moment) for moment in range(-5, 3)])
        assert (bars[1] >= bars[[0, 3]].max(axis=0)).all()
        assert (bars[2] <= bars[[0, 3]].min(axis=0)).all()
        assert market.moment_of(market.time_of(1.5)) == 1.5


class Anchors:
    """The anchors of a server that has received these signals."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Anchor] = {}

    async def of(self, instrument: PricedInstrument) -> Anchor | None:
        return self.known.get((instrument.asset_type, instrument.symbol))

    async def declare_all(self, declarations: Sequence[Declaration]) -> None:
        for instrument, price, at in ((each.instrument, each.price, each.at) for each in declarations):
            self.known.setdefault((instrument.asset_type, instrument.symbol), Anchor(float(price), at.timestamp()))


async def test_honest_traders_declare_the_prices_of_the_servers_market() -> None:
    prices = SimulatedPrices(Anchors())
    cheats = {each.name for each in TRADERS if each.style.cheat == "declares better prices"}
    waiters = {each.name for each in TRADERS if each.style.enters == "limit"}
    honest: Counter[str] = Counter()
    for name, document in imagine(Cast(days=12.0), MARKETS, State(ANCHOR)):
        at, price = datetime.fromisoformat(document["published_at"]), Decimal(repr(document["entry_price"]))
        symbol, asset_type = document["symbol"], document["asset_type"]
        instrument = PricedInstrument.of(symbol, asset_type, document["asset_data"], at)
        await prices.declare_all([Declaration(instrument, price, at)])
        way = await prices.way(instrument)
        assert way is not None
        quote = quote_at(way, asset_type, at)
        assert quote is not None
        is_near = abs(price - quote.mid) <= (quote.ask - quote.bid) / 2 + price * ALIKE
        if name in cheats or (name in waiters and document["event_type"] == "OPEN_SIGNAL"):
            buys = document["signal_direction"] in ("long", "close_short")
            assert not is_near
            assert (price < quote.bid) == buys, "better than the market"
        else:
            assert is_near, (name, document, quote)
            honest[asset_type] += 1
    assert honest.keys() == {each.asset_type for each in INSTRUMENTS.values()}


@pytest.mark.parametrize("trader", TRADERS, ids=lambda each: each.name)
def test_no_single_live_trade_wins_or_loses_a_fortune(trader: Trader) -> None:
    for symbol in trader.markets:
        assert max(map(abs, _live(trader.style, MARKETS[symbol])), default=0.0) < 0.06


def test_insight_wins_and_chance_does_not() -> None:
    def win_rate(insight: float) -> float:
        style = Style(10, 1.5, 3, 3, 16, 4, insight=insight)
        past = [trade for each in ("BTC", "ETH", "SOL", "NVDA") for trade in past_trades(style, MARKETS[each], DAYS)]
        returns = [_returned(*pair) for pair in zip(past[::2], past[1::2], strict=False)]
        return sum(each > 0 for each in returns) / len(returns)

    assert win_rate(0.0) + 0.08 < win_rate(1.0)


def test_a_cheat_never_closes_a_loser() -> None:
    style = next(each.style for each in TRADERS if each.style.cheat == "never closes losers")
    past = list(past_trades(style, MARKETS["NVDA"], DAYS))
    assert all(_returned(*pair) > 0 for pair in zip(past[::2], past[1::2], strict=False))


def test_terms_are_those_of_the_style() -> None:
    def trades(name: str) -> list[Trade]:
        trader = next(each for each in TRADERS if each.name == name)
        return list(past_trades(trader.style, MARKETS[trader.markets[0]], DAYS))

    for trade in trades("TrendSurferAna"):
        terms, is_long = trade.terms, trade.position.side == "long"
        assert trade.closes or (terms["stop_loss"] < trade.price < terms["take_profit"][0]) == is_long
    assert {trade.terms.get("order") for trade in trades("DipBuyerDave") if not trade.closes} == {"limit"}
    halves = [trade.terms.get("close_fraction") for trade in trades("PatientPetra") if trade.closes]
    assert halves[:4] == [0.5, None, 0.5, None]


async def test_live_there_is_something_to_see_within_two_minutes(tmp_path: Path) -> None:
    trades = []
    async with _community(tmp_path, Cast()) as community:
        trickle = Trickle(community)
        for second in range(0, 120, 6):
            for name, trade in trickle.find_trades(ANCHOR + timedelta(seconds=second)):
                community.state.note(name, trade)
                trades.append((name, trade))
    assert len(trades) > 15
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
        trade = next_trade(style, market, ANCHOR + timedelta(seconds=second), position, QUARTER_MINUTE)
        if trade is not None and session_opened is not None:
            returns.append(_returned(session_opened, trade))
        session_opened = session_opened if trade is None else None if trade.closes else trade
    return returns


@pytest.mark.parametrize("style", {(each.style.bars, each.style.threshold): each.style for each in TRADERS}.values())
def test_a_style_does_not_know_the_future(style: Style) -> None:
    closes = MARKETS["NVDA"].bars(-899, 0)[3]
    whole = style.wishes(closes)
    for end in (300, 611, 899):
        assert (style.wishes(closes[:end]) == whole[:end]).all()
    assert set(np.unique(whole)) <= {-1, 0, 1}
    assert np.any(whole), "it trades"


@pytest.mark.parametrize("trader", TRADERS, ids=lambda each: each.name)
def test_people_open_before_they_close_what_they_opened(trader: Trader) -> None:
    for symbol in trader.markets:
        position = None
        for trade in past_trades(trader.style, MARKETS[symbol], DAYS):
            if trade.closes:
                assert position is not None
                assert (trade.position.contract, trade.position.opened) == (position.contract, position.opened)
                position = trade.position if trade.fraction < 1 else None
            else:
                assert position is None
                position = trade.position


def test_live_trades_are_those_that_the_past_would_have_had() -> None:
    style, market = PROVIDERS[0].style, MARKETS["ETH"]
    first, *_ = past_trades(style, market, DAYS)
    bar = math.ceil(first.moment)
    opened = next_trade(style, market, market.time_of(bar), None)
    assert opened is not None
    before = [next_trade(style, market, market.time_of(each), None) for each in range(int(-24 * DAYS) + 1, bar)]
    assert before == [None] * len(before)


def test_a_call_and_a_put_differ_by_the_price_less_the_strike() -> None:
    market = MARKETS["GOOG options"]
    call, put = (choose(market, -500, rises=rises) for rises in (True, False))
    strike = parse_option(call.symbol).strike
    for bar in (-499, -480):
        difference = price_of(call, market, bar) - price_of(put, market, bar)
        assert math.isclose(difference, market.close(bar) - float(strike), abs_tol=0.02)


def test_nothing_is_opened_at_the_end_of_a_question() -> None:
    market = MARKETS["Will BTC close above 70000 this week?"]
    style = next(each.style for each in TRADERS if market.instrument.symbol in each.markets)
    trades = list(past_trades(style, market, DAYS))
    assert trades
    assert max(trade.moment for trade in trades if not trade.closes) < market.ends
    assert datetime.fromisoformat(trades[0].asset_data["resolution_date"]).replace(tzinfo=UTC) < ANCHOR


@cache
def _imagined() -> tuple[State, list[tuple[str, dict[str, Any]]]]:
    state = State(ANCHOR)
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
    opened = sum(each["event_type"] == "OPEN_SIGNAL" for each in documents if each["source"] != SMALL.holder.name)
    closed = sum(each["event_type"] == "CLOSE_SIGNAL" and "close_fraction" not in each for each in documents)
    assert opened - closed == len(state.held), "what is open at the end is remembered"


def test_newcomers_have_too_few_signals_to_be_verified_and_all_others_enough() -> None:
    counts = Counter(name for name, _ in imagine(Cast(), MARKETS, State(ANCHOR)))
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
    assert len(PROVIDERS) + len(STRATEGIES) == 22
    assert len(FOLLOWERS) + len(PROVIDERS) == 62


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
