"""Make standard streams safe to print to: closed, broken or ASCII ones cost characters, never a traceback."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import TextIO

# Replacements of the characters beyond ASCII that are printed here, for a terminal or a file of ASCII only.
_PLAIN = {"✓": "+", "✗": "x", "…": "...", "–": "-", "—": "-", "→": "->", "×": "x", "·": "*", "≥": ">=", "±": "+-"}


def prepare_streams() -> None:
    """Open the standard streams that are closed, and replace characters that they cannot encode."""
    # A file or a socket that was opened as number 1 would get all that we and our children print.
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)
    os.close(number)
    codecs.register_error("tradestream.plain", _plain)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = _lenient(sys.stdout or os.fdopen(1, "w", closefd=False))
    sys.stderr = _lenient(sys.stderr or os.fdopen(2, "w", closefd=False))


def printing(command: Callable[[], int]) -> int:
    """Run a command that prints and return its exit status; a closed reader (`| head`) ends it quietly."""
    try:
        status = command()
        sys.stdout.flush()
    except BrokenPipeError:
        status = 1
    except OSError as error:  # of a full disk: what is open for writing says so at last
        if error.filename is not None:
            raise
        with contextlib.suppress(OSError):
            sys.stderr.write(f"cannot print: {(error.strerror or str(error)).lower()}\n")
        status = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Else the interpreter tries again at its end, and says so.
            with contextlib.suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
    return status


def _lenient(stream: TextIO) -> TextIO:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="tradestream.plain")
    return stream


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(each, each if each.isascii() else "?") for each in text), error.end
