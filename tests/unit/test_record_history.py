"""Records from the log: by hand, and over random histories, kept with restarts or computed anew."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from actors.records.book import Bets, Book
from actors.records.entries import AnyEntry, EndEntry, FillEntry, MarkEntry, RetractionEntry, SignalEntry, SplitEntry
from actors.records.history import LastMids, RecordFold, ends_day
from actors.records.replay import replay
from actors.records.returns import UNIT
from actors.records.stored import decode_book, encode_book
from tests.support.log_histories import History

WHO = UUID(int=1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
COSTS = dict.fromkeys(["crypto", "stock", "prediction"], Decimal(10))
FREE = dict.fromkeys(["crypto", "stock", "prediction"], Decimal(0))


def opening(number: int, price: int | str | None, *, seconds: int = 0, **terms: object) -> SignalEntry:
    known: dict[str, object] = {
        "feed_seq": number,
        "signal_id": UUID(int=number),
        "provider_id": WHO,
        "asset_type": "crypto",
        "instrument": "BTC",
        "event_type": "OPEN_SIGNAL",
        "direction": "long",
        "declared_price": Decimal(100),
        "received_at": NOON + timedelta(seconds=seconds),
        "published_at": NOON + timedelta(seconds=seconds),
        "score": 70,
        "texts": "",
        "way_in": "lens",
        "record_price": None if price is None else Decimal(price),
        "opens": True,
    }
    return SignalEntry(**(known | terms))  # type: ignore[arg-type]


def closing(number: int, closes: int, price: int | str | None, *, part: int = UNIT, **terms: object) -> SignalEntry:
    known: dict[str, object] = {"opens": False, "closes": UUID(int=closes), "part": part, "event_type": "CLOSE_SIGNAL"}
    return opening(number, price, **(known | terms))  # type: ignore[arg-type]


def mark(price: int | str, at: datetime = MIDNIGHT) -> MarkEntry:
    return MarkEntry(at, {"crypto": {"BTC": Decimal(price)}})


def retraction(number: int) -> RetractionEntry:
    return RetractionEntry(100 + number, UUID(int=number), WHO, NOON)


def test_only_what_the_market_confirmed_enters_the_curve() -> None:
    done = replay([opening(1, 100), opening(2, None), closing(3, 2, 500), mark(110)], FREE)
    assert (done.book.opened, done.book.unverified) == (1, 1)
    assert [day.equity for day in done.days] == [UNIT * 11 // 10]


@pytest.mark.parametrize(("declared", "expected"), [(105, 105), (500, 110)])
def test_a_close_without_a_quote_ends_at_the_first_mark_after_it_or_at_its_price_if_that_is_worse(
    declared: int, expected: int
) -> None:
    said = closing(2, 1, None, declared_price=Decimal(declared))
    hour = NOON + timedelta(hours=2)
    other = MarkEntry(NOON, {"stock": {"AAPL": Decimal(1)}})
    done = replay([opening(1, 100), mark(300, NOON), said, other, mark(110, hour), mark(900)], FREE)
    assert done.book.closed == Bets(1, 1, 0, UNIT * (expected - 100) // 100, 0)


def test_a_close_without_a_quote_waits_over_days_and_can_be_retracted() -> None:
    said = [opening(1, 100), closing(2, 1, None, declared_price=Decimal(300)), MarkEntry(MIDNIGHT, {})]
    later = mark(150, MIDNIGHT + timedelta(hours=1))
    assert replay([*said, later], FREE).book.closed.gain_sum == UNIT // 2
    again = replay([*said, retraction(2), later], FREE).book
    assert (again.closed.count, [*again.positions]) == (0, [UUID(int=1)])


def test_a_limit_order_is_a_position_once_it_is_filled() -> None:
    order = opening(1, 100, order="limit")
    lapsed = EndEntry(UUID(int=1), WHO, None, 0, None, NOON, "lapsed")
    assert replay([order, mark(200), lapsed], FREE).days == ()
    filled = replay([order, FillEntry(UUID(int=1), WHO, Decimal(80), NOON), mark(100)], FREE)
    assert (filled.days[0].equity, filled.book.opened) == (UNIT * 5 // 4, 1)


def test_a_void_prediction_is_taken_back_and_a_retracted_signal_without_a_quote_no_longer_counts() -> None:
    rain = {"asset_type": "prediction", "instrument": "rain"}
    void = EndEntry(UUID(int=1), WHO, "resolution", 0, None, NOON, "void")
    day = MarkEntry(MIDNIGHT, {"prediction": {"rain": Decimal("0.25")}})
    done = replay([opening(1, "0.5", **rain), opening(2, None), retraction(2), day, void, mark(1)], COSTS)
    assert (done.book.opened, done.book.unverified, done.book.closed.count) == (0, 0, 0)
    assert done.days[0].result == -UNIT // 2 - UNIT // 1000


def test_a_split_changes_entry_and_the_last_mid_and_nothing_else() -> None:
    apple = {"asset_type": "stock", "instrument": "AAPL"}
    before = MarkEntry(NOON, {"stock": {"AAPL": Decimal(120)}})
    split = SplitEntry("stock", "AAPL", 3, 1, NOON)
    done = replay([opening(1, 100, **apple), before, split, MarkEntry(MIDNIGHT, {})], FREE)
    assert done.days[0].equity == UNIT * 12 // 10


def test_positions_without_a_mark_for_a_day_are_stale_and_count() -> None:
    days = [MarkEntry(MIDNIGHT + timedelta(days=number), {}) for number in range(2)]
    done = replay([opening(1, 100), mark(50, NOON), *days], FREE)
    assert ([day.equity for day in done.days], done.book.stale) == ([UNIT // 2, UNIT // 2], 1)
    assert [day.day for day in done.days] == [date(2026, 3, 1), date(2026, 3, 2)]


def test_holding_times_have_three_digits() -> None:
    done = replay([opening(1, 100), closing(2, 1, 100, seconds=12_345)], FREE)
    assert done.book.holding == {12_300: 1}


@pytest.mark.parametrize("seed", range(60))
def test_a_record_that_was_stored_and_loaded_at_any_time_equals_one_that_is_computed_anew(seed: int) -> None:
    """The kind: whatever is not in the stored book, and whatever depends on when it was stored."""
    chance = random.Random(seed)
    history = History(chance, WHO)
    book, mids, days = Book(), LastMids(), []
    said: list[AnyEntry] = []
    for _ in range(60):
        for entry in history.go_on(2):
            said.append(entry)
            fold = RecordFold(book, COSTS)
            fold.take(entry)
            if isinstance(entry, MarkEntry | SplitEntry):
                mids.take(entry)
            if isinstance(entry, MarkEntry) and ends_day(entry):
                days.append(fold.end_day(entry, mids.marks))
                mids.begin_day()
            if chance.random() < 0.3:
                before, book = book, decode_book(encode_book(book))
                assert book == before
    done = replay(said, COSTS)
    assert done.book == book
    assert [*done.days] == [day for day in days if day.result is not None]
    assert book.units == sum(position.open_part for position in book.positions.values())
    filled = {each.id for each in history.open.values() if each.is_filled}
    assert book.positions.keys() - {each.position_id for each in book.unquoted.values()} <= filled
