"""Test the daily curve against a plain computation in fractions, over random histories."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.records.book import Bets, Book
from actors.records.curve import Divided, Event, Left, Opened, Reopened, Voided, close_day, with_open_bets
from actors.records.returns import UNIT
from schemas._vocabulary import Side

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = date(2026, 1, 1)
BTC, ETH = ("crypto", "BTC"), ("crypto", "ETH")
FREE = {"crypto": Decimal(0)}
COSTS = {"crypto": Decimal(10)}


def opened(number: int, entry: int, side: Side = "long", instrument: tuple[str, str] = BTC) -> Opened:
    return Opened(number, instrument, side, Decimal(entry), AT)


def left(number: int, price: int, part: int = UNIT, closed_by: int | None = None) -> Left:
    return Left(number, part, Decimal(price), AT, closed_by)


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


def test_a_close_that_is_retracted_had_not_been_said_on_whatever_day() -> None:
    for day_of_retraction in (0, 1):
        book, without = Book(), Book()
        said = [opened(1, 100), opened(2, 100), left(1, 120, closed_by=9)]
        days: list[list[Event]] = [[*said], []]
        days[day_of_retraction].append(Reopened(9))
        for index, events in enumerate(days):
            close_day(book, DAY + timedelta(index), events, {BTC: Decimal(110 - 20 * index)}, COSTS)
            close_day(
                without, DAY + timedelta(index), said[:2] if not index else [], {BTC: Decimal(110 - 20 * index)}, COSTS
            )
        assert (book.bets, book.closed, book.peak_units, book.units) == (
            without.bets,
            without.closed,
            2 * UNIT,
            2 * UNIT,
        )
        assert sum(each.realised - each.costs + each.value for each in book.positions.values()) == sum(
            each.realised - each.costs + each.value for each in without.positions.values()
        )
        if day_of_retraction == 0:
            assert book.equity == without.equity


def test_an_end_of_many_legs_is_one_bet_and_a_retracted_leg_of_it_revives_it() -> None:
    book = Book()
    legs = [left(1, 120, UNIT // 2, 8), left(1, 80, UNIT // 2, 9)]
    close_day(book, DAY, [opened(1, 100), *legs], {}, FREE)
    assert (book.closed, book.holding) == (Bets(1), {0: 1})
    close_day(book, DAY + timedelta(1), [Reopened(8)], {BTC: Decimal(100)}, FREE)
    assert (book.closed, book.holding, book.units) == (Bets(), {}, UNIT // 2)
    assert book.positions[1].realised == -UNIT // 10
    close_day(book, DAY + timedelta(2), [left(1, 100, UNIT // 2)], {}, FREE)
    assert book.closed == Bets(1, 0, 1, 0, -UNIT // 10)


def test_a_split_changes_no_return() -> None:
    book = Book()
    apple = ("stock", "AAPL")
    free = {"stock": Decimal(0)}
    close_day(book, DAY, [opened(1, 100, instrument=apple)], {apple: Decimal(110)}, free)
    day = close_day(book, DAY + timedelta(1), [Divided(apple, 4, 1)], {apple: Decimal("27.5")}, free)
    assert (day.result, book.positions[1].entry) == (0, Decimal(25))


Step = tuple[str, int, int, int]
"""What happens, to which position, at which price, and to how many quarters of it."""

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["open", "leave", "leave", "void", "reopen"]),
        st.integers(0, 4),
        st.integers(1, 300),
        st.integers(1, 4),
    ),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(days=st.lists(st.tuples(EVENTS, st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=6))
def test_a_random_history_is_what_fractions_say(
    days: Sequence[tuple[list[tuple[str, int, int, int]], int, int]],
) -> None:
    """The plain computation goes through the whole history anew each evening, without what was taken back."""
    book, plain = Book(), Plain()
    number = 0
    closes: list[int] = []
    for index, (steps, btc, eth) in enumerate(days):
        events: list[Event] = []
        alive = set(plain.units) | {each.position_id for each in plain.history if isinstance(each, Opened)}
        alive -= plain.voided
        for kind, which, price, part in steps:
            number += 1
            if kind == "open":
                alive.add(number)
                events.append(opened(number, price, "long" if price % 2 else "short", ETH if which % 2 else BTC))
            elif kind == "reopen" and closes:
                events.append(Reopened(closes.pop(which % len(closes))))
            elif alive:
                chosen = sorted(alive)[which % len(alive)]
                if kind == "void" and price < 90:
                    events.append(Voided(chosen))
                    alive.discard(chosen)
                else:
                    events.append(left(chosen, price, UNIT * part // 4, number))
                    closes.append(number)
        marks = {BTC: Decimal(btc), ETH: Decimal(eth)}
        day = close_day(book, DAY + timedelta(index), events, marks, COSTS)
        expected = plain.close(events, marks)
        if day.result is None:
            assert expected == 0
        else:
            assert abs(Fraction(day.result, UNIT) - expected) < Fraction(1, 10**9)
            assert UNIT + day.realised + day.open_result == day.equity
            assert 0 <= day.drawdown <= UNIT
        assert book.units == sum(position.open_part for position in book.positions.values())
        assert set(book.positions) == set(plain.units)
        bets = [with_open_bets(book, marks)]
        assert sum(each.count for each in bets) == book.closed.count + len(book.bets)


class Plain:
    """The same rules, written without any running total."""

    def __init__(self) -> None:
        self.history: list[Event] = []
        self.voided: set[object] = set()
        self.taken_back: set[object] = set()
        self.parts: dict[object, Fraction] = {}  # that the closes took
        self.units: dict[object, tuple[Opened, Fraction]] = {}
        self.peak = Fraction(0)  # up to the last evening
        self.counted = Fraction(0)  # what all units had made at the last evening

    def close(self, events: Sequence[Event], marks: dict[tuple[str, str], Decimal]) -> Fraction:
        made, peak = self._replay()
        for event in events:
            self.history.append(event)
            if isinstance(event, Voided):
                self.voided.add(event.position_id)
            elif isinstance(event, Reopened):
                self.taken_back.add(event.closed_by)
            elif isinstance(event, Left):
                open_part = self.units[event.position_id][1] if event.position_id in self.units else Fraction(0)
                self.parts[event.closed_by] = min(Fraction(event.part, UNIT), open_part)
            made, peak = self._replay()
        worth = made + sum(part * self._gain(unit, marks[unit.instrument]) for unit, part in self.units.values())
        gain, self.counted, self.peak = worth - self.counted, worth, peak
        return gain / peak if peak else gain

    def _replay(self) -> tuple[Fraction, Fraction]:
        self.units, made, peak = {}, Fraction(0), self.peak
        for event in self.history:
            if isinstance(event, Opened) and event.position_id not in self.voided:
                self.units[event.position_id] = event, Fraction(1)
                made -= Fraction(1, 1000)
            elif isinstance(event, Left) and event.closed_by not in self.taken_back:
                made += self._leave(event)
            peak = max(peak, sum((part for _, part in self.units.values()), Fraction(0)))
        return made, peak

    def _leave(self, event: Left) -> Fraction:
        if event.position_id not in self.units or not (taken := self.parts[event.closed_by]):
            return Fraction(0)
        unit, part = self.units[event.position_id]
        self.units[event.position_id] = unit, part - taken
        if part == taken:
            del self.units[event.position_id]
        return taken * (self._gain(unit, event.exit_price) - Fraction(1, 1000))

    @staticmethod
    def _gain(unit: Opened, price: Decimal) -> Fraction:
        change = Fraction(price) / Fraction(unit.entry) - 1
        return change if unit.side == "long" else max(-change, Fraction(-1))
