"""Retries of dead letters: each counts once, changes no finished work, and blocks no other retry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from actors.lens.enrich import Enrich
from actors.lens.evaluate import Evaluate
from actors.lens.intake import Intake
from actors.lens.messages import (
    ENRICH,
    EVALUATE,
    INTAKE,
    PUBLISH,
    Counts,
    ResolveDeadLetter,
    ResolveDeadLetters,
    RetryDeadLetter,
    RetryDeadLetters,
    Retrying,
)
from actors.lens.model import Evaluation, Features, RawSignal
from actors.lens.publish import Publish, Published
from config import clock
from config.ids import time_of, uuid7
from config.settings import Settings
from config.values import replace
from db._redis import create_redis
from db.lens import dlq
from db.lens.dlq import DeadLetterFilters
from db.lens.reads import get_event
from schemas._vocabulary import DeadLetterStage, values_of
from schemas.errors import AppError, NotFound, ValidationFailed
from schemas.feed import DECISIONS_CHANNEL, FEED_CHANNEL, decode_batch, decode_decisions
from tests.integration.test_lens_pipeline import (
    ScriptedEnrich,
    ScriptedEvaluate,
    ScriptedMarket,
    ScriptedModel,
    pipeline,
    post,
)
from tests.support.lens_factory import finished, submit, until
from tests.support.local_actors import LocalActors

Conn = Any  # a connection of asyncpg's; its class is no generic at run time


@pytest.fixture
def quick(settings: Settings) -> Settings:
    return settings.replace(lens_retry_base_seconds=0.01, lens_retry_max_seconds=0.02)


class HangingModel(ScriptedModel):
    """A model that can be told to wait with its answer until the test releases it."""

    def __init__(self, name: str, failures: int = 0) -> None:
        super().__init__(name, failures)
        self.hangs = False
        self.hanging = asyncio.Event()
        self.released = asyncio.Event()

    async def judge(self, signal: RawSignal, features: Features) -> Evaluation:
        if self.hangs:
            self.hanging.set()
            await self.released.wait()
        return await super().judge(signal, features)


async def ask(actors: LocalActors, message: Any) -> Any:
    return await actors.ref(INTAKE).ask("", message)


async def dead_letters(conn: Conn) -> list[asyncpg.Record]:
    return await conn.fetch("SELECT * FROM lens_dlq ORDER BY id")


async def open_letter(conn: Conn) -> asyncpg.Record:
    [dead_letter] = [row for row in await dead_letters(conn) if row["resolved_at"] is None]
    return dead_letter


async def resolved(conn: Conn, dead_letter_id: UUID) -> asyncpg.Record:
    """Return the entry once it is resolved."""

    async def look() -> asyncpg.Record | None:
        return await conn.fetchrow("SELECT * FROM lens_dlq WHERE id = $1 AND resolved_at IS NOT NULL", dead_letter_id)

    row = await until(look)
    assert row is not None
    return row


async def all_ended(conn: Conn) -> None:
    """Wait until no event is under way; then no entry may be marked as being retried."""

    async def look() -> bool:
        return not await conn.fetchval("SELECT count(*) FROM lens_progress WHERE finished_at IS NULL")

    await until(look)
    assert await conn.fetchval("SELECT count(*) FROM lens_dlq WHERE retrying") == 0


async def timeline(conn: Conn, event_id: UUID) -> list[str]:
    event = await get_event(conn, event_id)
    assert event is not None
    return [line["status"] for line in event.timeline]


@asynccontextmanager
async def dead_symbol(settings: Settings) -> AsyncIterator[tuple[LocalActors, Conn, ScriptedMarket, UUID]]:
    """Run a pipeline in which the first event, on DEAD, has been dead-lettered."""
    market = ScriptedMarket()
    async with pipeline(settings, enrich=ScriptedEnrich(market)) as (actors, conn):
        [event_id] = await post(actors, submit(symbol="DEAD"))
        assert await finished(conn, [event_id]) == ["FAILED"]
        yield actors, conn, market, event_id


async def test_a_retry_that_succeeds_publishes_the_event_and_resolves_its_entry(quick: Settings) -> None:
    async with dead_symbol(quick) as (actors, conn, market, event_id):
        market.dead.clear()
        dead_letter = await open_letter(conn)
        before = clock.now()
        assert await ask(actors, RetryDeadLetter(dead_letter["id"], None)) == Retrying(dead_letter["id"], "enrich", 4)
        done = await resolved(conn, dead_letter["id"])
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        assert done["resolution_note"] == "Resolved by retry"
        assert (done["retry_count"], done["retrying"], len(done["attempts"])) == (4, False, 4)
        assert before - timedelta(seconds=1) < done["last_retry_at"] <= done["resolved_at"]
        assert await timeline(conn, event_id) == [
            *("RECEIVED", "ENQUEUED", "FAILED"),
            *("ENQUEUED", "ENRICHED", "MODEL_DONE", "PUBLISHED"),
        ]
        event = await get_event(conn, event_id)
        assert event is not None
        assert event.timeline[3]["details"] == {"dlq_id": str(dead_letter["id"]), "stage": "enrich"}
        assert await conn.fetchval("SELECT count(*) FROM signals") == 1


async def test_a_retry_passes_the_gates_of_age_and_drift(quick: Settings) -> None:
    old, settings = clock.now() - timedelta(minutes=5), quick.replace(lens_reject_age_seconds=60.0)
    async with dead_symbol(settings) as (actors, conn, market, event_id):
        await conn.execute("UPDATE lens_events SET ts_utc = $1", old)  # as if it had waited for its retry
        market.dead.clear()
        [gated] = await post(actors, submit(ts_utc=old))
        assert await finished(conn, [gated]) == ["REJECTED"]
        await ask(actors, RetryDeadLetter((await open_letter(conn))["id"], None))
        await until(lambda: conn.fetchval("SELECT true FROM signals WHERE id = $1", event_id))


async def test_a_second_failure_is_added_to_the_same_entry(quick: Settings) -> None:
    async with dead_symbol(quick) as (actors, conn, market, event_id):
        dead_letter = await open_letter(conn)
        await ask(actors, RetryDeadLetter(dead_letter["id"], None))
        await until(lambda: _asked(market, 8))
        await all_ended(conn)
        again = await open_letter(conn)
        assert again["id"] == dead_letter["id"]
        assert len(again["attempts"]) == 8
        assert [each["at"] for each in again["attempts"]] == sorted(each["at"] for each in again["attempts"])
        assert (again["retry_count"], again["retrying"]) == (4, False)
        assert await finished(conn, [event_id]) == ["FAILED"]
        assert (await timeline(conn, event_id))[2:] == ["FAILED", "ENQUEUED", "FAILED"]
        market.dead.clear()
        assert (await ask(actors, RetryDeadLetter(dead_letter["id"], None))).retry_count == 5
        await resolved(conn, dead_letter["id"])


async def _asked(market: ScriptedMarket, times: int) -> bool:
    return market.asked.count("DEAD") == times


async def test_a_failure_of_a_later_stage_after_a_retry_is_an_entry_of_its_own(quick: Settings) -> None:
    market, model = ScriptedMarket(), ScriptedModel("claude", failures=99)
    async with pipeline(quick, enrich=ScriptedEnrich(market), evaluate=ScriptedEvaluate(model)) as (actors, conn):
        [event_id] = await post(actors, submit(symbol="DEAD"))
        assert await finished(conn, [event_id]) == ["FAILED"]
        market.dead.clear()
        first = await open_letter(conn)
        await ask(actors, RetryDeadLetter(first["id"], None))
        await resolved(conn, first["id"])
        await all_ended(conn)
        second = await open_letter(conn)
        assert (second["stage"], second["model"], second["event_id"]) == ("evaluate", "claude", event_id)


async def test_a_hundred_retries_at_once_begin_one(quick: Settings) -> None:
    async with dead_symbol(quick) as (actors, conn, market, event_id):
        dead_letter = await open_letter(conn)
        batches = [[RetryDeadLetter(dead_letter["id"], None)] * 10 for _ in range(10)]
        market.dead.clear()
        market.asked.clear()
        await actors.kill(ENRICH)  # so that all of them find it under way
        answers = await asyncio.gather(*(actors.ref(INTAKE).ask_batch(batch) for batch in batches))
        assert {each for batch in answers for each in batch} == {Retrying(dead_letter["id"], "enrich", 4)}
        await actors.start(ENRICH, ScriptedEnrich(market), quick)
        assert (await resolved(conn, dead_letter["id"]))["retry_count"] == 4
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        assert market.asked == ["DEAD"]
        assert await conn.fetchval("SELECT round FROM lens_progress") == 1


@pytest.mark.parametrize("dies", [INTAKE, ENRICH])
async def test_a_process_that_dies_after_a_retry_was_answered_loses_nothing(quick: Settings, dies: str) -> None:
    async with dead_symbol(quick) as (actors, conn, market, event_id):
        dead_letter = await open_letter(conn)
        market.dead.clear()
        await actors.kill(ENRICH)
        await ask(actors, RetryDeadLetter(dead_letter["id"], None))
        if dies == INTAKE:
            await actors.kill(INTAKE)
            await actors.start(INTAKE, Intake(), quick)
        await actors.start(ENRICH, ScriptedEnrich(market), quick)
        await resolved(conn, dead_letter["id"])
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        assert await conn.fetchval("SELECT count(*) FROM signals") == 1


@asynccontextmanager
async def heard(settings: Settings) -> AsyncIterator[tuple[list[int], list[tuple[str, str]]]]:
    """Collect the messages to the gateways over Redis from now on: feed_seqs, and (event, model) of decisions."""
    assert settings.redis_url is not None
    redis = create_redis(settings.redis_url)
    feed: list[int] = []
    decided: list[tuple[str, str]] = []
    async with redis.pubsub() as listener:
        await listener.subscribe(FEED_CHANNEL, DECISIONS_CHANNEL)

        async def listen() -> None:
            async for message in listener.listen():
                if message["type"] != "message":
                    continue
                if message["channel"] == FEED_CHANNEL.encode():
                    feed.extend(item.feed_seq for item in decode_batch(message["data"]))
                else:
                    items = [orjson.loads(item.data) for item in decode_decisions(message["data"])]
                    decided.extend((item["event_id"], item["model"]) for item in items)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(listen())
            try:
                yield feed, decided
            finally:
                task.cancel()
    await redis.aclose()


async def test_a_models_own_entry_adds_its_decision_to_the_published_event_and_nothing_else(quick: Settings) -> None:
    good, bad = ScriptedModel("claude"), ScriptedModel("chatgpt", failures=4)
    async with (
        pipeline(quick, evaluate=ScriptedEvaluate(good, bad)) as (actors, conn),
        heard(quick) as (feed, decided),
    ):
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        signal = await conn.fetchrow("SELECT * FROM signals")
        dead_letter = await open_letter(conn)
        assert await ask(actors, RetryDeadLetter(dead_letter["id"], None)) == Retrying(dead_letter["id"], "evaluate", 4)
        await resolved(conn, dead_letter["id"])
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        await until(lambda: _holds(lambda: len(decided) == 2))
        assert decided == [(str(event_id), "claude"), (str(event_id), "chatgpt")]
        assert feed == [1]
        assert await conn.fetchrow("SELECT * FROM signals") == signal
        assert (good.asked, bad.asked) == (1, 5)
        steps = await timeline(conn, event_id)
        assert steps[-4:] == ["MODEL_DONE", "PUBLISHED", "ENQUEUED", "MODEL_DONE"]
        assert await conn.fetchval("SELECT stage FROM lens_progress") == "COMPLETE"


async def _holds(condition: Any) -> bool:
    return bool(condition())


async def test_decisions_are_told_once_whatever_dies_between_the_retry_and_its_end(quick: Settings) -> None:
    good, bad = ScriptedModel("claude"), ScriptedModel("chatgpt", failures=4)
    async with (
        pipeline(quick, evaluate=ScriptedEvaluate(good, bad)) as (actors, conn),
        heard(quick) as (feed, decided),
    ):
        [event_id] = await post(actors, submit())
        await finished(conn, [event_id])
        await until(lambda: _holds(lambda: len(decided) == 1))  # sent after the commit
        await actors.kill(PUBLISH)
        dead_letter = await open_letter(conn)
        actors.refs[PUBLISH] = actors.refs[EVALUATE]  # a hand-over that gets nowhere
        await ask(actors, RetryDeadLetter(dead_letter["id"], None))
        await resolved(conn, dead_letter["id"])
        assert await conn.fetchval("SELECT status FROM lens_progress") == "PUBLISHED", "all the while"
        await actors.start(PUBLISH, Publish(), quick)
        await finished(conn, [event_id])
        await until(lambda: _holds(lambda: len(decided) == 2))
        assert decided == [(str(event_id), "claude"), (str(event_id), "chatgpt")]
        assert feed == [1]


async def test_a_model_that_fails_again_leaves_the_published_event_as_it_was(quick: Settings) -> None:
    bad = ScriptedModel("chatgpt", failures=99)
    async with pipeline(quick, evaluate=ScriptedEvaluate(ScriptedModel("claude"), bad)) as (actors, conn):
        [event_id] = await post(actors, submit())
        await finished(conn, [event_id])
        dead_letter = await open_letter(conn)
        await ask(actors, RetryDeadLetter(dead_letter["id"], None))
        await until(lambda: _holds(lambda: bad.asked == 8))
        await all_ended(conn)
        assert len((await open_letter(conn))["attempts"]) == 8
        row = await conn.fetchrow("SELECT status, stage FROM lens_progress WHERE event_id = $1", event_id)
        assert row is not None
        assert tuple(row) == ("PUBLISHED", "COMPLETE")
        assert await conn.fetchval("SELECT count(*) FROM signals") == 1


class BrokenEvaluate(ScriptedEvaluate):
    """Evaluate with a defect of its own in every round after the first."""

    async def work(self, work: Any) -> Any:
        if work.round:
            raise RuntimeError("a defect\0 of the stage \ud800 itself")
        return await super().work(work)


async def test_a_stage_that_breaks_on_a_retry_leaves_the_published_event_as_it_was(quick: Settings) -> None:
    models = ScriptedModel("claude"), ScriptedModel("chatgpt", failures=4)
    async with pipeline(quick, evaluate=BrokenEvaluate(*models)) as (actors, conn):
        [event_id] = await post(actors, submit())
        await finished(conn, [event_id])
        dead_letter = await open_letter(conn)
        await ask(actors, RetryDeadLetter(dead_letter["id"], None))
        await until(lambda: _count(conn, "SELECT count(*) = 2 FROM lens_dlq"))
        await all_ended(conn)
        row = await conn.fetchrow("SELECT status, stage FROM lens_progress")
        assert row is not None
        assert tuple(row) == ("PUBLISHED", "COMPLETE")
        [mine, stages] = await dead_letters(conn)
        assert (mine["resolved_at"], mine["retrying"]) == (None, False)
        assert (stages["model"], stages["reason_code"]) == (None, "INTERNAL_ERROR")
        assert stages["error_message"] == r"RuntimeError: a defect\u0000 of the stage \ud800 itself"


async def _count(conn: Conn, question: str) -> bool:
    return bool(await conn.fetchval(question))


async def test_a_retry_asks_the_model_that_it_is_about_and_no_other(quick: Settings) -> None:
    first, second = ScriptedModel("chatgpt", failures=4), ScriptedModel("gemini", failures=4)
    async with pipeline(quick, evaluate=ScriptedEvaluate(first, second)) as (actors, conn):
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["FAILED"]
        by_model = {row["model"]: row["id"] for row in await dead_letters(conn)}
        await ask(actors, RetryDeadLetter(by_model["gemini"], None))
        await resolved(conn, by_model["gemini"])
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        assert (first.asked, second.asked) == (4, 5)
        assert (await open_letter(conn))["model"] == "chatgpt"
        await ask(actors, RetryDeadLetter(by_model["chatgpt"], None))
        await resolved(conn, by_model["chatgpt"])
        await all_ended(conn)
        assert (first.asked, second.asked) == (5, 5)
        assert await conn.fetchval("SELECT count(*) FROM lens_decisions") == 2


async def test_a_second_entry_of_the_event_that_is_retried_meanwhile_is_not_forgotten(quick: Settings) -> None:
    first, second = HangingModel("chatgpt", failures=4), ScriptedModel("gemini", failures=4)
    async with pipeline(quick, evaluate=ScriptedEvaluate(first, second)) as (actors, conn):
        [event_id] = await post(actors, submit())
        await finished(conn, [event_id])
        by_model = {row["model"]: row["id"] for row in await dead_letters(conn)}
        first.hangs = True
        await ask(actors, RetryDeadLetter(by_model["chatgpt"], None))
        await first.hanging.wait()
        await ask(actors, RetryDeadLetter(by_model["gemini"], None))
        first.hangs = False
        first.released.set()
        for dead_letter_id in by_model.values():
            await resolved(conn, dead_letter_id)
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        assert await conn.fetchval("SELECT array_agg(model ORDER BY model) FROM lens_decisions") == [
            "chatgpt",
            "gemini",
        ]
        await all_ended(conn)


async def test_a_model_that_is_no_longer_in_use_says_so(quick: Settings) -> None:
    models = ScriptedModel("claude"), ScriptedModel("chatgpt", failures=99)
    async with pipeline(quick, evaluate=ScriptedEvaluate(*models)) as (actors, conn):
        [event_id] = await post(actors, submit())
        await finished(conn, [event_id])
        await actors.kill(EVALUATE)
        await actors.start(EVALUATE, ScriptedEvaluate(models[0]), quick)
        dead_letter = await open_letter(conn)
        await ask(actors, RetryDeadLetter(dead_letter["id"], None))
        await until(lambda: _count(conn, "SELECT jsonb_array_length(attempts) = 5 FROM lens_dlq"))
        await all_ended(conn)
        again = await open_letter(conn)
        assert (again["reason_code"], again["error_message"]) == ("MODEL_ERROR", "chatgpt is not in use")


async def test_an_edited_payload_is_what_is_processed_from_then_on(quick: Settings) -> None:
    async with dead_symbol(quick) as (actors, conn, _, event_id):
        dead_letter = await open_letter(conn)
        patch = {"symbol": "eth", "entry_price": Decimal("3500.123456789012345678"), "source": "beta"}
        patch["liquidation_price"] = None
        assert (await ask(actors, RetryDeadLetter(dead_letter["id"], patch))).stage == "enrich"
        done = await resolved(conn, dead_letter["id"])
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        assert done["payload"]["symbol"] == "DEAD", "the original stays"
        assert done["payload"].keys() - {"event_id"} == done["edited_payload"].keys()
        assert (done["edited_payload"]["symbol"], done["edited_payload"]["source"]) == ("ETH", "beta")
        assert done["edited_payload"]["ts_utc"] == done["payload"]["ts_utc"]
        event = await get_event(conn, event_id)
        assert event is not None
        [line] = [each["details"] for each in event.timeline if "dlq_id" in each.get("details", {})]
        assert line == {"dlq_id": str(dead_letter["id"]), "stage": "enrich", "edited": True}
        signal = await conn.fetchrow(
            "SELECT s.*, p.display_name FROM signals s JOIN providers p ON p.user_id = provider_id"
        )
        assert signal is not None
        assert (signal["symbol"], signal["display_name"]) == ("ETH", "beta")
        assert str(signal["entry_price"]) == "3500.123456789012345678", "digit for digit"
        assert str(signal["size"]) == "0.1"
        assert orjson.loads(signal["feed_data"])["symbol"] == "ETH"
        assert await conn.fetchval("SELECT symbol FROM lens_decisions") == "ETH"
        assert await conn.fetchval("SELECT symbol FROM lens_events") == "DEAD", "what was submitted is a fact"


async def test_an_edit_of_an_entry_on_its_way_begins_it_anew_and_the_same_one_again_does_not(quick: Settings) -> None:
    async with dead_symbol(quick) as (actors, conn, market, event_id):
        dead_letter = await open_letter(conn)
        await actors.kill(ENRICH)
        edit = RetryDeadLetter(dead_letter["id"], {"symbol": "ETH"})
        counts = [
            (await ask(actors, message)).retry_count
            for message in (
                RetryDeadLetter(dead_letter["id"], None),
                edit,
                edit,
                RetryDeadLetter(dead_letter["id"], None),
            )
        ]
        assert counts == [4, 5, 5, 5]
        await actors.start(ENRICH, ScriptedEnrich(market), quick)
        await resolved(conn, dead_letter["id"])
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        assert market.asked[-1] == "ETH"


async def test_two_edits_in_one_batch_are_laid_over_one_another(quick: Settings) -> None:
    async with dead_symbol(quick) as (actors, conn, _, event_id):
        dead_letter = await open_letter(conn)
        edits = [RetryDeadLetter(dead_letter["id"], {"symbol": "ETH"}), RetryDeadLetter(dead_letter["id"], {"size": 7})]
        answers = await actors.ref(INTAKE).ask_batch(edits)
        assert [each.retry_count for each in answers] == [4, 5]
        done = await resolved(conn, dead_letter["id"])
        assert (done["edited_payload"]["symbol"], done["edited_payload"]["size"], done["retry_count"]) == ("ETH", 7, 5)
        await finished(conn, [event_id])
        assert str(await conn.fetchval("SELECT size FROM signals")) == "7"


@pytest.mark.parametrize(
    ("changes", "is_kept"),
    [
        ({"commentary": "by hand"}, True),
        ({"entry_price": Decimal("43000.123456789012345678")}, True),
        ({"signal_direction": "short", "liquidation_price": None}, True),
        ({"symbol": "BTC/USD"}, True),
        ({"symbol": "ETH", "liquidation_price": None}, False),
        ({"asset_type": "stock", "liquidation_price": None}, False),
    ],
)
async def test_the_quote_of_the_receipt_is_kept_through_a_retry_where_it_is_of_the_same_instrument(
    quick: Settings, changes: dict[str, Any], is_kept: bool
) -> None:
    async with pipeline(quick, evaluate=ScriptedEvaluate(ScriptedModel("claude", failures=4))) as (actors, conn):
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["FAILED"]
        first = await conn.fetchval("SELECT document->'quote' FROM lens_enriched")
        assert first is not None
        dead_letter = await open_letter(conn)
        await ask(actors, RetryDeadLetter(dead_letter["id"], changes))
        await resolved(conn, dead_letter["id"])
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        signal = await conn.fetchrow("SELECT * FROM signals")
        assert signal is not None
        if not is_kept:
            assert (signal["quote_at"], signal["record_price"]) == (None, None)
            return
        quote = first if isinstance(first, dict) else orjson.loads(first)
        assert (str(signal["quote_bid"]), str(signal["quote_ask"])) == (quote["bid"], quote["ask"])
        price = signal["entry_price"]
        worse = max(price, signal["quote_ask"]) if signal["direction"] == "long" else min(price, signal["quote_bid"])
        assert signal["record_price"] == worse


async def test_an_edit_of_what_the_features_are_made_of_has_them_made_anew(quick: Settings) -> None:
    market, model = ScriptedMarket(), ScriptedModel("claude", failures=4)
    async with pipeline(quick, enrich=ScriptedEnrich(market), evaluate=ScriptedEvaluate(model)) as (actors, conn):
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["FAILED"]
        dead_letter = await open_letter(conn)
        small = RetryDeadLetter(dead_letter["id"], {"commentary": "looked at by hand"})
        large = RetryDeadLetter(dead_letter["id"], {"symbol": "ETH", "entry_price": 3500, "liquidation_price": None})
        await actors.kill(EVALUATE)
        await actors.kill(ENRICH)
        assert (await ask(actors, small)).stage == "evaluate"
        assert (await ask(actors, large)).stage == "enrich"
        await actors.start(EVALUATE, ScriptedEvaluate(model), quick)
        await actors.start(ENRICH, ScriptedEnrich(market), quick)
        await resolved(conn, dead_letter["id"])
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        assert market.asked == ["BTC", "ETH"]
        assert 3000 < (await conn.fetchval("SELECT (document->>'price')::float FROM lens_enriched")) < 4000
        assert await conn.fetchval("SELECT commentary FROM signals") == "looked at by hand"


@pytest.mark.parametrize(
    ("patch", "fields"),
    [
        ({"entry_price": -1}, ["payload.entry_price"]),
        ({"entry_price": "1", "size": None}, ["payload.entry_price", "payload.size"]),
        ({"nonsense": 1}, ["payload.nonsense"]),
        ({"signal_direction": "close_long"}, ["payload.signal_direction"]),
        ({"asset_data": {"price": "x"}}, ["payload.asset_data.price"]),
        ({"event_id": "550e8400-e29b-41d4-a716-446655440000"}, ["payload.event_id"]),
    ],
)
async def test_a_payload_that_is_no_signal_is_refused_by_name_and_changes_nothing(
    quick: Settings, patch: dict[str, Any], fields: list[str]
) -> None:
    async with dead_symbol(quick) as (actors, conn, _, event_id):
        dead_letter = await open_letter(conn)
        with pytest.raises(ValidationFailed) as refused:
            await ask(actors, RetryDeadLetter(dead_letter["id"], patch))
        assert sorted(each.field for each in refused.value.details) == fields
        assert await open_letter(conn) == dead_letter
        assert await finished(conn, [event_id]) == ["FAILED"]
        whole = dict(dead_letter["payload"]) | {"entry_price": Decimal("42000.50"), "size": Decimal("0.1")}
        whole["liquidation_price"] = 38000
        assert (await ask(actors, RetryDeadLetter(dead_letter["id"], whole))).retry_count == 4
        assert await conn.fetchval("SELECT edited_payload FROM lens_dlq") is None, "it changed nothing"
        event = await get_event(conn, event_id)
        assert event is not None
        assert event.timeline[-1]["details"] == {"dlq_id": str(dead_letter["id"]), "stage": "enrich"}


async def test_judged_and_published_events_cannot_be_edited(quick: Settings) -> None:
    bad = ScriptedModel("chatgpt", failures=99)
    async with pipeline(quick, evaluate=ScriptedEvaluate(ScriptedModel("claude"), bad)) as (actors, conn):
        [event_id] = await post(actors, submit())
        await finished(conn, [event_id])
        dead_letter = await open_letter(conn)
        with pytest.raises(ValidationFailed, match="Invalid") as refused:
            await ask(actors, RetryDeadLetter(dead_letter["id"], {"commentary": "too late"}))
        assert refused.value.details[0].message == "cannot be changed: the signal is published"
        await conn.execute("UPDATE lens_progress SET status = 'FAILED'")  # as if publication had failed
        with pytest.raises(ValidationFailed) as refused:
            await ask(actors, RetryDeadLetter(dead_letter["id"], {"size": 9, "commentary": "x"}))
        assert [(each.field, each.message) for each in refused.value.details] == [
            ("payload.size", "cannot be changed: claude judged the signal by it")
        ]


async def put_unreadable(conn: Conn, payload: dict[str, Any], *, age: timedelta = timedelta(0)) -> UUID:
    """Insert the entry of a message from outside that never became an event."""
    dead_letter_id = UUID(int=uuid7().int - (int(age / timedelta(milliseconds=1)) << 80))
    attempts = [{"at": "2026-01-15T10:30:00.000Z", "reason_code": "VALIDATION_ERROR", "error_message": "no"}]
    row = dlq.NewDeadLetter(
        dead_letter_id, None, "enqueue", None, "VALIDATION_ERROR", "no", payload, attempts, 0, time_of(dead_letter_id)
    )
    await dlq.insert_dead_letters(conn, [row])
    return dead_letter_id


OUTSIDE = {"id": "7", "symbol": "BTC", "action": "buy", "provider": {"id": "x"}, "entry_price": 42000.5}
REST = {
    "event_type": "OPEN_SIGNAL",
    "signal_direction": "long",
    "size": Decimal("0.30"),
    "ts_utc": "2026-01-15T10:30:00Z",
    "source": "outside",
}


async def test_a_message_that_never_was_an_event_becomes_one_by_an_edit(settings: Settings) -> None:
    async with pipeline(settings.replace(lens_reject_age_seconds=1.0)) as (actors, conn):
        dead_letter_id = await put_unreadable(conn, OUTSIDE)
        with pytest.raises(ValidationFailed) as refused:
            await ask(actors, RetryDeadLetter(dead_letter_id, None))
        assert {each.field for each in refused.value.details} == {
            *("payload.id", "payload.action", "payload.provider"),
            *("payload.event_type", "payload.signal_direction", "payload.size", "payload.ts_utc", "payload.source"),
        }
        with pytest.raises(ValidationFailed) as refused:
            await ask(actors, RetryDeadLetter(dead_letter_id, {**REST, "size": 0}))
        assert [each.field for each in refused.value.details] == ["payload.size"]
        assert await ask(actors, RetryDeadLetter(dead_letter_id, REST)) == Retrying(dead_letter_id, "enqueue", 1)
        done = await resolved(conn, dead_letter_id)
        assert done["resolution_note"] == "Resolved by retry"
        assert done["payload"] == OUTSIDE
        assert done["edited_payload"]["size"] == 0.3
        assert await finished(conn, [done["event_id"]]) == ["PUBLISHED"], "past the gates"
        assert str(await conn.fetchval("SELECT size FROM signals")) == "0.30"
        with pytest.raises(ValidationFailed, match=r"^Cannot retry a resolved DLQ entry$"):
            await ask(actors, RetryDeadLetter(dead_letter_id, REST))
        assert await conn.fetchval("SELECT count(*) FROM lens_events") == 1


async def test_an_entry_is_resolved_once(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        dead_letter_id = await put_unreadable(conn, OUTSIDE)
        batch = [ResolveDeadLetter(dead_letter_id, f"note {n}") for n in range(20)]
        first, *others = await actors.ref(INTAKE).ask_batch(batch)
        row = await conn.fetchrow("SELECT * FROM lens_dlq")
        assert row is not None
        assert (row["resolved_at"], row["resolution_note"]) == (first, "note 0")
        assert {(type(each), each.message) for each in others} == {(ValidationFailed, "DLQ entry is already resolved")}
        with pytest.raises(NotFound, match=r"^DLQ entry not found$"):
            await ask(actors, ResolveDeadLetter(uuid7(), "x"))
        with pytest.raises(NotFound, match=r"^DLQ entry not found$"):
            await ask(actors, RetryDeadLetter(uuid7(), None))


async def test_a_batch_may_hold_everything_at_once(quick: Settings) -> None:
    async with dead_symbol(quick) as (actors, conn, market, event_id):
        market.dead.clear()
        dead_letter = await open_letter(conn)
        other = await put_unreadable(conn, OUTSIDE)
        fresh = submit()
        everything = DeadLetterFilters()
        replies = await actors.ref(INTAKE).ask_batch(
            [
                ResolveDeadLetters(everything, "x", most=10, is_dry=True),
                RetryDeadLetter(dead_letter["id"], None),
                fresh,
                RetryDeadLetter(uuid7(), None),
                ResolveDeadLetter(other, "x"),
                RetryDeadLetters(everything, most=10, per_second=None, is_dry=False),
            ]
        )
        assert replies[0] == Counts(2, 0, 0)
        assert replies[1] == Retrying(dead_letter["id"], "enrich", 4)
        assert replies[2].event_id == fresh.event_id
        assert isinstance(replies[3], NotFound)
        assert not isinstance(replies[4], AppError)
        assert replies[5] == Counts(0, 0, 0)
        assert await finished(conn, [event_id, fresh.event_id]) == ["PUBLISHED"] * 2


async def test_many_are_retried_in_bounded_portions_oldest_first(quick: Settings) -> None:
    market = ScriptedMarket()
    async with pipeline(quick.replace(lens_retries=0), enrich=ScriptedEnrich(market)) as (actors, conn):
        ids = await post(actors, *(submit(symbol="DEAD") for _ in range(40)))
        assert set(await finished(conn, ids)) == {"FAILED"}
        await actors.kill(ENRICH)
        everything = DeadLetterFilters()
        dry = await ask(actors, RetryDeadLetters(everything, most=25, per_second=None, is_dry=True))
        assert dry == Counts(40, 0, 0)
        assert await conn.fetchval("SELECT count(*) FROM lens_dlq WHERE retrying OR retry_count > 0") == 0
        nothing = DeadLetterFilters(reason_code="TIMEOUT")
        assert await ask(actors, RetryDeadLetters(nothing, most=25, per_second=None, is_dry=False)) == Counts(0, 0, 0)
        some = RetryDeadLetters(DeadLetterFilters(stage="enrich"), most=25, per_second=50.0, is_dry=False)
        assert await ask(actors, some) == Counts(40, 25, 0)
        oldest = await conn.fetchval("SELECT array_agg(retrying ORDER BY id) FROM lens_dlq")
        assert oldest == [True] * 25 + [False] * 15
        due = await conn.fetch("SELECT due_at FROM lens_progress WHERE finished_at IS NULL ORDER BY due_at")
        gaps = {round((b[0] - a[0]) / timedelta(milliseconds=1)) for a, b in pairwise(due)}
        assert gaps == {20}
        assert await ask(actors, some) == Counts(15, 15, 0)
        assert await ask(actors, some) == Counts(0, 0, 0)
        market.dead.clear()
        await actors.start(ENRICH, ScriptedEnrich(market), quick)
        assert set(await finished(conn, ids)) == {"PUBLISHED"}
        assert await conn.fetchval("SELECT count(*) FROM lens_dlq WHERE resolution_note = 'Resolved by retry'") == 40


async def test_entries_that_fail_again_and_again_do_not_keep_the_others_from_their_turn(quick: Settings) -> None:
    async with dead_symbol(quick) as (actors, conn, market, event_id):
        market.dead.clear()
        hopeless = [await put_unreadable(conn, OUTSIDE, age=timedelta(minutes=1)) for _ in range(3)]
        one_by_one = RetryDeadLetters(DeadLetterFilters(), most=1, per_second=None, is_dry=False)
        for _ in range(3):
            assert await ask(actors, one_by_one) == Counts(4, 0, 1)
        assert await ask(actors, one_by_one) == Counts(4, 1, 0)
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        rows = await conn.fetch("SELECT * FROM lens_dlq WHERE id = ANY ($1)", hopeless)
        assert {(row["retry_count"], len(row["attempts"])) for row in rows} == {(1, 2)}
        assert "payload.provider: unknown field" in rows[0]["error_message"]


async def test_the_entries_of_one_event_are_retried_together(quick: Settings) -> None:
    first, second = ScriptedModel("chatgpt", failures=4), ScriptedModel("gemini", failures=4)
    async with pipeline(quick, evaluate=ScriptedEvaluate(first, second)) as (actors, conn):
        [event_id] = await post(actors, submit())
        await finished(conn, [event_id])
        bulk = RetryDeadLetters(DeadLetterFilters(event_id=event_id), most=100, per_second=None, is_dry=False)
        assert await ask(actors, bulk) == Counts(2, 2, 0)
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        await all_ended(conn)
        assert await conn.fetchval("SELECT round FROM lens_progress") == 1
        assert (first.asked, second.asked) == (5, 5)
        assert await conn.fetchval("SELECT count(*) FROM lens_dlq WHERE resolved_at IS NULL") == 0


async def test_many_are_resolved_with_one_note(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        for _ in range(5):
            await put_unreadable(conn, OUTSIDE)
        bulk = ResolveDeadLetters(DeadLetterFilters(stage="enqueue"), "a broken producer", most=3, is_dry=False)
        assert await ask(actors, replace(bulk, is_dry=True)) == Counts(5, 0, 0)
        assert await ask(actors, bulk) == Counts(5, 3, 0)
        assert await ask(actors, bulk) == Counts(2, 2, 0)
        notes = await conn.fetchval("SELECT array_agg(DISTINCT resolution_note) FROM lens_dlq")
        assert notes == ["a broken producer"]


async def test_an_entry_that_is_resolved_while_it_is_retried_stays_resolved(quick: Settings) -> None:
    async with dead_symbol(quick) as (actors, conn, market, event_id):
        dead_letter = await open_letter(conn)
        await actors.kill(ENRICH)
        await ask(actors, RetryDeadLetter(dead_letter["id"], None))
        await ask(actors, ResolveDeadLetter(dead_letter["id"], "by hand"))
        await actors.start(ENRICH, ScriptedEnrich(market), quick)
        await all_ended(conn)
        old, new = await dead_letters(conn)
        assert (old["resolution_note"], len(old["attempts"])) == ("by hand", 4)
        assert (new["event_id"], len(new["attempts"])) == (event_id, 4)


async def test_an_event_whose_document_is_gone_is_enriched_again(quick: Settings) -> None:
    model = ScriptedModel("claude", failures=4)
    async with pipeline(quick, evaluate=ScriptedEvaluate(model)) as (actors, conn):
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["FAILED"]
        await conn.execute("UPDATE lens_enriched SET document = NULL")
        dead_letter = await open_letter(conn)
        assert (await ask(actors, RetryDeadLetter(dead_letter["id"], None))).stage == "enrich"
        await resolved(conn, dead_letter["id"])
        assert await finished(conn, [event_id]) == ["PUBLISHED"]


async def test_an_event_that_cannot_be_read_back_keeps_nobody_from_being_swept(quick: Settings) -> None:
    model = ScriptedModel("claude", failures=4)
    async with pipeline(quick, evaluate=ScriptedEvaluate(model)) as (actors, conn):
        [poisoned] = await post(actors, submit())
        await finished(conn, [poisoned])
        await conn.execute("""UPDATE lens_enriched SET document = '{"not": "a document"}'""")
        dead_letter = await open_letter(conn)
        await actors.kill(EVALUATE)
        actors.refs[EVALUATE] = actors.refs[ENRICH]  # a hand-over that gets nowhere
        await ask(actors, RetryDeadLetter(dead_letter["id"], None))
        behind = await post(actors, *(submit() for _ in range(20)))
        await actors.start(EVALUATE, ScriptedEvaluate(model), quick)
        assert set(await finished(conn, behind)) == {"PUBLISHED"}
        await all_ended(conn)
        assert await finished(conn, [poisoned]) == ["FAILED"]
        assert "cannot be read" in (await dead_letters(conn))[-1]["error_message"]


class UnstorablePublish(Publish):
    """Publish that passes the driver a value that no codec takes."""

    async def store(self, conn: Any, results: Any) -> None:
        if any(isinstance(each, Published) and each.work.signal.symbol == "POISON" for each in results):
            raise TypeError("Type is not JSON serializable: Decimal")
        await super().store(conn, results)


async def test_a_result_of_a_kind_that_no_codec_takes_fails_alone_and_can_be_retried(quick: Settings) -> None:
    async with pipeline(quick) as (actors, conn):
        await actors.kill(PUBLISH)
        await actors.start(PUBLISH, UnstorablePublish(), quick)
        symbols = [f"S{n}" for n in range(20)]
        symbols[7] = "POISON"
        ids = await post(actors, *(submit(symbol=symbol) for symbol in symbols))
        statuses = await finished(conn, ids)
        assert statuses == ["FAILED" if symbol == "POISON" else "PUBLISHED" for symbol in symbols]
        dead_letter = await open_letter(conn)
        assert (dead_letter["stage"], dead_letter["reason_code"]) == ("publish", "PUBLISH_ERROR")
        await actors.kill(PUBLISH)
        await actors.start(PUBLISH, Publish(), quick)
        assert await ask(actors, RetryDeadLetter(dead_letter["id"], None)) == Retrying(dead_letter["id"], "publish", 1)
        await resolved(conn, dead_letter["id"])
        assert await finished(conn, [ids[7]]) == ["PUBLISHED"]
        assert await conn.fetchval("SELECT array_agg(feed_seq ORDER BY feed_seq) FROM signals") == list(range(1, 21))


async def test_retries_amid_everything_that_is_under_way_lose_and_double_nothing(quick: Settings) -> None:
    """Each event fails once on `gemini`; its entry is retried at once, alone and in bulk, while others come in."""

    class Flaky(ScriptedModel):
        async def judge(self, signal: RawSignal, features: Features) -> Evaluation:
            run = await super().judge(signal, features)
            if signal.event_id not in failed:
                failed.add(signal.event_id)
                return replace(run, status="TIMEOUT", decision=None, error="slow")
            return run

    failed: set[UUID] = set()
    models = ScriptedModel("claude"), Flaky("gemini")
    async with (
        pipeline(quick.replace(lens_retries=0), evaluate=ScriptedEvaluate(*models)) as (actors, conn),
        heard(quick) as (feed, decided),
    ):
        ids: list[UUID] = []
        bulk = RetryDeadLetters(DeadLetterFilters(reason_code="TIMEOUT"), most=10, per_second=None, is_dry=False)
        for _ in range(15):
            ids += await post(actors, *(submit() for _ in range(20)))
            waiting = await conn.fetchval("SELECT array_agg(id) FROM lens_dlq WHERE resolved_at IS NULL") or []
            messages = [*(RetryDeadLetter(each, None) for each in waiting[:10]), bulk]
            await asyncio.gather(*(ask(actors, message) for message in messages), return_exceptions=True)
        await finished(conn, ids)

        async def all_retried() -> bool:
            await ask(actors, replace(bulk, most=1000))
            return not await conn.fetchval("SELECT count(*) FROM lens_dlq WHERE resolved_at IS NULL")

        await until(all_retried, seconds=30)
        await all_ended(conn)
        assert await conn.fetchval("SELECT count(*) FROM lens_progress WHERE status = 'PUBLISHED'") == len(ids)
        assert await conn.fetchval("SELECT count(*) FROM lens_decisions") == 2 * len(ids)
        assert await conn.fetchval("SELECT array_agg(feed_seq ORDER BY feed_seq) FROM signals") == list(
            range(1, len(ids) + 1)
        )
        assert await conn.fetchval("SELECT count(*) FROM lens_dlq") == len(ids)
        await until(lambda: _holds(lambda: len(feed) == len(ids) and len(decided) == 2 * len(ids)))
        assert sorted(decided) == sorted((str(each), name) for each in ids for name in ("claude", "gemini"))


def test_the_stages_and_the_api_share_one_vocabulary() -> None:
    assert {"enqueue", *(stage.stage.lower() for stage in (Enrich, Evaluate, Publish))} == set(
        values_of(DeadLetterStage)
    )
