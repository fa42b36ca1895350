"""The pipeline in several shards: a source stays in its shard through losses, retries, and another division."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from actors._runtime.context import Behaviour
from actors._runtime.registry import shard_of
from actors.lens._results import StageResult
from actors.lens.enrich import Enrich
from actors.lens.evaluate import Evaluate
from actors.lens.intake import Intake
from actors.lens.messages import ENRICH, EVALUATE, INTAKE, PUBLISH, RetryDeadLetter, Submit, Work
from actors.lens.openers import publish_next
from actors.lens.publish import Publish
from config.ids import key_hash, uuid7
from config.settings import Settings
from config.tasks import spawn
from config.values import replace
from db._migrate import MIGRATIONS
from db._postgres import create_pool, transaction
from tests.support.lens_factory import finished, submit, until
from tests.support.local_actors import LocalActors
from tests.support.signals_factory import make

SOURCES = [f"strategy_{n}" for n in range(8)]


class WatchedEnrich(Enrich):
    """Enrich that notes the sources it works on, and fails on one symbol for as long as it is told to."""

    fails = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def work_at_once(self, work: Work) -> StageResult | None:
        self.seen.add(work.signal.source)
        if self.fails and work.signal.symbol == "BAD":
            raise RuntimeError("told to fail")
        return super().work_at_once(work)


@asynccontextmanager
async def lanes(
    settings: Settings, shards: int, kinds: Sequence[str] = (PUBLISH, EVALUATE, ENRICH, INTAKE)
) -> AsyncIterator[tuple[LocalActors, asyncpg.Connection[Any]]]:
    """Return the actors of `shards` lanes, each receiver of messages before their sender."""
    made: Mapping[str, type[Behaviour]] = {
        INTAKE: Intake,
        ENRICH: WatchedEnrich,
        EVALUATE: Evaluate,
        PUBLISH: Publish,
    }
    actors, conn = LocalActors(), await asyncpg.connect(settings.database_url)
    await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=str)
    try:
        for kind in kinds:
            for shard in range(shards):
                await actors.start(kind, made[kind](), settings, shard=shard, shards=shards)
        yield actors, conn
    finally:
        await actors.close()
        await conn.close()


async def post(actors: LocalActors, *submits: Submit) -> list[UUID]:
    """Post each signal at the shard of its source, in order."""
    return [(await actors.ref(INTAKE, each.source).ask(each.source, each)).event_id for each in submits]


def seen(actors: LocalActors) -> list[set[str]]:
    """Return the sources that each shard of enrich has worked on."""
    found = [actors.ref_to(ENRICH, shard)._behaviour for shard in range(actors._shards[ENRICH])]
    return [each.seen for each in found if isinstance(each, WatchedEnrich)]


def owned(shards: int) -> list[set[str]]:
    """Return the sources that belong to each shard."""
    return [{each for each in SOURCES if shard_of(each, shards) == shard} for shard in range(shards)]


async def test_each_source_has_its_shard_and_its_signals_keep_their_order(settings: Settings) -> None:
    async with lanes(settings, 3) as (actors, conn):
        ids = await post(actors, *(submit(symbol=f"S{n}", source=SOURCES[n % 8]) for n in range(48)))
        assert set(await finished(conn, ids)) == {"PUBLISHED"}
        assert seen(actors) == owned(3)
        places = [row[0] for row in await conn.fetch("SELECT feed_seq FROM signals ORDER BY feed_seq")]
        assert places == list(range(1, 49)), "the shards publish into one feed without gaps"
        for source in SOURCES:
            rows = await conn.fetch(
                "SELECT id FROM signals JOIN lens_events ON event_id = id WHERE source = $1 ORDER BY feed_seq", source
            )
            assert [row[0] for row in rows] == sorted(row[0] for row in rows)


async def test_a_sweep_takes_the_events_of_its_own_sources_only(settings: Settings) -> None:
    async with lanes(settings, 2) as (actors, conn):
        for shard in range(2):
            actors.ref_to(ENRICH, shard).dropping = True
        ids = await post(actors, *(submit(source=each) for each in SOURCES))
        await conn.execute(
            "UPDATE lens_progress SET lease_until = now() WHERE event_id IN "
            "(SELECT event_id FROM lens_progress FOR UPDATE SKIP LOCKED)"
        )
        assert set(await finished(conn, ids)) == {"PUBLISHED"}
        assert seen(actors) == owned(2)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2), (2, 1)])
async def test_another_number_of_shards_divides_what_waits_anew(settings: Settings, before: int, after: int) -> None:
    async with lanes(settings, before, [INTAKE]) as (actors, _):
        ids = await post(actors, *(submit(source=each) for each in SOURCES))
    async with lanes(settings, after) as (actors, conn):
        assert set(await finished(conn, ids)) == {"PUBLISHED"}
        assert seen(actors) == owned(after)


async def test_a_dead_letter_is_retried_in_the_shard_of_its_events_source(settings: Settings) -> None:
    quick = settings.replace(lens_retries=0)
    async with lanes(quick, 2) as (actors, conn):
        for source in SOURCES[:4]:
            [event_id] = await post(actors, submit(symbol="BAD", source=source))
            assert await finished(conn, [event_id]) == ["FAILED"]
            dead_letter_id = await conn.fetchval("SELECT id FROM lens_dlq WHERE event_id = $1", event_id)
            for each in seen(actors):
                each.clear()
            WatchedEnrich.fails = False
            try:
                await actors.ref(INTAKE).ask("", RetryDeadLetter(dead_letter_id, None))  # as the gateway asks
                assert await finished(conn, [event_id]) == ["PUBLISHED"]
            finally:
                WatchedEnrich.fails = True
            assert [source in each for each in seen(actors)] == [shard_of(source, 2) == n for n in range(2)]


async def test_an_idempotency_key_belongs_to_its_source_whatever_the_shards(settings: Settings) -> None:
    async with lanes(settings, 2) as (actors, conn):
        for source in SOURCES:
            first = submit(source=source, idempotency_key="same")
            copies = [replace(first, event_id=uuid7()) for _ in range(10)]
            assert len(set(await post(actors, *copies))) == 1
        assert await conn.fetchval("SELECT count(*) FROM lens_events") == len(SOURCES)
    async with lanes(settings, 3, [INTAKE]) as (actors, conn):
        await post(actors, *(submit(source=each, idempotency_key="another") for each in SOURCES))
        known = await conn.fetch("SELECT source FROM lens_idempotency WHERE key = 'same'")
        assert {row[0] for row in known} == set(SOURCES)


async def test_what_concerns_all_shards_is_done_by_the_first(settings: Settings) -> None:
    async with lanes(settings, 2, [INTAKE]) as (actors, _):
        first, second = (actors.ref_to(INTAKE, shard)._behaviour.context for shard in range(2))
        assert {task.get_name().partition(": ")[2] for task in first._tasks} == {
            "measure the pipeline",
            "expire idempotency keys",
            "forget what is past its retention",
        }
        assert not second._tasks


async def test_the_migration_divides_the_events_that_exist(settings: Settings) -> None:
    sources = ["", "strategy_alpha", "Stratégie β", "\N{CHART WITH UPWARDS TREND}" * 40, *SOURCES]
    async with lanes(settings, 1, [INTAKE]) as (actors, conn):
        ids = await post(actors, *(submit(source=each) for each in sources for _ in range(2)))
        up, _, down = (MIGRATIONS / "0017_source_hash.sql").read_text().partition("-- migrate:down")
        await conn.execute("CREATE TABLE hashes AS SELECT event_id, source_hash FROM lens_progress")
        async with conn.transaction():
            await conn.execute(down)
            await conn.execute(up)
        rows = await conn.fetch(
            "SELECT event_id, source, p.source_hash, h.source_hash AS stored "
            "FROM lens_progress p JOIN lens_events USING (event_id) JOIN hashes h USING (event_id)"
        )
        assert {row["event_id"] for row in rows} == set(ids)
        assert all(row["source_hash"] == row["stored"] == key_hash(row["source"]) for row in rows)


async def test_a_close_whose_opening_another_lane_publishes_meanwhile_is_published_again_with_its_score(
    settings: Settings,
) -> None:
    assert settings.database_url is not None
    provider_id = uuid7()
    close: dict[str, Any] = {"event_type": "CLOSE_SIGNAL", "signal_direction": "close_long", "score": 10}
    pool = await create_pool(settings.database_url, 3, name="test")
    async with transaction(pool) as conn:
        opening = await make(conn, 0, provider_id=provider_id, score=90)
        made = [await make(conn, 0, score=10), await make(conn, 0, provider_id=provider_id, **close)]

    async def publish() -> list[tuple[int, int | None]]:
        async with transaction(pool) as conn:
            return [(row.feed_seq, row.passing_score) for row in await publish_next(conn, made)]

    async def is_waiting() -> bool:
        async with transaction(pool) as conn:
            return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))

    try:
        async with transaction(pool) as other:
            await publish_next(other, [opening])
            publishing = spawn(publish(), name="publish the close")
            await until(is_waiting)
        with pytest.raises(asyncpg.SerializationError):
            await publishing
        assert await publish() == [(2, None), (3, 90)], "the feed has no gap, and the close has its opening's score"
    finally:
        pool.terminate()
