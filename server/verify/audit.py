"""Read a log from its first entry to its checkpoint, and hold it to what it signed, now and at the last visit."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec
import orjson

from actors.records.entries import AnyEntry, RetractionEntry, SignalEntry, decode
from actors.tlog.notes import Checkpoint, NoteRejected, VerifierKey, open_checkpoint, parse_key
from actors.tlog.tiles import Tile
from actors.tlog.tree import TILE_WIDTH, Frontier, leaf_hash
from config.tasks import cancel, spawn
from server.verify import Contradicted, NotVerified
from server.verify.kept import Kept, tag_of
from server.verify.source import LogSource, entries_in

AHEAD: Final = 8  # bundles that are asked for at once
MOST_FINDINGS: Final = 10


@dataclass
class Audited:
    """A log that was read as a whole: its checkpoint, and how many entries there are of each kind."""

    checkpoint: Checkpoint
    note: str
    before: Checkpoint | None
    kinds: Counter[str] = field(default_factory=Counter)
    feed_seq: int = 0  # of the newest signal or retraction


@dataclass(frozen=True, slots=True)
class Fetched:
    """The entries of a bundle, and what was kept of it, as sent (None: nothing, or nothing else)."""

    index: int
    bodies: list[bytes]
    content: bytes
    kept: list[bytes]


async def audit(source: LogSource, kept: Kept, given_key: VerifierKey | None = None) -> Audited:
    """Check the whole log; keep its key, entries and checkpoint. Raises Contradicted, NotVerified."""
    key = await _key(source, kept, given_key)
    note = await source.text("/log/checkpoint")
    try:
        checkpoint = open_checkpoint(note, key)
    except NoteRejected as error:
        raise Contradicted([f"the checkpoint is not this log's: {error}"]) from None
    if checkpoint.origin != key.name:
        raise Contradicted([f"the checkpoint is that of {checkpoint.origin!r}, not of {key.name!r}"])
    audited = Audited(checkpoint, note, kept.checkpoint)
    findings = _compared(audited) or await Auditor(source, kept, audited).read()
    if findings:
        path = kept.keep_evidence(note, checkpoint.size)
        raise Contradicted([*findings, f"The signed checkpoint that shows it is kept in {path}"])
    kept.keep_key(key)
    kept.keep_checkpoint(note)
    return audited


async def _key(source: LogSource, kept: Kept, given: VerifierKey | None) -> VerifierKey:
    """Return the key to trust: the one that was given, or kept, or shown at the first visit."""
    text = await source.text("/log/key")
    try:
        shown = parse_key(text)
    except NoteRejected as error:
        raise NotVerified(f"{source.url}/log/key: {error}") from None
    trusted = given or kept.key
    if trusted is not None and trusted != shown:
        text = f"the log is signed by another key than before: {shown} instead of {trusted}"
        raise Contradicted([f"{text}. If its operator has announced that, name the new key with --key"])
    return shown


def _compared(audited: Audited) -> list[str]:
    now, before = audited.checkpoint, audited.before
    if before is None:
        return []
    if now.size < before.size:
        return [f"the log was put back: it has {now.size} entries, and at your last visit it had signed {before.size}"]
    if now.size == before.size and now.root != before.root:
        return [f"the log has signed two histories of {now.size} entries: this one, and the one of your last visit"]
    return []


class Auditor:
    """Reads every entry, in order and in bounded memory, into the tree."""

    def __init__(self, source: LogSource, kept: Kept, audited: Audited) -> None:
        self._source = source
        self._kept = kept
        self._audited = audited
        self._frontier = Frontier()
        self._findings: list[str] = []
        self._changes: list[str] = []
        self._replaced: list[Tile] = []

    async def read(self) -> list[str]:
        """Return what is wrong."""
        checkpoint = self._audited.checkpoint
        async for fetched in fetch_bundles(self._source, self._kept, checkpoint.size):
            self._compare(fetched)
            self._take(fetched)
        if self._frontier.root() != checkpoint.root:
            self._findings += await self._find_changes()
        if self._findings:
            return self._findings + self._changes
        for tile in self._replaced:  # what was kept of them was not what is signed
            self._kept.keep_bundle(tile.index, await self._source.bundle(tile) or b"")
        return []

    def _compare(self, fetched: Fetched) -> None:
        """Note entries that were others at an earlier visit, and keep new ones."""
        start = fetched.index * TILE_WIDTH
        differing = [
            place
            for place, (old, new) in enumerate(zip(fetched.kept, fetched.bodies, strict=False))
            if old != new
        ]  # fmt: skip
        for place in differing:
            old, new = fetched.kept[place], fetched.bodies[place]
            self._changes.append(f"entry {start + place} was changed since an earlier visit: {_changes(old, new)}")
            del self._changes[MOST_FINDINGS:]
        if differing:
            self._replaced.append(Tile(None, fetched.index, len(fetched.bodies)))
        elif len(fetched.bodies) > len(fetched.kept):
            self._kept.keep_bundle(fetched.index, fetched.content)

    def _take(self, fetched: Fetched) -> None:
        start, before = fetched.index * TILE_WIDTH, self._audited.before
        hashes = [leaf_hash(body) for body in fetched.bodies]
        if before is not None and start < before.size <= start + len(hashes):
            self._frontier.append(hashes[: before.size - start])
            if self._frontier.root() != before.root:
                self._find(f"the first {before.size} entries are not those that were signed at your last visit")
            self._frontier.append(hashes[before.size - start :])
        else:
            self._frontier.append(hashes)
        for index, body in enumerate(fetched.bodies, start):
            self._look_at(index, body)

    def _look_at(self, index: int, body: bytes) -> None:
        try:
            entry = decode(body)
        except msgspec.MsgspecError as error:
            self._find(f"entry {index} is none that this version knows ({error}): {_shown(body)}")
            return
        self._audited.kinds[type(entry).__name__.removesuffix("Entry").lower()] += 1
        if isinstance(entry, SignalEntry | RetractionEntry):
            before = self._audited.feed_seq
            if entry.feed_seq != before + 1:
                self._find(f"entry {index} has the feed_seq {entry.feed_seq} after {before}: something is left out")
            self._audited.feed_seq = entry.feed_seq

    def _find(self, text: str) -> None:
        if len(self._findings) < MOST_FINDINGS:
            self._findings.append(text)

    async def _find_changes(self) -> list[str]:
        """Name the entries that are not those of the signed tree, by the hashes in its tiles."""
        size, root = self._audited.checkpoint.size, self._audited.checkpoint.root
        tree, changed = Frontier(), list[str]()
        for tile in bundles_of(size):
            hashes = await self._source.hashes(Tile(0, tile.index, tile.width))
            tree.append(hashes)
            content = await self._source.bundle(tile) or b""
            for place, (signed, body) in enumerate(zip(hashes, entries_in(content, tile), strict=True)):
                if leaf_hash(body) != signed and len(changed) < MOST_FINDINGS:
                    changed.append(
                        f"entry {tile.index * TILE_WIDTH + place} was changed after it was signed: {_shown(body)}"
                    )
        first = f"the {size} entries are not those that the checkpoint signs"
        if tree.root() == root:
            return [first, *changed]
        return [f"{first}, and neither are the hashes in the tiles: which ones were changed cannot be told"]


def bundles_of(size: int) -> Iterator[Tile]:
    """Yield the names of the bundles of entries of a log of this size."""
    for index in range(0, size, TILE_WIDTH):
        yield Tile(None, index // TILE_WIDTH, min(size - index, TILE_WIDTH))


async def fetch_bundles(source: LogSource, kept: Kept, size: int) -> AsyncIterator[Fetched]:
    """Yield all entries, a bundle at a time, in order. What is kept already is not sent again if it is the same."""
    waiting: deque[asyncio.Task[Fetched]] = deque()
    try:
        for tile in bundles_of(size):
            waiting.append(spawn(_fetch(source, kept, tile), name=f"fetch {tile.path}"))
            if len(waiting) == AHEAD:
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        await cancel(*waiting)


async def _fetch(source: LogSource, kept: Kept, tile: Tile) -> Fetched:
    before, old = kept.bundle(tile.index), kept.bodies(tile.index)
    tag = tag_of(before) if before is not None and len(old) == tile.width else None
    content = await source.bundle(tile, tag=tag)
    if content is None:
        assert before is not None
        return Fetched(tile.index, old, before, old)
    return Fetched(tile.index, entries_in(content, tile), content, old)


def entries_kept(kept: Kept, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield the entries that an audit has kept, with their indices."""
    for tile in bundles_of(size):
        for place, body in enumerate(kept.bodies(tile.index)[: tile.width]):
            yield tile.index * TILE_WIDTH + place, body


def read_entries(kept: Kept, size: int, marker: bytes) -> Iterator[tuple[int, AnyEntry]]:
    """Yield the entries in which the marker stands, and those of the market."""
    for index, body in entries_kept(kept, size):
        if marker in body or body.startswith((b'{"kind":"mark"', b'{"kind":"split"')):
            yield index, decode(body)


def _changes(old: bytes, new: bytes) -> str:
    """Say what differs between two entries: the fields, if both are objects."""
    try:
        before, after = orjson.loads(old), orjson.loads(new)
    except orjson.JSONDecodeError:
        before = after = None
    if not isinstance(before, dict) or not isinstance(after, dict):
        return f"it was {_shown(old)}, and now it is {_shown(new)}"
    names = [name for name in before | after if before.get(name) != after.get(name)]
    return "; ".join(f"{name} was {before.get(name)!r}, and now it is {after.get(name)!r}" for name in names[:5])


def _shown(body: bytes) -> str:
    text = body.decode(errors="replace")
    return text if len(text) <= 300 else f"{text[:300]}…"
