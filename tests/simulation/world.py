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
from actors.records.gates import Track, missing_gates
from actors.records.returns import UNIT, buys, record_price
from actors.records.skill import Skill, assess
from tests.simulation.market import HOURS, Market
from tests.simulation.people import CHEATS, Trade, Trader, skilled, unskilled

EPOCH = date(2026, 1, 1)
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


def run(world: World, seed: int) -> tuple[Counter[str], Counter[str], Skill]:
    """Return who is listed and who is eligible, by kind, and the board's statistics."""
    random = np.random.default_rng(seed)
    market = Market(random, days=max(90, int(world.closes * 1.7)))
    kinds: list[str] = []
    books: list[tuple[Book, Track]] = []
    strategies = (
        [("unskilled", unskilled)] * world.unskilled
        + [("skilled", skilled(world.sharpe))] * world.skilled
        + [(name, cheat) for name, cheat in CHEATS.items() for _ in range(world.cheats)]
        + [("the best of many accounts", unskilled)] * world.accounts
    )
    for kind, strategy in strategies:
        trades = strategy(Trader(market, random, world.closes))
        kinds.append(kind)
        books.append(fold(market, trades))
    today = EPOCH + timedelta(days=market.days)
    eligible = [i for i, (_, track) in enumerate(books) if not missing_gates(track, today)]
    board = assess(
        np.array([books[i][0].days for i in eligible], float),
        np.array([books[i][0].day_sum / UNIT for i in eligible]),
        np.array([books[i][0].day_square_sum / UNIT**2 for i in eligible]),
    )
    listed = Counter(kinds[i] for i, is_listed in zip(eligible, board.is_listed, strict=True) if is_listed)
    return listed, Counter(kinds[i] for i in eligible), board


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


def _at(hour: int) -> datetime:
    return datetime.combine(EPOCH, datetime.min.time(), UTC) + timedelta(hours=hour)
