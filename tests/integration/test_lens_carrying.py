"""Steps done at once are carried uncommitted to the next commit, and stored there; those at fault are found."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from actors._runtime.messages import Envelope, decode, encode
from actors.lens._results import StageFailure, StageResult
from actors.lens.enrich import Enrich
from actors.lens.evaluate import Evaluate
from actors.lens.market.quotes import Declaration, PricedInstrument
from actors.lens.messages import ENRICH, EVALUATE, INTAKE, PUBLISH, Process, RetryDeadLetter, Work
from actors.lens.model import QueryFailure
from actors.lens.publish import Publish
from config import clock
from config.settings import Settings
from config.values import replace
from db.lens.reads import get_event
from tests.integration.test_lens_pipeline import ScriptedEvaluate, ScriptedModel, pipeline, post
from tests.support.lens_factory import finished, submit, until

WHOLE = ["RECEIVED", "ENQUEUED", "ENRICHED", "MODEL_DONE", "PUBLISHED"]
NUL = "a\0b"  # which Postgres takes in no text


class HeldPublish(Publish):
    """Publish that fails as often as it is told to, then waits with each event until the test lets it go on."""

    def __init__(self, *, failures: int = 0) -> None:
        super().__init__()
        self.failures = failures
        self.held: list[Work] = []
        self.released = asyncio.Event()

    def work_at_once(self, work: Work) -> StageResult:
        if self.failures:
            self.failures -= 1
            raise StageFailure("PUBLISH_ERROR", "the score fails")
        return None  # type: ignore[return-value]

    async def work(self, work: Work) -> StageResult:
        self.held.append(work)
        await self.released.wait()
        return super().work_at_once(work)


class PoisonedEnrich(Enrich):
    """Enrich with features that cannot be stored, for one symbol."""

    def _enrich(self, work: Work, *found: Any) -> StageResult:
        result = super()._enrich(work, *found)
        if work.signal.symbol != "POISON":
            return result
        assert result.work.features is not None
        features = replace(result.work.features, failures=(QueryFailure("mid", "TIMEOUT", NUL),))
        return replace(result, work=replace(result.work, features=features))


class PoisonedEvaluate(Evaluate):
    """Evaluate with a decision that cannot be stored, for one symbol."""

    def work_at_once(self, work: Work) -> StageResult | None:
        result = super().work_at_once(work)
        if result is None or work.signal.symbol != "POISON":
            return result
        [run] = result.work.evaluations
        assert run.decision is not None
        run = replace(run, decision=replace(run.decision, reasons=(NUL,)))
        return replace(result, work=replace(result.work, evaluations=(run,)))


class PoisonedPublish(Publish):
    """Publish with a score that cannot be stored, for one symbol, until it is cured."""

    is_cured = False

    def work_at_once(self, work: Work) -> StageResult:
        result: Any = super().work_at_once(work)
        if self.is_cured or work.signal.symbol != "POISON":
            return result  # type: ignore[no-any-return]
        return replace(result, score=replace(result.score, reasoning=NUL))


async def stored(conn: asyncpg.Connection[Any], event_id: UUID) -> tuple[str, str, int, int]:
    """Return stage and status of the event's row, and its numbers of enriched documents and decisions."""
    row = await conn.fetchrow("SELECT stage, status FROM lens_progress WHERE event_id = $1", event_id)
    assert row is not None
    counts = [
        await conn.fetchval(f"SELECT count(*) FROM {table} WHERE event_id = $1", event_id)
        for table in ("lens_enriched", "lens_decisions")
    ]
    return row["stage"], row["status"], counts[0], counts[1]


async def begin(enrich: Enrich, *symbols: str) -> None:
    """Start symbols in the simulated market, so that no signal has to wait for that."""
    instruments = [PricedInstrument("crypto", each) for each in symbols]
    await enrich._prices.declare([Declaration(each, Decimal(42_000), clock.now()) for each in instruments])
    for each in instruments:
        assert await enrich._prices.quote(each) is not None


async def test_an_event_that_publication_keeps_waiting_is_stored_before_it_waits(settings: Settings) -> None:
    publish = HeldPublish()
    async with pipeline(settings, publish=publish) as (actors, conn):
        [event_id] = await post(actors, submit())

        async def held() -> bool:
            return bool(publish.held)

        await until(held)
        assert await stored(conn, event_id) == ("PUBLISH", "MODEL_DONE", 1, 1)
        assert publish.held[0].carried == ()
        publish.released.set()
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        event = await get_event(conn, event_id)
        assert event is not None
        assert [line["status"] for line in event.timeline] == WHOLE


