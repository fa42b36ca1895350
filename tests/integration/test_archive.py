"""The archive, in Postgres and through it in MongoDB: nothing lost, nothing twice, the same document from both."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from actors.lens import _archive
from actors.lens._archive import Archive, MongoArchive, open_archive
from actors.lens._documents import LONGEST_TEXT_BYTES, archived_runs
from actors.lens.messages import EVALUATE, Work
from actors.lens.model import Evaluation, Transcript
from config import clock
from config.ids import uuid7
from config.settings import Settings
from config.values import replace
from db import archive as sql
from db._postgres import create_pool
from schemas.errors import ArchiveUnavailable
from tests.integration.test_lens_pipeline import ScriptedEvaluate, ScriptedModel, pipeline, post
from tests.peers.model_apis import GOOD, ModelPeer, hangs, says, status
from tests.peers.mongo import MongoServer
from tests.support.lens_factory import finished, submit, until
from tests.unit.lens.factories import make_signal

for _package in ("openai", "google.genai", "anthropic", "motor.motor_asyncio"):
    importlib.import_module(_package)  # before any loop runs: each takes a second

MODELS = ("chatgpt", "claude", "technical")


@pytest.fixture
def quick(settings: Settings) -> Settings:
    return settings.replace(lens_retry_base_seconds=0.02, lens_retry_max_seconds=0.05)


@pytest.fixture
def mongo(tmp_path: Path) -> Iterator[MongoServer]:
    with MongoServer(tmp_path) as server:
        yield server


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let documents be copied at once, and retried soon."""
    monkeypatch.setattr(_archive, "COPY_DELAY_SECONDS", 0.0)
    monkeypatch.setattr(_archive, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(_archive, "LONGEST_PAUSE_SECONDS", 0.2)


@asynccontextmanager
async def opened(settings: Settings, kind: type[Archive] = Archive) -> AsyncIterator[Any]:
    """Open an archive without its copying, as an operator reads it."""
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 2, name="test")
    archive = open_archive(settings, pool)
    assert type(archive) is kind
    try:
        yield archive
    finally:
        await archive.close()
        await pool.close()


async def waiting(conn: Any) -> list[int]:
    """Return the numbers of rows of runs, prompts and the queue."""
    tables = ("lens_archive_runs", "lens_archive_prompts", "lens_archive_outbox")
    return [await conn.fetchval(f"SELECT count(*) FROM {table}") for table in tables]


async def emptied(conn: Any, *, seconds: float = 30.0) -> None:
    async def ask() -> bool:
        return await waiting(conn) == [0, 0, 0]

    await until(ask, seconds=seconds)


async def copied(conn: Any) -> bool:
    return (await waiting(conn))[2] == 0


def run_of(event_id: UUID, **changes: Any) -> sql.RunRow:
    """Return a run of a remote model as the stage hands it over."""
    said = Transcript("open_signal.v1", "You judge.", "Judge this.", '{"decision": "IGNORE"}', "stop")
    fields: dict[str, Any] = {"tokens_used": 1250, "prompt_hash": "ab" * 32, "transcript": said} | changes
    run = Evaluation("claude", "claude-x", fields.pop("status", "TIMEOUT"), 12, **fields)
    [row] = archived_runs(Work(make_signal(event_id=event_id)), [run])
    return row


async def insert_event(conn: Any, event_id: UUID) -> None:
    await conn.execute(
        """INSERT INTO lens_events (event_id, received_at, event_type, signal_direction, symbol, entry_price, size,
                                    ts_utc, source, asset_type)
           VALUES ($1, now(), 'OPEN_SIGNAL', 'long', '$BTC', 1.5, 2, now(), 'alpha', 'crypto')""",
        event_id,
    )


async def record(archive: Archive, *runs: sql.RunRow) -> None:
    async with archive._pool.acquire() as conn, conn.transaction():
        await archive.record(conn, {run.event_id for run in runs}, runs)  # type: ignore[arg-type]


async def judged(settings: Settings, *, seconds: float = 30.0) -> tuple[list[UUID], list[dict[str, Any] | None]]:
    """Judge three events with some failures; return their documents once nothing waits to be copied."""
    async with ModelPeer() as peer, pipeline(peer.settings(settings, *MODELS)) as (actors, conn):
        peer.next("chatgpt", status(500), says("{"))
        peer.always("claude", says("I would rather not.", "refused"))
        ids = await post(actors, *(submit(symbol=f"S{n}") for n in range(3)))
        assert set(await finished(conn, ids, seconds=seconds)) == {"PUBLISHED"}
        archive = actors.behaviours[EVALUATE]._archive  # type: ignore[attr-defined]
        if settings.mongo_url is not None:
            # Not all of Postgres: what another store got there before stays there.
            await until(lambda: copied(conn))
        return ids, [await archive.fetch(each) for each in ids]


