"""Records from the market over a real Postgres: kept by two shards that crash, they are what the whole log says."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Any
from uuid import UUID

import pytest

from actors.ledger.log_writer import LogWriter
from actors.providers import log_consumer
from actors.providers.messages import PROVIDERS
from actors.providers.providers import Providers
from actors.providers.rebuild import rebuild
from actors.records.entries import AnyEntry, MarkEntry, SplitEntry, decode
from actors.records.replay import replay
from config.settings import Settings
from db._postgres import Pool, connection, create_pool, transaction
from db.providers import books
from server._records import examine_records
from tests.support.local_actors import LocalActors, local_actors
from tests.support.log_histories import History
from tests.support.providers_factory import add_system_provider
from tests.support.records_factory import RecordStats, add_stats


class Kept:
    """A log that is appended to by hand, and the shards that read it."""

    def __init__(self, actors: LocalActors, settings: Settings, pool: Pool) -> None:
        self.actors = actors
        self.settings = settings
        self.pool = pool
        self.writer = LogWriter()

    async def append(self, entries: Sequence[AnyEntry]) -> None:
        async with transaction(self.pool, deadline_seconds=30) as conn:
            await self.writer.append(conn, entries)

    async def start(self, shards: int) -> None:
        """Start the shards, instead of those that run, as after a crash."""
        for name in [each for each in self.actors.behaviours if each.startswith(PROVIDERS)]:
            await self.actors.kill(name)
        for shard in range(shards):
            await self.actors.start(PROVIDERS, Providers(), self.settings, shard=shard, shards=shards)

    def providers(self) -> list[Providers]:
        """Return the shards."""
        return [each for each in self.actors.behaviours.values() if isinstance(each, Providers)]

    async def catch_up(self) -> None:
        for each in self.providers():
            await each.log_consumer.catch_up()

    async def differences(self, provider_id: UUID) -> Sequence[str]:
        async with connection(self.pool) as conn, conn.transaction(isolation="repeatable_read"):
            return (await rebuild(conn, provider_id, self.settings.costs_bps)).differences

    async def value(self, statement: str, *arguments: Any) -> Any:
        async with connection(self.pool) as conn:
            return await conn.fetchval(statement, *arguments)


@asynccontextmanager
async def kept_records(settings: Settings) -> AsyncIterator[Kept]:
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 4, name="test")
    try:
        async with local_actors(settings, {}) as actors:
            yield Kept(actors, settings, pool)
    finally:
        pool.terminate()


class Together:
    """Histories of several providers in one log: one of them moves the market, the others trade in it."""

    def __init__(self, chance: random.Random, providers: Sequence[UUID]) -> None:
        self.histories = [History(chance, each) for each in providers]

    def go_on(self) -> list[AnyEntry]:
        """Return the next entries of all."""
        first, *others = self.histories
        entries = first.go_on(4)
        for each in others:
            each.now, each.hour, each.feed_seq = first.now, first.hour, first.feed_seq
            entries += [entry for entry in each.go_on(1) if not isinstance(entry, MarkEntry | SplitEntry)]
            first.now, first.feed_seq = max(first.now, each.now), each.feed_seq
        return entries


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_kept_hour_by_hour_is_what_is_computed_anew_whatever_dies(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The kind: figures, outcomes, books, days and statistics that depend on when a process died or stored."""
    chance = random.Random(seed)
    monkeypatch.setattr(log_consumer, "PAGE", 7)
    monkeypatch.setattr(log_consumer, "DAY_CHUNK", 2)
    monkeypatch.setattr(log_consumer, "MOST_UNSTORED", 5)
    async with kept_records(settings) as kept:
        async with transaction(kept.pool) as conn:
            providers = [await add_system_provider(conn) for _ in range(3)]
        together = Together(chance, providers)
        await kept.start(2)
        for step in range(14):
            await kept.append(together.go_on())
            await kept.append(together.go_on())
            if step % 4 == 3:
                await kept.start(chance.choice([1, 2, 3]))
            await kept.catch_up()
            if step % 5 == 4:
                assert [await kept.differences(each) for each in providers] == [[], [], []]
        assert [await kept.differences(each) for each in providers] == [[], [], []]
        assert await kept.value("SELECT count(*) FROM record_days") > 3
        async with connection(kept.pool) as conn:
            for each in providers:
                log = [decode(row.body) for row in await books.read_log_of(conn, each, 10**9)]
                done = replay(log, settings.costs_bps)
                assert [(day.day, day.equity) for day in done.days] == [
                    (row.day, row.equity) for row in await books.load_days(conn, each)
                ]


async def test_books_days_and_statistics_that_are_wrong_are_named_and_repaired(settings: Settings) -> None:
    async with kept_records(settings) as kept:
        async with transaction(kept.pool) as conn:
            providers = [await add_system_provider(conn) for _ in range(2)]
        together = Together(random.Random(5), providers)
        await kept.start(2)
        for _ in range(8):
            await kept.append(together.go_on())
        await kept.catch_up()
        who = await kept.value("SELECT provider_id FROM record_days LIMIT 1")
        async with transaction(kept.pool) as conn:
            await conn.execute("UPDATE record_days SET equity = equity + 1 WHERE provider_id = $1", who)
            await conn.execute("UPDATE record_stats SET day_sum = day_sum + 1 WHERE provider_id = $1", who)
            await conn.execute("UPDATE record_books SET book = '{}' WHERE provider_id = $1", who)
            await conn.execute("UPDATE signal_outcomes SET legs = '[]' WHERE provider_id = $1", who)
        found = await kept.differences(who)
        assert {"book", "days", "statistics"} <= {*found}
        said: list[str] = []
        assert settings.database_url is not None
        assert await examine_records(settings.database_url, said.append, settings.costs_bps, mend=True) == 0
        assert said[-1] == "1 records repaired"
        assert await kept.differences(who) == []


async def test_a_night_ranks_risks_and_finds_who_moves_together_once_all_shards_have_closed_the_day(
    settings: Settings,
) -> None:
    async with kept_records(settings) as kept:
        async with transaction(kept.pool) as conn:
            providers = [await add_system_provider(conn) for _ in range(10)]
            for number, each in enumerate(providers):
                for age in range(40):
                    result = (number + 1) * ((age * 7919) % 13 - 6) * 10**9
                    await conn.execute(
                        "INSERT INTO record_days VALUES ($1, date '2026-03-01' - $2::int, $3, 1, 0, 0, 0, 0)",
                        each,
                        age,
                        result,
                    )
            stats = [RecordStats(each, days=40) for each in providers]
            await add_stats(conn, stats, day=date(2026, 3, 1))
            await books.set_daily_losses(conn, providers)
        await kept.start(2)
        [nights] = [each.nights for each in kept.providers() if each.context.shard == 0]
        await nights.look()
        assert await kept.value("SELECT count(*) FROM record_risks") == 0  # no day has ended yet
        async with transaction(kept.pool) as conn:
            await conn.execute("INSERT INTO provider_offsets VALUES (2, 0, 9, 8), (2, 1, 9, 8)")
        await nights.look()
        ranked = await kept.value("SELECT array_agg(provider_id ORDER BY risk_score) FROM record_risks")
        assert ranked == providers
        assert await kept.value("SELECT count(*) FROM record_correlations WHERE correlation > 0.999") == 90
        await nights.look()
