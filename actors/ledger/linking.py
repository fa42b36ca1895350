"""Link the items of the feed (pure): which position a signal opens or closes, and what a retraction takes back.

A close takes the oldest open position of its key, or the part of what is left of it that it names. Where nothing is
open it cancels the oldest order that waits.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Final
from uuid import UUID

from actors.ledger.ends import minute_after, set_levels, voided
from actors.lens.market.quotes import PricedInstrument
from actors.records.entries import AnyEntry, LoggedQuote, RetractionEntry, SignalEntry
from actors.records.returns import UNIT, can_enter, can_exit, floor_price, part_of
from db.ledger import InstrumentRow, PositionRow
from db.providers.outcomes import PositionKey
from db.signals.log_source import FeedEntry

ORDER_LIFE: Final = timedelta(hours=24)
"""How long a limit order waits that does not say it."""

_by_age = attrgetter("opened_seq")


def opens(item: FeedEntry) -> bool:
    """Return whether a signal opens a position, or places an order."""
    price = _price(item)
    return item.event_type == "OPEN_SIGNAL" and price is not None and can_enter(item.asset_type, price)


def closes(item: FeedEntry) -> bool:
    """Return whether a signal closes a position, if one is open."""
    price = _price(item)
    return item.event_type == "CLOSE_SIGNAL" and price is not None and can_exit(item.asset_type, price)


def key_of(item: FeedEntry) -> PositionKey:
    """Return the key of the positions that a signal opens or closes."""
    assert item.direction is not None
    return item.provider_id, item.asset_type, item.instrument, item.direction


def keys_wanted(items: Iterable[FeedEntry]) -> Mapping[PositionKey, int]:
    """Return how many positions of each key the items may take up: each retraction may take one out of the queue."""
    wanted: Counter[PositionKey] = Counter()
    retracted: Counter[PositionKey] = Counter()
    for item in items:
        if item.retracted_at is not None and item.direction is not None:
            retracted[key_of(item)] += 1
        elif closes(item):
            wanted[key_of(item)] += 1
    return {key: count + retracted[key] for key, count in wanted.items()}


class Linker:
    """Links items in the feed's order. `positions` are the oldest of each key of `keys_wanted`, and those that
    retractions are about; `links` are the positions and parts that their closes took, by the close.
    """

    def __init__(self, positions: Iterable[PositionRow], links: Mapping[UUID, tuple[UUID, int]]) -> None:
        self.entries: list[AnyEntry] = []
        self.changed: dict[UUID, PositionRow] = {}
        self.removed: set[UUID] = set()
        self.instruments: list[InstrumentRow] = []  # of positions that were opened or came back
        self.opened = 0  # how many more are open than before
        self._links = dict(links)
        self._known: dict[UUID, PositionRow] = {}
        self._open: dict[PositionKey, list[PositionRow]] = {}
        for each in positions:
            self._known[each.signal_id] = each
            if each.open_part:
                self._enqueue(each)

    def take(self, item: FeedEntry) -> None:
        """Link one item."""
        if item.retracted_at is not None:
            self._retract(item, item.retracted_at)
        elif opens(item):
            self._place(item)
        elif closes(item):
            self._close(item)
        else:
            self.entries.append(entry_of(item))

    def next_closed(self, item: FeedEntry) -> PositionRow | None:
        """Return the position or order that a close would take up now."""
        return self._first(self._open.get(key_of(item), ())) if closes(item) else None

    def _place(self, item: FeedEntry) -> None:
        assert item.declared_price is not None
        position = _position(item)
        set_levels(position)
        self._known[position.signal_id] = position
        self._enqueue(position)
        self._change(position)
        self.opened += 1
        self.instruments.append(_instrument(item, position.watched_from))
        self.entries.append(entry_of(item, opens=True, valid_until=position.valid_until))

    def _close(self, item: FeedEntry) -> None:
        queue = self._open.get(key_of(item), [])
        position = self._first(queue)
        if position is None:
            self.entries.append(entry_of(item))
            return
        if not position.is_filled:
            self.entries.append(entry_of(item))
            self.entries += voided(position, "cancelled", item.received_at)
        else:
            fraction = item.close_fraction
            part = position.open_part if fraction is None else part_of(position.open_part, fraction)
            position.open_part -= part
            self._links[item.signal_id] = position.signal_id, part
            self.entries.append(entry_of(item, closes=position.signal_id, part=part))
        self._change(position)
        if not position.open_part:
            position.ended_at = item.received_at
            queue.remove(position)
            self.opened -= 1

    def _retract(self, item: FeedEntry, at: datetime) -> None:
        self.entries.append(RetractionEntry(item.feed_seq, item.signal_id, item.provider_id, at))
        if (position := self._known.get(item.signal_id)) is not None:
            self._remove(position)
        elif (link := self._links.pop(item.signal_id, None)) is not None and link[0] in self._known:
            self._give_back(self._known[link[0]], link[1], item)

    def _remove(self, position: PositionRow) -> None:
        if position.open_part:
            self._open[position.key].remove(position)
            self.opened -= 1
        del self._known[position.signal_id]
        self.changed.pop(position.signal_id, None)
        self.removed.add(position.signal_id)

    def _give_back(self, position: PositionRow, part: int, item: FeedEntry) -> None:
        if not position.open_part:
            self._enqueue(position)
            self.opened += 1
            # Until the close its minutes counted; those since then are looked at now.
            position.watched_from = max(position.watched_from, minute_after(item.received_at))
            self.instruments.append(_instrument(item, position.watched_from))
        position.open_part, position.ended_at = position.open_part + part, None
        self._change(position)

    def _change(self, position: PositionRow) -> None:
        self.changed[position.signal_id] = position

    def _enqueue(self, position: PositionRow) -> None:
        insort(self._open.setdefault(position.key, []), position, key=_by_age)

    @staticmethod
    def _first(queue: Iterable[PositionRow]) -> PositionRow | None:
        waiting = None
        for each in queue:
            if each.is_filled:
                return each
            waiting = waiting or each
        return waiting


def entry_of(
    item: FeedEntry,
    *,
    opens: bool = False,
    closes: UUID | None = None,
    part: int = 0,
    valid_until: datetime | None = None,
) -> SignalEntry:
    """Return the leaf of a signal that opens or closes this."""
    is_open = item.event_type == "OPEN_SIGNAL"
    return SignalEntry(
        feed_seq=item.feed_seq,
        signal_id=item.signal_id,
        provider_id=item.provider_id,
        asset_type=item.asset_type,
        instrument=item.instrument,
        event_type=item.event_type,
        direction=item.direction,
        declared_price=_finite(item.declared_price),
        received_at=item.received_at,
        published_at=item.published_at,
        score=item.score,
        texts=item.texts,
        way_in=item.way_in,
        quote=_quote(item),
        record_price=_record_price(item),
        opens=opens,
        order=item.order_type or "market",
        take_profit=item.take_profit if is_open else (),
        stop_loss=item.stop_loss if is_open else None,
        liquidation_price=_liquidation_price(item),
        valid_until=valid_until or item.valid_until,
        expires_on=_expires_on(item),
        fraction=item.close_fraction,
        closes=closes,
        part=part,
        verdicts=item.verdicts,
    )


def priced(item: FeedEntry) -> PricedInstrument:
    """Return the signal's instrument as a source of prices is asked for it."""
    return PricedInstrument.of(item.symbol, item.asset_type, item.asset_data, item.received_at)


