"""Keep what was seen of a log: its key, its last checkpoint, and its entries, in a folder of the reader's own."""

from __future__ import annotations

import os
import secrets
from hashlib import sha1
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from actors.tlog.notes import Checkpoint, NoteRejected, VerifierKey, parse_checkpoint, parse_key, parse_note
from actors.tlog.tiles import decode_entries
from server.verify import NotVerified

_MOST_BYTES: Final = 20 << 20


def default_folder() -> Path:
    """Return where a user's programs keep such things."""
    home = os.environ.get("XDG_CACHE_HOME")  # noqa: TID251 - the reader's machine, no setting of the server
    return (Path(home) if home else Path.home() / ".cache") / "tradestream"


class Kept:
    """What is kept of one server's log. Files are replaced as a whole, so that a crash leaves the old or the new."""

    def __init__(self, folder: Path, url: str) -> None:
        address = urlsplit(url)
        self.folder = folder / quote(f"{address.netloc}{address.path.rstrip('/')}", safe="")

    @property
    def key(self) -> VerifierKey | None:
        """Return the log's key. Raises NotVerified."""
        text = self._read("key")
        try:
            return None if text is None else parse_key(text.decode())
        except (NoteRejected, UnicodeDecodeError) as error:
            raise NotVerified(f"{self.folder / 'key'}: {error}") from None

    def keep_key(self, key: VerifierKey) -> None:
        """Keep the log's key."""
        self._write("key", f"{key}\n".encode())

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Return the last checkpoint, whose signature was verified when it was kept. Raises NotVerified."""
        note = self._read("checkpoint")
        try:
            return None if note is None else parse_checkpoint(parse_note(note.decode()))
        except (NoteRejected, UnicodeDecodeError) as error:
            raise NotVerified(f"{self.folder / 'checkpoint'}: {error}") from None

    def keep_checkpoint(self, note: str) -> None:
        """Keep a checkpoint with which everything is consistent."""
        self._write("checkpoint", note.encode())

    def keep_evidence(self, note: str, size: int) -> Path:
        """Keep a signed checkpoint that contradicts the last one, beside it; return its path."""
        return self._write(f"contradiction-{size}", note.encode())

    def bundle(self, index: int) -> bytes | None:
        """Return the kept entries of a bundle, as many as there were, as they were sent."""
        return self._read(f"entries/{index}")

    def keep_bundle(self, index: int, content: bytes) -> None:
        """Keep the entries of a bundle."""
        self._write(f"entries/{index}", content, durable=False)

    def bodies(self, index: int) -> list[bytes]:
        """Return the kept entries of a bundle. Raises NotVerified."""
        try:
            return decode_entries(self.bundle(index) or b"")
        except ValueError as error:
            raise NotVerified(f"{self.folder / 'entries' / str(index)}: {error}") from None

    def _read(self, name: str) -> bytes | None:
        try:
            with (self.folder / name).open("rb") as file:
                return file.read(_MOST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise NotVerified(f"{self.folder / name} cannot be read: {error.strerror or error}") from None

    def _write(self, name: str, content: bytes, *, durable: bool = True) -> Path:
        path = self.folder / name
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
            with draft.open("wb") as file:
                file.write(content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            draft.replace(path)
            if durable:
                _sync(path.parent)
        except OSError as error:
            raise NotVerified(f"{path} cannot be written: {error.strerror or error}") from None
        return path


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tag_of(content: bytes) -> str:
    """Return the ETag that the server gives this content."""
    return f'"{sha1(content, usedforsecurity=False).hexdigest()}"'
