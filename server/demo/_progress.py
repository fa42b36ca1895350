"""The progress bar: one line that is written over on a terminal, and a line for each finished step anywhere."""

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
    """A step of so many parts."""

    def __init__(self, progress: Progress, text: str, total: int) -> None:
        self.text = text
        self.total = total
        self.done = 0
        self._progress = progress
        self._shown = 0.0

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self.done += count
        if time.monotonic() - self._shown >= _SHOW_SECONDS:
            self._shown = time.monotonic()
            self._progress.show(self.line)

    @property
    def line(self) -> str:
        """As it is shown."""
        share = min(self.done / max(self.total, 1), 1.0)
        full = round(share * _WIDTH)
        return f"  {self.text:<34} {'█' * full}{'░' * (_WIDTH - full)} {self.done}/{self.total}"


class Progress:
    """Writes to `stream`. Nothing moves where nobody looks: a file gets the finished lines alone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._pending = False

    @contextmanager
    def step(self, text: str, total: int) -> Iterator[Bar]:
        """A bar while the block lasts; then a line with the time that it took."""
        bar, began = Bar(self, text, total), time.monotonic()
        self.show(bar.line)
        yield bar
        self.say(f"  ✓ {text:<32} {bar.done:>6}  {time.monotonic() - began:5.1f} s")

    def show(self, line: str) -> None:
        """Write the line that goes away, where lines can."""
        if self._is_terminal:
            columns = shutil.get_terminal_size().columns  # a line that wraps would not go away
            self._stream.write(f"{_ERASE}{line[: columns - 1]}")
            self._stream.flush()
            self._pending = True

    def say(self, text: str = "") -> None:
        """A line that stays."""
        self._stream.write(f"{_ERASE if self._pending else ''}{text}\n")
        self._stream.flush()
        self._pending = False
