"""Which requests get a compressed answer, and how often it is compressed."""

from __future__ import annotations

import asyncio
import gzip
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.tasks import spawn
from handlers._http import compression
from handlers._http.compression import IN_LOOP_BYTES, KEPT_BYTES, WAITING, Compressor, is_compressible, takes_gzip

LARGE = b'{"n": 1}' * IN_LOOP_BYTES


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br", False),
        ("identity", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip ; Q=0.001", True),
        ("gzip;q=0.5, identity;q=0.4", True),
        ("gzip;q=0.4, identity;q=0.5", False),
        ("identity, *", True),
        ("gzip;q=much", False),
        ("gzip;q=nan", False),
        ("gzip;q=2", False),
        ("gzip;level=9;q=1", True),
        ("gzipped", False),
        ("gzip," * 100, False),
    ],
)
def test_a_header_is_read_with_its_weights(accepted: str | None, takes: bool) -> None:
    assert takes_gzip(accepted) is takes


@given(st.text(st.characters(max_codepoint=0xFF)) | st.text(st.sampled_from("gzip*;q=01.,- ")))
def test_every_accept_encoding_has_an_answer(accepted: str) -> None:
    assert takes_gzip(accepted) in {True, False}


@pytest.mark.parametrize(
    ("media_type", "worth"),
    [
        ("application/json; charset=utf-8", True),
        ("text/html; charset=utf-8", True),
        ("text/plain; version=0.0.4", True),
        ("text/event-stream; charset=utf-8", False),
        ("image/png", False),
        ("", False),
    ],
)
def test_only_texts_are_compressed_and_never_a_stream(media_type: str, worth: bool) -> None:
    assert is_compressible(media_type) is worth


async def test_equal_bodies_are_compressed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []

    def compress(body: bytes) -> bytes:
        made.append(body)
        return gzip.compress(body)

    monkeypatch.setattr(compression, "compress", compress)
    compressor, small = Compressor(), b"small" * 300
    assert compressor.at_once(small) == compressor.at_once(bytes(bytearray(small)))
    assert compressor.at_once(LARGE) is None
    answers = await asyncio.gather(*(compressor.later(LARGE) for _ in range(50)))
    assert {gzip.decompress(each or b"") for each in answers} == {LARGE}
    assert compressor.at_once(LARGE) == answers[0]
    assert made == [small, LARGE]


async def test_a_response_that_would_wait_too_long_for_compression_is_sent_as_it_is() -> None:
    compressor = Compressor()
    bodies = [LARGE + bytes([n]) for n in range(WAITING + 5)]
    answers = await asyncio.gather(*(compressor.later(each) for each in bodies))
    assert [each is None for each in answers] == [False] * WAITING + [True] * 5
    assert await compressor.later(bodies[-1]) is not None


async def test_the_cache_is_bounded_and_the_last_used_stays() -> None:
    compressor, used = Compressor(), b"used" * 1000
    compressor.at_once(used)
    for _ in range(3 * KEPT_BYTES // IN_LOOP_BYTES):
        compressor.at_once(os.urandom(IN_LOOP_BYTES))
        compressor.at_once(used)
    assert used in compressor._kept
    held = sum(len(body) + len(compressed) for body, compressed in compressor._kept.items())
    assert held == compressor._kept_bytes <= KEPT_BYTES
    assert await compressor.later(b"x" * (KEPT_BYTES // 4 + 1)) is not None
    assert compressor.at_once(b"x" * (KEPT_BYTES // 4 + 1)) is None


async def test_a_waiter_that_goes_away_takes_nothing_from_the_others() -> None:
    compressor = Compressor()
    first = spawn(compressor.later(LARGE), name="test")
    await asyncio.sleep(0)
    second = spawn(compressor.later(LARGE), name="test")
    await asyncio.sleep(0)
    first.cancel()
    assert gzip.decompress(await second or b"") == LARGE
