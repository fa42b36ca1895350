"""The retention job: documents and resolved dead letters go, facts and open dead letters stay, and it blocks none."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from actors.lens import _retention
from actors.lens._retention import forget_old
from actors.lens.intake import Intake
from actors.lens.messages import INTAKE, RetryDeadLetter
from config import clock
from config.ids import time_of, uuid7
from config.settings import Settings
from db.lens import retention
from db.lens.dlq import NewDeadLetter, insert_dead_letters
from db.lens.reads import get_event
from tests.integration.test_lens_pipeline import ScriptedEvaluate, ScriptedModel, pipeline, post
from tests.support.lens_factory import finished, submit, until
from tests.support.local_actors import LocalActors

NOTHING = UUID(int=0)
OLD = timedelta(days=181)


def aged(age: timedelta) -> UUID:
    """Return an id that was made a while ago."""
    return UUID(int=uuid7().int - (int(age / timedelta(milliseconds=1)) << 80))


async def post_aged(actors: LocalActors, conn: Any, *ages: timedelta) -> list[UUID]:
    """Post events that were processed so long ago."""
    ids = [aged(age) for age in ages]
    await post(actors, *(submit(event_id=each) for each in ids))
    await finished(conn, ids)
    await conn.execute(
        """UPDATE lens_enriched SET enriched_at = enriched_at - aged.by
           FROM unnest($1::uuid[], $2::interval[]) aged (id, by) WHERE event_id = aged.id""",
        ids,
        list(ages),
    )
    return ids


async def documents(conn: Any, ids: list[UUID]) -> list[bool]:
    rows = await conn.fetch("SELECT event_id FROM lens_enriched WHERE document IS NOT NULL")
    return [each in {row[0] for row in rows} for each in ids]


async def dead_letter(conn: Any, age: timedelta, *, resolved: timedelta | None) -> UUID:
    dead_letter_id = aged(age)
    row = NewDeadLetter(dead_letter_id, uuid7(), "enrich", None, "TIMEOUT", "x", {}, [], 3, time_of(dead_letter_id))
    await insert_dead_letters(conn, [row])
    if resolved is not None:
        await conn.execute("UPDATE lens_dlq SET resolved_at = $2 WHERE id = $1", dead_letter_id, clock.now() - resolved)
    return dead_letter_id


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_retention, "AT_ONCE", 3)
    monkeypatch.setattr(_retention, "PAUSE_SECONDS", 0.0)


async def test_old_documents_go_and_the_facts_stay(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        ages = [OLD] * 8 + [timedelta(days=179), timedelta(0)]
        ids = await post_aged(actors, conn, *ages)
        before = await get_event(conn, ids[0])
        last = await forget_old(actors.behaviours[INTAKE].context, NOTHING)
        assert await documents(conn, ids) == [False] * 8 + [True, True]
        assert last == max(ids[:8])
        assert await get_event(conn, ids[0]) == before, "profile, flags, timeline and decisions are all there"
        assert await conn.fetchval("SELECT count(*) FROM lens_decisions") == len(ids)
        assert await conn.fetchval("SELECT count(*) FROM signals") == len(ids)


async def test_an_event_that_is_under_way_keeps_its_document(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        ids = await post_aged(actors, conn, OLD, OLD)
        await conn.execute(
            "UPDATE lens_progress SET finished_at = NULL, due_at = 'infinity' WHERE event_id = $1", ids[0]
        )
        await forget_old(actors.behaviours[INTAKE].context, NOTHING)
        assert await documents(conn, ids) == [True, False]


async def test_an_old_event_that_was_just_enriched_again_keeps_its_document(settings: Settings) -> None:
    model = ScriptedModel("claude", failures=4)
    quick = settings.replace(lens_retry_base_seconds=0.01)
    async with pipeline(quick, evaluate=ScriptedEvaluate(model)) as (actors, conn):
        ids = await post_aged(actors, conn, OLD)
        context = actors.behaviours[INTAKE].context
        await forget_old(context, NOTHING)
        assert await documents(conn, ids) == [False]
        dead_letter_id = await conn.fetchval("SELECT id FROM lens_dlq")
        answer = await actors.ref(INTAKE).ask("", RetryDeadLetter(dead_letter_id, None))
        assert answer.stage == "enrich"
        assert await finished(conn, ids) == ["PUBLISHED"]
        await forget_old(context, NOTHING)
        assert await documents(conn, ids) == [True]


async def test_resolved_entries_go_when_they_have_been_resolved_for_long_and_open_ones_never(
    settings: Settings,
) -> None:
    async with pipeline(settings) as (actors, conn):
        open_one = await dead_letter(conn, OLD * 5, resolved=None)
        lately = await dead_letter(conn, OLD * 5, resolved=timedelta(days=1))
        for _ in range(7):
            await dead_letter(conn, OLD * 2, resolved=OLD)
        await forget_old(actors.behaviours[INTAKE].context, NOTHING)
        assert {row[0] for row in await conn.fetch("SELECT id FROM lens_dlq")} == {open_one, lately}


async def test_the_next_round_begins_where_the_last_one_ended(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        ids = sorted(await post_aged(actors, conn, *[OLD] * 5))
        context = actors.behaviours[INTAKE].context
        assert await forget_old(context, ids[2]) == ids[4]
        assert await documents(conn, ids) == [True, True, True, False, False]
        assert await forget_old(context, ids[4]) == ids[4]


async def test_intake_does_it_from_time_to_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.lens.intake.FORGET_EVERY_SECONDS", 0.05)
    async with pipeline(settings) as (actors, conn):
        ids = await post_aged(actors, conn, OLD)
        await actors.kill(INTAKE)
        await actors.start(INTAKE, Intake(), settings)

        async def gone() -> bool:
            return await documents(conn, ids) == [False]

        await until(gone)


async def test_a_batch_goes_by_the_key_and_over_no_more_rows_than_its_bound(settings: Settings) -> None:
    async with pipeline(settings) as (_, conn):
        fill = (
            "INSERT INTO lens_enriched SELECT gen_random_uuid(), 'p', '{}', '{}', now() FROM generate_series(1, 5000)"
        )
        await conn.execute(fill)
        await conn.execute("VACUUM ANALYZE lens_enriched")
        bounds = NOTHING, UUID(int=(1 << 128) - 1), 100, clock.now()
        rows = await conn.fetch(f"EXPLAIN (COSTS OFF) {retention.FORGET_DOCUMENTS}", *bounds)
        steps = "\n".join(row[0] for row in rows)
        assert "Index Only Scan using lens_enriched_pkey" in steps, steps
        assert "Seq Scan on lens_enriched" not in steps, steps
