"""The owner of the log over a real Postgres and Valkey: the feed, the market's minutes and hours, in one order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from actors.ledger.ledger import LogOwner
from actors.ledger.messages import LEDGER
from actors.records.entries import AnyEntry, RetractionEntry, SignalEntry, decode
from actors.records.returns import UNIT
from config.settings import Settings
from db._postgres import Pool, connection, create_pool, transaction
from db.log import read_entries
from tests.support.ledger_factory import NOON, ToldMarket
from tests.support.local_actors import LocalActors
from tests.support.providers_factory import Trade, add_system_provider, publish

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


class LedgerWorld:
    """The owner of the log, its market and clock, and a connection to their database."""

    def __init__(self, settings: Settings, actors: LocalActors, pool: Pool, who: UUID) -> None:
        self.settings = settings
        self.actors = actors
        self.pool = pool
        self.who = who
        self.market = ToldMarket(NOON)
        self.owner: LogOwner

    async def start(self) -> None:
        """Start the owner, or replace it as after a crash of its process."""
        if LEDGER in self.actors.behaviours:
            await self.actors.kill(LEDGER)
        self.owner = LogOwner(self.market, self.market.clock)
        await self.actors.start(LEDGER, self.owner, self.settings)

    async def publish(self, at: datetime, **changes: Any) -> UUID:
        """Publish a signal that was received at a time; return its id."""
        trade = {
            key: changes.pop(key)
            for key in ("opens", "symbol", "direction", "price", "asset_type", "expiry")
            if key in changes
        }
        async with transaction(self.pool) as conn:
            [row] = await publish(conn, [Trade(changes.pop("who", self.who), **trade)], at=at)
            for name, value in changes.items():
                await conn.execute(f"UPDATE signals SET {name} = $1 WHERE id = $2", value, row.id)
        return row.id

    async def retract(self, signal_id: UUID, at: datetime) -> None:
        """Retract a signal."""
        async with transaction(self.pool) as conn:
            seq = await conn.fetchval("UPDATE feed_counter SET last_seq = last_seq + 1 RETURNING last_seq")
            await conn.execute("INSERT INTO retractions VALUES ($1, $2, $3, $4)", seq, signal_id, self.who, at)

    async def go_on(self, to: datetime | None = None) -> list[AnyEntry]:
        """Move the clock, let the owner look at the market and the feed, and return the whole log."""
        if to is not None:
            self.market.now = to
        await self.owner.watch.look()
        await self.owner.keeper.catch_up()
        return await self.log()

    async def log(self) -> list[AnyEntry]:
        """Return the log."""
        async with connection(self.pool) as conn:
            return [decode(row.body) for row in await read_entries(conn, 0, 100_000)]


@asynccontextmanager
async def ledger_world(settings: Settings, data_dir: Path, **replaced: Any) -> AsyncIterator[LedgerWorld]:
    """An owner of the log that does nothing by itself: `go_on` calls it."""
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 4, name="test")
    actors = LocalActors()
    try:
        async with transaction(pool) as conn:
            who = await add_system_provider(conn)
        world = LedgerWorld(settings.replace(data_dir=data_dir, **replaced), actors, pool, who)
        await world.start()
        yield world
    finally:
        await actors.close()
        pool.terminate()


def of(kind: type, entries: Sequence[AnyEntry]) -> list[Any]:
    return [each for each in entries if isinstance(each, kind)]


async def test_signals_stand_in_the_order_of_the_feed_with_what_they_open_and_close(
    settings: Settings, tmp_path: Path
) -> None:
    async with ledger_world(settings, tmp_path) as world:
        first = await world.publish(NOON, price=Decimal(100))
        await world.publish(NOON + MINUTE, direction=None)
        half = await world.publish(NOON + 2 * MINUTE, opens=False, price=Decimal(110), close_fraction=Decimal("0.5"))
        found = of(SignalEntry, await world.go_on(NOON + 3 * MINUTE))
        assert [each.feed_seq for each in found] == [1, 2, 3]
        assert (found[0].signal_id, found[0].opens) == (first, True)
        assert (found[2].closes, found[2].part, found[2].fraction) == (first, UNIT // 2, Decimal("0.5"))
        await world.start()
        await world.retract(half, NOON + 2 * MINUTE + timedelta(seconds=5))
        await world.publish(NOON + 3 * MINUTE, opens=False, price=Decimal(110))
        found = await world.go_on(NOON + 4 * MINUTE)
        assert [type(each) for each in found[3:]] == [RetractionEntry, SignalEntry]
        assert found[4].part == UNIT
