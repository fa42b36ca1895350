"""Remember what moved on each board lately (pure), so that a board can be read as it was: pages that do not shift."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from math import inf

from sortedcontainers import SortedList

KEPT_SECONDS = 300.0
"""How long a board can be read as it was."""

MOST_CHANGES = 20_000
"""Changes of a board that are remembered: 2 MB; past it the oldest state goes earlier than after KEPT_SECONDS."""


@dataclass(slots=True)
class _Moment:
    """All states with one `as_of`: by list the changes up to its end, once it has one, and up to what was shown."""

    as_of: int
    ended_at: float = inf
    changes: Sequence[int] = ()
    shown: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of an earlier state of a board from the present one: new keys, and those that are gone."""

    added: Sequence[int] = ()  # ascending
    removed: frozenset[int] = frozenset()  # of the present keys

    def keys(self, present: SortedList[int], offset: int, limit: int) -> list[int]:
        """Return a page of the earlier state."""
        if not self.added and not self.removed:
            return list(present.islice(offset, offset + limit))
        return list(islice(self._all(present), offset, offset + limit))

    def key_of(self, low: int, present: int | None, mask: int) -> int | None:
        """Return the key of the earlier state whose lowest bits, those of the mask, are these."""
        for key in self.added:
            if key & mask == low:
                return key
        return None if present in self.removed else present

    def rank(self, present: SortedList[int], key: int) -> int:
        """Return a key's rank in the earlier state."""
        before: int = present.bisect_left(key) - sum(each < key for each in self.removed)
        return before + bisect_left(self.added, key) + 1

    def _all(self, present: SortedList[int]) -> Iterator[int]:
        added = deque(self.added)
        for key in chain(present, (None,)):
            while added and (key is None or added[0] < key):
                yield added.popleft()
            if key is not None and key not in self.removed:
                yield key


class BoardHistory:
    """The latest changes of some ordered lists of keys.

    A state is named by `as_of`, the newest signal that is in it. What moves between two signals moves the state of one
    name; of those the one that was shown last is read again.
    """

    def __init__(self, lists: int, as_of: int) -> None:
        self.as_of = as_of
        # The old key and the new one of each change, in turn: no tuples, which the garbage collector would go through.
        self._changes: list[deque[int | None]] = [deque(maxlen=2 * MOST_CHANGES) for _ in range(lists)]
        self._counts = [0] * lists  # of all changes so far
        self._moments = deque([_Moment(as_of)])

    def advance(self, as_of: int, at: float) -> None:
        """Begin the states that have this signal in them; `at` is in seconds of a steady clock."""
        if as_of <= self.as_of:
            return
        self.as_of = as_of
        self._moments[-1].ended_at, self._moments[-1].changes = at, self._counts.copy()
        self._moments.append(_Moment(as_of))
        while self._moments[0].ended_at < at - KEPT_SECONDS:
            self._moments.popleft()

    def note(self, number: int, old: int | None, new: int | None) -> None:
        """Note that a key of a list has become another; None: there was none, or is none."""
        changes = self._changes[number]
        changes.append(old)
        changes.append(new)
        self._counts[number] += 1

    def show(self, number: int) -> int:
        """Note that the present state of a list is shown; return its name."""
        self._moments[-1].shown[number] = self._counts[number]
        return self.as_of

    def difference(self, number: int, as_of: int) -> Difference | None:
        """Return what tells the list's state of this name from the present one; None: it is not remembered."""
        moment = next((each for each in reversed(self._moments) if each.as_of <= as_of), None)
        if moment is None:
            return None
        count, changes = self._counts[number], self._changes[number]
        last = moment.changes[number] if moment.changes else count
        later = count - moment.shown.get(number, last)
        if 2 * later > len(changes):
            return None
        added: set[int] = set()
        removed: set[int] = set()
        backwards = reversed(changes)
        for new, old in islice(zip(backwards, backwards, strict=False), later):
            if new is not None:
                _take(new, added, removed)
            if old is not None:
                _take(old, removed, added)
        return Difference(sorted(added), frozenset(removed))


def _take(key: int, out_of: set[int], into: set[int]) -> None:
    if key in out_of:
        out_of.remove(key)
    else:
        into.add(key)
