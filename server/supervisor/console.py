"""The supervisor's console output: each step with its time, later events, and the gateways' own lines."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from config.clock import now, rfc3339
from config.masking import redact
from config.texts import escape_unstorable
from server.supervisor.logfile import LogFile

LINE_BYTES = 64 << 10
_ERASE = "\r\x1b[K"


class ConsoleStep:
    """A step in progress; `text` is the line that stays when it has succeeded."""

    def __init__(self, text: str) -> None:
        self.text = text


class Console:
    """Writes to `stream`, and to `log` with the time. A stream that is closed costs the lines, nothing else."""

    def __init__(self, stream: TextIO, log: LogFile | None = None) -> None:
        self._stream = stream
        self._log = log
        self._is_terminal = stream.isatty()
        self._pending = ""
        self._shown = False

    @contextmanager
    def step(self, text: str) -> Iterator[ConsoleStep]:
        """Show that the step `text` is running, then how it ended and after how long."""
        step, began = ConsoleStep(text), time.monotonic()
        self._pending = f"  … {text}"
        self._show_pending()
        mark = "–"  # interrupted
        try:
            yield step
            mark = "✓"
        except Exception:
            mark = "✗"
            raise
        finally:
            self._pending = ""
            self.say(f"  {mark} {step.text:<70} {time.monotonic() - began:5.1f} s")

    def say(self, text: str = "") -> None:
        """Print lines."""
        text = escape_unstorable(redact(text))
        self._print(f"{text}\n")
        if self._log is not None and text:
            self._log.write("".join(f"{rfc3339(now())} {line}\n" for line in text.splitlines()).encode())

    def event(self, text: str) -> None:
        """Print an event that is no step, with the time of day."""
        self.say(f"{rfc3339(now())} {text}" if self._log is None else text)

    def channel(self) -> Callable[[bytes], None]:
        """Return a sink for one child's output, which prints whole lines at a time."""
        partial = b""

        def echo(data: bytes) -> None:
            nonlocal partial
            lines, newline, partial = (partial + data).rpartition(b"\n")
            if newline:
                self._print(f"{lines.decode(errors='replace')}\n")
            elif len(partial) > LINE_BYTES:
                partial = b""  # no log is like that; the file has it

        return echo

    def _print(self, text: str) -> None:
        self._write(f"{_ERASE}{text}" if self._shown else text)
        self._shown = False
        self._show_pending()

    def _show_pending(self) -> None:
        if self._is_terminal and self._pending:
            self._write(_ERASE + self._pending)
            self._shown = True

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            # The reader has gone (a closed terminal, `| head`): the rest goes nowhere, also at the exit's last flush.
            with contextlib.suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
