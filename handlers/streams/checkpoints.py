"""Map an event's number to an offset of the feed: the arithmetic by which any gateway can resume any session.

A checkpoint `(n, seq)` says: after event n of the session, every matching signal up to offset `seq` of the feed had
been sent, and none past it. An event that is no signal (`session_start`, `heartbeat`) always has a checkpoint of its
own, so between two checkpoints the events are signals only: event n + k is the k-th matching signal after `seq`.

Checkpoints are kept as bytes (pairs of LEB128 varints, each pair relative to the one before): a session that has been
open for long has 64 of them, and ten thousand sessions must not cost ten thousand lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from handlers.streams.ring import EncodedSignal

Checkpoint = tuple[int, int]


def append_checkpoint(checkpoints: bytes, last: Checkpoint, checkpoint: Checkpoint) -> bytes:
    """Append a checkpoint; `last` is the one that was appended before, (0, 0) for the first."""
    return checkpoints + _varint(checkpoint[0] - last[0]) + _varint(checkpoint[1] - last[1])


def pack_checkpoints(checkpoints: Iterable[Checkpoint]) -> bytes:
    """Encode these checkpoints, which ascend, as bytes."""
    packed, last = b"", (0, 0)
    for checkpoint in checkpoints:
        packed = append_checkpoint(packed, last, checkpoint)
        last = checkpoint
    return packed


def unpack_checkpoints(packed: bytes) -> list[Checkpoint]:
    """Decode the checkpoints. Raises ValueError for bytes that `pack_checkpoints` did not make."""
    values: list[int] = []
    value = shift = 0
    for byte in packed:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            values.append(value)
            value = shift = 0
    if shift or len(values) % 2:
        raise ValueError("not checkpoints")
    checkpoints: list[Checkpoint] = []
    n = seq = 0
    for dn, dseq in zip(values[::2], values[1::2], strict=True):
        n, seq = n + dn, seq + dseq
        checkpoints.append((n, seq))
    return checkpoints


def trim_checkpoints(packed: bytes, keep: int) -> bytes:
    """Return the newest `keep` checkpoints."""
    return pack_checkpoints(unpack_checkpoints(packed)[-keep:])


def floor_checkpoint(checkpoints: Sequence[Checkpoint], n: int) -> Checkpoint | None:
    """Return the newest checkpoint not past event `n`; None if all are: the event is older than those kept."""
    found = None
    for checkpoint in checkpoints:
        if checkpoint[0] > n:
            break
        found = checkpoint
    return found


class Seeker:
    """Counts matching signals, batch by batch, until the k-th (k ≥ 1) is found."""

    def __init__(self, k: int, matches: Callable[[EncodedSignal], bool]) -> None:
        self._left = k
        self._matches = matches

    def feed(self, signals: Iterable[EncodedSignal]) -> int | None:
        """Return the offset of the k-th matching signal, or None if it is not among those fed so far."""
        for signal in signals:
            if self._matches(signal):
                self._left -= 1
                if self._left == 0:
                    return signal.feed_seq
        return None


def _varint(value: int) -> bytes:
    assert value >= 0, "checkpoints ascend"
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
