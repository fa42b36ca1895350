"""HTTP/1.1 from the wire: the corpus and random changes of it, against two other servers and the application.

The kind: bytes that we read in another way than others do, answer in another way than the standard says, or never.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
import uvloop

from schemas.errors import Unavailable
from server._http1.parser import BadRequest, RequestParser
from tests.api.serving import Client, serving, until
from tests.fuzz.budget import fuzz_seconds, rounds
from tests.fuzz.http_cases import Case, corpus, made
from tests.fuzz.http_peers import HEADER_BYTES, asked_of_h11, asked_of_ours, asked_of_tornado
from tests.fuzz.http_rules import fault

PATHS = [
    "/", "/health", "/api/openapi.json", "/api/docs", "/api/docs/start.js", "/auth/login", "/auth/refresh",
    "/auth/me", "/api/signals", "/api/signals/stream", "/api/signals/ws", "/api/signals/x", "/api/user/profile",
    "/api/leaderboards", "/api/v1/signals", "/api/v1/events", "/api/v1/ws/stream", "/api/v1/dlq/retry", "/nothing",
]  # fmt: skip
ALLOWED_5XX = {501, 503, 505}
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


class Away:
    """A service that is unavailable."""

    def __getattr__(self, name: str) -> NoReturn:
        raise Unavailable("It is away")


class Log(logging.Handler):
    """A handler that collects records of errors, or with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            self.errors.append(f"{record.name}: {record.getMessage()} {record.exc_info}")


@pytest.fixture(autouse=True)
def log() -> Iterator[Log]:
    """Assert that no client input is logged as an error of the server."""
    log = Log()
    logging.getLogger().addHandler(log)
    yield log
    logging.getLogger().removeHandler(log)
    assert log.errors == []


async def _compared(case: Case) -> list[str]:
    ours = await asked_of_ours(case.data)
    peers = {"tornado": await asked_of_tornado(case.data), "h11": asked_of_h11(case.data)}
    found = [fault(case.data, ours, theirs, name, is_known=bool(case.statuses)) for name, theirs in peers.items()]
    if case.statuses and ours.statuses != case.statuses:
        found.append(f"answered with {' '.join(ours.statuses)}")
    return [f"{case.name}: {each} ({case.data[:2000]!r})" for each in found if each is not None]


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Let nobody log what every second case is a reason for; until the test ends, and not for the next one."""
    caplog.set_level(logging.CRITICAL, "tornado")
    caplog.set_level(logging.ERROR, "handlers")


@pytest.mark.usefixtures("quiet")
async def test_the_corpus_is_answered_as_it_says_and_read_as_others_read_it() -> None:
    assert len(corpus()) > 600
    assert [fault for case in corpus() for fault in await _compared(case)] == []


def test_the_corpus_on_the_loop_of_the_gateway() -> None:
    async def ask() -> list[str]:
        answered = [(case, (await asked_of_ours(case.data)).statuses) for case in corpus()]
        return [f"{case.name}: {statuses}" for case, statuses in answered if statuses != case.statuses]

    assert uvloop.run(ask()) == []


@pytest.mark.usefixtures("quiet")
async def test_chance_finds_no_bytes_that_we_and_others_read_in_two_ways() -> None:
    for name, chance in rounds():
        for _ in range(20):
            faults = await _compared(made(chance))
            assert not faults, f"{name}: {faults[0]}"


def _parsed(pieces: list[bytes]) -> tuple[list[Any], type[BadRequest] | None]:
    seen: list[Any] = []

    class Receiver:
        def begin_request(self, start_line: Any, headers: Any, *, keep_alive: bool, is_tunnel: bool) -> None:
            seen.append([start_line, list(headers.get_all()), keep_alive, is_tunnel, b""])

        def receive_body(self, chunk: bytes) -> None:
            seen[-1][-1] += chunk

        def end_request(self) -> None:
            seen.append("end")

    parser = RequestParser(Receiver(), HEADER_BYTES)
    try:
        for piece in pieces:
            parser.feed(piece)
    except BadRequest as error:
        return seen, type(error)
    finally:
        parser.close()
    return seen, None


def test_parsing_is_the_same_wherever_a_packet_ends() -> None:
    """ADR 11 has the exception: a method that llhttp does not know, behind another request in the same piece."""
    ends = fuzz_seconds() > 60
    for case in corpus():
        data = case.data
        if len(data) > 3000:
            continue
        whole = _parsed([data])
        splits = [[data[:at], data[at:]] for at in range(1, len(data), 1 if ends else 7)]
        for pieces in [[data[at : at + 1] for at in range(len(data))], *splits]:
            split = _parsed([piece for piece in pieces if piece])
            if whole[1] is not None and split[0][: len(whole[0])] == whole[0] and "end" in whole[0]:
                continue
            if whole[1] is not None:  # the parts parsed before a refusal may differ in number
                assert split[1] is not None, (case.name, pieces)
            else:
                assert split == whole, (case.name, pieces)


async def _asked(client: Client, data: bytes, *, is_split: bool) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    try:
        async with asyncio.timeout(10):  # each case ends
            half = len(data) // 2 if is_split else len(data)
            writer.write(data[:half])
            if is_split:
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(data[half:])
            writer.write_eof()
            return await reader.read(-1)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def _elsewhere(data: bytes, chance: random.Random) -> bytes:
    # The paths of the corpus do not exist here.
    return re.sub(rb"(?<= )(?:http://a)?/[^ \r\n]*(?= HTTP/)", lambda _: chance.choice(PATHS).encode(), data)


@pytest.mark.usefixtures("quiet")
async def test_the_application_ends_every_case_and_none_is_its_own_fault() -> None:
    away = dict.fromkeys(("pool", "redis", "actors", "feed", "accounts"), Away())
    async with serving(**away) as client:
        for name, chance in rounds():
            cases = [made(chance) if chance.random() < 0.7 else chance.choice(corpus()) for _ in range(16)]
            asked = [_elsewhere(case.data, chance) for case in cases]
            answers = await asyncio.gather(*(_asked(client, data, is_split=chance.random() < 0.3) for data in asked))
            for data, answer in zip(asked, answers, strict=True):
                statuses = {int(each) for each in _STATUS.findall(answer)}
                assert {each for each in statuses if each >= 500} <= ALLOWED_5XX, (name, data[:2000], answer[:2000])
            await until(lambda: client.application.gateway.lifecycle.in_flight == 0)
