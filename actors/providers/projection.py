"""Project a page of the log onto the records, positions and streaks of its providers, as a pure function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from actors import streaks
from actors.providers import positions
from actors.providers.record import closed, counted, recounted
from actors.records.entries import (
    AnyEntry,
    EndEntry,
    FillEntry,
    MarkEntry,
    RetractionEntry,
    SignalEntry,
    SplitEntry,
)
from actors.records.history import marks_of
from actors.streaks import Streak
from db.providers.outcomes import Leg, OutcomeRow
from db.providers.records import RecordRow
from db.streaks import EndedStreakRow, StreakRow, StreakType

StreakKey = tuple[UUID, StreakType]


class Projection:
    """Applies entries in the log's order; one that is in its provider's record already changes nothing.

    `known` are the stored positions that the page is about; of a provider that retracts something, all of them.
    `zones` are those of the providers whose streaks are kept.
    """

    def __init__(
        self,
        records: Mapping[UUID, RecordRow],
        known: Iterable[OutcomeRow],
        kept_streaks: Mapping[StreakKey, Streak],
        zones: Mapping[UUID, str],
    ) -> None:
        self.records: dict[UUID, RecordRow] = {}  # only changed ones; likewise the streaks
        self.streaks: dict[StreakKey, Streak] = {}
        self.positions = {each.signal_id: each for each in known}
        self.ended: list[EndedStreakRow] = []
        self._stored = set(self.positions)
        self._changed: set[UUID] = set()
        self._gone: set[UUID] = set()
        self._applied: set[tuple[UUID, int]] = set()  # the market's entries, by provider
        self._before = records
        self._streaks_before = kept_streaks
        self._zones = zones

    @property
    def new_positions(self) -> list[OutcomeRow]:
        """Return the positions to be inserted."""
        return [each for key, each in self.positions.items() if key not in self._stored]

    @property
    def changed_positions(self) -> list[OutcomeRow]:
        """Return the stored positions to be updated."""
        return [self.positions[key] for key in self._changed & self._stored & self.positions.keys()]

    @property
    def gone_positions(self) -> set[UUID]:
        """Return the stored positions to be deleted."""
        return self._gone & self._stored

    def take(self, index: int, entry: AnyEntry) -> None:
        """Apply one entry."""
        match entry:
            case MarkEntry():
                self._mark(index, entry)
            case SplitEntry():
                self._split(index, entry)
            case SignalEntry() | FillEntry() | EndEntry() | RetractionEntry():
                record = self._record(entry.provider_id)
                if index > record.applied_index:
                    self.records[entry.provider_id] = replace(record, applied_index=index)
                    self._take_own(index, entry)

    def streak_rows(self) -> list[StreakRow]:
        """Return the changed streaks as rows."""
        return [streaks.to_row(*key, each) for key, each in self.streaks.items()]

    def _record(self, provider_id: UUID) -> RecordRow:
        return self.records.get(provider_id) or self._before[provider_id]

    def _take_own(self, index: int, entry: SignalEntry | FillEntry | EndEntry | RetractionEntry) -> None:
        match entry:
            case SignalEntry():
                # What came before the log is in the record, as far as it was read from the feed.
                if entry.feed_seq > self._record(entry.provider_id).applied_seq:
                    self._signal(index, entry)
            case FillEntry():
                if position := self.positions.get(entry.position):
                    position.record_entry = entry.price
                    self._changed.add(position.signal_id)
            case EndEntry():
                self._end(index, entry)
            case RetractionEntry():
                self._retract(entry)

    def _signal(self, index: int, entry: SignalEntry) -> None:
        provider_id, at = entry.provider_id, entry.published_at
        self.records[provider_id] = counted(self._record(provider_id), entry.feed_seq, at)
        if provider_id in self._zones:
            self._note_day(provider_id, at)
        if entry.opens:
            if position := positions.opened(entry):
                self.positions[position.signal_id] = position
            return
        position = self.positions.get(entry.closes) if entry.closes is not None else None
        if position is not None and position.open_part and (leg := positions.leg_of_signal(position, entry)):
            self._add_leg(index, position, leg)

    def _end(self, index: int, entry: EndEntry) -> None:
        position = self.positions.get(entry.position)
        if position is None or not position.open_part:
            return
        if leg := positions.leg_of_end(position, entry):
            self._add_leg(index, position, leg)
        elif entry.note == "awaiting":
            position.open_part = 0
            self._changed.add(position.signal_id)
        else:
            self._drop(position)

    def _add_leg(self, index: int, position: OutcomeRow, leg: Leg) -> None:
        positions.with_legs(position, (*position.legs, leg), index + 1)
        self._changed.add(position.signal_id)
        if position.returned is None:
            return
        before = self._record(position.provider_id)
        after = closed(before, leg.at, position.returned, position.status)
        self.records[position.provider_id] = after
        if position.provider_id in self._zones:
            self._note_profit(leg.at, after, ended=before.current_streak)

    def _drop(self, position: OutcomeRow) -> None:
        del self.positions[position.signal_id]
        self._gone.add(position.signal_id)

    def _retract(self, entry: RetractionEntry) -> None:
        provider_id, signal_id = entry.provider_id, entry.signal_id
        record = self._record(provider_id)
        self.records[provider_id] = replace(record, applied_seq=max(record.applied_seq, entry.feed_seq))
        position = self.positions.get(signal_id)
        if position is not None:
            self._drop(position)
        else:
            mine = (each for each in self.positions.values() if each.provider_id == provider_id)
            position = next(
                (each for each in mine if len(positions.without_leg(each, signal_id)) < len(each.legs)), None
            )
            if position is None:
                return
        had_counted = position.returned is not None
        if signal_id != position.signal_id:
            positions.with_legs(position, positions.without_leg(position, signal_id), 0)
            self._changed.add(position.signal_id)
        if had_counted:
            self._recount(provider_id)

    def _recount(self, provider_id: UUID) -> None:
        ends = [
            (each.closed_seq or 0, each.returned, each.status)
            for each in self.positions.values()
            if each.provider_id == provider_id and each.returned is not None
        ]
        record = recounted(self._record(provider_id), ((end[1], end[2]) for end in sorted(ends)))
        self.records[provider_id] = record
        key: StreakKey = (provider_id, "profitable_signal")
        if provider_id in self._zones and (streak := self._streak(key)):
            self.streaks[key] = replace(streak, current=record.current_streak, longest=record.longest_streak)

    # The market

    def _mark(self, index: int, entry: MarkEntry) -> None:
        marks = marks_of(entry)
        for position in self.positions.values():
            mid = marks.get((position.asset_type, position.symbol)) if position.is_unmarked else None
            if mid is not None and self._is_first_time(index, position):
                positions.marked(position, mid)

    def _split(self, index: int, entry: SplitEntry) -> None:
        for position in self.positions.values():
            is_meant = (position.asset_type, position.symbol) == (entry.asset_type, entry.instrument)
            matters = position.open_part or position.is_unmarked
            if is_meant and matters and self._is_first_time(index, position):
                positions.split(position, entry.new, entry.old)

    def _is_first_time(self, index: int, position: OutcomeRow) -> bool:
        """Note that an entry changes a position; return False if it has done so before."""
        provider_id = position.provider_id
        record = self._record(provider_id)
        if index > record.applied_index:
            self.records[provider_id] = replace(record, applied_index=index)
            self._applied.add((provider_id, index))
        if (provider_id, index) not in self._applied:
            return False
        self._changed.add(position.signal_id)
        return True

    # Streaks

    def _streak(self, key: StreakKey) -> Streak | None:
        return self.streaks.get(key) or self._streaks_before.get(key)

    def _note_day(self, provider_id: UUID, at: datetime) -> None:
        key: StreakKey = (provider_id, "provider_signal")
        before = self._streak(key)
        after, run = streaks.record(before, at, self._zones[provider_id])
        if after is not before:
            self.streaks[key] = after
        if run is not None:
            self.ended.append(EndedStreakRow(*key, run.count, run.started_on, run.ended_on))

    def _note_profit(self, at: datetime, record: RecordRow, *, ended: int) -> None:
        """Note the days of a run of PROFITs, whose length the record has; `ended`: the length of the run before."""
        key: StreakKey = (record.provider_id, "profitable_signal")
        before = self._streak(key)
        if record.current_streak:
            zone = self._zones[record.provider_id]
            day = streaks.local_day(at, zone)
            goes_on = before is not None and record.current_streak > 1
            started, last = (before.started_on, max(before.last_on, day)) if goes_on and before else (day, day)
            self.streaks[key] = Streak(
                record.current_streak, record.longest_streak, started, last, day, zone, last, at, at
            )
        elif ended and before is not None:
            self.ended.append(EndedStreakRow(*key, ended, before.started_on, before.last_on))
            self.streaks[key] = replace(before, current=0)
