"""Reads shared by simultaneous requests: none is older than its request, each is made once."""

from __future__ import annotations

import asyncio

import pytest

from config.tasks import spawn
from handlers._http.shared_reads import SharedReads
from schemas.errors import DatabaseUnavailable


class Source:
    """A source whose reads end when the test lets them."""

    def __init__(self) -> None:
        self.value = 0
        self.reads = 0
        self.gate = asyncio.Event()

    async def read(self) -> int:
        self.reads += 1
        found = self.value
        await self.gate.wait()
        return found

    async def open(self) -> None:
        """Let the reads that have begun end."""
        await asyncio.sleep(0)
        self.gate.set()
        await asyncio.sleep(0)
        self.gate.clear()


async def test_readers_that_come_during_a_read_share_the_next_one() -> None:
    shared, source = SharedReads(), Source()
    first = spawn(shared.get("key", source.read), name="ask")
    await asyncio.sleep(0)
    source.value = 1
    others = [spawn(shared.get("key", source.read), name="ask") for _ in range(5)]
    await asyncio.sleep(0)
    assert source.reads == 1
    await source.open()
    assert await first == 0
    source.gate.set()
    assert await asyncio.gather(*others) == [1] * 5, "not what was read before they asked"
    assert source.reads == 2
    assert not shared._busy


async def test_other_keys_do_not_wait() -> None:
    shared, source = SharedReads(), Source()
    both = [spawn(shared.get(key, source.read), name="ask") for key in ("a", "b")]
    await asyncio.sleep(0)
    assert source.reads == 2
    source.gate.set()
    assert await asyncio.gather(*both) == [0, 0]


async def test_a_failure_is_everybodys_who_waits_and_the_next_one_reads_anew() -> None:
    shared, gate = SharedReads(), asyncio.Event()
    reads = 0

    async def fail() -> int:
        nonlocal reads
        reads += 1
        await gate.wait()
        raise DatabaseUnavailable

    asked = [spawn(shared.get("key", fail), name="ask") for _ in range(4)]
    await asyncio.sleep(0)
    gate.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in answers] == [DatabaseUnavailable] * 4
    assert reads == 1, "nobody waits for a second time-out"
    await asyncio.sleep(0)
    assert not shared._busy
    with pytest.raises(DatabaseUnavailable):
        await shared.get("key", fail)
    assert reads == 2


async def test_a_reader_that_goes_away_takes_nothing_from_the_others() -> None:
    shared, source = SharedReads(), Source()
    first = spawn(shared.get("key", source.read), name="ask")
    await asyncio.sleep(0)
    gone, stays = [spawn(shared.get("key", source.read), name="ask") for _ in range(2)]
    await asyncio.sleep(0)
    gone.cancel()
    source.gate.set()
    assert await first == 0
    assert await stays == 0
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert not shared._busy


async def test_the_first_one_goes_away_and_the_others_are_served() -> None:
    shared, source = SharedReads(), Source()
    first = spawn(shared.get("key", source.read), name="ask")
    await asyncio.sleep(0)
    stays = spawn(shared.get("key", source.read), name="ask")
    await asyncio.sleep(0)
    first.cancel()
    source.gate.set()
    assert await stays == 0
    assert not shared._busy


async def test_a_shared_read_that_fails_fails_for_all_of_them_and_for_no_later_one() -> None:
    shared, source = SharedReads(), Source()

    async def fail() -> int:
        await source.read()
        raise DatabaseUnavailable

    first = spawn(shared.get("key", source.read), name="ask")
    await asyncio.sleep(0)
    others = [spawn(shared.get("key", fail), name="ask") for _ in range(3)]
    await asyncio.sleep(0)
    source.gate.set()
    assert await first == 0
    answers = await asyncio.gather(*others, return_exceptions=True)
    assert [type(each) for each in answers] == [DatabaseUnavailable] * 3
    assert await shared.get("key", source.read) == 0
    assert not shared._busy
