"""Append entries to the log: the rows, the tiles of the tree and the state, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from actors.ledger.log_tiles import load_frontier
from actors.records.entries import AnyEntry, EndEntry, FillEntry, MarkEntry, RetractionEntry, SignalEntry, encode
from actors.tlog.tiles import LARGEST_ENTRY_BYTES
from actors.tlog.tree import TILE_WIDTH, Frontier, TileHashes, leaf_hash
from db import log as sql
from db._postgres import Connection
from db.log import LogRow, LogState, TileRow

MOST_ENTRIES: Final = 100_000  # of one append: some 50 MB


class LogWriter:
    """Appends to the log, for its one owner. The right edge of the tree that it keeps in memory is used only while it
    is that of the stored size: after a transaction that was rolled back, the next append reads it again.
    """

    def __init__(self) -> None:
        self._frontier = Frontier()

    @property
    def size(self) -> int:
        """Return the number of entries, with those of a transaction that is not committed yet."""
        return self._frontier.size

    async def load(self, conn: Connection) -> None:
        """Read the right edge of the tree."""
        self._frontier = await load_frontier(conn, (await sql.read_state(conn)).size)

    async def append(self, conn: Connection, entries: Sequence[AnyEntry]) -> int:
        """Append entries and return the index of the first; the state gets their newest feed_seq and full hour.

        Raises ValueError for a leaf of more than 65,535 bytes: marks are divided over several entries.
        """
        if len(entries) > MOST_ENTRIES:
            raise ValueError(f"{len(entries)} entries at once")
        read_to = _read_to(entries)
        if not await sql.advance(conn, self.size, LogState(self.size + len(entries), *read_to)):
            await self.load(conn)
            if not await sql.advance(conn, self.size, LogState(self.size + len(entries), *read_to)):
                raise RuntimeError("another owner appends to the log")
        first = self.size
        rows, tiles = self.grow(entries)
        await sql.insert_entries(conn, rows)
        if tiles:
            await sql.upsert_tiles(conn, tiles)
        return first

    def grow(self, entries: Sequence[AnyEntry]) -> tuple[list[LogRow], list[TileRow]]:
        """Append entries to the tree in memory; return the rows to be stored."""
        rows = [_row(index, entry) for index, entry in enumerate(entries, self.size)]
        full = self._frontier.append([leaf_hash(row.body) for row in rows])
        return rows, [*map(_stored, full), *self._grown(full)]

    def _grown(self, full: Sequence[TileHashes]) -> list[TileRow]:
        """Return the partial tiles that have a new hash: those above a tile that became full."""
        levels = sorted({tile.level + 1 for tile in full})
        return [
            TileRow(level, self.size // TILE_WIDTH ** (level + 1), b"".join(hashes))
            for level in levels
            if (hashes := self._frontier.levels[level])
        ]


def _stored(tile: TileHashes) -> TileRow:
    return TileRow(tile.level, tile.index, tile.hashes)


def _row(index: int, entry: AnyEntry) -> LogRow:
    body, kind = encode(entry), str(type(entry).__struct_config__.tag)
    if len(body) > LARGEST_ENTRY_BYTES:
        raise ValueError(f"an entry ({kind}) of {len(body)} bytes")
    if isinstance(entry, SignalEntry | RetractionEntry):
        return LogRow(index, kind, body, entry.feed_seq, entry.signal_id, entry.provider_id)
    if isinstance(entry, FillEntry | EndEntry):
        return LogRow(index, kind, body, None, entry.position, entry.provider_id)
    return LogRow(index, kind, body, None, None, None)


def _read_to(entries: Sequence[AnyEntry]) -> tuple[int, datetime | None]:
    """Return the newest feed_seq of the entries, or 0, and the full hour of the newest mark that is complete."""
    numbers = (each.feed_seq for each in entries if isinstance(each, SignalEntry | RetractionEntry))
    hours = (each.hour for each in entries if isinstance(each, MarkEntry) and each.last)
    return max(numbers, default=0), max(hours, default=None)
