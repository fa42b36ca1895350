"""Logging: one line per record as text or JSON, the request's id in each, and never a token."""

from __future__ import annotations

import json
import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

from config.clock import rfc3339

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The id of the request that the current task serves; `-` outside of one."""

# A stream's token travels in its URL, and a URL gets into records that are not ours: a library's, a traceback's.
_SECRETS = re.compile(r"((?:access_|refresh_)?token=|Bearer )[^\s&\"'<>\\]+", re.IGNORECASE)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "request_id", "taskName"}


def configure_logging(level: str, form: str, *, stream: TextIO | None = None) -> None:
    """Send every record of this process to `stream` (stderr), one line each: `form` is `text` or `json`."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(_add_request_id)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    # Says "Malformed HTTP message" for every port scan, and little else of use.
    logging.getLogger("tornado.general").setLevel(max(logging.WARNING, logging.getLevelName(level)))


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
