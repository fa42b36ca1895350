"""Show progress: one line that is overwritten on a terminal, and a line for each finished step anywhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

_ERASE = "\r\x1b[K"


class Progress:
    """Write progress to `stream`; one that is no terminal gets the finished lines alone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._pending = False

    @contextmanager
    def step(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show how many parts of a step are done, while the block counts them; then a line with the time it took."""
        done, began = 0, time.monotonic()

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self.show(f"  … {text:<32} {done:>6} of {total}")

        advance(0)
        yield advance
        self.say(f"  ✓ {text:<32} {done:>6}  {time.monotonic() - began:5.1f} s")

    def show(self, line: str) -> None:
        """Write the transient line, on a terminal."""
        if self._is_terminal:
            columns = shutil.get_terminal_size().columns  # a line that wraps could not be overwritten
            self._stream.write(f"{_ERASE}{line[: columns - 1]}")
            self._stream.flush()
            self._pending = True

    def say(self, text: str = "") -> None:
        """Write a line that stays."""
        self._stream.write(f"{_ERASE if self._pending else ''}{text}\n")
        self._stream.flush()
        self._pending = False