async def test_a_carried_event_is_not_written_between_acceptance_and_publication(settings: Settings) -> None:
    enrich = Enrich()
    async with pipeline(settings, enrich=enrich) as (actors, conn):
        await conn.execute("CREATE TABLE written (event_id uuid, stage text, status text)")
        await conn.execute(
            """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN INSERT INTO written VALUES (new.event_id, new.stage, new.status); RETURN new; END $$;
               CREATE TRIGGER noted AFTER INSERT OR UPDATE ON lens_progress FOR EACH ROW EXECUTE FUNCTION note()"""
        )
        await begin(enrich, *(f"S{n}" for n in range(30)))
        ids = await post(actors, *(submit(symbol=f"S{n}") for n in range(30)))
        assert set(await finished(conn, ids)) == {"PUBLISHED"}
        rows = await conn.fetch("SELECT stage, status, count(*) FROM written GROUP BY 1, 2")
        assert {tuple(row) for row in rows} == {("ENRICH", "ENQUEUED", 30), ("COMPLETE", "PUBLISHED", 30)}
        for event_id in ids:
            assert await stored(conn, event_id) == ("COMPLETE", "PUBLISHED", 1, 1)


async def test_a_failed_attempt_of_publication_stores_the_steps_before_it(settings: Settings) -> None:
    publish = HeldPublish(failures=1)
    quick = settings.replace(lens_retry_base_seconds=0.05)
    async with pipeline(quick, publish=publish) as (actors, conn):
        [event_id] = await post(actors, submit())

        async def held() -> bool:
            return bool(publish.held)

        await until(held)
        assert publish.held[0].attempt == 1
        assert await stored(conn, event_id) == ("PUBLISH", "MODEL_DONE", 1, 1)
        publish.released.set()
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        event = await get_event(conn, event_id)
        assert event is not None
        assert [line["status"] for line in event.timeline] == WHOLE


@pytest.mark.parametrize(
    ("poisoned", "dead_letter", "left"),
    [
        (ENRICH, ("enrich", "INTERNAL_ERROR"), (0, 0)),
        (EVALUATE, ("evaluate", "INTERNAL_ERROR"), (1, 0)),
        (PUBLISH, ("publish", "PUBLISH_ERROR"), (1, 1)),
    ],
)
async def test_a_step_that_cannot_be_stored_is_told_by_its_stage_and_stops_no_other(
    settings: Settings, poisoned: str, dead_letter: tuple[str, str], left: tuple[int, int]
) -> None:
    enrich = PoisonedEnrich() if poisoned == ENRICH else Enrich()
    evaluate = PoisonedEvaluate() if poisoned == EVALUATE else None
    publish = PoisonedPublish() if poisoned == PUBLISH else None
    async with pipeline(settings, enrich=enrich, evaluate=evaluate, publish=publish) as (actors, conn):
        await begin(enrich, "BTC", "POISON", "ETH", "SOL")
        ids = await post(actors, *(submit(symbol=symbol) for symbol in ("BTC", "POISON", "ETH", "SOL")))
        assert await finished(conn, ids) == ["PUBLISHED", "FAILED", "PUBLISHED", "PUBLISHED"]
        assert await stored(conn, ids[1]) == ("DEAD_LETTER", "FAILED", *left)
        [row] = await conn.fetch("SELECT id, stage, reason_code FROM lens_dlq")
        assert (row["stage"], row["reason_code"]) == dead_letter
        if publish is not None:
            publish.is_cured = True
            await actors.ref(INTAKE).ask("", RetryDeadLetter(row["id"], None))

            async def published() -> bool:
                return await stored(conn, ids[1]) == ("COMPLETE", "PUBLISHED", 1, 1)

            await until(published)


async def test_a_stage_with_other_models_than_its_sender_believed_stores_before_it_asks(settings: Settings) -> None:
    # As in a rolling restart: enrich still believes that the one model is the local one.
    slow, quick = ScriptedModel("claude"), ScriptedModel("gemini")
    async with pipeline(settings, evaluate=ScriptedEvaluate(slow, quick)) as (actors, conn):
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        assert await stored(conn, event_id) == ("COMPLETE", "PUBLISHED", 1, 2)
        assert (slow.asked, quick.asked) == (1, 1)


async def test_an_event_delivered_twice_on_its_way_is_published_once(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        sent: list[Process] = []
        ref = actors.ref(PUBLISH)
        tell = ref.tell

        def twice(key: str, message: Any) -> bool:
            sent.append(message)
            return tell(key, message) and tell(key, message)

        ref.tell = twice  # type: ignore[method-assign]
        ids = await post(actors, *(submit() for _ in range(10)))
        assert set(await finished(conn, ids)) == {"PUBLISHED"}
        for message in sent:  # and once more, when it is long done
            assert message.work[0].carried, "it came with its steps"
            await actors.behaviours[PUBLISH].process([Envelope("", decode(encode(message)))])
        await asyncio.sleep(0.3)
        assert await conn.fetchval("SELECT count(*) FROM signals") == 10
        assert await conn.fetchval("SELECT last_seq FROM feed_counter") == 10
        assert await conn.fetchval("SELECT count(*) FROM lens_decisions") == 10
