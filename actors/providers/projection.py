"""Project a page of the feed onto the records, positions and streaks of its providers, as a pure function."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from uuid import UUID

from actors import streaks
from actors.providers.record import closed, counted, return_of
from actors.streaks import Streak
from db.providers.outcomes import OutcomeRow, PositionKey
from db.providers.records import LoggedSignal, RecordRow
from db.streaks import EndedStreakRow, StreakRow, StreakType
from schemas._instruments import spelled_alike
from schemas._vocabulary import OutcomeStatus

StreakKey = tuple[UUID, StreakType]


def keys_to_close(signals: Iterable[LoggedSignal]) -> Mapping[PositionKey, int]:
    """Return how many positions the signals may close, by position key."""
    return Counter(position_key(each) for each in signals if closes(each))


def opens(signal: LoggedSignal) -> bool:
    """Return whether the signal opens a position."""
    return signal.event_type == "OPEN_SIGNAL" and _has_terms(signal)


def closes(signal: LoggedSignal) -> bool:
    """Return whether the signal closes a position, if one is open."""
    return signal.event_type == "CLOSE_SIGNAL" and _has_terms(signal)


def position_key(signal: LoggedSignal) -> PositionKey:
    """Return the position key of a signal that opens or closes."""
    assert signal.direction is not None
    instrument = spelled_alike(signal.symbol, signal.asset_type)
    return signal.provider_id, signal.asset_type, instrument, signal.direction


def _has_terms(signal: LoggedSignal) -> bool:
    price = signal.entry_price
    return signal.is_ranked and signal.direction is not None and price is not None and price.is_finite() and price > 0


class Projection:
    """Applies signals in the feed's order; one that is in its provider's record already changes nothing.

    `positions` are the oldest open ones, as many as may be closed, in their order. `zones` are those of the providers
    whose streaks are kept.
    """

    def __init__(
        self,
        records: Mapping[UUID, RecordRow],
        positions: Iterable[OutcomeRow],
        kept_streaks: Mapping[StreakKey, Streak],
        zones: Mapping[UUID, str],
    ) -> None:
        self.records: dict[UUID, RecordRow] = {}  # only changed ones; likewise the streaks
        self.streaks: dict[StreakKey, Streak] = {}
        self.opened: list[OutcomeRow] = []
        self.closed: list[OutcomeRow] = []  # positions that were open before
        self.ended: list[EndedStreakRow] = []
        self._before = records
        self._streaks_before = kept_streaks
        self._zones = zones
        self._waiting: dict[PositionKey, deque[tuple[OutcomeRow, bool]]] = {}
        for each in positions:
            self._queue((each.provider_id, each.asset_type, each.symbol, each.direction)).append((each, True))

    def take(self, signal: LoggedSignal) -> None:
        """Apply one signal."""
        provider_id = signal.provider_id
        record = self.records.get(provider_id) or self._before[provider_id]
        if signal.feed_seq <= record.applied_seq:
            return
        ending = self._close(signal) if closes(signal) else None
        if ending is None:
            self.records[provider_id] = counted(record, signal.feed_seq, signal.created_at)
            if opens(signal):
                self._open(signal)
        else:
            self.records[provider_id] = closed(record, signal.feed_seq, signal.created_at, *ending)
        if provider_id in self._zones:
            self._note_day(signal)
            if ending is not None:
                self._note_profit(signal, self.records[provider_id], ended=record.current_streak)

    def streak_rows(self) -> list[StreakRow]:
        """Return the changed streaks as rows."""
        return [streaks.to_row(*key, each) for key, each in self.streaks.items()]

    def _queue(self, key: PositionKey) -> deque[tuple[OutcomeRow, bool]]:
        return self._waiting.setdefault(key, deque())

    def _open(self, signal: LoggedSignal) -> None:
        assert signal.direction is not None
        assert signal.entry_price is not None
        key = position_key(signal)
        position = OutcomeRow(
            signal.id,
            signal.provider_id,
            key[2],
            signal.direction,
            signal.entry_price,
            signal.feed_seq,
            signal.created_at,
            asset_type=signal.asset_type,
        )
        self.opened.append(position)
        self._queue(key).append((position, False))

    def _close(self, signal: LoggedSignal) -> tuple[int, OutcomeStatus] | None:
        queue = self._waiting.get(position_key(signal))
        if not queue:
            return None
        position, is_stored = queue.popleft()
        assert signal.entry_price is not None
        returned, status = return_of(position.direction, position.entry_price, signal.entry_price)
        position.status, position.returned = status, returned
        position.closed_at, position.closed_by, position.closed_seq = signal.created_at, signal.id, signal.feed_seq
        if is_stored:
            self.closed.append(position)
        return returned, status

    # Streaks

    def _streak(self, key: StreakKey) -> Streak | None:
        return self.streaks.get(key) or self._streaks_before.get(key)

    def _note_day(self, signal: LoggedSignal) -> None:
        key: StreakKey = (signal.provider_id, "provider_signal")
        before = self._streak(key)
        after, run = streaks.record(before, signal.created_at, self._zones[signal.provider_id])
        if after is not before:
            self.streaks[key] = after
        if run is not None:
            self.ended.append(EndedStreakRow(*key, run.count, run.started_on, run.ended_on))

    def _note_profit(self, signal: LoggedSignal, record: RecordRow, *, ended: int) -> None:
        """Note the days of a run of PROFITs, whose length the record has; `ended`: the length of the run before."""
        key: StreakKey = (signal.provider_id, "profitable_signal")
        before = self._streak(key)
        if record.current_streak:
            zone = self._zones[signal.provider_id]
            day = streaks.local_day(signal.created_at, zone)
            goes_on = before is not None and record.current_streak > 1
            started, last = (before.started_on, max(before.last_on, day)) if goes_on and before else (day, day)
            at = signal.created_at
            self.streaks[key] = Streak(
                record.current_streak, record.longest_streak, started, last, day, zone, last, at, at
            )
        elif ended and before is not None:
            self.ended.append(EndedStreakRow(*key, ended, before.started_on, before.last_on))
            self.streaks[key] = replace(before, current=0)
