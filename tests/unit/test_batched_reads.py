"""Reads that are made together, and reads whose answers are kept for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from config.tasks import spawn
from handlers._http.shared_reads import BatchedReads, KeptReads
from schemas.errors import DatabaseUnavailable


class Table:
    """A table from which several rows are read at once."""

    def __init__(self) -> None:
        self.value = 0
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None
        self.broken = ""  # a key that cannot be read

    async def read(self, keys: Sequence[str]) -> list[tuple[str, int]]:
        self.batches.append(list(keys))
        found = self.value
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if self.broken in keys:
            raise DatabaseUnavailable
        return [(key, found) for key in keys]


async def test_keys_asked_for_during_a_batch_are_read_once_each_in_the_next_one() -> None:
    table = Table()
    reads = BatchedReads(table.read)
    first = spawn(reads.get("a"), name="ask")
    await asyncio.sleep(0)
    table.value = 1
    others = [spawn(reads.get(key), name="ask") for key in ("b", "a", "c", "b")]
    await asyncio.sleep(0)
    table.gate.set()
    assert await first == ("a", 0)
    assert await asyncio.gather(*others) == [("b", 1), ("a", 1), ("c", 1), ("b", 1)], "not what was read before"
    assert table.batches == [["a"], ["b", "a", "c"]]
    assert await reads.get("d") == ("d", 1)


async def test_a_batch_is_bounded() -> None:
    table = Table()
    reads = BatchedReads(table.read, most=2)
    asked = [spawn(reads.get(str(number)), name="ask") for number in range(6)]
    await asyncio.sleep(0)
    table.gate.set()
    assert [key for key, _ in await asyncio.gather(*asked)] == ["0", "1", "2", "3", "4", "5"]
    assert [len(batch) for batch in table.batches] == [1, 2, 2, 1]


async def test_readers_of_the_next_batch_fail_with_this_one_and_later_ones_are_read() -> None:
    table = Table()
    reads = BatchedReads(table.read, most=1)
    table.error = DatabaseUnavailable()
    asked = [spawn(reads.get(key), name="ask") for key in ("a", "b", "c")]
    await asyncio.sleep(0)
    table.gate.set()
    assert [type(each) for each in await asyncio.gather(*asked, return_exceptions=True)] == [DatabaseUnavailable] * 3
    assert table.batches == [["a"]], "they would wait for one deadline after the other"
    table.error = None
    assert await reads.get("a") == ("a", 0)
    table.broken = "b"
    table.gate.clear()
    asked = [spawn(reads.get(key), name="ask") for key in ("a", "b", "c")]
    await asyncio.sleep(0)
    table.gate.set()
    found, *failed = await asyncio.gather(*asked, return_exceptions=True)
    assert found == ("a", 0)
    assert [type(each) for each in failed] == [DatabaseUnavailable] * 2
    assert await reads.get("c") == ("c", 0)


async def test_a_waiter_that_goes_away_takes_nothing_from_the_others() -> None:
    table = Table()
    reads = BatchedReads(table.read)
    asked = [spawn(reads.get(key), name="ask") for key in ("a", "b", "b")]
    await asyncio.sleep(0)
    asked[1].cancel()
    table.gate.set()
    assert await asked[2] == ("b", 0)
    assert await asked[0] == ("a", 0)


async def test_an_answer_is_kept_for_its_time_and_an_error_is_not() -> None:
    table = Table()
    table.gate.set()
    kept = KeptReads(0.05, most=2)

    async def read() -> int:
        return (await table.read(["board"]))[0][1]

    table.error = DatabaseUnavailable()
    with pytest.raises(DatabaseUnavailable):
        await kept.get("board", read)
    table.error = None
    assert [await kept.get("board", read) for _ in range(3)] == [0, 0, 0]
    assert len(table.batches) == 2
    table.value = 1
    await asyncio.sleep(0.06)
    assert await kept.get("board", read) == 1
    for key in range(10):
        await kept.get(key, read)
    assert len(kept._kept) <= 2
