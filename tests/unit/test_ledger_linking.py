"""Linking signals to positions: the oldest first, in parts that add up, whatever the pages and restarts."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.ledger.linking import Linker, keys_wanted
from actors.records.entries import AnyEntry, EndEntry, RetractionEntry, SignalEntry, decode, encode
from actors.records.returns import UNIT
from db.ledger import PositionRow
from db.signals.log_source import FeedEntry
from tests.support.ledger_factory import WHO, close, item, retraction


class Stored:
    """What SQL keeps between pages: positions, and the log."""

    def __init__(self) -> None:
        self.positions: dict[UUID, PositionRow] = {}
        self.log: list[AnyEntry] = []

    def page(self, items: Sequence[FeedEntry]) -> None:
        """Apply a page as the owner does: with what SQL finds for it, and nothing else in memory."""
        positions: dict[UUID, PositionRow] = {}
        for key, count in keys_wanted(items).items():
            found = [each for each in self.positions.values() if each.key == key and each.open_part]
            found.sort(key=lambda each: (not each.is_filled, each.opened_seq))
            positions |= {each.signal_id: each for each in found[:count]}
        retracted = {each.signal_id for each in items if each.retracted_at is not None}
        links = {
            entry.signal_id: (entry.closes, entry.part)
            for entry in self.log
            if isinstance(entry, SignalEntry) and entry.signal_id in retracted and entry.closes is not None
        }
        for signal_id in {*retracted, *(position for position, _ in links.values())}:
            if signal_id in self.positions:
                positions[signal_id] = self.positions[signal_id]
        linker = Linker([copy.deepcopy(each) for each in positions.values()], links)
        for each in items:
            linker.take(each)
        self.log += linker.entries
        before = sum(bool(each.open_part) for each in self.positions.values())
        self.positions |= linker.changed
        for signal_id in linker.removed:
            self.positions.pop(signal_id, None)
        assert sum(bool(each.open_part) for each in self.positions.values()) - before == linker.opened


def linked(items: Sequence[FeedEntry]) -> list[AnyEntry]:
    stored = Stored()
    stored.page(items)
    return stored.log


def closes_of(entries: Sequence[AnyEntry]) -> list[tuple[int | None, int]]:
    """Return what each close took: the number of the signal that it closes, and the part."""
    return [
        (None if each.closes is None else each.closes.int - 1000, each.part)
        for each in entries
        if isinstance(each, SignalEntry) and each.event_type == "CLOSE_SIGNAL"
    ]


def test_a_close_takes_the_oldest_position_of_its_key() -> None:
    found = linked(
        [item(1), item(2), item(3, direction="short"), item(4, instrument="ETH"), close(5), close(6), close(7)]
    )
    assert closes_of(found) == [(1, UNIT), (2, UNIT), (None, 0)]
    assert [each.opens for each in found if isinstance(each, SignalEntry)] == [True] * 4 + [False] * 3


def test_parts_of_what_is_left_add_up_to_the_whole() -> None:
    third = Decimal("0.333333")
    found = linked([item(1), close(2, close_fraction=third), close(3, close_fraction=third), close(4), close(5)])
    parts = [part for _, part in closes_of(found)]
    assert parts == [333333000000, 222222111111, 444444888889, 0]
    assert sum(parts) == UNIT


@pytest.mark.parametrize(
    "changes",
    [
        {"is_ranked": False},
        {"direction": None},
        {"declared_price": None},
        {"declared_price": Decimal(0)},
        {"declared_price": Decimal("Infinity")},
        {"declared_price": Decimal("NaN")},
        {"asset_type": "prediction", "declared_price": Decimal(1)},
    ],
)
def test_a_signal_that_cannot_open_a_position_counts_as_a_signal(changes: dict[str, object]) -> None:
    [entry] = linked([item(1, **changes)])
    assert isinstance(entry, SignalEntry)
    assert not entry.opens
    assert decode(encode(entry)) == entry


def test_a_prediction_and_an_option_can_be_closed_at_nothing_and_a_share_cannot() -> None:
    for asset_type, price in (("prediction", "0.5"), ("option", "3"), ("stock", "100")):
        opened = item(1, asset_type=asset_type, declared_price=Decimal(price))
        found = linked([opened, close(2, asset_type=asset_type, declared_price=Decimal(0))])
        assert closes_of(found) == [(None, 0) if asset_type == "stock" else (1, UNIT)]


def test_a_close_without_a_position_cancels_the_oldest_order() -> None:
    order = {"order_type": "limit"}
    found = linked([item(1, **order), item(2), close(3), close(4), close(5)])
    assert closes_of(found) == [(2, UNIT), (None, 0), (None, 0)]
    [end] = [each for each in found if isinstance(each, EndEntry)]
    assert (end.position.int, end.note, end.part, end.price) == (1001, "cancelled", UNIT, None)


def test_a_retracted_opening_was_never_there_and_a_retracted_close_gives_its_part_back() -> None:
    first, second = item(1), item(2)
    half = close(3, close_fraction=Decimal("0.5"))
    found = linked([first, second, half, retraction(4, half), close(5), retraction(6, second), close(7)])
    assert closes_of(found) == [(1, UNIT // 2), (1, UNIT), (None, 0)]
    assert sum(isinstance(each, RetractionEntry) for each in found) == 2


def test_a_position_that_comes_back_is_the_oldest_again() -> None:
    whole = close(3)
    found = linked([item(1), item(2), whole, retraction(4, whole), close(5), close(6)])
    assert closes_of(found) == [(1, UNIT), (1, UNIT), (2, UNIT)]


def test_a_liquidation_price_on_the_side_of_gains_is_none() -> None:
    for side, price, is_kept in (("long", 90, True), ("long", 120, False), ("short", 120, True), ("short", 90, False)):
        stored = Stored()
        stored.page([item(1, direction=side, liquidation_price=Decimal(price))])
        [position] = stored.positions.values()
        assert (position.liquidation_price is not None) == is_kept


def test_targets_close_equal_parts_and_the_last_one_all_that_is_left() -> None:
    stored = Stored()
    stored.page([item(1, take_profit=(Decimal(110), Decimal(120), Decimal(130)))])
    [position] = stored.positions.values()
    assert position.target_part == 333333333334


def history(seed: int, count: int) -> list[FeedEntry]:
    """Return a random history of one provider: few keys, so that closes find something."""
    rng = random.Random(seed)
    items: list[FeedEntry] = []
    recent: list[FeedEntry] = []
    for number in range(1, count + 1):
        if recent and rng.random() < 0.2:
            items.append(retraction(number, recent.pop(rng.randrange(len(recent)))))
            continue
        changes = {
            "provider_id": rng.choice([WHO, UUID(int=8)]),
            "direction": rng.choice(["long", "long", "short"]),
            "order_type": rng.choice([None, None, "limit"]),
        }
        if rng.random() < 0.5:
            changes["close_fraction"] = rng.choice([None, Decimal("0.5"), Decimal("0.333333")])
            items.append(close(number, **changes))
        else:
            items.append(item(number, **changes))
        recent = [*recent[-5:], items[-1]]
    return items


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 12), min_size=1, max_size=30))
def test_any_division_into_pages_gives_the_same_log(seed: int, sizes: list[int]) -> None:
    items = history(seed, 60)
    whole, pages = Stored(), Stored()
    whole.page(copy.deepcopy(items))
    rest = items
    for size in [*sizes, *([7] * len(items))]:
        pages.page(rest[:size])
        rest = rest[size:]
    assert [encode(each) for each in whole.log] == [encode(each) for each in pages.log]
    assert {key: (each.open_part, each.ended_at) for key, each in whole.positions.items()} == {
        key: (each.open_part, each.ended_at) for key, each in pages.positions.items()
    }


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_no_position_is_closed_by_more_than_all_of_it(seed: int) -> None:
    stored = Stored()
    stored.page(history(seed, 80))
    retracted = {each.signal_id for each in stored.log if isinstance(each, RetractionEntry)}
    closed: dict[UUID, int] = {}
    for each in stored.log:
        if isinstance(each, SignalEntry) and each.closes is not None and each.signal_id not in retracted:
            closed[each.closes] = closed.get(each.closes, 0) + each.part
    for signal_id, part in closed.items():
        if signal_id not in retracted:
            assert part == UNIT - stored.positions[signal_id].open_part


def test_an_order_waits_a_day_where_it_does_not_say_how_long() -> None:
    [entry] = linked([item(1, order_type="limit")])
    assert isinstance(entry, SignalEntry)
    assert entry.valid_until == entry.received_at + timedelta(hours=24)
