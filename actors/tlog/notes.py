"""Sign and verify checkpoints as notes with Ed25519 (c2sp.org/signed-note, /tlog-checkpoint, /tlog-cosignature)."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from actors.tlog.tree import HASH_BYTES

_DASH: Final = "\u2014 "
_ED25519: Final = b"\x01"
_COSIGNATURE: Final = b"\x04"
_ID_BYTES: Final = 4
_TIME_BYTES: Final = 8
_MOST_SIGNATURES: Final = 100
_LARGEST_SIZE: Final = 2**63
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class NoteRejected(ValueError):
    """A note is malformed, or not signed by a key that it must be signed by."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key by which notes are verified. `kind`: 1 signs a note, 4 cosigns a checkpoint with the time."""

    name: str
    kind: bytes
    public: bytes

    @property
    def id(self) -> bytes:
        """Return the four bytes by which a signature names its key."""
        return sha256(self.name.encode() + b"\n" + self.kind + self.public).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        """Return the key as text: name, id and key, joined by `+`."""
        return f"{self.name}+{self.id.hex()}+{b64encode(self.kind + self.public).decode()}"

    def verifies(self, text: str, signature: bytes) -> bool:
        """Return whether this key made the signature (without its id) of the text."""
        message = text.encode()
        if self.kind == _COSIGNATURE:
            time = int.from_bytes(signature[:_TIME_BYTES])
            message, signature = _cosigned(text, time), signature[_TIME_BYTES:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True


def parse_key(text: str) -> VerifierKey:
    """Return the key that a text is. Raises NoteRejected if it is malformed, of another kind, or has another id."""
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    material = _decode(encoded)
    key = VerifierKey(name, material[:1], material[1:])
    if not _is_name(name) or key.kind not in (_ED25519, _COSIGNATURE) or len(key.public) != HASH_BYTES:
        raise NoteRejected("the key is none of Ed25519")
    if key.id.hex() != key_id:
        raise NoteRejected("the key's id is that of another key")
    return key


class Signer:
    """A private key and the name under which it signs."""

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        if not _is_name(name):
            raise ValueError("a key's name has neither spaces nor a plus sign")
        self._private = private
        public = private.public_key().public_bytes_raw()
        self.key = VerifierKey(name, _ED25519, public)
        self.cosigning_key = VerifierKey(name, _COSIGNATURE, public)

    def sign(self, text: str) -> str:
        """Return the note of a text that ends in a newline."""
        return f"{text}\n{_line(self.key, self._private.sign(text.encode()))}"

    def cosign(self, text: str, time: int) -> str:
        """Return a signature line: at `time` (POSIX seconds) this was the latest consistent checkpoint."""
        return _line(self.cosigning_key, time.to_bytes(_TIME_BYTES) + self._private.sign(_cosigned(text, time)))


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A text (with its last newline) and its signatures: the key's name, its id, and the signature after the id."""

    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...]

    def signers(self, keys: Iterable[VerifierKey]) -> list[VerifierKey]:
        """Return those of the known keys that signed. Raises NoteRejected if a signature of one of them is wrong."""
        known = {(key.name, key.id): key for key in keys}
        found = []
        for name, key_id, signature in self.signatures:
            if (key := known.get((name, key_id))) is None:
                continue
            if not key.verifies(self.text, signature):
                raise NoteRejected(f"the signature of {name} is wrong")
            found.append(key)
        return found


def parse_note(content: str) -> SignedNote:
    """Return a note as it is written, nothing verified. Raises NoteRejected if it is malformed."""
    text, gap, rest = content.rpartition("\n\n")
    lines = rest.split("\n")
    if not gap or lines.pop() != "" or not 0 < len(lines) <= _MOST_SIGNATURES:
        raise NoteRejected("the note has no signatures")
    if any(ord(each) < ord(" ") and each != "\n" for each in content):
        raise NoteRejected("the note has control characters")
    return SignedNote(text + "\n", tuple(map(_parse_line, lines)))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: the name of the log, the number of its entries, and the hash of its tree."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


def parse_checkpoint(note: SignedNote) -> Checkpoint:
    """Return the checkpoint that a note is. Raises NoteRejected if it is none."""
    origin, size, root, *_ = [*note.text.split("\n"), "", ""]
    if not origin or _NUMBER.fullmatch(size) is None:
        raise NoteRejected("the note is no checkpoint")
    checkpoint = Checkpoint(origin, int(size), _decode(root))
    if len(checkpoint.root) != HASH_BYTES or checkpoint.size >= _LARGEST_SIZE:
        raise NoteRejected("the note is no checkpoint")
    return checkpoint


def open_checkpoint(content: str, key: VerifierKey) -> Checkpoint:
    """Return the checkpoint that the log's key has signed. Raises NoteRejected."""
    note = parse_note(content)
    if not note.signers([key]):
        raise NoteRejected("the checkpoint is not signed by the log's key")
    return parse_checkpoint(note)


def _cosigned(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def _line(key: VerifierKey, signature: bytes) -> str:
    return f"{_DASH}{key.name} {b64encode(key.id + signature).decode()}\n"


def _parse_line(line: str) -> tuple[str, bytes, bytes]:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    content = _decode(encoded)
    if not line.startswith(_DASH) or not _is_name(name) or len(content) <= _ID_BYTES:
        raise NoteRejected("a signature of the note is malformed")
    return name, content[:_ID_BYTES], content[_ID_BYTES:]


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(map(str.isspace, name))


def _decode(encoded: str) -> bytes:
    try:
        return b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteRejected("it is not base64") from error
