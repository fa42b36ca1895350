"""Every ranking of every provider, kept in order: a change costs O(log n), the first hundred are read off. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sortedcontainers import SortedList

from actors.leaderboards.messages import Place, Record, Standing
from actors.leaderboards.standing import BOARDS, Tally, number_of, value_and_change, values
from db.leaderboards import Board, Period

# Best first: the value and the number of signals, both counted down, then the id, in one integer: lists are searched in
# a third of the time that tuples take.
_Key = int
_ID_BITS, _SIGNALS_BITS = 128, 40
_LEAST = (1 << _SIGNALS_BITS) - 1
_ID = (1 << _ID_BITS) - 1


class Rankings:
    """The tallies of all providers, and an ordered list of keys for each of BOARDS.

    With n providers a change of one costs O(log n) for each list in which its key changes: 5 for a follow, up to 14 for
    a signal. Memory is about 3 kB a provider.
    """

    def __init__(self, at: datetime) -> None:
        self._tallies: dict[int, Tally] = {}  # by the id as an integer
        self._keys: dict[int, list[_Key | None]] = {}
        self._lists: list[SortedList[_Key]] = [SortedList() for _ in BOARDS]
        self._changed_at: list[datetime] = [at] * len(BOARDS)

    def __len__(self) -> int:
        return len(self._tallies)

    def fill(self, tallies: Iterable[Tally]) -> None:
        """Put in everything at once, which sorts once: for a start."""
        columns: list[list[_Key]] = [[] for _ in BOARDS]
        for tally in tallies:
            keys = _keys_of(tally)
            self._tallies[tally.id.int] = tally
            self._keys[tally.id.int] = keys
            for column, key in zip(columns, keys, strict=True):
                if key is not None:
                    column.append(key)
        for ranking, column in zip(self._lists, columns, strict=True):
            ranking.update(column)

    def put(self, tally: Tally, at: datetime) -> None:
        """Put a provider in, or in the place of what was known of it."""
        self._tallies[tally.id.int] = tally
        self._reorder(tally, at)

    def take(self, record: Record, at: datetime) -> bool:
        """Take a changed record in. False: the provider's best runs must be read anew, and are out of date until."""
        tally = self._tallies.get(record.provider_id.int)
        if tally is None:
            tally = self._tallies[record.provider_id.int] = Tally.beginning(record.provider_id)
        elif tally.is_like(record):
            return True
        is_certain = tally.take(record)
        self._reorder(tally, at)
        return is_certain

    def is_known(self, record: Record) -> bool:
        """Whether the record is what is known of the provider."""
        tally = self._tallies.get(record.provider_id.int)
        return tally is not None and tally.is_like(record)

    def top(self, board: Board, period: Period, limit: int) -> tuple[Place, ...]:
        """The first places."""
        ranking = self._lists[number_of(board, period)]
        return tuple(
            place_of(rank, self._tallies[key & _ID], board, period) for rank, key in enumerate(ranking[:limit], start=1)
        )

    def standing(self, board: Board, period: Period, provider_id: UUID) -> Standing | None:
        """Where a provider is; None for an unknown one."""
        tally = self._tallies.get(provider_id.int)
        if tally is None:
            return None
        number = number_of(board, period)
        key = self._keys[provider_id.int][number]
        value, _ = value_and_change(tally, board, period)
        return Standing(None if key is None else self._lists[number].bisect_left(key) + 1, value)

    def changed_at(self, board: Board, period: Period) -> datetime:
        """When the board last changed."""
        return self._changed_at[number_of(board, period)]

    def _reorder(self, tally: Tally, at: datetime) -> None:
        known, keys = self._keys.get(tally.id.int), _keys_of(tally)
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
            self._changed_at[number] = at
        self._keys[tally.id.int] = keys


def place_of(rank: int, tally: Tally, board: Board, period: Period) -> Place:
    """The entry of a provider that is on the board."""
    value, change = value_and_change(tally, board, period)
    assert value is not None
    return Place(rank, tally.id, value, change)


def _keys_of(tally: Tally) -> list[_Key | None]:
    low = ((_LEAST - tally.signals) << _ID_BITS) + tally.id.int
    shift = _SIGNALS_BITS + _ID_BITS
    return [None if value is None else (-value << shift) + low for value in values(tally)]