def _instrument(item: FeedEntry, checked_until: datetime) -> InstrumentRow:
    asked = priced(item)
    return InstrumentRow(
        item.asset_type,
        item.instrument,
        item.symbol,
        asked.platform,
        asked.market_id,
        asked.expiry or asked.resolves,
        checked_until,
    )


def _position(item: FeedEntry) -> PositionRow:
    declared, side = item.declared_price, item.direction
    assert declared is not None
    assert side is not None
    is_order = item.order_type == "limit"
    record_price = None if is_order else _record_price(item)
    targets = list(item.take_profit)
    return PositionRow(
        signal_id=item.signal_id,
        provider_id=item.provider_id,
        asset_type=item.asset_type,
        instrument=item.instrument,
        side=side,
        opened_seq=item.feed_seq,
        received_at=item.received_at,
        declared_price=declared,
        record_price=record_price,
        open_part=UNIT,
        is_filled=not is_order,
        take_profit=targets,
        target_part=-(-UNIT // len(targets)) if targets else 0,  # rounded up, so that nothing is left after the last
        stop_loss=item.stop_loss,
        liquidation_price=_liquidation_price(item),
        floor_price=floor_price(item.asset_type, side, record_price or declared),
        valid_until=(item.valid_until or item.received_at + ORDER_LIFE) if is_order else None,
        watched_from=minute_after(item.received_at),
    )


def _price(item: FeedEntry) -> Decimal | None:
    return _finite(item.declared_price) if item.is_ranked and item.direction is not None else None


def _finite(price: Decimal | None) -> Decimal | None:
    return price if price is not None and price.is_finite() else None


def _record_price(item: FeedEntry) -> Decimal | None:
    """Return the price that counts; none that no position can be opened or closed at."""
    price = _finite(item.record_price)
    if price is None:
        return None
    allows = can_enter if item.event_type == "OPEN_SIGNAL" else can_exit
    return price if allows(item.asset_type, price) else None


def _liquidation_price(item: FeedEntry) -> Decimal | None:
    """Return an opening's liquidation price; one on the side of gains is none: nobody is liquidated with a gain."""
    price, entry = item.liquidation_price, _record_price(item) or _finite(item.declared_price)
    if price is None or entry is None or item.event_type != "OPEN_SIGNAL":
        return None
    return price if (price < entry if item.direction == "long" else price > entry) else None


def _expires_on(item: FeedEntry) -> date | None:
    asked = priced(item)
    return asked.expiry or asked.resolves


def _quote(item: FeedEntry) -> LoggedQuote | None:
    bid, ask, mid, at, source = item.quote_bid, item.quote_ask, item.quote_mid, item.quote_at, item.quote_source
    if bid is None or ask is None or mid is None or at is None or source is None:
        return None
    return LoggedQuote(bid, ask, mid, at, source)
