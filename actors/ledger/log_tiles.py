"""Read the tree of the log from its tiles, and from the entries where a tile of level 0 is not full yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from actors.tlog.tiles import Tile, encode_entries, split_hashes
from actors.tlog.tree import TILE_WIDTH, Frontier, ReadTile, leaf_hash, needed_tiles
from db import log as sql
from db._postgres import Connection

Result = TypeVar("Result")


class LogIncomplete(Exception):
    """A tile or an entry that the log's size promises is not stored."""


async def from_tiles(conn: Connection, compute: Callable[[ReadTile], Result]) -> Result:
    """Return what a pure function computes from tiles. Raises LogIncomplete."""
    widths = needed_tiles(compute)
    stored = await sql.read_tiles(conn, list(widths))
    found: dict[tuple[int, int], Sequence[bytes]] = {(row.level, row.index): split_hashes(row.hashes) for row in stored}
    for (level, index), width in widths.items():
        if level == 0 and (level, index) not in found:
            start = index * TILE_WIDTH
            found[level, index] = [leaf_hash(body) for body in await sql.read_bodies(conn, start, start + width)]

    def read(level: int, index: int, width: int) -> Sequence[bytes]:
        hashes = found.get((level, index), ())
        if len(hashes) < width:
            raise LogIncomplete(f"tile {index} of level {level} has {len(hashes)} hashes instead of {width}")
        return hashes

    return compute(read)


async def load_frontier(conn: Connection, size: int) -> Frontier:
    """Return the right edge of the tree of this size. Raises LogIncomplete."""
    return await from_tiles(conn, partial(Frontier.load, size))


async def read_tile(conn: Connection, tile: Tile) -> bytes:
    """Return a tile of the log as it is served. Raises LogIncomplete if the log ends before."""
    start, end = tile.index * TILE_WIDTH, tile.index * TILE_WIDTH + tile.width
    if tile.level is None:
        bodies = await sql.read_bodies(conn, start, end)
        if len(bodies) < tile.width:
            raise LogIncomplete(f"entries {start}-{end - 1} are not all stored")
        return encode_entries(bodies)
    level = tile.level
    hashes = await from_tiles(conn, lambda read: read(level, tile.index, tile.width)[: tile.width])
    return b"".join(hashes)
