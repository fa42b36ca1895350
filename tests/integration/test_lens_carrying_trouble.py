"""Carried steps under failures: bad items in batches, an outage of Postgres, work that outlives its lease."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from actors.lens._commits import LEASE_SECONDS, Commits
from actors.lens._results import StageResult
from actors.lens.messages import ENRICH, EVALUATE, PUBLISH
from actors.lens.publish import Publish
from config.settings import Settings
from db._postgres import create_pool
from db._redis import create_redis
from schemas.errors import DatabaseUnavailable
from schemas.feed import DECISIONS_CHANNEL, FEED_CHANNEL, decode_batch, decode_decisions
from tests.integration.test_lens_carrying import (
    WHOLE,
    PoisonedEnrich,
    PoisonedEvaluate,
    PoisonedPublish,
    ScriptedEvaluate,
    ScriptedModel,
)
from tests.integration.test_lens_pipeline import pipeline, post
from tests.support.lens_factory import finished, submit, until

POISONED = [
    (ENRICH, WHOLE[:2]),
    (EVALUATE, WHOLE[:3]),
    (PUBLISH, WHOLE[:4]),
]
"""A stage that makes what cannot be stored, and the timeline of its event up to its end."""


class Listener:
    """A subscriber to the messages to gateways: feed_seqs, and the ids of events that were decided on."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub
        self.feed: list[int] = []
        self.decided: list[str] = []

    async def receive(self, count: int, *, seconds: float = 1.5) -> None:
        """Listen until so many of both were received, for less time than a gateway takes to notice a gap by itself."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and (len(self.feed) < count or len(self.decided) < count):
            message = await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=0.05)
            if message is not None and message["channel"] == FEED_CHANNEL.encode():
                self.feed.extend(item.feed_seq for item in decode_batch(message["data"]))
            elif message is not None:
                self.decided.extend(orjson.loads(i.data)["event_id"] for i in decode_decisions(message["data"]))


@asynccontextmanager
async def listening(settings: Settings) -> AsyncIterator[Listener]:
    assert settings.redis_url is not None
    redis = create_redis(settings.redis_url)
    try:
        async with redis.pubsub() as pubsub:
            await pubsub.subscribe(FEED_CHANNEL, DECISIONS_CHANNEL)
            yield Listener(pubsub)
    finally:
        await redis.aclose()


@asynccontextmanager
async def another_connection(settings: Settings) -> AsyncIterator[Any]:
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 1, name="another")
    try:
        async with pool.acquire() as conn:
            yield conn
    finally:
        await pool.close()


class Shaky(Commits):
    """A behaviour whose Postgres fails once, after the whole batch and so many of its parts were tried."""

    after = 0
    tried = 0

    async def _commit_once(self, batch: Sequence[StageResult]) -> list[StageResult]:
        self.tried += 1
        if self.tried == self.after + 2:
            raise DatabaseUnavailable
        return await super()._commit_once(batch)


def stages_with(poisoned: str) -> dict[str, Any]:
    return {
        "enrich": PoisonedEnrich() if poisoned == ENRICH else None,
        "evaluate": PoisonedEvaluate() if poisoned == EVALUATE else None,
        "publish": PoisonedPublish() if poisoned == PUBLISH else Publish(),
    }


async def timelines(conn: asyncpg.Connection[Any]) -> dict[UUID, list[str]]:
    rows = await conn.fetch("SELECT event_id, timeline FROM lens_progress")
    return {row[0]: [line["status"] for line in row[1]] for row in rows}


async def expect_each_once(conn: asyncpg.Connection[Any], published: int) -> None:
    """Assert that so many events are published, each once and with each step once."""
    assert [each for each in (await timelines(conn)).values() if "PUBLISHED" in each] == [WHOLE] * published
    feed = [row[0] for row in await conn.fetch("SELECT feed_seq FROM signals ORDER BY feed_seq")]
    assert feed == list(range(1, published + 1))
    for table in ("lens_enriched", "lens_decisions"):
        count = await conn.fetchval(f"SELECT count(*) FROM {table} WHERE event_id IN (SELECT id FROM signals)")
        assert count == published


@pytest.mark.parametrize("poisoned", [ENRICH, EVALUATE, PUBLISH])
async def test_the_gateways_are_told_of_every_signal_beside_one_that_cannot_be_stored(
    settings: Settings, poisoned: str
) -> None:
    async with pipeline(settings, **stages_with(poisoned)) as (actors, conn), listening(settings) as listener:
        symbols = ["POISON" if n in (7, 39) else "BTC" for n in range(40)]
        ids = await post(actors, *(submit(symbol=symbol) for symbol in symbols))
        assert await finished(conn, ids) == ["FAILED" if each == "POISON" else "PUBLISHED" for each in symbols]
        await listener.receive(38)
        assert listener.feed == list(range(1, 39))
        assert sorted(listener.decided) == [str(ids[n]) for n in range(40) if symbols[n] != "POISON"]


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize(("poisoned", "before"), POISONED)
async def test_postgres_may_go_away_while_a_poisoned_event_is_told_apart(
    settings: Settings, poisoned: str, before: list[str], after: int
) -> None:
    stages = stages_with(poisoned)
    shaky = stages["publish"]._commits = Shaky(stages["publish"])
    shaky.after = after
    async with pipeline(settings, **stages) as (actors, conn), listening(settings) as listener:
        ids = await post(actors, *(submit(symbol="POISON" if n == 3 else "BTC") for n in range(8)))
        assert await finished(conn, ids, seconds=LEASE_SECONDS - 1) == [
            "FAILED" if n == 3 else "PUBLISHED" for n in range(8)
        ]
        [row] = await conn.fetch("SELECT event_id, stage FROM lens_dlq")
        assert tuple(row) == (ids[3], poisoned.removeprefix("lens/"))
        assert (await timelines(conn))[ids[3]] == [*before, "FAILED"]
        await expect_each_once(conn, 7)
        await listener.receive(7)
        assert listener.feed == list(range(1, 8))
        assert sorted(listener.decided) == [str(ids[n]) for n in range(8) if n != 3]


async def test_an_event_overtaken_while_nothing_could_be_published_waits_for_no_other_lease(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn), another_connection(settings) as blocker:
        async with blocker.transaction():
            await blocker.execute("SELECT FROM feed_counter FOR UPDATE")  # every commit of publish waits for this
            ids = await post(actors, *(submit(symbol=f"S{n}") for n in range(40)))

            async def overtaken() -> bool:
                # Rows that a stage holds are left for the next look: it may want those that this statement has.
                await conn.execute(
                    "UPDATE lens_progress SET lease_until = now() WHERE event_id IN "
                    "(SELECT event_id FROM lens_progress WHERE stage = 'ENRICH' FOR UPDATE SKIP LOCKED)"
                )
                return bool(await conn.fetchval("SELECT count(*) FROM lens_progress WHERE stage = 'EVALUATE'") == 40)

            await until(overtaken)
            await asyncio.sleep(0.2)  # it is handed over again, to a stage that still holds it
        assert set(await finished(conn, ids, seconds=LEASE_SECONDS - 1.5)) == {"PUBLISHED"}
        await expect_each_once(conn, 40)


async def test_an_event_whose_steps_cannot_be_stored_before_its_models_are_asked_keeps_no_other_waiting(
    settings: Settings,
) -> None:
    # As in a rolling restart: enrich carries what evaluate has to store, since it runs other models.
    models = ScriptedModel("claude"), ScriptedModel("gemini")
    async with pipeline(settings, enrich=PoisonedEnrich(), evaluate=ScriptedEvaluate(*models)) as (actors, conn):
        ids = await post(actors, *(submit(symbol="POISON" if n == 3 else "BTC") for n in range(8)))
        statuses = await finished(conn, ids, seconds=LEASE_SECONDS - 1.5)
        assert statuses == ["FAILED" if n == 3 else "PUBLISHED" for n in range(8)]
        [row] = await conn.fetch("SELECT event_id, stage FROM lens_dlq")
        assert tuple(row) == (ids[3], "enrich")
