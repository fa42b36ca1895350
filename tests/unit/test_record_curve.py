"""Test the daily curve against a plain computation in fractions, over random histories."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.records.curve import Bets, Book, Event, Left, Opened, Voided, close_day, with_open_bets
from actors.records.returns import UNIT
from schemas._vocabulary import Side

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = date(2026, 1, 1)
BTC, ETH = ("crypto", "BTC"), ("crypto", "ETH")
FREE = {"crypto": Decimal(0)}
COSTS = {"crypto": Decimal(10)}


def opened(number: int, entry: int, side: Side = "long", instrument: tuple[str, str] = BTC) -> Opened:
    return Opened(number, instrument, side, Decimal(entry), AT)


def left(number: int, price: int, part: int = UNIT) -> Left:
    return Left(number, part, Decimal(price), AT)


def test_a_loss_counts_whether_it_is_closed_or_not() -> None:
    never_closed, closed = Book(), Book()
    close_day(never_closed, DAY, [opened(1, 100)], {BTC: Decimal(80)}, FREE)
    close_day(closed, DAY, [opened(1, 100), left(1, 80)], {BTC: Decimal(80)}, FREE)
    assert never_closed.equity == closed.equity == UNIT * 8 // 10
    assert (
        with_open_bets(never_closed, {BTC: Decimal(80)}) == with_open_bets(closed, {}) == Bets(1, 0, 1, 0, -UNIT // 5)
    )


def test_equity_is_one_and_what_was_realised_and_what_is_open() -> None:
    book = Book()
    first = close_day(
        book, DAY, [opened(1, 100), opened(2, 50, "short", ETH)], {BTC: Decimal(110), ETH: Decimal(60)}, FREE
    )
    # (+10 % − 20 %) over two units.
    assert (first.result, first.equity, first.exposure) == (-UNIT // 20, UNIT * 95 // 100, UNIT)
    assert (first.realised, first.open_result) == (0, -UNIT // 20)
    second = close_day(book, DAY + timedelta(1), [left(2, 60)], {BTC: Decimal(110)}, FREE)
    assert (second.result, second.equity) == (0, first.equity)
    assert (second.realised, second.open_result) == (-UNIT // 10, UNIT // 20)
    assert second.exposure == UNIT // 2
    assert UNIT + second.realised + second.open_result == second.equity


def test_a_unit_more_later_makes_no_earlier_day_smaller_and_later_days_share() -> None:
    book = Book()
    close_day(book, DAY, [opened(1, 100), left(1, 120)], {}, FREE)
    assert book.equity == UNIT * 12 // 10
    close_day(book, DAY + timedelta(1), [opened(2, 100), opened(3, 100), left(2, 110), left(3, 100)], {}, FREE)
    assert book.equity == UNIT * 126 // 100  # +10 % of one of two units
    close_day(book, DAY + timedelta(2), [opened(4, 100), left(4, 110)], {}, FREE)
    assert book.equity == UNIT * 1323 // 1000  # still over two units


def test_costs_are_paid_on_each_side_by_the_part_that_is_traded() -> None:
    book = Book()
    close_day(book, DAY, [opened(1, 100), left(1, 100, UNIT // 2)], {BTC: Decimal(100)}, COSTS)
    assert book.equity == UNIT - UNIT * 15 // 10_000
    close_day(book, DAY + timedelta(1), [left(1, 100)], {}, COSTS)
    assert book.closed == Bets(1, 0, 1, 0, -UNIT * 20 // 10_000)


def test_positions_that_overlap_on_one_instrument_are_one_bet() -> None:
    book = Book()
    pair = [opened(1, 100), opened(2, 100, "short"), left(1, 110), left(2, 110)]
    close_day(book, DAY, pair, {}, FREE)
    assert book.closed == Bets(1, 0, 0, 0, 0)
    close_day(book, DAY, [opened(3, 100), left(3, 110), opened(4, 100), left(4, 90)], {}, FREE)
    assert book.closed == Bets(3, 1, 1, UNIT // 10, -UNIT // 10)


def test_a_mark_that_is_missing_leaves_the_last_value() -> None:
    book = Book()
    close_day(book, DAY, [opened(1, 100)], {BTC: Decimal(90)}, FREE)
    day = close_day(book, DAY + timedelta(1), [], {}, FREE)
    assert (day.result, day.equity) == (0, UNIT * 9 // 10)


def test_a_voided_position_is_as_if_it_had_never_been() -> None:
    book, without = Book(), Book()
    close_day(book, DAY, [opened(1, 100), Voided(1), opened(2, 100)], {BTC: Decimal(90)}, COSTS)
    close_day(without, DAY, [opened(2, 100)], {BTC: Decimal(90)}, COSTS)
    assert book == without
    close_day(book, DAY + timedelta(1), [opened(3, 100, "long", ETH)], {ETH: Decimal(70)}, COSTS)
    before = copy.deepcopy(book)
    close_day(book, DAY + timedelta(2), [Voided(3)], {}, COSTS)
    assert book.closed.count == before.closed.count
    assert book.day_sum - before.day_sum == UNIT * 301 // 2000  # given back, over two units


def test_nothing_is_left_of_an_equity_that_is_ruined() -> None:
    book = Book()
    close_day(book, DAY, [opened(1, 1, "short")], {BTC: Decimal(5)}, FREE)
    day = close_day(book, DAY + timedelta(1), [opened(2, 100)], {BTC: Decimal(200)}, FREE)
    assert book.is_ruined
    assert (day.equity, day.drawdown) == (0, UNIT)


def test_an_end_of_what_has_ended_changes_nothing() -> None:
    book = Book()
    close_day(book, DAY, [opened(1, 100), left(1, 90), left(1, 50)], {}, FREE)
    assert book.closed.count == 1
    assert book.equity == UNIT * 9 // 10


Step = tuple[str, int, int, int]
"""What happens, to which position, at which price, and to how many quarters of it."""

EVENTS = st.lists(
    st.tuples(st.sampled_from(["open", "leave", "void"]), st.integers(0, 4), st.integers(1, 300), st.integers(1, 4)),
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(days=st.lists(st.tuples(EVENTS, st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=6))
def test_a_random_history_is_what_fractions_say(
    days: Sequence[tuple[list[tuple[str, int, int, int]], int, int]],
) -> None:
    """The plain computation keeps every unit's cash flows and values all of them each evening."""
    book, plain = Book(), Plain()
    number = 0
    for index, (steps, btc, eth) in enumerate(days):
        events: list[Event] = []
        alive = set(book.positions)
        for kind, which, price, part in steps:
            if kind == "open":
                number += 1
                alive.add(number)
                events.append(opened(number, price, "long" if price % 2 else "short", ETH if which % 2 else BTC))
            elif alive:
                chosen = sorted(alive)[which % len(alive)]
                events.append(
                    Voided(chosen) if kind == "void" and price < 60 else left(chosen, price, UNIT * part // 4)
                )
                if isinstance(events[-1], Voided):
                    alive.discard(chosen)
        marks = {BTC: Decimal(btc), ETH: Decimal(eth)}
        day = close_day(book, DAY + timedelta(index), events, marks, COSTS)
        expected = plain.close(events, marks)
        assert (day.result is None) == (expected is None)
        if expected is not None and day.result is not None:
            assert abs(Fraction(day.result, UNIT) - expected) < Fraction(1, 10**9)
            assert UNIT + day.realised + day.open_result == day.equity
            assert 0 <= day.drawdown <= UNIT


class Plain:
    """The same rules, written without any running total."""

    def __init__(self) -> None:
        self.units: dict[int, tuple[Opened, Fraction]] = {}
        self.worth: dict[int, Fraction] = {}  # of each unit ever: what it has made so far, at the last evening
        self.made: dict[int, Fraction] = {}  # by legs, less costs
        self.peak = Fraction(0)

    def close(self, events: Sequence[Event], marks: dict[tuple[str, str], Decimal]) -> Fraction | None:
        if not events and not self.units:
            return None
        yesterday = sum(self.worth.values())
        voided = {e.position_id for e in events if isinstance(e, Voided)} - self.units.keys()
        events = [e for e in events if e.position_id not in voided]
        if not events and not self.units:
            return None
        self._peak()
        for event in events:
            if isinstance(event, Opened):
                self.units[event.position_id] = event, Fraction(1)
                self.made[event.position_id] = -Fraction(1, 1000)
            elif event.position_id in self.units:
                self._end(event)
            self._peak()
        self.worth = dict(self.made)
        for key, (unit, part) in self.units.items():
            self.worth[key] += part * self._gain(unit, marks[unit.instrument])
        today = sum(self.worth.values())
        return (today - yesterday) / self.peak if self.peak else Fraction(0)

    def _end(self, event: Event) -> None:
        unit, part = self.units[event.position_id]
        if isinstance(event, Left):
            taken = min(Fraction(event.part, UNIT), part)
            self.made[event.position_id] += taken * (self._gain(unit, event.exit_price) - Fraction(1, 1000))
            self.units[event.position_id] = unit, part - taken
        if isinstance(event, Voided) or self.units[event.position_id][1] == 0:
            del self.units[event.position_id]
        if isinstance(event, Voided):
            self.made[event.position_id] = Fraction(0)

    def _peak(self) -> None:
        self.peak = max(self.peak, sum((part for _, part in self.units.values()), Fraction(0)))

    @staticmethod
    def _gain(unit: Opened, price: Decimal) -> Fraction:
        change = Fraction(price) / Fraction(unit.entry) - 1
        return change if unit.side == "long" else max(-change, Fraction(-1))
