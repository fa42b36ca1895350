"""Logging: one line per record as text or JSON, the request's id in each, and never a token."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from contextlib import nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

from config.clock import rfc3339

ACCESS = "tradestream.access"
"""The logger with a line for each request, server/app's."""

GATHER_SECONDS = 0.05
MOST_LINES = 500

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The id of the request that the current task serves; `-` outside of one."""

# A stream's token travels in its URL, and a URL gets into records that are not ours: a library's, a traceback's.
_SECRETS = re.compile(r"((?:access_|refresh_)?token=|Bearer )[^\s&\"'<>\\]+", re.IGNORECASE)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "request_id", "taskName"}


def configure_logging(level: str, form: str, *, stream: TextIO | None = None) -> None:
    """Send every record of this process to `stream` (stderr), one line each: `form` is `text` or `json`."""
    handler = GatheringHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(_add_request_id)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    # What no line of ours shows is not looked for: the caller's frame alone takes longer than the rest of a record.
    logging._srcfile = None  # noqa: SLF001 - the documented way
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # Says "Malformed HTTP message" for every port scan, and little else of use.
    logging.getLogger("tornado.general").setLevel(max(logging.WARNING, logging.getLevelName(level)))


class GatheringHandler(logging.StreamHandler[TextIO]):
    """Writes the access log's lines together, 50 ms after the first one, or when anything else is logged.

    At a thousand requests a second, writing each by itself, and its reader's waking up for it, cost a tenth of them.
    A process that is killed loses those lines.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Write, or keep for a moment."""
        if record.name == ACCESS and record.levelno < logging.WARNING and self._keep(record):
            return
        self.flush()
        super().emit(record)

    def flush(self) -> None:
        """Write what was kept."""
        with self.lock or nullcontext():
            if self._lines:
                text, self._lines = "".join(self._lines), []
                try:
                    self.stream.write(text)
                except (OSError, ValueError):
                    return  # nobody reads, or it is closed: there is no place to say so
            super().flush()

    def _keep(self, record: logging.LogRecord) -> bool:
        if not self._lines:
            try:
                asyncio.get_running_loop().call_later(GATHER_SECONDS, self.flush)
            except RuntimeError:  # there is no loop in this thread
                return False
        self._lines.append(self.format(record) + self.terminator)
        if len(self._lines) >= MOST_LINES:
            self.flush()
        return True


def redact(text: str) -> str:
    """The text without the values of tokens."""
    return _SECRETS.sub(r"\1***", text) if "oken=" in text or "earer " in text else text


class TextFormatter(logging.Formatter):
    """`2024-01-15T10:30:00.123Z INFO  handlers.access [request id] message`, then the traceback, if any."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = (
            f"{_time(record)} {record.levelname:<7} {record.name} [{getattr(record, 'request_id', '-')}] "
            f"{_one_line(record.getMessage())}"
        )
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return redact(line)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time, level, logger, request_id, message`, the record's `extra`, and `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        document: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "request_id": getattr(record, "request_id", "-"),
            "message": redact(record.getMessage()),
        }
        document |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            document["traceback"] = redact(self.formatException(record.exc_info))
        return _json(document)


def _json(document: dict[str, Any]) -> str:
    try:
        return orjson.dumps(document, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate, in a text that somebody sent, or an integer past 64 bits
        return json.dumps(document, default=str, separators=(",", ":"))


def _add_request_id(record: logging.LogRecord) -> bool:
    if not hasattr(record, "request_id"):
        record.request_id = request_id.get()
    return True


def _time(record: logging.LogRecord) -> str:
    return rfc3339(datetime.fromtimestamp(record.created, UTC))


def _one_line(message: str) -> str:
    # What a client sends must not be able to forge a line of its own.
    return message.replace("\n", "\\n").replace("\r", "\\r")
