"""Hold the log open for one transaction after another: what is in memory is true only while none of them has failed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Self

from actors.ledger.log_writer import LogWriter
from actors.records.entries import AnyEntry, EndEntry
from config.values import replace
from db import ledger as sql
from db._postgres import Connection
from db.ledger import Instrument, InstrumentRow, LogTime, PositionRow, SplitRow, WatchedInstrument


class OpenLog:
    """The log with its time, and the instruments whose prices matter to it."""

    def __init__(
        self,
        writer: LogWriter,
        time: LogTime,
        open_count: int,
        watched: dict[Instrument, WatchedInstrument],
        splits: set[SplitRow],
    ) -> None:
        self._writer = writer
        self.feed_seq = time.feed_seq
        self.reached_at = time.reached_at
        self.marked_size = time.marked_size
        self.open_count = open_count
        self.watched = watched
        self.splits = splits
        self.ends = 0  # that were appended since it was read

    @classmethod
    async def load(cls, conn: Connection) -> Self:
        """Read it."""
        writer = LogWriter()
        await writer.load(conn)
        splits = {*await sql.read_splits(conn)}
        return cls(writer, await sql.read_time(conn), await sql.count_open(conn), await sql.read_watched(conn), splits)

    @property
    def size(self) -> int:
        """Return the number of entries."""
        return self._writer.size

    @property
    def is_day_open(self) -> bool:
        """Return whether there are entries after the newest mark."""
        return self.size > self.marked_size

    async def append(self, conn: Connection, entries: Sequence[AnyEntry]) -> None:
        """Append entries."""
        if entries:
            self.ends += sum(isinstance(each, EndEntry) for each in entries)
            await self._writer.append(conn, entries)

    async def reach(self, conn: Connection, hour: datetime, *, is_marked: bool) -> None:
        """Move the log's time on to a full hour."""
        if is_marked:
            self.marked_size = self.size
        if is_marked or self.reached_at is None or hour > self.reached_at:
            self.reached_at = hour
            await sql.set_time(conn, hour, self.marked_size)

    async def open(self, conn: Connection, rows: Sequence[InstrumentRow], positions: Iterable[PositionRow]) -> None:
        """Store the instruments of positions that were opened or came back, and watch them."""
        if not rows:
            return
        first: dict[Instrument, InstrumentRow] = {}
        for row in rows:
            key = row.asset_type, row.instrument
            known = first.get(key)
            if known is None or row.checked_until < known.checked_until:
                first[key] = row if known is None else replace(known, checked_until=row.checked_until)
        await sql.put_instruments(conn, list(first.values()))
        for key, row in first.items():
            watched = self.watched.setdefault(key, WatchedInstrument(row, None, None, None, False))
            if row.checked_until < watched.row.checked_until:
                watched.row = replace(watched.row, checked_until=row.checked_until)
        for position in positions:
            if (found := self.watched.get((position.asset_type, position.instrument))) is not None:
                _note_levels(found, position)

    async def change(self, conn: Connection, rows: Collection[PositionRow], opened: int) -> None:
        """Store changed positions; `opened` more are open than before."""
        self.open_count += opened
        if rows:
            await sql.upsert_positions(conn, list(rows))

    async def watch_anew(self, conn: Connection, instruments: Collection[Instrument] | None = None) -> None:
        """Read again what the positions in these instruments, or in all, wait for; how far they are checked stays."""
        found = await sql.read_watched(conn, instruments)
        for key in self.watched.keys() if instruments is None else instruments:
            if key in found:
                found[key].row = self.watched[key].row
        if instruments is None:
            self.watched = found
            return
        for key in instruments:
            self.watched.pop(key, None)
        self.watched |= found

    def set_checked(self, key: Instrument, until: datetime) -> None:
        """Note that the minutes of an instrument were looked at; stored with the next mark."""
        watched = self.watched[key]
        watched.row = replace(watched.row, checked_until=until)


def _note_levels(watched: WatchedInstrument, position: PositionRow) -> None:
    if not position.open_part:
        return
    low, high = position.low_level, position.high_level
    if low is not None and (watched.low_level is None or low > watched.low_level):
        watched.low_level = low
    if high is not None and (watched.high_level is None or high < watched.high_level):
        watched.high_level = high
    if position.is_filled:
        watched.is_held = True
    elif position.valid_until is not None:
        watched.first_lapse = min(watched.first_lapse or position.valid_until, position.valid_until)
