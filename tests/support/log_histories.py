"""Random histories of one provider in the log: openings, orders, closes, ends, retractions, marks and splits."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from actors.records.entries import (
    AnyEntry,
    EndEntry,
    FillEntry,
    MarkEntry,
    RetractionEntry,
    SignalEntry,
    SplitEntry,
)
from actors.records.returns import UNIT, part_of
from schemas._vocabulary import AssetType, Side

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
INSTRUMENTS: Sequence[tuple[AssetType, str]] = (("crypto", "BTC"), ("stock", "AAPL"), ("prediction", "Will it rain?"))


@dataclass
class OpenPosition:
    """A position as the owner of the log knows it."""

    id: UUID
    instrument: tuple[AssetType, str]
    side: Side
    open_part: int = UNIT
    is_filled: bool = True


@dataclass
class History:
    """Makes entries at random, as the owner of the log would."""

    random: random.Random
    provider_id: UUID
    now: datetime = START
    feed_seq: int = 0
    entries: list[AnyEntry] = field(default_factory=list)
    open: dict[UUID, OpenPosition] = field(default_factory=dict)
    recent: list[SignalEntry] = field(default_factory=list)
    hour: datetime = START

    def go_on(self, steps: int) -> list[AnyEntry]:
        """Return the next entries."""
        first = len(self.entries)
        for _ in range(steps):
            self._advance()
            step = self.random.choice([self._open, self._open, self._close, self._close, self._end, self._retract])
            step()
        return self.entries[first:]

    def _advance(self) -> None:
        self.now += timedelta(seconds=self.random.choice([1, 2, 5, 600, 4000, 20_000]))
        while self.hour + timedelta(hours=1) <= self.now:
            self.hour += timedelta(hours=1)
            self._mark()

    def _mark(self) -> None:
        if self.random.random() < 0.02:
            self.entries.append(SplitEntry("stock", "AAPL", self.random.choice([2, 3, 7]), 1, self.hour))
        chosen = [each for each in INSTRUMENTS if self.random.random() < 0.7]
        for place, last in enumerate([False, True]):
            mids: dict[AssetType, dict[str, Decimal]] = {}
            for kind, name in chosen[place::2]:
                mids.setdefault(kind, {})[name] = self._price(kind)
            self.entries.append(MarkEntry(self.hour, mids, last))

    def _price(self, kind: str) -> Decimal:
        number = self.random.randint(1, 99)
        return Decimal(number).scaleb(-2) if kind == "prediction" else Decimal(number)

    def _id(self) -> UUID:
        return UUID(int=self.random.getrandbits(128), version=4)

    def _signal(self, instrument: tuple[AssetType, str], side: Side | None, **terms: object) -> SignalEntry:
        self.feed_seq += 1
        price = self._price(instrument[0])
        known: dict[str, object] = {
            "feed_seq": self.feed_seq,
            "signal_id": self._id(),
            "provider_id": self.provider_id,
            "asset_type": instrument[0],
            "instrument": instrument[1],
            "event_type": "CLOSE_SIGNAL" if "closes" in terms else "OPEN_SIGNAL",
            "direction": side,
            "declared_price": price,
            "received_at": self.now,
            "published_at": self.now,
            "score": 70,
            "texts": "",
            "way_in": "lens",
            "record_price": self._price(instrument[0]) if self.random.random() < 0.75 else None,
        }
        entry = SignalEntry(**(known | terms))  # type: ignore[arg-type]
        self.entries.append(entry)
        return entry

    def _open(self) -> None:
        instrument = self.random.choice(INSTRUMENTS)
        side: Side = self.random.choice(["long", "short"])
        if self.random.random() < 0.1:
            self._signal(instrument, None)
            return
        is_limit = self.random.random() < 0.2
        entry = self._signal(instrument, side, opens=True, order="limit" if is_limit else "market")
        self.open[entry.signal_id] = OpenPosition(entry.signal_id, instrument, side, is_filled=not is_limit)
        self.recent.append(entry)

    def _chosen(self) -> OpenPosition | None:
        return self.random.choice([*self.open.values()]) if self.open else None

    def _take(self, position: OpenPosition, part: int) -> None:
        position.open_part -= part
        if not position.open_part:
            del self.open[position.id]

    def _close(self) -> None:
        position = self._chosen()
        if position is None or not position.is_filled:
            self._signal(INSTRUMENTS[0], "long", closes=None)
            return
        part = part_of(position.open_part, self.random.choice([Decimal(1), Decimal("0.5"), Decimal("0.1")]))
        entry = self._signal(position.instrument, position.side, closes=position.id, part=part)
        self._take(position, part)
        self.recent.append(entry)

    def _end(self) -> None:
        position = self._chosen()
        if position is None:
            return
        if not position.is_filled:
            if self.random.random() < 0.7:
                position.is_filled = True
                price = self._price(position.instrument[0])
                self.entries.append(FillEntry(position.id, self.provider_id, price, self.now))
                return
            note = self.random.choice(["lapsed", "cancelled"])
            self.entries.append(EndEntry(position.id, self.provider_id, None, 0, None, self.now, note))
            del self.open[position.id]
        elif position.instrument[0] == "prediction" and self.random.random() < 0.4:
            note = self.random.choice(["void", "awaiting"])
            self.entries.append(EndEntry(position.id, self.provider_id, "resolution", 0, None, self.now, note))
            del self.open[position.id]
        else:
            part = position.open_part if self.random.random() < 0.6 else (position.open_part + 1) // 2
            reason = "take_profit" if part < position.open_part else "stop_loss"
            price = self._price(position.instrument[0])
            self.entries.append(EndEntry(position.id, self.provider_id, reason, part, price, self.now))
            self._take(position, part)

    def _retract(self) -> None:
        self.recent = [each for each in self.recent if self.now - each.received_at <= timedelta(seconds=10)]
        if not self.recent:
            return
        entry = self.recent.pop(self.random.randrange(len(self.recent)))
        self.feed_seq += 1
        self.entries.append(RetractionEntry(self.feed_seq, entry.signal_id, self.provider_id, self.now))
        if entry.closes is None:
            self.open.pop(entry.signal_id, None)
            return
        if any(each.signal_id == entry.closes for each in self.retracted_openings()):
            return
        opening = next(each for each in self.entries if getattr(each, "signal_id", None) == entry.closes)
        assert isinstance(opening, SignalEntry)
        assert opening.direction is not None
        again = OpenPosition(entry.closes, (opening.asset_type, opening.instrument), opening.direction, 0)
        self.open.setdefault(entry.closes, again).open_part += entry.part

    def retracted_openings(self) -> list[SignalEntry]:
        """Return the openings that were retracted."""
        gone = {each.signal_id for each in self.entries if isinstance(each, RetractionEntry)}
        return [
            each for each in self.entries if isinstance(each, SignalEntry) and each.opens and each.signal_id in gone
        ]
