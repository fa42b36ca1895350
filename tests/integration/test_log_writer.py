"""The log's writer over a real Postgres: what is stored is the tree, through roll-backs, kills and take-overs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from functools import partial
from uuid import UUID

import pytest

from actors.ledger.log_tiles import LogIncomplete, from_tiles, load_frontier
from actors.ledger.log_writer import LogWriter
from actors.records.entries import AnyEntry, MarkEntry, RetractionEntry, encode
from actors.tlog.tiles import tiles_of
from actors.tlog.tree import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from config.settings import Settings
from db import log as sql
from db._postgres import Pool, create_pool, transaction
from tests.support.log_factory import AT, ends, log_world
from tests.support.services import REPOSITORY


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Pool]:
    pool = await create_pool(url, 4, name="test")
    try:
        yield pool
    finally:
        await pool.close()


async def append(pool: Pool, writer: LogWriter, entries: Sequence[AnyEntry]) -> int:
    async with transaction(pool, deadline_seconds=30) as conn:
        return await writer.append(conn, entries)


async def check(pool: Pool, entries: Sequence[AnyEntry]) -> None:
    """Compare what is stored with these entries: rows, tiles, root and proofs."""
    hashes = [leaf_hash(encode(each)) for each in entries]
    async with transaction(pool, deadline_seconds=30) as conn:
        rows = await sql.read_entries(conn, 0, len(entries) + 1)
        assert [row.body for row in rows] == [encode(each) for each in entries]
        size = (await sql.read_state(conn)).size
        assert size == len(entries)
        assert (await load_frontier(conn, size)).root() == root_of(hashes)
        stored = await sql.read_tiles(
            conn, [(tile.level, tile.index) for tile in tiles_of(size) if tile.level is not None]
        )
        assert len(stored) == sum(tile.level != 0 or tile.width == 256 for tile in tiles_of(size))
        for index in {0, size // 2, size - 1}:
            proof = await from_tiles(conn, partial(inclusion_proof, index, size))
            verify_inclusion(hashes[index], index, size, proof, root_of(hashes))
            consistency = await from_tiles(conn, partial(consistency_proof, index, size))
            verify_consistency(index, root_of(hashes[:index]), size, root_of(hashes), consistency)


async def test_entries_are_appended_in_pieces_and_read_back(database_url: str) -> None:
    entries, writer = ends(1500), LogWriter()
    async with opened(database_url) as pool:
        for start, end in [(0, 1), (1, 255), (255, 256), (256, 256), (256, 900), (900, 1500)]:
            assert await append(pool, writer, entries[start:end]) == start
        await check(pool, entries)
        async with transaction(pool) as conn:
            assert [row.index for row in await sql.read_entries(conn, 1498, 10)] == [1498, 1499]
            own = await sql.read_entries_of(conn, UUID(int=3), 11, 2)
            assert [row.index for row in own] == [17, 24]
            assert {row.signal_id for row in own} == {UUID(int=17), UUID(int=24)}


async def test_a_tree_of_three_levels_is_stored(database_url: str) -> None:
    entries, writer = ends(66_000), LogWriter()
    async with opened(database_url) as pool:
        await append(pool, writer, entries[:65_535])
        await append(pool, writer, entries[65_535:])
        await check(pool, entries)


async def test_what_was_rolled_back_is_forgotten(database_url: str) -> None:
    entries, writer = ends(600), LogWriter()
    async with opened(database_url) as pool:
        await append(pool, writer, entries[:250])
        async with transaction(pool) as conn:
            undone = conn.transaction()
            await undone.start()
            await writer.append(conn, ends(100, first=5000))
            await undone.rollback()
        assert await append(pool, writer, entries[250:]) == 250
        await check(pool, entries)


async def test_a_successor_goes_on_from_what_is_stored(database_url: str) -> None:
    entries = ends(700)
    async with opened(database_url) as pool:
        await append(pool, LogWriter(), entries[:300])
        assert await append(pool, LogWriter(), entries[300:]) == 300
        await check(pool, entries)


async def test_the_state_has_the_newest_feed_item_and_complete_hour(database_url: str) -> None:
    writer, hour = LogWriter(), timedelta(hours=1)
    async with opened(database_url) as pool:
        await append(pool, writer, [RetractionEntry(7, UUID(int=1), UUID(int=2), AT), MarkEntry(AT, {}, last=False)])
        async with transaction(pool) as conn:
            assert await sql.read_state(conn) == sql.LogState(2, 7, None)
        await append(pool, writer, [MarkEntry(AT + hour, {})])
        await append(pool, writer, ends(1))
        async with transaction(pool) as conn:
            assert await sql.read_state(conn) == sql.LogState(4, 7, AT + hour)


async def test_an_entry_that_is_too_large_leaves_no_trace(database_url: str) -> None:
    writer = LogWriter()
    large = MarkEntry(AT, {"crypto": {f"COIN{n}": Decimal(1) for n in range(6000)}})
    async with opened(database_url) as pool:
        with pytest.raises(ValueError, match="an entry \\(mark\\)"):
            await append(pool, writer, [*ends(3), large])
        entries = ends(5)
        await append(pool, writer, entries)
        await check(pool, entries)


async def test_a_tile_that_is_missing_is_named(database_url: str) -> None:
    async with opened(database_url) as pool:
        await append(pool, LogWriter(), ends(600))
        async with transaction(pool) as conn:
            await conn.execute("DELETE FROM log_tiles WHERE level = 1")
            with pytest.raises(LogIncomplete, match="tile 0 of level 1"):
                await LogWriter().load(conn)


@pytest.mark.parametrize("count", [1, 300])
async def test_an_owner_that_is_killed_before_its_commit_leaves_no_trace(settings: Settings, count: int) -> None:
    entries = ends(700)
    assert settings.database_url is not None
    async with log_world(settings) as world:
        await world.owner.append(entries[:250])
        before = await world.checkpoint()
        victim = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.dying_log_owner", settings.database_url, str(count)),
            stdout=asyncio.subprocess.PIPE,
            cwd=REPOSITORY,
        )
        assert victim.stdout is not None
        assert await asyncio.wait_for(victim.stdout.readline(), 60) == b"appended\n"
        victim.kill()
        await victim.wait()
        await world.start()
        assert await world.checkpoint() == before
        assert await world.owner.append(entries[250:]) == 250
        await check(world.pool, entries)
        assert (await world.checkpoint()).root == root_of([leaf_hash(encode(each)) for each in entries])
