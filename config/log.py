"""Configure logging: a line per record as text or JSON, with the request's id, never a token or a secret."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

import orjson

from config.clock import rfc3339
from config.documents import Document
from config.masking import redact
from config.texts import escape_unstorable

ACCESS = "tradestream.access"
"""The logger of a line for each request, written by `log_access`."""

GATHER_SECONDS = 0.05
MOST_LINES = 500

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The id of the request that the current task serves; `-` outside of one."""

_access = logging.getLogger(ACCESS)
_root = logging.getLogger()
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "request_id", "taskName"),
    "_ray_timestamp_ns",  # the time again, in records of processes that import Ray
}


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
    # Fields that no format shows are not collected: the caller's frame alone takes longer than the rest of a record.
    logging._srcfile = None  # noqa: SLF001 - the documented way
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # Logs "Malformed HTTP message" for every port scan, and little of use.
    logging.getLogger("tornado.general").setLevel(max(logging.WARNING, logging.getLevelName(level)))


class GatheringHandler(logging.StreamHandler[TextIO]):
    """Write the access log's lines together, 50 ms after the first one, or when anything else is logged.

    At a thousand requests a second, writing each line by itself, and waking its reader, cost a tenth of them.
    A process that is killed loses those lines.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or keep it for a moment."""
        if record.name == ACCESS and record.levelno < logging.WARNING and self._may_keep():
            self._keep(self.format(record))
            return
        self.flush()
        super().emit(record)

    def flush(self) -> None:
        """Write the kept lines."""
        with self.lock or nullcontext():
            if self._lines:
                text, self._lines = "".join(self._lines), []
                try:
                    self.stream.write(text)
                except (OSError, ValueError):
                    return  # the stream is broken or closed: there is nowhere to report it
            super().flush()

    def keep_access(self, level: int, template: str, values: tuple[object, ...], extra: Mapping[str, object]) -> bool:
        """Keep a line of the access log in place of its record; returns False if the record has to be emitted."""
        if self.filters != _OURS or level < self.level or level >= logging.WARNING:
            return False
        form, lock = self.formatter, self.lock
        if lock is None or not isinstance(form, TextFormatter | JsonFormatter):
            return False
        with lock:
            if not self._may_keep():
                return False
            name = logging.getLevelName(level)
            self._keep(form.line(time.time(), name, ACCESS, str(extra["request_id"]), template % values, extra))
        return True

    def _may_keep(self) -> bool:
        """Return whether kept lines will be written: from the first line on, there is a timer."""
        if not self._lines:
            try:
                asyncio.get_running_loop().call_later(GATHER_SECONDS, self.flush)
            except RuntimeError:  # there is no loop in this thread
                return False
        return True

    def _keep(self, line: str) -> None:
        self._lines.append(line + self.terminator)
        if len(self._lines) >= MOST_LINES:
            self.flush()


def log_access(level: int, template: str, *values: object, request_id: str, **extra: object) -> None:
    """Write a line of the access log, as `Logger.log` would write it with this `extra`.

    A record and its way through Ray's factory, filters and locks cost more than the line: none is made where only the
    handler of `configure_logging` would see it.
    """
    if not _access.isEnabledFor(level):
        return
    named = {"request_id": request_id, **extra}
    handler = _only_handler()
    if handler is None or not handler.keep_access(level, template, values, named):
        _access.log(level, template, *values, extra=named)


def _only_handler() -> GatheringHandler | None:
    """Return the handler that alone receives the access log, if there is one."""
    if len(_root.handlers) != 1 or _access.handlers or _access.filters or _access.parent is not _root:
        return None
    handler = _root.handlers[0]
    return handler if isinstance(handler, GatheringHandler) and _access.propagate else None


class TextFormatter(logging.Formatter):
    """Format `2024-01-15T10:30:00.123Z INFO  handlers.access [request id] message`, then the traceback, if any."""

    def line(
        self, created: float, level: str, logger: str, request_id: str, message: str, extra: Mapping[str, object]
    ) -> str:
        """Return the line of a record with these attributes and no traceback."""
        return escape_unstorable(redact(_text(created, level, logger, request_id, message)))

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        request_id = getattr(record, "request_id", "-")
        line = _text(record.created, record.levelname, record.name, request_id, record.getMessage())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return escape_unstorable(redact(line))


class JsonFormatter(logging.Formatter):
    """Format one JSON object a line: `time, level, logger, request_id, message`, the `extra`, and `traceback`."""

    def line(
        self, created: float, level: str, logger: str, request_id: str, message: str, extra: Mapping[str, object]
    ) -> str:
        """Return the line of a record with these attributes and no traceback."""
        return _json(_document(created, level, logger, request_id, message, extra))

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        request_id = getattr(record, "request_id", "-")
        message = record.getMessage()
        document = _document(record.created, record.levelname, record.name, request_id, message, vars(record))
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return _json(document)


def _text(created: float, level: str, logger: str, request_id: str, message: str) -> str:
    return f"{_time(created)} {level:<7} {logger} [{request_id}] {_one_line(message)}"


def _document(
    created: float, level: str, logger: str, request_id: str, message: str, extra: Mapping[str, object]
) -> Document:
    document = {
        "time": _time(created),
        "level": level,
        "logger": logger,
        "request_id": request_id,
        "message": message,
    }
    return document | {key: value for key, value in extra.items() if key not in _STANDARD}


def _json(document: Document) -> str:
    try:
        line = orjson.dumps(document, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate in a received text, or an integer past 64 bits
        line = json.dumps(document, default=str, separators=(",", ":"))
    return redact(line)  # all of it, the `extra` included


def _add_request_id(record: logging.LogRecord) -> bool:
    if not hasattr(record, "request_id"):
        record.request_id = request_id.get()
    return True


_OURS = [_add_request_id]  # the filters of a handler of `configure_logging`


def _time(created: float) -> str:
    return rfc3339(datetime.fromtimestamp(created, UTC))


def _one_line(message: str) -> str:
    # A client's text must not be able to forge a log line.
    return message.replace("\n", "\\n").replace("\r", "\\r")
