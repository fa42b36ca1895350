"""Log lines: one a record, the request's id in each, and never a token."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from config.log import ACCESS, MOST_LINES, GatheringHandler, configure_logging, redact, request_id


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
def test_what_json_libraries_refuse_is_logged_all_the_same(odd: object) -> None:
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


async def test_what_else_is_logged_comes_at_once_and_after_the_lines_before_it() -> None:
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


def test_without_a_loop_nothing_is_kept() -> None:
    stream = io.StringIO()
    say(GatheringHandler(stream), ACCESS, "line")
    assert stream.getvalue() == "line\n"


async def test_so_many_lines_are_kept_and_no_more() -> None:
    stream = io.StringIO()
    handler = GatheringHandler(stream)
    for _ in range(MOST_LINES):
        say(handler, ACCESS, "line")
    assert stream.getvalue().count("\n") == MOST_LINES
