"""Show progress: one line that is overwritten on a terminal, and a line for each finished step anywhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_WIDTH = 28
_ERASE = "\r\x1b[K"
_SHOW_SECONDS = 0.1


class Bar:
    """The progress bar of a step of `total` parts."""

    def __init__(self, progress: Progress, text: str, total: int) -> None:
        self.text = text
        self.total = total
        self.done = 0
        self._progress = progress
        self._shown = 0.0

    def advance(self, count: int = 1) -> None:
        """Count finished parts, and show the bar when it is due."""
        self.done += count
        if time.monotonic() - self._shown >= _SHOW_SECONDS:
            self._shown = time.monotonic()
            self._progress.show(self.line)

    @property
    def line(self) -> str:
        """Return the bar's line."""
        share = min(self.done / max(self.total, 1), 1.0)
        full = round(share * _WIDTH)
        return f"  {self.text:<34} {'█' * full}{'░' * (_WIDTH - full)} {self.done}/{self.total}"


class Progress:
    """Write progress to `stream`; one that is no terminal gets the finished lines alone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._pending = False

    @contextmanager
    def step(self, text: str, total: int) -> Iterator[Bar]:
        """Show a bar while the block lasts; then a line with the time that it took."""
        bar, began = Bar(self, text, total), time.monotonic()
        self.show(bar.line)
        yield bar
        self.say(f"  ✓ {text:<32} {bar.done:>6}  {time.monotonic() - began:5.1f} s")

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
