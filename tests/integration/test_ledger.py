"""The owner of the log over a real Postgres and Valkey: the feed, the market's minutes and hours, in one order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from actors.ledger.checkpoints import Checkpoints
from actors.ledger.ends import opened_at
from actors.ledger.hour_step import mark_entries
from actors.ledger.log_key import LogRefused
from actors.ledger.splits import split_price
from actors.lens.market.quotes import HOURS_PAGE, Bar, PricedInstrument, VenueQuote
from actors.records.entries import (
    AnyEntry,
    EndEntry,
    FillEntry,
    MarkEntry,
    ResolutionEntry,
    RetractionEntry,
    SignalEntry,
    SplitEntry,
    encode,
)
from actors.records.returns import UNIT
from config.settings import Settings
from tests.support.ledger_factory import NOON, ToldMarket, ledger_world, of

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


async def test_signals_stand_in_the_order_of_the_feed_with_what_they_open_and_close(
    settings: Settings, tmp_path: Path
) -> None:
    async with ledger_world(settings, tmp_path) as world:
        first = await world.publish(NOON, price=Decimal(100))
        await world.publish(NOON + MINUTE, direction=None)
        half = await world.publish(NOON + 2 * MINUTE, opens=False, price=Decimal(110), close_fraction=Decimal("0.5"))
        found = of(SignalEntry, await world.go_on(NOON + 3 * MINUTE))
        assert [each.feed_seq for each in found] == [1, 2, 3]
        assert (found[0].signal_id, found[0].opens) == (first, True)
        assert (found[2].closes, found[2].part, found[2].fraction) == (first, UNIT // 2, Decimal("0.5"))
        await world.start()
        await world.retract(half, NOON + 2 * MINUTE + timedelta(seconds=5))
        await world.publish(NOON + 3 * MINUTE, opens=False, price=Decimal(110))
        found = await world.go_on(NOON + 4 * MINUTE)
        assert [type(each) for each in found[3:]] == [RetractionEntry, SignalEntry]
        assert found[4].part == UNIT


async def test_a_stop_ends_a_position_by_the_candle_after_the_minute_of_its_receipt(
    settings: Settings, tmp_path: Path
) -> None:
    async with ledger_world(settings, tmp_path) as world:
        moves = {NOON + MINUTE: (100, 100, 80, 100), NOON + 4 * MINUTE: (89, 95, 88, 95)}
        world.market.tell("BTC", moves, since=NOON, until=NOON + HOUR)
        position = await world.publish(NOON + timedelta(seconds=70), price=Decimal(100), stop_loss=Decimal(90))
        assert of(EndEntry, await world.go_on(NOON + 4 * MINUTE + timedelta(seconds=5))) == []
        [end] = of(EndEntry, await world.go_on(NOON + 5 * MINUTE + timedelta(seconds=5)))
        assert (end.position, end.reason, end.price) == (position, "stop_loss", Decimal(89))
        assert (end.at, end.part) == (NOON + 4 * MINUTE, UNIT)
        await world.publish(NOON + 6 * MINUTE, opens=False, price=Decimal(90))
        assert of(SignalEntry, await world.go_on(NOON + 7 * MINUTE))[-1].closes is None


async def test_what_the_market_did_before_a_close_comes_first_however_late_both_are_read(
    settings: Settings, tmp_path: Path
) -> None:
    """The kind: after an outage the close would be taken, though the stop was hit before it."""
    async with ledger_world(settings, tmp_path) as world:
        world.market.tell("BTC", {NOON + 4 * MINUTE: (95, 95, 85, 95)}, since=NOON, until=NOON + 2 * HOUR)
        world.market.now = NOON + 50 * MINUTE
        stopped = await world.publish(NOON, price=Decimal(100), stop_loss=Decimal(90))
        other = await world.publish(NOON, price=Decimal(100))
        await world.publish(NOON + 10 * MINUTE, opens=False, price=Decimal(95))
        found = await world.go_on()
        assert [(each.position, each.at) for each in of(EndEntry, found)] == [(stopped, NOON + 4 * MINUTE)]
        assert of(SignalEntry, found)[-1].closes == other


async def test_a_source_that_does_not_answer_holds_no_close_up(settings: Settings, tmp_path: Path) -> None:
    async with ledger_world(settings, tmp_path) as world:
        world.market.failing.add("BTC")
        position = await world.publish(NOON, price=Decimal(100), stop_loss=Decimal(90))
        await world.publish(NOON + 10 * MINUTE, opens=False, price=Decimal(95))
        found = await world.go_on(NOON + 11 * MINUTE)
        assert of(SignalEntry, found)[-1].closes == position


async def test_a_limit_order_is_filled_at_its_limit_or_lapses(settings: Settings, tmp_path: Path) -> None:
    async with ledger_world(settings, tmp_path) as world:
        moves = {NOON + 5 * MINUTE: (100, 100, 94, 96), NOON + 6 * MINUTE: (96, 111, 96, 110)}
        world.market.tell("BTC", moves, since=NOON, until=NOON + 48 * HOUR)
        order = {"order_type": "limit", "price": Decimal(95)}
        filled = await world.publish(NOON, take_profit=[110], **order)
        await world.publish(NOON, symbol="ETH", valid_until=NOON + 10 * MINUTE, **order)
        found = await world.go_on(NOON + 7 * MINUTE + timedelta(seconds=5))
        assert [(each.position, each.price, each.at) for each in of(FillEntry, found)] == [
            (filled, Decimal(95), NOON + 5 * MINUTE)
        ]
        assert [(each.position, each.reason, each.price) for each in of(EndEntry, found)] == [
            (filled, "take_profit", Decimal(110))
        ]
        [lapsed] = of(EndEntry, await world.go_on(NOON + 30 * MINUTE))[1:]
        assert (lapsed.note, lapsed.reason, lapsed.at) == ("lapsed", None, NOON + 10 * MINUTE)


async def test_hours_are_marked_while_something_is_open_and_before_what_comes_after_them(
    settings: Settings, tmp_path: Path
) -> None:
    async with ledger_world(settings, tmp_path) as world:
        await world.publish(NOON + 30 * MINUTE, price=Decimal(100))
        assert of(MarkEntry, await world.go_on(NOON + 31 * MINUTE)) == []
        await world.publish(NOON + HOUR + MINUTE, opens=False, price=Decimal(100))
        found = await world.go_on(NOON + HOUR + 2 * MINUTE)
        assert [type(each) for each in found] == [SignalEntry, MarkEntry, SignalEntry]
        assert found[1] == MarkEntry(NOON + HOUR, {"crypto": {"BTC": Decimal(100)}})
        # Nothing is open: the next mark is that of the day's end, and then there is none.
        found = await world.go_on(NOON + 60 * HOUR)
        assert [each.hour for each in of(MarkEntry, found)] == [NOON + HOUR, NOON + 12 * HOUR]
        await world.publish(NOON + 70 * HOUR + MINUTE, price=Decimal(100))
        found = await world.go_on(NOON + 71 * HOUR + MINUTE)
        assert [each.hour for each in of(MarkEntry, found)[2:]] == [NOON + 71 * HOUR]


async def test_missed_hours_are_marked_by_the_candles_of_their_first_minutes(
    settings: Settings, tmp_path: Path
) -> None:
    async with ledger_world(settings, tmp_path) as world:
        moves = {NOON + each * HOUR: (100 + each, 300, 90, 200) for each in range(6)}
        world.market.tell("BTC", moves, since=NOON - HOUR, until=NOON + 48 * HOUR)
        await world.publish(NOON + MINUTE, price=Decimal(100))
        await world.go_on(NOON + 2 * MINUTE)
        world.market.now = NOON + 5 * HOUR + 30 * MINUTE
        await world.start()
        marks = of(MarkEntry, await world.go_on())
        assert [(each.hour, each.mids["crypto"]["BTC"]) for each in marks] == [
            (NOON + each * HOUR, Decimal(100 + each)) for each in range(1, 6)
        ]


async def test_a_quote_of_a_market_that_has_closed_is_no_mid(settings: Settings, tmp_path: Path) -> None:
    async with ledger_world(settings, tmp_path) as world:
        await world.publish(NOON, price=Decimal(100))
        await world.publish(NOON, symbol="ETH", price=Decimal(100))
        old = Decimal(7)
        world.market.quotes["BTC"] = VenueQuote(old, old, old, NOON - HOUR, "told")
        [mark] = of(MarkEntry, await world.go_on(NOON + HOUR + MINUTE))
        assert mark.mids == {"crypto": {"ETH": Decimal(100)}}


async def test_a_late_signal_belongs_to_the_present_day_and_its_minutes_are_looked_at(
    settings: Settings, tmp_path: Path
) -> None:
    async with ledger_world(settings, tmp_path) as world:
        world.market.tell("BTC", {NOON + 3 * MINUTE: (100, 100, 80, 90)}, since=NOON, until=NOON + 9 * HOUR)
        await world.publish(NOON + MINUTE, direction="short", price=Decimal(100))
        await world.go_on(NOON + 2 * HOUR + 30 * MINUTE)
        late = await world.publish(NOON + MINUTE, price=Decimal(100), stop_loss=Decimal(90))
        found = await world.go_on(NOON + 2 * HOUR + 31 * MINUTE)
        assert [type(each) for each in found] == [SignalEntry, MarkEntry, MarkEntry, SignalEntry, EndEntry]
        assert [(each.position, each.at) for each in of(EndEntry, found)] == [(late, NOON + 3 * MINUTE)]


async def test_a_short_is_closed_at_twice_its_entry(settings: Settings, tmp_path: Path) -> None:
    async with ledger_world(settings, tmp_path) as world:
        world.market.tell("BTC", {NOON + 3 * MINUTE: (100, 250, 100, 100)}, since=NOON, until=NOON + HOUR)
        await world.publish(NOON, direction="short", price=Decimal(100), record_price=Decimal(99))
        [end] = of(EndEntry, await world.go_on(NOON + 5 * MINUTE))
        assert (end.reason, end.price) == ("floor", Decimal(198))


@pytest.mark.parametrize(("day", "utc_hour"), [(date(2026, 3, 6), 21), (date(2026, 3, 9), 20)])
async def test_an_option_expires_at_four_in_new_york_at_its_intrinsic_value(
    settings: Settings, tmp_path: Path, day: date, utc_hour: int
) -> None:
    async with ledger_world(settings, tmp_path) as world:
        end = datetime(day.year, day.month, day.day, utc_hour, tzinfo=NOON.tzinfo)
        option = {"asset_type": "option", "symbol": f"AAPL 95C {day.month}/{day.day}", "expiry": day.isoformat()}
        world.market.now = end - HOUR
        opened = await world.publish(end - 90 * MINUTE, price=Decimal(3), **option)
        assert of(EndEntry, await world.go_on(end - MINUTE)) == []
        found = await world.go_on(end + MINUTE)
        [expired] = of(EndEntry, found)
        assert (expired.position, expired.reason, expired.price, expired.at) == (opened, "expiry", Decimal(5), end)
        assert isinstance(found[-1], MarkEntry)  # of the hour that it ended at


async def test_predictions_are_resolved_voided_or_awaited(settings: Settings, tmp_path: Path) -> None:
    async with ledger_world(settings, tmp_path) as world:
        day = {"asset_data": {"resolution_date": "2026-11-03"}, "asset_type": "prediction", "price": Decimal("0.5")}
        ids = [await world.publish(NOON, symbol=name, **day) for name in ("came true", "is void", "is awaited")]
        assert of(EndEntry, await world.go_on(NOON + HOUR + MINUTE)) == []
        world.market.resolutions |= {"came true": "yes", "is void": "void"}
        found = await world.go_on(NOON + 2 * HOUR + MINUTE)
        assert [(each.instrument, each.result) for each in of(ResolutionEntry, found)] == [
            ("came true", "yes"),
            ("is void", "void"),
        ]
        assert [(each.position, each.reason, each.price, each.note) for each in of(EndEntry, found)] == [
            (ids[0], "resolution", Decimal(1), None),
            (ids[1], "resolution", None, "void"),
        ]
        over = datetime(2026, 11, 11, tzinfo=NOON.tzinfo)
        assert len(of(EndEntry, await world.go_on(over - MINUTE))) == 2
        awaited = of(EndEntry, await world.go_on(over + MINUTE))[2]
        assert (awaited.position, awaited.reason, awaited.note) == (ids[2], None, "awaiting")


async def test_an_instrument_without_a_price_for_thirty_days_is_delisted(settings: Settings, tmp_path: Path) -> None:
    async with ledger_world(settings, tmp_path) as world:
        await world.publish(NOON, price=Decimal(100))
        await world.go_on(NOON + HOUR + MINUTE)
        world.market.absent.add("BTC")
        assert of(EndEntry, await world.go_on(NOON + HOUR + timedelta(days=30) - MINUTE)) == []
        [end] = of(EndEntry, await world.go_on(NOON + HOUR + timedelta(days=30) + MINUTE))
        assert (end.reason, end.price) == ("delisted", Decimal(100))


async def test_a_split_converts_what_was_opened_before_it_once(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "splits.csv"
    file.write_text("date,asset_type,symbol,new,old\n2026-11-03,stock,NVDA,3,1\n2026-11-03,stock,NVDA,zero,1\n")
    async with ledger_world(settings, tmp_path, splits_file=file) as world:
        stock = {"asset_type": "stock", "symbol": "NVDA", "price": Decimal(100)}
        day = datetime(2026, 11, 3, 5, tzinfo=NOON.tzinfo)  # midnight in New York
        moves = {day + 10 * MINUTE: (35, 35, 29, 33)}
        world.market.tell("NVDA", moves, since=NOON, until=NOON + 48 * HOUR)
        before = await world.publish(NOON, stop_loss=Decimal(90), **stock)
        await world.publish(day + MINUTE, stop_loss=Decimal(20), **stock)
        found = await world.go_on(day + 20 * MINUTE)
        assert of(SplitEntry, found) == [SplitEntry("stock", "NVDA", 3, 1, day)]
        assert [(each.position, each.price) for each in of(EndEntry, found)] == [(before, Decimal(30))]
        await world.start()
        assert len(of(SplitEntry, await world.go_on(day + 3 * HOUR))) == 1
    assert split_price(Decimal(100), 3, 1) == Decimal("33.33333333333333333333333333")


async def test_a_mark_of_many_instruments_is_divided_over_entries() -> None:
    mids = {("crypto", f"{number:06}🚀"): Decimal("12345.678901") for number in range(5000)}
    entries = mark_entries(NOON, mids)  # type: ignore[arg-type]
    assert len(entries) > 1
    assert [each.last for each in entries] == [False] * (len(entries) - 1) + [True]
    assert max(len(encode(each)) for each in entries) <= 65_535
    assert {key for each in entries for key in each.mids["crypto"]} == {name for _, name in mids}


async def test_an_item_that_cannot_be_an_entry_is_left_out_alone(settings: Settings, tmp_path: Path) -> None:
    async with ledger_world(settings, tmp_path) as world:
        await world.publish(NOON)
        await world.publish(NOON, reasoning="bad", liquidation_price=Decimal("NaN"), way_in="redis")
        await world.publish(NOON)
        found = of(SignalEntry, await world.go_on(NOON + MINUTE))
        assert [each.feed_seq for each in found] == [1, 3]


async def test_an_owner_that_was_replaced_appends_nothing(settings: Settings, tmp_path: Path) -> None:
    async with ledger_world(settings, tmp_path) as world:
        await world.publish(NOON)
        await world.go_on(NOON + MINUTE)
        former = world.owner
        world.actors.behaviours.pop("ledger")
        await world.start()
        await world.publish(NOON + MINUTE)
        with pytest.raises(Exception, match="epoch"):
            await former.keeper.catch_up()
        assert len(of(SignalEntry, await world.go_on(NOON + 2 * MINUTE))) == 2


class HourlyMarket(ToldMarket):
    """A market that also has candles of hours."""

    async def hours(self, instrument: PricedInstrument, since: datetime) -> Sequence[Bar] | None:
        """See HourlyPrices."""
        self._note("hours", instrument)
        count = min(HOURS_PAGE, int((self.now - since) / HOUR))
        return [self._hour(instrument.symbol, since + place * HOUR) for place in range(count)]

    def _hour(self, symbol: str, start: datetime) -> Bar:
        found = [each for each in self.bars[symbol] if start <= opened_at(each) < start + HOUR]
        low, high = min(each.low for each in found), max(each.high for each in found)
        return Bar(found[0].opened_ms, found[0].open, high, low, found[-1].close, Decimal(1))


@pytest.mark.parametrize("kind", [ToldMarket, HourlyMarket])
async def test_ninety_days_of_the_past_are_appended_in_the_order_of_their_time(
    settings: Settings, tmp_path: Path, kind: type[ToldMarket]
) -> None:
    """The kind: the log's time goes on to the present between two batches, and the second one is late."""
    async with ledger_world(settings, tmp_path) as world:
        days = 12
        start = NOON - timedelta(days=days)
        world.market = kind(NOON)
        moves = {start + each * HOUR + 7 * MINUTE: (100, 100, 89, 95) for each in range(0, 24 * days, 40)}
        world.market.tell("BTC", moves, since=start - HOUR, until=NOON + HOUR)
        await world.start()
        past = {"way_in": "backfill", "stop_loss": Decimal(90)}
        for place in range(4):
            await world.publish(start + place * timedelta(days=3) + 30 * MINUTE, price=Decimal(100), **past)
            await world.publish(start + place * timedelta(days=3) + HOUR, price=Decimal(100), way_in="backfill")
            await world.go_on()
            if place == 1:
                await world.start()
        found = await world.log()
        assert [each.received_at for each in of(SignalEntry, found)] == sorted(
            each.received_at for each in of(SignalEntry, found)
        )
        world.owner.keeper._past_until = 0.0  # no more of the past is to come
        found = await world.go_on()
        marks = of(MarkEntry, found)
        assert [each.hour for each in marks] == [start + each * HOUR for each in range(1, 24 * days)]
        times = [_time_of(each) for each in found]
        assert times == sorted(times)
        assert [each.at for each in of(EndEntry, found)] == [
            start + each * HOUR + 7 * MINUTE for each in (40, 80, 160, 240)
        ]
        questions = Counter(question for question, _ in world.market.asked)
        assert questions["minutes"] < (100 if kind is ToldMarket else 30)


def _time_of(entry: AnyEntry) -> datetime:
    if isinstance(entry, SignalEntry):
        return entry.received_at
    return entry.hour if isinstance(entry, MarkEntry) else entry.at + MINUTE


async def test_an_owner_that_is_refused_at_its_start_is_stopped(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: Checkpoints) -> None:
        raise LogRefused("another key")

    monkeypatch.setattr(Checkpoints, "start", refuse)
    with pytest.raises(LogRefused, match="another key"):
        async with ledger_world(settings, tmp_path):
            pass
