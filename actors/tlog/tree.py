"""Hash entries into a Merkle tree (RFC 6962), and make and verify its proofs.

The tree is kept as tiles of 256 hashes: level 0 has the entries' hashes, each level above the hashes of full tiles of
the level below. A hash of the tree anywhere between is computed from one tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

TILE_WIDTH: Final = 256
_TILE_HEIGHT: Final = 8  # 2^8 hashes
HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()

ReadTile = Callable[[int, int, int], Sequence[bytes]]
"""Returns at least the first `width` hashes of the tile at (level, index)."""


@dataclass(frozen=True, slots=True)
class TileHashes:
    """A full tile: its level, its index in the level, and its 256 hashes."""

    level: int
    index: int
    hashes: bytes


class ProofFailed(ValueError):
    """A proof does not show what it claims."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of two subtrees."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: the hashes of each level's last, partial tile. Appending needs nothing else."""

    def __init__(self, size: int = 0, levels: Sequence[Sequence[bytes]] = ()) -> None:
        self.size = size
        self.levels: list[list[bytes]] = [list(hashes) for hashes in levels] or [[]]

    @classmethod
    def load(cls, size: int, read_tile: ReadTile) -> Frontier:
        """Return the frontier of a tree of this size, from its partial tiles."""
        widths = _partial_widths(size)
        return cls(
            size,
            [
                read_tile(level, size >> _TILE_HEIGHT * (level + 1), width)[:width] if width else []
                for level, width in enumerate(widths)
            ],
        )

    def append(self, hashes: Sequence[bytes]) -> list[TileHashes]:
        """Append entries by their hashes; return the tiles that became full."""
        full: list[TileHashes] = []
        for each in hashes:
            self.size += 1
            self._add(0, each, full)
        return full

    def root(self) -> bytes:
        """Return the hash of the whole tree."""
        peaks = [peak for hashes in reversed(self.levels) for peak in _peaks(hashes)]
        if not peaks:
            return EMPTY_ROOT
        root = peaks.pop()
        while peaks:
            root = node_hash(peaks.pop(), root)
        return root

    def _add(self, level: int, each: bytes, full: list[TileHashes]) -> None:
        if level == len(self.levels):
            self.levels.append([])
        hashes = self.levels[level]
        hashes.append(each)
        if len(hashes) == TILE_WIDTH:
            index = (self.size >> _TILE_HEIGHT * (level + 1)) - 1
            full.append(TileHashes(level, index, b"".join(hashes)))
            [above] = _peaks(hashes)
            hashes.clear()
            self._add(level + 1, above, full)


def needed_tiles(compute: Callable[[ReadTile], object]) -> dict[tuple[int, int], int]:
    """Return the tiles (level, index) and their widths that a computation reads: the same whatever their hashes are."""
    widths: dict[tuple[int, int], int] = {}

    def note(level: int, index: int, width: int) -> Sequence[bytes]:
        widths[level, index] = max(width, widths.get((level, index), 0))
        return [EMPTY_ROOT] * width

    compute(note)
    return widths


def inclusion_proof(index: int, size: int, read_tile: ReadTile) -> list[bytes]:
    """Return the hashes that lead from an entry (0 ≤ index < size) to the root of a tree, its sibling first."""
    if not 0 <= index < size:
        raise ValueError(f"the tree of {size} has no entry {index}")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _largest_power_below(end - start)
        if index < middle:
            proof.append(_range_hash(middle, end, read_tile))
            end = middle
        else:
            proof.append(_range_hash(start, middle, read_tile))
            start = middle
    return proof[::-1]


def consistency_proof(old_size: int, size: int, read_tile: ReadTile) -> list[bytes]:
    """Return the hashes that show a tree to be the beginning of a larger one (0 ≤ old_size ≤ size)."""
    if not 0 <= old_size <= size:
        raise ValueError(f"the tree of {size} does not begin with one of {old_size}")
    if old_size in (0, size):
        return []
    proof: list[bytes] = []
    start, end, is_whole = 0, size, True
    while old_size != end:
        middle = start + _largest_power_below(end - start)
        if old_size <= middle:
            proof.append(_range_hash(middle, end, read_tile))
            end = middle
        else:
            proof.append(_range_hash(start, middle, read_tile))
            start, is_whole = middle, False
    if not is_whole:
        proof.append(_range_hash(start, end, read_tile))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raise ProofFailed unless the entry with this hash stands at `index` in the tree (RFC 9162 § 2.1.3.2)."""
    if not 0 <= index < size:
        raise ProofFailed(f"the tree of {size} has no entry {index}")
    place, last, found = index, size - 1, leaf
    for each in proof:
        if last == 0:
            raise ProofFailed("the proof of inclusion is too long")
        if place & 1 or place == last:
            found = node_hash(each, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, each)
        place, last = place >> 1, last >> 1
    if last or found != root:
        raise ProofFailed("the proof of inclusion does not lead to the root")


def verify_consistency(old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Raise ProofFailed unless the old tree is the beginning of the new one (RFC 9162 § 2.1.4.2)."""
    if not 0 <= old_size <= size:
        raise ProofFailed(f"a tree of {size} cannot begin with one of {old_size}")
    if old_size in (0, size):
        expected = EMPTY_ROOT if old_size == 0 else root
        if proof or old_root != expected:
            raise ProofFailed("the roots of trees of one size differ")
        return
    hashes = [old_root, *proof] if old_size & (old_size - 1) == 0 else [*proof]
    if not hashes:
        raise ProofFailed("the proof of consistency is empty")
    place, last = old_size - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old_found = found = hashes[0]
    for each in hashes[1:]:
        if last == 0:
            raise ProofFailed("the proof of consistency is too long")
        if place & 1 or place == last:
            old_found, found = node_hash(each, old_found), node_hash(each, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, each)
        place, last = place >> 1, last >> 1
    if last or old_found != old_root or found != root:
        raise ProofFailed("the proof of consistency does not lead to both roots")


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Return the root of a tree by its entries' hashes."""
    frontier = Frontier()
    frontier.append(hashes)
    return frontier.root()


def _range_hash(start: int, end: int, read_tile: ReadTile) -> bytes:
    """Return the hash of the subtree over the entries [start, end), as RFC 6962 divides it."""
    count = end - start
    if count & (count - 1) == 0:
        return _subtree_hash(count.bit_length() - 1, start, read_tile)
    middle = start + _largest_power_below(count)
    return node_hash(_range_hash(start, middle, read_tile), _range_hash(middle, end, read_tile))


def _subtree_hash(height: int, start: int, read_tile: ReadTile) -> bytes:
    """Return the hash of the perfect subtree of 2^height entries from `start` on, from the tile that it stands on."""
    level, above = divmod(height, _TILE_HEIGHT)
    first = start >> _TILE_HEIGHT * level
    index, offset = divmod(first, TILE_WIDTH)
    end = offset + (1 << above)
    [found] = _peaks(read_tile(level, index, end)[offset:end])
    return found


def _peaks(hashes: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the hashes of the perfect subtrees over a row of hashes, the largest first."""
    start = 0
    while start < len(hashes):
        width = 1 << (len(hashes) - start).bit_length() - 1
        row = hashes[start : start + width]
        while len(row) > 1:
            row = [node_hash(row[place], row[place + 1]) for place in range(0, len(row), 2)]
        yield row[0]
        start += width


def _partial_widths(size: int) -> list[int]:
    widths = []
    while size:
        widths.append(size % TILE_WIDTH)
        size //= TILE_WIDTH
    return widths


def _largest_power_below(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1