def shape(document: dict[str, Any] | None) -> dict[str, Any]:
    """Return a document without the fields that differ from run to run."""
    assert document is not None
    varying = ("id", "at", "latency_ms")
    evaluations = [{k: v for k, v in each.items() if k not in varying} for each in document["evaluations"]]
    rest = {"event_id", "received_at", "enriched_at", "signal", "features"}
    return {
        **{name: value for name, value in document.items() if name not in rest},
        "signal": {**document["signal"], "ts_utc": None},
        "evaluations": sorted(({**each, "user": None} for each in evaluations), key=str),
    }


async def test_a_document_holds_all_that_was_said_retries_and_refusals_included(quick: Settings) -> None:
    ids, documents = await judged(quick)
    for event_id, document in zip(ids, documents, strict=True):
        assert document is not None
        assert document["event_id"] == str(event_id)
        assert document["source"] == "strategy_alpha"
        assert document["received_at"] <= document["enriched_at"]
        assert document["features"]["feature_profile"] == "trend_follow_v1"
        assert document["signal"]["entry_price"] == 42000.5
        times = [each["at"] for each in document["evaluations"]]
        assert times == sorted(times)
        by_model = {name: [e for e in document["evaluations"] if e["model"] == name] for name in MODELS}
        [refusal] = by_model["claude"]
        assert (refusal["status"], refusal["decision"]) == ("API_ERROR", None)
        assert "I would rather not." in refusal["stop_reason"]
        assert "refused" in refusal["error"]
        answered = by_model["chatgpt"][-1]
        assert answered["status"] == "SUCCESS"
        assert orjson.loads(answered["answer"]) == GOOD
        assert answered["decision"]["decision"] == "FOLLOW_ENTER"
        assert answered["prompt"] == "open_signal.v2"
        assert '"entry_price":42000.5' in answered["user"]
        assert answered["system"]
        assert answered["tokens_used"] == 1250
        [local] = by_model["technical"]
        assert (local["status"], local["system"], local["answer"]) == ("SUCCESS", None, None)
        assert local["decision"] is not None
    failures = [e for d in documents if d is not None for e in d["evaluations"] if e["model"] == "chatgpt"]
    assert [each["status"] for each in failures].count("SUCCESS") == 3
    assert len(failures) == 5, "a 500 and a truncated answer before"
    assert "{" in [each["answer"] for each in failures]


async def test_both_stores_give_the_same_document(quick: Settings, mongo: MongoServer, eager: None) -> None:
    _, in_postgres = await judged(quick)
    ids, in_mongo = await judged(quick.replace(mongo_url=mongo.url))
    by_symbol = {shape(each)["symbol"]: shape(each) for each in in_postgres}
    for document in in_mongo:
        # The two failures of chatgpt may have met other events: all else is equal.
        ours, theirs = by_symbol[shape(document)["symbol"]], shape(document)
        keep = [e for e in ours.pop("evaluations") if e["model"] != "chatgpt" or e["status"] == "SUCCESS"]
        assert keep == [e for e in theirs.pop("evaluations") if e["model"] != "chatgpt" or e["status"] == "SUCCESS"]
        assert ours == theirs
    assert [each["_id"] for each in mongo.documents()] == sorted(ids)


async def test_the_same_runs_are_the_same_document_before_and_after_they_are_copied(
    settings: Settings, mongo: MongoServer, eager: None
) -> None:
    async with opened(settings.replace(mongo_url=mongo.url), MongoArchive) as archive, opened(settings) as plain:
        event_id = uuid7()
        async with archive._pool.acquire() as conn:
            await insert_event(conn, event_id)
        await record(archive, run_of(event_id, error="late"), run_of(event_id, error="$later"))
        before = await archive.fetch(event_id)
        assert before == await plain.fetch(event_id)
        assert await archive.copy() == 1
        assert [each["error"] for each in mongo.documents()[0]["evaluations"]] == ["late", "$later"]
        assert await archive.fetch(event_id) == before
        await record(archive, run_of(event_id, error="much later"))
        after = await archive.fetch(event_id)
        assert [each["error"] for each in after["evaluations"]] == ["late", "$later", "much later"]
        assert await archive.copy() == 1
        assert await archive.fetch(event_id) == after


