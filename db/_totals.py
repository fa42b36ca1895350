"""Count append-only lists exactly, without counting any row twice.

`count(*)` costs Postgres 0.1 µs a row: 100 ms for a list of a million, at each request. Here final rows are counted
once for each combination of filters, and from then on only those that came since. A row is final once none can come
before it: by a UUIDv7 after FINAL_SECONDS, by a number that is given in the order of commits at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from config.clock import now
from config.ids import first_id
from db._postgres import Connection
from db._where import WHERE, Condition, filtered

FINAL_SECONDS = 20.0
"""The age past which no row with an older id can appear.

The id is made when a signal is received or a decision stored, and committed within seconds: no caller waits for longer.
The rest is for the clocks of the machine that made it and of this one.
"""

RECOUNT_SECONDS = 300.0
"""How long a count is trusted, so that a clock further off than that does not distort it for ever."""

MOST_COUNTS = 256
"""Remembered combinations of filters; past it the least recently used is forgotten."""


@dataclass(slots=True)
class Counted:
    """The counted part of a total."""

    rows: int = 0  # that match and have an id below
    below: UUID | None = None
    last: int = 0  # of the numbers; later rows are above
    expires: float = 0.0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def advance(self, rows: int, last: int) -> None:
        """Note that `rows` rows match up to the number `last`; a later count, by another reader, stays."""
        if last > self.last:
            self.rows, self.last = rows, last


class Totals:
    """The counts of one process, only for tables whose rows are never changed or deleted once they are final."""

    def __init__(self, most_counts: int = MOST_COUNTS) -> None:
        self._most_counts = most_counts
        self._counts: OrderedDict[Hashable, Counted] = OrderedDict()

    async def count(self, conn: Connection, table: str, column: str, conditions: Sequence[Condition]) -> int:
        """Return how many rows of `table` match; `column` is its UUIDv7."""
        counted = self._recall((table, tuple(conditions)))
        async with counted.turn:  # the first caller counts; those that wait use its result
            return await _count(conn, table, column, conditions, counted)

    async def count_dense(
        self, conn: Connection, table: str, column: str, conditions: Sequence[Condition], *, key: Hashable = None
    ) -> int:
        """Return how many rows of `table` match; `column` is a number > 0 that is dense in the order of commits.

        A reader that sees a row sees every one with a lower number. `key` stands for conditions that are too long to be
        remembered.
        """
        counted = self._recall((table, tuple(conditions) if key is None else key))
        async with counted.turn:
            return await _count_dense(conn, table, column, conditions, counted)

    def counted_dense(self, table: str, conditions: Sequence[Condition]) -> Counted:
        """Return what `count_dense` knows, for a reader that counts on from there: `rows` up to the number `last`."""
        return self._recall((table, tuple(conditions)))

    def _recall(self, key: Hashable) -> Counted:
        counted = self._counts.setdefault(key, Counted())
        self._counts.move_to_end(key)
        if len(self._counts) > self._most_counts:
            self._counts.popitem(last=False)
        return counted


async def _count(conn: Connection, table: str, column: str, conditions: Sequence[Condition], counted: Counted) -> int:
    final = first_id(now() - timedelta(seconds=FINAL_SECONDS))
    if counted.below is not None:
        final = max(final, counted.below)  # even if the clock is set back
    fresh = counted.below is None or counted.expires < time.monotonic()
    # Counting all and counting the rest are two statements, so that Postgres plans each for what it is.
    rest = [] if fresh else [(f"{column} >= {{}}", counted.below)]
    statement, values = filtered(
        f"SELECT count(*), count(*) FILTER (WHERE {column} < $1) FROM {table} {WHERE}", [*conditions, *rest], first=2
    )
    row = await conn.fetchrow(statement, final, *values)
    assert row is not None
    if fresh:
        counted.rows, counted.expires = 0, time.monotonic() + RECOUNT_SECONDS
    total = counted.rows + int(row[0])
    counted.rows, counted.below = counted.rows + int(row[1]), final
    return total


async def _count_dense(
    conn: Connection, table: str, column: str, conditions: Sequence[Condition], counted: Counted
) -> int:
    before, last = counted.rows, counted.last
    # Two statements again: the first is an index's work alone, the second reads the few rows that are new.
    rest = [(f"{column} > {{}}", last)] if last else []
    statement, values = filtered(
        f"SELECT count(*), (SELECT coalesce(max({column}), 0) FROM {table}) FROM {table} {WHERE}", [*conditions, *rest]
    )
    row = await conn.fetchrow(statement, *values)
    assert row is not None
    if row[1] < last:  # another database: one that was restored
        counted.rows, counted.last = 0, 0
        return await _count_dense(conn, table, column, conditions, counted)
    total = before + int(row[0])
    counted.advance(total, int(row[1]))
    return total
