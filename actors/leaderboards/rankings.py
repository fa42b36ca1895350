"""Keep every ranking of every provider in order (pure): a change costs O(log n), the first hundred are read off."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sortedcontainers import SortedList

from actors.leaderboards.history import BoardHistory, Difference
from actors.leaderboards.messages import BoardEntry, BoardPosition
from actors.leaderboards.totals import (
    BOARDS,
    BoardTotals,
    change_since,
    missing_of,
    number_of,
    shown,
    value_and_change,
    values,
)
from db.leaderboards import BoardRecord
from schemas._vocabulary import LiveBoard, Period
from schemas.errors import InvalidQuery

# Best first: the value and the number of signals, both negated, then the id, in one integer: searching such lists takes
# a third of the time that tuples take.
_Key = int
_ID_BITS, _SIGNALS_BITS = 128, 40
_LEAST = (1 << _SIGNALS_BITS) - 1
_ID = (1 << _ID_BITS) - 1


class Rankings:
    """The totals of all providers, and an ordered list of keys for each of BOARDS.

    With n providers a change of one costs O(log n) for each list in which its key changes: 5 for a follow, up to 14 for
    a signal. Memory is about 3 kB a provider.
    """

    def __init__(self, at: datetime, as_of: int = 0) -> None:
        self.history = BoardHistory(len(BOARDS), as_of)
        self._totals: dict[int, BoardTotals] = {}  # by the id as an integer
        self._keys: dict[int, list[_Key | None]] = {}
        self._lists: list[SortedList[_Key]] = [SortedList() for _ in BOARDS]
        self._changed_at: list[datetime] = [at] * len(BOARDS)

    def __len__(self) -> int:
        return len(self._totals)

    def fill(self, all_totals: Iterable[BoardTotals]) -> None:
        """Insert all totals at once, which sorts once: for a start."""
        columns: list[list[_Key]] = [[] for _ in BOARDS]
        for totals in all_totals:
            keys = _keys_of(totals)
            self._totals[totals.record.provider_id.int] = totals
            self._keys[totals.record.provider_id.int] = keys
            for column, key in zip(columns, keys, strict=True):
                if key is not None:
                    column.append(key)
        for ranking, column in zip(self._lists, columns, strict=True):
            ranking.update(column)

    def put(self, totals: BoardTotals, at: datetime) -> None:
        """Insert or replace a provider's totals."""
        self._totals[totals.record.provider_id.int] = totals
        self._reorder(totals, at)

    def take(self, record: BoardRecord, at: datetime) -> bool:
        """Apply a changed record; False: the provider's best runs are out of date and must be re-read."""
        totals = self._totals.get(record.provider_id.int)
        if totals is None:
            totals = self._totals[record.provider_id.int] = BoardTotals.beginning(record.provider_id)
        elif totals.record == record:
            return True
        is_certain = totals.take(record)
        self._reorder(totals, at)
        return is_certain

    def is_known(self, record: BoardRecord) -> bool:
        """Return whether the record equals the provider's current totals."""
        totals = self._totals.get(record.provider_id.int)
        return totals is not None and totals.record == record

    def top(
        self, board: LiveBoard, period: Period, limit: int, offset: int = 0, as_of: int | None = None
    ) -> tuple[BoardEntry, ...]:
        """Return a page of a board, as it is or as it was. Raises InvalidQuery if that is not remembered."""
        number = number_of(board, period)
        keys = self._difference(number, as_of).keys(self._lists[number], offset, limit)
        return tuple(self._entry(rank, key, board, period) for rank, key in enumerate(keys, start=offset + 1))

    def show(self, board: LiveBoard, period: Period) -> int:
        """Note that a board is shown as it is; return the name under which it can be read again for a while."""
        return self.history.show(number_of(board, period))

    def position(
        self, board: LiveBoard, period: Period, provider_id: UUID, as_of: int | None = None
    ) -> BoardPosition | None:
        """Return a provider's position on a board; None for an unknown one."""
        totals = self._totals.get(provider_id.int)
        if totals is None:
            return None
        number = number_of(board, period)
        difference = self._difference(number, as_of)
        key = difference.key_of(provider_id.int, self._keys[provider_id.int][number], _ID)
        if key is None:
            return BoardPosition(None, None, missing_of(totals, board, period))
        return BoardPosition(difference.rank(self._lists[number], key), shown(board, _value_of(key)))

    def changed_at(self, board: LiveBoard, period: Period) -> datetime:
        """Return when the board last changed."""
        return self._changed_at[number_of(board, period)]

    def _reorder(self, totals: BoardTotals, at: datetime) -> None:
        known, keys = self._keys.get(totals.record.provider_id.int), _keys_of(totals)
        if known is None:
            known = [None] * len(keys)
        for number, (old, new) in enumerate(zip(known, keys, strict=True)):
            if old == new:
                continue
            ranking = self._lists[number]
            if old is not None:
                ranking.remove(old)
            if new is not None:
                ranking.add(new)
            self.history.note(number, old, new)
            self._changed_at[number] = at
        self._keys[totals.record.provider_id.int] = keys

    def _difference(self, number: int, as_of: int | None) -> Difference:
        if as_of is None or as_of > self.history.as_of:
            return Difference()
        difference = self.history.difference(number, as_of)
        if difference is None:
            raise InvalidQuery.of("as_of", "is not kept any more: begin again without it")
        return difference

    def _entry(self, rank: int, key: _Key, board: LiveBoard, period: Period) -> BoardEntry:
        totals, value = self._totals[key & _ID], _value_of(key)
        change = change_since(totals, board, period, value)
        return BoardEntry(rank, totals.record.provider_id, shown(board, value), change)


def entry_of(rank: int, totals: BoardTotals, board: LiveBoard, period: Period) -> BoardEntry:
    """Return the entry of a provider that is on the board."""
    value, change = value_and_change(totals, board, period)
    assert value is not None
    return BoardEntry(rank, totals.record.provider_id, value, change)


def _value_of(key: _Key) -> int:
    return -(key >> (_SIGNALS_BITS + _ID_BITS))


def _keys_of(totals: BoardTotals) -> list[_Key | None]:
    low = ((_LEAST - totals.record.total_signals) << _ID_BITS) + totals.record.provider_id.int
    shift = _SIGNALS_BITS + _ID_BITS
    return [None if value is None else (-value << shift) + low for value in values(totals)]
