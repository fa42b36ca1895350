"""Write and read a proof that an entry is in a log, complete in itself (c2sp.org/tlog-proof)."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from actors.tlog.notes import Checkpoint, VerifierKey, open_checkpoint
from actors.tlog.tree import HASH_BYTES, ProofFailed, leaf_hash, verify_inclusion

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = "index "
_EXTRA: Final = "extra "
_MOST_HASHES: Final = 63
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Proof:
    """An entry's index, the hashes from its sibling up to the root, and the checkpoint (a note) that has the root."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str

    def __str__(self) -> str:
        """Return the proof as text."""
        lines = [_HEADER, f"{_INDEX}{self.index}", *encode_hashes(self.hashes)]
        return "\n".join(lines) + f"\n\n{self.checkpoint}"

    def verify(self, entry: bytes, key: VerifierKey) -> Checkpoint:
        """Return the checkpoint that covers the entry. Raises NoteRejected, ProofFailed."""
        checkpoint = open_checkpoint(self.checkpoint, key)
        verify_inclusion(leaf_hash(entry), self.index, checkpoint.size, self.hashes, checkpoint.root)
        return checkpoint


def parse_proof(text: str) -> Proof:
    """Return the proof that a text is. Raises ProofFailed if it is malformed."""
    head, gap, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not gap or lines.pop(0) != _HEADER:
        raise ProofFailed("this is no proof of a log")
    if lines and lines[0].startswith(_EXTRA):
        lines.pop(0)
    index = lines.pop(0).removeprefix(_INDEX) if lines and lines[0].startswith(_INDEX) else ""
    if _NUMBER.fullmatch(index) is None:
        raise ProofFailed("the proof has no index")
    return Proof(int(index), tuple(decode_hashes(lines)), checkpoint)


def encode_hashes(hashes: Sequence[bytes]) -> list[str]:
    """Return the lines of a proof's hashes."""
    return [b64encode(each).decode() for each in hashes]


def decode_hashes(lines: Sequence[str]) -> list[bytes]:
    """Return the hashes of a proof's lines. Raises ProofFailed if they are malformed, or more than 63."""
    try:
        hashes = [b64decode(line, validate=True) for line in lines]
    except (Error, ValueError) as error:
        raise ProofFailed("a hash of the proof is not base64") from error
    if len(hashes) > _MOST_HASHES or any(len(each) != HASH_BYTES for each in hashes):
        raise ProofFailed("the proof has what are no hashes")
    return hashes
