"""Name and encode the tiles of a log (c2sp.org/tlog-tiles)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from actors.tlog.tree import HASH_BYTES, TILE_WIDTH

LARGEST_ENTRY_BYTES = 65_535
_LENGTH_BYTES = 2
_TILE_HEIGHT = 8  # 2^8 hashes

_PATH = re.compile(
    r"(?P<level>entries|[0-9]|[1-5][0-9]|6[0-3])/(?P<index>(x[0-9]{3}/){0,6}[0-9]{3})(\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True)
class Tile:
    """The name of a tile: of hashes at a `level`, or of entries (None). `width` < 256: the tile is partial."""

    level: int | None
    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """Return the path under the log's prefix, as in `tile/0/x001/x234/067.p/8`."""
        level = "entries" if self.level is None else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{_index_path(self.index)}{partial}"

    @property
    def entries(self) -> int:
        """Return the number of entries that a log has at least, if it has the tile."""
        return (self.index * TILE_WIDTH + self.width) << _TILE_HEIGHT * (self.level or 0)


def parse_tile(path: str) -> Tile | None:
    """Return the tile that a path below `tile/` names; None unless it is the tile's one spelling."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    level = None if match["level"] == "entries" else int(match["level"])
    width = TILE_WIDTH if match["width"] is None else int(match["width"])
    tile = Tile(level, int(match["index"].replace("x", "").replace("/", "")), width)
    return tile if tile.path == f"tile/{path}" else None


def tiles_of(size: int) -> Iterable[Tile]:
    """Yield the hash tiles of a tree, the partial ones included."""
    level = 0
    while size:
        for index in range(size // TILE_WIDTH):
            yield Tile(level, index)
        if size % TILE_WIDTH:
            yield Tile(level, size // TILE_WIDTH, size % TILE_WIDTH)
        size //= TILE_WIDTH
        level += 1


def split_hashes(content: bytes) -> list[bytes]:
    """Return the hashes of a tile."""
    if len(content) % HASH_BYTES:
        raise ValueError("a tile is a whole number of hashes")
    return [content[start : start + HASH_BYTES] for start in range(0, len(content), HASH_BYTES)]


def encode_entries(entries: Sequence[bytes]) -> bytes:
    """Return a bundle of entries, each of at most 65,535 bytes, after its length."""
    return b"".join(len(entry).to_bytes(_LENGTH_BYTES) + entry for entry in entries)


def decode_entries(bundle: bytes) -> list[bytes]:
    """Return the entries of a bundle. Raises ValueError if it ends within one."""
    entries, start = [], 0
    while start < len(bundle):
        begin = start + _LENGTH_BYTES
        start = begin + int.from_bytes(bundle[start:begin])
        if begin > len(bundle) or start > len(bundle):
            raise ValueError("the bundle ends within an entry")
        entries.append(bundle[begin:start])
    return entries


def _index_path(index: int) -> str:
    parts = [f"{index % 1000:03}"]
    while index := index // 1000:
        parts.append(f"x{index % 1000:03}")
    return "/".join(reversed(parts))
