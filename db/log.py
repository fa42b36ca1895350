"""SQL of the log: its entries, the tiles of its tree, how far it has read, and its signed checkpoints."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from config.values import Value
from db._postgres import Connection
from db._rows import affected, columns, insert, names, row_of, rows_of, upsert


class LogRow(Value):
    """An entry of the log. `body` is its leaf; the columns beside it are what it is found by."""

    index: int
    kind: str
    body: bytes
    feed_seq: int | None
    signal_id: UUID | None
    provider_id: UUID | None


@dataclass(frozen=True, slots=True)
class TileRow:
    """A tile of hashes. Full ones never change; one of a level above 0 is stored from its first hash on, and grows."""

    level: int
    index: int
    hashes: bytes


@dataclass(frozen=True, slots=True)
class LogState:
    """The number of entries, the newest feed item among them, and the full hour of the newest mark."""

    size: int
    feed_seq: int
    marked_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed checkpoint, as it is served, with the public key (a vkey) that signed it."""

    size: int
    note: str
    vkey: str
    made_at: datetime


INSERT_ENTRIES = insert("log_entries", LogRow)


async def insert_entries(conn: Connection, rows: Sequence[LogRow]) -> None:
    """Append entries."""
    await conn.execute(INSERT_ENTRIES, *columns(LogRow, rows))


UPSERT_TILES = upsert("log_tiles", TileRow, key=["level", "index"])


async def upsert_tiles(conn: Connection, rows: Sequence[TileRow]) -> None:
    """Store tiles that became full, and those above level 0 that grew."""
    await conn.execute(UPSERT_TILES, *columns(TileRow, rows))


ADVANCE = """
UPDATE log_state
SET size = $2, feed_seq = greatest(feed_seq, $3), marked_at = greatest(marked_at, $4)
WHERE size = $1
"""


async def advance(conn: Connection, before: int, after: LogState) -> bool:
    """Move the state on from a size; False if that is not its size. What is older than the state's stays out."""
    return affected(await conn.execute(ADVANCE, before, after.size, after.feed_seq, after.marked_at)) == 1


READ_STATE = f"SELECT {names(LogState)} FROM log_state"


async def read_state(conn: Connection) -> LogState:
    """Return how far the log has come."""
    [state] = rows_of(LogState, await conn.fetch(READ_STATE))
    return state


READ_ENTRIES = f"SELECT {names(LogRow)} FROM log_entries WHERE index >= $1 ORDER BY index LIMIT $2"


async def read_entries(conn: Connection, first_index: int, limit: int) -> list[LogRow]:
    """Return entries in their order, from an index on."""
    return rows_of(LogRow, await conn.fetch(READ_ENTRIES, first_index, limit))


READ_ENTRIES_OF = f"""
SELECT {names(LogRow)} FROM log_entries WHERE provider_id = $1 AND index >= $2 ORDER BY index LIMIT $3
"""


async def read_entries_of(conn: Connection, provider_id: UUID, first_index: int, limit: int) -> list[LogRow]:
    """Return a provider's own entries (signals, fills, ends, retractions) in their order, from an index on."""
    return rows_of(LogRow, await conn.fetch(READ_ENTRIES_OF, provider_id, first_index, limit))


READ_BODIES = "SELECT body FROM log_entries WHERE index >= $1 AND index < $2 ORDER BY index"


async def read_bodies(conn: Connection, start: int, end: int) -> list[bytes]:
    """Return the leaves of the entries from `start` up to `end`, which is left out."""
    return [body for (body,) in await conn.fetch(READ_BODIES, start, end)]


FIND_SIGNAL = "SELECT index FROM log_entries WHERE signal_id = $1 AND kind = 'signal'"


async def find_signal(conn: Connection, signal_id: UUID) -> int | None:
    """Return the index of a signal's entry."""
    found: int | None = await conn.fetchval(FIND_SIGNAL, signal_id)
    return found


READ_TILES = """
SELECT t.level, t.index, t.hashes
FROM unnest($1::smallint[], $2::bigint[]) AS n (level, index)
JOIN log_tiles t ON t.level = n.level AND t.index = n.index
"""


async def read_tiles(conn: Connection, tiles: Collection[tuple[int, int]]) -> list[TileRow]:
    """Return those of the tiles, each a level and an index, that are stored."""
    levels, indices = [level for level, _ in tiles], [index for _, index in tiles]
    return rows_of(TileRow, await conn.fetch(READ_TILES, levels, indices))


LATEST_CHECKPOINT = f"SELECT {names(StoredCheckpoint)} FROM log_checkpoints ORDER BY size DESC LIMIT 1"


async def latest_checkpoint(conn: Connection) -> StoredCheckpoint | None:
    """Return the checkpoint that is served."""
    return row_of(StoredCheckpoint, await conn.fetchrow(LATEST_CHECKPOINT))


INSERT_CHECKPOINT = upsert("log_checkpoints", StoredCheckpoint, key=["size"])
THIN_CHECKPOINTS = """
DELETE FROM log_checkpoints
WHERE size < $1 AND made_at >= date_trunc('day', $2, 'UTC')
"""


async def store_checkpoint(conn: Connection, row: StoredCheckpoint) -> None:
    """Store a checkpoint; of earlier days the last one is kept, of its own day only this one."""
    await conn.execute(INSERT_CHECKPOINT, *columns(StoredCheckpoint, [row]))
    await conn.execute(THIN_CHECKPOINTS, row.size, row.made_at)
