"""Log lines: one a record, the request's id in each, and never a token."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from config.log import ACCESS, MOST_LINES, GatheringHandler, configure_logging, log_access, redact, request_id


@pytest.fixture
def root() -> Iterator[None]:
    """The root logger, put back afterwards."""
    logger, general = logging.getLogger(), logging.getLogger("tornado.general")
    before = logger.handlers[:], logger.level, general.level
    yield
    logger.handlers[:], logger.level, general.level = before
    logging.captureWarnings(False)


def lines(form: str, *, error: Exception | None = None) -> list[str]:
    stream = io.StringIO()
    configure_logging("INFO", form, stream=stream)
    token = request_id.set("r-1")
    try:
        try:
            if error is not None:
                raise error
        except Exception:
            logging.getLogger("a").exception("failed %s", "access_token=eyJ.secret.x&y")
        logging.getLogger("a").info("two\nlines", extra={"status": 200})
        logging.getLogger("a").debug("not shown")
    finally:
        request_id.reset(token)
    return stream.getvalue().splitlines()


@pytest.mark.usefixtures("root")
def test_text_lines_name_time_level_logger_and_request() -> None:
    [line] = lines("text")
    assert line.endswith("INFO    a [r-1] two\\nlines")
    assert line[:4].isdecimal()
    assert line[23] == "Z"


@pytest.mark.usefixtures("root")
def test_json_lines_are_objects_with_the_records_extra() -> None:
    [line] = lines("json")
    document = json.loads(line)
    assert document["message"] == "two\nlines"
    assert (document["request_id"], document["level"], document["status"]) == ("r-1", "INFO", 200)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("odd", ["half a \ud83d sign", 2**70])
def test_values_that_json_libraries_refuse_are_logged_all_the_same(odd: object) -> None:
    stream = io.StringIO()
    configure_logging("INFO", "json", stream=stream)
    logging.getLogger("a").info("odd", extra={"seen": odd})
    assert json.loads(stream.getvalue())["seen"] == odd


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_token_is_in_no_line_and_no_traceback(form: str) -> None:
    text = "\n".join(lines(form, error=ValueError("GET /s?access_token=eyJ.secret.x Bearer eyJ.secret.y")))
    assert "ValueError" in text
    assert "secret" not in text
    assert "access_token=***" in text


def test_only_the_value_is_hidden() -> None:
    assert redact("GET /x?access_token=abc.def&min_score=5") == "GET /x?access_token=***&min_score=5"
    assert redact("Authorization: bearer abc") == "Authorization: bearer ***"
    assert redact("nothing to hide") == "nothing to hide"


ACCESS_LINES: list[tuple[tuple[object, ...], str]] = [
    (("GET", "/health", 200, 0.04, "127.0.0.1"), "0123456789abcdef"),
    (("POST", "/x\ny\r/token=abc.def", 500, 12.35, "::1"), "!id~"),
    (("GET", "/%s%d\x85\xe9", 404, 1e9, "2001:db8::1"), "-"),
]


class Watch(logging.Handler):
    """A handler that collects records, and writes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record)


async def access_lines(form: str, *others: logging.Handler) -> list[str]:
    """Return the written ACCESS_LINES, without the time."""
    stream = io.StringIO()
    configure_logging("INFO", form, stream=stream)
    for other in others:
        logging.getLogger().addHandler(other)
    for values, name in ACCESS_LINES:
        log_access(logging.INFO, "%s %s %d %.1f ms %s", *values, request_id=name, route="/{x}", status=values[2])
        log_access(logging.DEBUG, "%s", "a probe", request_id=name)
    assert stream.getvalue() == "", "they leave together"
    logging.getLogger().handlers[0].flush()
    lines = stream.getvalue().split("\n")[:-1]
    cut = len('{"time":"2024-01-15T10:30:00.123Z"') if form == "json" else len("2024-01-15T10:30:00.123Z")
    assert all(line[:cut].rstrip('"').endswith("Z") for line in lines)
    return [line[cut:] for line in lines]


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_line_of_the_access_log_is_the_one_that_a_record_would_make(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch()
    with monkeypatch.context() as patch:
        patch.setattr(logging.getLogger(ACCESS), "makeRecord", None)
        alone = await access_lines(form)
    assert alone == await access_lines(form, watch)
    assert "\n".join(alone).count("***") == 1
    assert [record.args for record in watch.seen] == [values for values, _ in ACCESS_LINES]
    assert [record.request_id for record in watch.seen] == [name for _, name in ACCESS_LINES]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("root")
async def test_records_of_the_access_log_are_seen_alone() -> None:
    stream, logger, watch = io.StringIO(), logging.getLogger(ACCESS), Watch()
    configure_logging("INFO", "text", stream=stream)

    def refuse(record: logging.LogRecord) -> bool:
        return record.args != ("two",)

    logger.addHandler(watch)
    logger.addFilter(refuse)
    try:
        for word in ("one", "two"):
            log_access(logging.INFO, "%s", word, request_id="-")
    finally:
        logger.removeHandler(watch)
        logger.removeFilter(refuse)
    log_access(logging.INFO, "%s", "three", request_id="-")
    logging.getLogger("other").info("four")
    assert [record.getMessage() for record in watch.seen] == ["one"]
    assert [line[-5:].split()[-1] for line in stream.getvalue().splitlines()] == ["one", "three", "four"]


@pytest.mark.usefixtures("root")
async def test_an_access_log_that_is_turned_off_is_silent() -> None:
    stream = io.StringIO()
    configure_logging("WARNING", "text", stream=stream)
    log_access(logging.INFO, "%s", "quiet", request_id="-")
    log_access(logging.WARNING, "%s", "loud", request_id="-")
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["loud"]


def say(handler: logging.Handler, name: str, message: str, level: int = logging.INFO) -> None:
    handler.handle(logging.makeLogRecord({"name": name, "msg": message, "levelno": level}))


async def test_lines_of_the_access_log_leave_together_and_soon() -> None:
    stream = io.StringIO()
    handler = GatheringHandler(stream)
    say(handler, ACCESS, "first")
    say(handler, ACCESS, "second")
    assert stream.getvalue() == ""
    for _ in range(500):
        if stream.getvalue():
            break
        await asyncio.sleep(0.01)
    assert stream.getvalue() == "first\nsecond\n"


async def test_other_records_are_written_at_once_and_after_the_lines_before_them() -> None:
    stream = io.StringIO()
    handler = GatheringHandler(stream)
    say(handler, ACCESS, "request")
    say(handler, "other", "event")
    assert stream.getvalue() == "request\nevent\n"
    say(handler, ACCESS, "refusal", logging.WARNING)
    say(handler, ACCESS, "another")
    assert stream.getvalue() == "request\nevent\nrefusal\n"
    handler.flush()
    assert stream.getvalue() == "request\nevent\nrefusal\nanother\n"


def test_lines_without_a_loop_are_written_at_once() -> None:
    stream = io.StringIO()
    say(GatheringHandler(stream), ACCESS, "line")
    assert stream.getvalue() == "line\n"


async def test_gathered_lines_are_bounded() -> None:
    stream = io.StringIO()
    handler = GatheringHandler(stream)
    for _ in range(MOST_LINES):
        say(handler, ACCESS, "line")
    assert stream.getvalue().count("\n") == MOST_LINES