async def test_a_crash_between_the_copy_and_the_deletion_changes_nothing(
    settings: Settings, mongo: MongoServer, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(settings.replace(mongo_url=mongo.url), MongoArchive) as archive:
        event_id = uuid7()
        async with archive._pool.acquire() as conn:
            await insert_event(conn, event_id)
            await record(archive, run_of(event_id), run_of(event_id))
            with monkeypatch.context() as patched:

                async def dies(*_: Any, **__: Any) -> None:
                    raise ConnectionAbortedError

                patched.setattr(sql, "finish", dies)
                with suppress(Exception):
                    await archive.copy()
            copied = mongo.documents()
            assert len(copied[0]["evaluations"]) == 2
            assert await waiting(conn) == [2, 1, 1]
            assert await archive.copy() == 1
            assert mongo.documents() == copied
            assert await waiting(conn) == [0, 0, 0]


async def test_a_run_that_comes_while_its_event_is_copied_is_not_deleted_with_the_others(
    settings: Settings, mongo: MongoServer, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(settings.replace(mongo_url=mongo.url), MongoArchive) as archive:
        event_id = uuid7()
        async with archive._pool.acquire() as conn:
            await insert_event(conn, event_id)
            await record(archive, run_of(event_id))
            merge = archive._mongo.merge

            async def interrupted(*args: Any, **more: Any) -> Any:
                refused = await merge(*args, **more)
                await record(archive, run_of(event_id, error="late"))
                return refused

            monkeypatch.setattr(archive._mongo, "merge", interrupted)
            await archive.copy()
            assert await waiting(conn) == [2, 1, 1], "it has another version now"
            monkeypatch.setattr(archive._mongo, "merge", merge)
            await archive.copy()
            assert await waiting(conn) == [0, 0, 0]
            [document] = mongo.documents()
            assert len(document["evaluations"]) == 2
            assert all(each["system"] == "You judge." for each in document["evaluations"])


async def test_an_event_whose_row_the_pipeline_holds_is_left_to_the_next_round(
    settings: Settings, mongo: MongoServer, eager: None
) -> None:
    async with opened(settings.replace(mongo_url=mongo.url), MongoArchive) as archive:
        held, free = uuid7(), uuid7()
        async with archive._pool.acquire() as conn:
            for event_id in (held, free):
                await insert_event(conn, event_id)
                await record(archive, run_of(event_id))
            transaction = conn.transaction()
            await transaction.start()
            await archive.record(conn, {held}, [run_of(held, error="late")])
            began = time.monotonic()
            assert await archive.copy() == 2
            assert time.monotonic() - began < 1.0, "it does not wait for the pipeline"
            await transaction.commit()
            assert await waiting(conn) == [2, 1, 1]
            assert await archive.copy() == 1
        assert {each["_id"]: len(each["evaluations"]) for each in mongo.documents()} == {held: 2, free: 1}


async def test_signals_are_published_while_mongodb_is_away_and_archived_when_it_is_back(
    quick: Settings, mongo: MongoServer, eager: None
) -> None:
    mongo.kill()
    settings = quick.replace(mongo_url=mongo.url)
    async with ModelPeer() as peer, pipeline(peer.settings(settings, *MODELS)) as (actors, conn):
        ids = await post(actors, *(submit(symbol=f"S{n}") for n in range(20)))
        assert set(await finished(conn, ids)) == {"PUBLISHED"}
        assert await waiting(conn) == [40, 20, 20], "one prompt per event, whoever was asked"
        archive: Any = actors.behaviours[EVALUATE]._archive  # type: ignore[attr-defined]
        with pytest.raises(ArchiveUnavailable):
            await archive.fetch(ids[0])
        mongo.start()
        await emptied(conn, seconds=30)
        assert [each["_id"] for each in mongo.documents()] == sorted(ids)
        for document in mongo.documents():
            assert sorted(each["model"] for each in document["evaluations"]) == sorted(MODELS)
            assert document["features"]["feature_profile"] == "trend_follow_v1"
            assert isinstance(document["received_at"], datetime)


async def test_a_mongodb_that_is_killed_again_and_again_has_every_document_once(
    quick: Settings, mongo: MongoServer, eager: None
) -> None:
    settings = quick.replace(mongo_url=mongo.url)
    async with ModelPeer() as peer, pipeline(peer.settings(settings, "claude", "technical")) as (actors, conn):
        ids: list[UUID] = []
        for _ in range(3):
            ids += await post(actors, *(submit(symbol=f"S{n}") for n in range(40)))
            await until(lambda: has_documents(mongo))
            mongo.kill()
            mongo.start()
        assert set(await finished(conn, ids)) == {"PUBLISHED"}
        await emptied(conn, seconds=30)
        documents = mongo.documents()
        assert [each["_id"] for each in documents] == sorted(ids)
        assert {len(each["evaluations"]) for each in documents} == {2}


async def has_documents(mongo: MongoServer) -> bool:
    return bool(mongo.documents())


async def test_decisions_of_the_local_model_alone_reach_mongodb_too(
    quick: Settings, mongo: MongoServer, eager: None
) -> None:
    async with pipeline(quick.replace(mongo_url=mongo.url)) as (actors, conn):
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["PUBLISHED"]

        async def ask() -> bool:
            return await has_documents(mongo)

        await until(ask)
        await emptied(conn)
        document = await actors.behaviours[EVALUATE]._archive.fetch(event_id)  # type: ignore[attr-defined]
        assert [each["model"] for each in document["evaluations"]] == ["technical"]
        assert document["features"]["feature_profile"] == "trend_follow_v1"


async def test_a_mongodb_that_answers_nothing_delays_no_signal(
    quick: Settings, mongo: MongoServer, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db._mongo.OPERATION_MS", 1_000)
    async with pipeline(quick.replace(mongo_url=mongo.url)) as (actors, conn):
        await finished(conn, await post(actors, submit()))
        await emptied(conn)
        mongo.freeze()
        began = time.monotonic()
        ids = await post(actors, *(submit() for _ in range(50)))
        assert set(await finished(conn, ids)) == {"PUBLISHED"}
        assert time.monotonic() - began < 5.0
        mongo.thaw()
        await emptied(conn)


async def test_a_document_that_mongodb_refuses_stops_none_behind_it(
    settings: Settings, mongo: MongoServer, eager: None
) -> None:
    async with opened(settings.replace(mongo_url=mongo.url), MongoArchive) as archive:
        bad, good = uuid7(), uuid7()
        async with archive._pool.acquire() as conn:
            for event_id in (bad, good):
                await insert_event(conn, event_id)
                await record(archive, run_of(event_id))
            await conn.execute(
                "INSERT INTO lens_enriched VALUES ($1, 'full_v1', '{}', $2, now())", bad, {"too_big": 2**64 - 1}
            )
            assert await archive.copy() == 2
            assert [each["_id"] for each in mongo.documents()] == [good]
            assert await waiting(conn) == [1, 1, 1], "it stays, and is tried again later"
            assert await archive.copy() == 0
        document = await archive.fetch(bad)
        assert document["features"] == {"too_big": 2**64 - 1}


async def test_texts_of_64_kib_are_kept_whole_and_longer_ones_cut(
    settings: Settings, mongo: MongoServer, eager: None
) -> None:
    whole, cut, odd = "é" * (LONGEST_TEXT_BYTES // 2), "é" * LONGEST_TEXT_BYTES, "a\x00b\ud800c"
    async with opened(settings.replace(mongo_url=mongo.url), MongoArchive) as archive:
        event_id = uuid7()
        async with archive._pool.acquire() as conn:
            await insert_event(conn, event_id)
        said = Transcript("open_signal.v1", whole, whole, whole)
        await record(
            archive,
            run_of(event_id, transcript=said),
            run_of(event_id, transcript=replace(said, answer=cut)),
            run_of(event_id, transcript=replace(said, answer=odd), error=odd),
        )
        before = await archive.fetch(event_id)
        await archive.copy()
        document = await archive.fetch(event_id)
        assert document == before
        first, second, third = document["evaluations"]
        assert (first["system"], first["user"], first["answer"], first["truncated"]) == (whole, whole, whole, False)
        assert (second["answer"], second["truncated"]) == (whole, True)
        assert third["answer"] == third["error"] == "a\ufffdb?c"


@pytest.mark.parametrize("in_mongo", [False, True])
async def test_the_latest_runs_of_an_event_that_is_tried_for_ever_are_kept(
    settings: Settings, mongo: MongoServer, eager: None, *, in_mongo: bool
) -> None:
    changed, kind = (settings.replace(mongo_url=mongo.url), MongoArchive) if in_mongo else (settings, Archive)
    async with opened(changed, kind) as archive:
        event_id = uuid7()
        async with archive._pool.acquire() as conn:
            await insert_event(conn, event_id)
        for first in range(0, 100, 20):
            await record(archive, *(run_of(event_id, error=str(n)) for n in range(first, first + 20)))
            if in_mongo:
                assert await archive.copy() == 1
        document = await archive.fetch(event_id)
        assert [each["error"] for each in document["evaluations"]] == [str(n) for n in range(36, 100)]


async def test_a_run_that_cannot_be_stored_is_dropped_and_the_event_goes_on(
    quick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Strange(ScriptedModel):
        async def judge(self, signal: Any, features: Any) -> Evaluation:
            run = await super().judge(signal, features)
            return replace(run, transcript=Transcript("p", "s", "u", "a"), reason_code=7)  # type: ignore[arg-type]

    evaluate = ScriptedEvaluate(Strange("gemini"), ScriptedModel("claude", 1))
    async with pipeline(quick, evaluate=evaluate) as (actors, conn):
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        document = await evaluate._archive.fetch(event_id)
        assert document is not None
        failure, *_ = [each for each in document["evaluations"] if each["model"] == "claude"]
        assert (failure["status"], failure["error"]) == ("TIMEOUT", "no answer the 1. time")
        assert await conn.fetchval("SELECT count(*) FROM lens_archive_runs WHERE model = 'gemini'") == 0


async def test_a_model_that_hangs_leaves_what_it_was_asked(quick: Settings) -> None:
    settings = quick.replace(lens_model_timeout_seconds=0.3, lens_retries=1)
    async with ModelPeer() as peer, pipeline(peer.settings(settings, "claude", "technical")) as (actors, conn):
        peer.always("claude", hangs)
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        archive: Archive = actors.behaviours[EVALUATE]._archive  # type: ignore[attr-defined]
        document = await archive.fetch(event_id)
        assert document is not None
        runs = [each for each in document["evaluations"] if each["model"] == "claude"]
        assert [(each["status"], each["answer"]) for each in runs] == [("TIMEOUT", None)] * 2
        assert all('"entry_price":42000.5' in each["user"] for each in runs)


async def test_the_local_model_alone_writes_nothing_into_the_archive(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        ids = await post(actors, *(submit() for _ in range(10)))
        assert set(await finished(conn, ids)) == {"PUBLISHED"}
        assert await waiting(conn) == [0, 0, 0]
        archive: Archive = actors.behaviours[EVALUATE]._archive  # type: ignore[attr-defined]
        document = await archive.fetch(ids[0])
        assert document is not None
        assert [each["model"] for each in document["evaluations"]] == ["technical"]
        assert await archive.fetch(uuid7()) is None


def id_at(moment: datetime) -> UUID:
    """Return an event id of that time."""
    low = uuid7().int & ((1 << 80) - 1)
    return UUID(int=int(moment.timestamp() * 1000) << 80 | low)


async def test_both_stores_forget_what_is_past_its_days_and_in_batches(
    settings: Settings, mongo: MongoServer, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now().astimezone(UTC)
    monkeypatch.setattr(_archive, "EXPIRE_BATCH", 3)
    async with opened(settings.replace(mongo_url=mongo.url, lens_archive_days=180), MongoArchive) as archive:
        old = [id_at(now - timedelta(days=180, minutes=n + 1)) for n in range(5)]
        young = [id_at(now - timedelta(days=180) + timedelta(minutes=n + 1)) for n in range(3)]
        async with archive._pool.acquire() as conn:
            for event_id in (*old, *young):
                await insert_event(conn, event_id)
            await record(archive, *(run_of(each) for each in (*old, *young)))
            await archive.copy()
            assert len(mongo.documents()) == 8
            await record(archive, *(run_of(each, error="again") for each in (*old, *young)))
            gone = [await archive.expire(now) for _ in range(3)]
            assert gone == [3, 2, 0]
            assert [each["_id"] for each in mongo.documents()] == sorted(young)
            assert await waiting(conn) == [3, 3, 3]
            left = await conn.fetch("SELECT event_id FROM lens_archive_runs ORDER BY event_id")
            assert [row[0] for row in left] == sorted(young)


async def test_the_queries_of_the_archive_go_by_its_keys(settings: Settings) -> None:
    assert settings.database_url is not None
    conn: Any = await asyncpg.connect(settings.database_url)
    try:
        await conn.execute("SET enable_seqscan = off")
        plans: Sequence[tuple[str, tuple[Any, ...]]] = (
            (sql.EXPIRE_RUNS, (uuid7(), 10)),
            (sql.RUNS, ([uuid7()],)),
            (sql.DUE, (10,)),
            (sql.LAG, ()),
        )
        for statement, arguments in plans:
            plan = "\n".join(row[0] for row in await conn.fetch(f"EXPLAIN {statement}", *arguments))
            assert "Seq Scan" not in plan, plan
            assert "Sort" not in plan or statement is sql.RUNS, plan
    finally:
        await conn.close()


async def test_an_archive_that_is_closed_leaves_no_task(settings: Settings, mongo: MongoServer) -> None:
    async with opened(settings.replace(mongo_url=mongo.url), MongoArchive) as archive:
        archive.start()
        await asyncio.sleep(0)
        await archive.close()
        assert all(task.done() for task in archive._tasks)
