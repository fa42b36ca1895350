"""Read the log: turn a provider's entries, and the market's between them, into the events of its book."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal

from actors.records.book import Book, Instrument, Marks, PositionId, UnquotedClose, WaitingOrder
from actors.records.curve import Accounting, DayResult, Divided, Event, Left, Opened, Reopened, Voided, divided
from actors.records.entries import (
    AnyEntry,
    EndEntry,
    FillEntry,
    MarkEntry,
    ResolutionEntry,
    RetractionEntry,
    SignalEntry,
    SplitEntry,
)
from actors.records.returns import can_enter, can_exit
from schemas._vocabulary import Side


def ends_day(entry: AnyEntry) -> bool:
    """Return whether a UTC day ends with this entry."""
    return isinstance(entry, MarkEntry) and entry.last and entry.hour.hour == 0


def day_of(mark: MarkEntry) -> date:
    """Return the day that ends with this mark."""
    return mark.hour.date() - timedelta(days=1)


def worse_exit(side: Side, declared: Decimal, mid: Decimal) -> Decimal:
    """Return the price of a close without a quote: the first mark after it, or the declared one if it is worse."""
    return min(declared, mid) if side == "long" else max(declared, mid)


class LastMids:
    """The last mid of each instrument since the end of a day: an older one is a day old when the day ends."""

    def __init__(self) -> None:
        self._mids: dict[Instrument, Decimal] = {}

    @property
    def marks(self) -> Marks:
        """Return the mids, in today's shares."""
        return self._mids

    def take(self, entry: MarkEntry | SplitEntry) -> None:
        """Read the next entry of the market."""
        if isinstance(entry, MarkEntry):
            self._mids |= marks_of(entry)
            return
        instrument = (entry.asset_type, entry.instrument)
        if instrument in self._mids:
            self._mids[instrument] = divided(self._mids[instrument], entry.new, entry.old)

    def begin_day(self) -> None:
        """Forget the mids of the day that has ended."""
        self._mids = {}


def marks_of(entry: MarkEntry) -> dict[Instrument, Decimal]:
    """Return the mids of a mark by instrument."""
    return {(kind, name): mid for kind, mids in entry.mids.items() for name, mid in mids.items()}


class RecordFold:
    """Applies a provider's entries to its book, in the order of the log."""

    def __init__(self, book: Book, cost_bps: Mapping[str, Decimal]) -> None:
        self.book = book
        self._accounting = Accounting(book, cost_bps)

    def take(self, entry: AnyEntry) -> None:
        """Apply one entry: the provider's own, a mark, or a split."""
        match entry:
            case SignalEntry():
                self._accounting.advance(entry.received_at)
                if entry.opens:
                    self._open(entry)
                elif entry.closes is not None and entry.part:
                    self._close(entry)
            case FillEntry():
                order = self.book.orders.pop(entry.position, None)
                if order is not None:
                    self._apply(Opened(entry.position, order.instrument, order.side, entry.price, entry.at))
            case EndEntry():
                self._end(entry)
            case RetractionEntry():
                self._retract(entry)
            case MarkEntry():
                if self.book.unquoted:
                    self._mark_unquoted(marks_of(entry))
            case SplitEntry():
                self._split(entry)
            case ResolutionEntry():  # the ends of positions are entries of their own
                pass

    def end_day(self, mark: MarkEntry, marks: Marks) -> DayResult:
        """Close the day that ends with this mark, at the last mids of the day."""
        return self._accounting.end_day(day_of(mark), marks)

    def _apply(self, event: Event) -> None:
        self._accounting.apply(event)

    def _open(self, entry: SignalEntry) -> None:
        assert entry.direction is not None
        instrument, price = (entry.asset_type, entry.instrument), entry.record_price
        if entry.order == "limit":
            self.book.orders[entry.signal_id] = WaitingOrder(instrument, entry.direction)
        elif price is not None and can_enter(entry.asset_type, price):
            self._apply(Opened(entry.signal_id, instrument, entry.direction, price, entry.received_at))
        else:
            self.book.unverified += 1
            self.book.unverified_openings[entry.signal_id] = entry.received_at

    def _close(self, entry: SignalEntry) -> None:
        assert entry.closes is not None
        price, at = entry.record_price, entry.received_at
        if entry.closes not in self.book.positions:
            return
        if price is not None and can_exit(entry.asset_type, price):
            self._apply(Left(entry.closes, entry.part, price, at, entry.signal_id))
        elif entry.declared_price is not None:
            self.book.unquoted[entry.signal_id] = UnquotedClose(entry.closes, entry.part, entry.declared_price, at)

    def _end(self, entry: EndEntry) -> None:
        if entry.price is not None:
            self._apply(Left(entry.position, entry.part, entry.price, entry.at))
        elif self.book.orders.pop(entry.position, None) is None:
            self._void(entry.position)

    def _retract(self, entry: RetractionEntry) -> None:
        book, signal_id = self.book, entry.signal_id
        if signal_id in book.closes:
            self._apply(Reopened(signal_id))
        elif book.unverified_openings.pop(signal_id, None) is not None:
            book.unverified -= 1
        elif book.unquoted.pop(signal_id, None) is None and book.orders.pop(signal_id, None) is None:
            self._void(signal_id)

    def _void(self, position_id: PositionId) -> None:
        unquoted = self.book.unquoted
        for key in [key for key, each in unquoted.items() if each.position_id == position_id]:
            del unquoted[key]
        self._apply(Voided(position_id))

    def _mark_unquoted(self, marks: Marks) -> None:
        for closed_by, each in [*self.book.unquoted.items()]:
            position = self.book.positions.get(each.position_id)
            if position is not None and position.instrument not in marks:
                continue
            del self.book.unquoted[closed_by]
            if position is not None:
                price = worse_exit(position.side, each.price, marks[position.instrument])
                self._apply(Left(each.position_id, each.part, price, each.at, closed_by))

    def _split(self, entry: SplitEntry) -> None:
        instrument = (entry.asset_type, entry.instrument)
        for each in self.book.unquoted.values():
            position = self.book.positions.get(each.position_id)
            if position is not None and position.instrument == instrument:
                each.price = divided(each.price, entry.new, entry.old)
        self._apply(Divided(instrument, entry.new, entry.old))
