"""Run a simulated world through the rules of records, and say who is listed on the board of skill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np

from actors.records.book import Book
from actors.records.curve import Event, Left, Opened, Voided, close_day, with_open_bets
from actors.records.gates import FALSE_DISCOVERY_RATE, Track, missing_gates
from actors.records.returns import UNIT, Touch, buys, record_price
from actors.records.skill import assess
from tests.simulation.market import HOURS, Market
from tests.simulation.people import CHEATS, Trade, Trader, skilled, snipes, unskilled

EPOCH = date(2026, 1, 1)
SKILLED = "skilled"
COST_BPS = {"crypto": Decimal(10)}


@dataclass(frozen=True)
class World:
    """A world's number of providers of each kind; `cheats` of each kind of cheat, `accounts` of one person."""

    unskilled: int = 1000
    skilled: int = 20
    cheats: int = 10
    accounts: int = 260
    closes: int = 200
    sharpe: float = 0.30
    quote_ages: tuple[float, ...] = ()  # of those who buy at quotes that old, in seconds


@dataclass(frozen=True, slots=True)
class Found:
    """Who is listed and who is eligible in a world, by kind, and who is listed once the skilled have left it."""

    listed: Counter[str]
    eligible: Counter[str]
    listed_without_skill: Counter[str]


def run(world: World, seed: int) -> Found:
    """Return who is found in a world."""
    random = np.random.default_rng(seed)
    market = Market(random, days=max(90, int(world.closes * 1.7)))
    strategies = (
        [("unskilled", unskilled)] * world.unskilled
        + [(SKILLED, skilled(world.sharpe))] * world.skilled
        + [(name, cheat) for name, cheat in CHEATS.items() for _ in range(world.cheats)]
        + [("the best of many accounts", unskilled)] * world.accounts
        + [(f"quotes of {age:g} s ago", snipes(age)) for age in world.quote_ages for _ in range(10)]
    )
    books = [(kind, *fold(market, trade(Trader(market, random, world.closes)))) for kind, trade in strategies]
    today = EPOCH + timedelta(days=market.days)
    eligible = [(kind, book) for kind, book, track in books if not missing_gates(track, today)]
    return Found(
        listed_among(eligible),
        Counter(kind for kind, _ in eligible),
        listed_among([each for each in eligible if each[0] != SKILLED]),
    )


def listed_among(eligible: Sequence[tuple[str, Book]]) -> Counter[str]:
    """Return whom the board of skill lists of the eligible, by kind."""
    board = assess(
        np.array([book.days for _, book in eligible], float),
        np.array([book.day_sum / UNIT for _, book in eligible]),
        np.array([book.day_square_sum / UNIT**2 for _, book in eligible]),
    )
    is_listed = board.luck <= FALSE_DISCOVERY_RATE
    return Counter(kind for (kind, _), listed in zip(eligible, is_listed, strict=True) if listed)


def fold(market: Market, trades: Sequence[Trade]) -> tuple[Book, Track]:
    """Fold a provider's trades into its book, by the rules of prices."""
    days: list[list[tuple[int, int, Event]]] = [[] for _ in range(market.days)]
    for number, trade in enumerate(trades):
        for hour, order, event in _events(market, number, trade):
            if hour // HOURS < market.days:
                days[hour // HOURS].append((hour, order, event))
    book = Book()
    marks = market.closing_marks
    for number, events in enumerate(days):
        if events or book.positions:
            events.sort(key=lambda each: each[:2])
            close_day(book, EPOCH + timedelta(days=number), [event for *_, event in events], marks[number], COST_BPS)
    bets = with_open_bets(book, marks[-1])
    track = Track(bets.count, book.days, book.first_day, len(trades), 0)
    return book, track


def _events(market: Market, number: int, trade: Trade) -> list[tuple[int, int, Event]]:
    instrument = market.instrument(trade.instrument)
    is_buy = buys(trade.side, opens=True)
    touch = market.touch(trade.instrument, trade.open_hour)
    if trade.known_move:
        touch = touch_before(touch, trade.known_move, is_buy=is_buy)
    declared = trade.declared_entry or (touch.ask if is_buy else touch.bid)
    entry = record_price(declared, touch, is_buy=is_buy)
    at = _at(trade.open_hour)
    found: list[tuple[int, int, Event]] = [(trade.open_hour, 1, Opened(number, instrument, trade.side, entry, at))]
    if trade.is_void:
        found.append((trade.open_hour, 2, Voided(number)))
    elif trade.close_hour is not None:
        touch = market.touch(trade.instrument, trade.close_hour)
        declared = trade.declared_exit or (touch.bid if is_buy else touch.ask)
        left = record_price(declared, touch, is_buy=not is_buy)
        # Without a quote the first mark afterwards counts: here, the next hour's.
        hour = trade.close_hour
        if trade.close_is_unquoted:
            hour += 1
            touch = market.touch(trade.instrument, hour)
            left = touch.bid if is_buy else touch.ask
        found.append((hour, 0, Left(number, UNIT, left, _at(hour))))
    return found


def touch_before(touch: Touch, move: float, *, is_buy: bool) -> Touch:
    """Return the best prices from before the market moved the right way."""
    factor = Decimal(f"{1 - move if is_buy else 1 + move:.8f}")
    return Touch(bid=touch.bid * factor, ask=touch.ask * factor)


def _at(hour: int) -> datetime:
    return datetime.combine(EPOCH, datetime.min.time(), UTC) + timedelta(hours=hour)
