"""Log files of child processes: bounded on disk, their last lines kept for an error message."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

LIMIT_BYTES = 10 << 20
KEPT_FILES = 3  # the current one and two before it
TAIL_BYTES = 8 << 10


class LogFile:
    """An append-only file that is rotated when it opens and when it passes `limit_bytes`."""

    def __init__(self, path: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self.path = path
        self._limit_bytes = limit_bytes
        self._recent = bytearray()
        self._size = 0
        self._file: BinaryIO | None = None
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size:
            self._shift()
        self._open()

    def write(self, data: bytes) -> None:
        """Append. A full disk loses log lines, never the process that logs."""
        self._recent += data
        del self._recent[:-TAIL_BYTES]
        if self._size and self._size + len(data) > self._limit_bytes:
            self.close()
            self._shift()
            self._open()
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._size += self._file.write(data)

    def tail(self, lines: int = 15) -> str:
        """Return the last lines that were written, for a message to a person."""
        text = self._recent.decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def close(self) -> None:
        """Close the file; a later write opens nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        with contextlib.suppress(OSError):
            # Whatever the umask: a log may hold more than its reader expects.
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.fchmod(descriptor, 0o600)
            self._file = os.fdopen(descriptor, "ab", buffering=0)
        self._size = 0

    def _shift(self) -> None:
        names = [self.path, *(self.path.with_suffix(f"{self.path.suffix}.{n}") for n in range(1, KEPT_FILES))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            with contextlib.suppress(OSError):
                newer.replace(older)
