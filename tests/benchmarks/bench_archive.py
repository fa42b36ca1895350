"""Measure the archive's cost to the evaluate stage per event, and the rate of documents to MongoDB.

python -m tests.benchmarks.bench_archive
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from actors.lens import _archive
from actors.lens._archive import Archive, open_archive
from actors.lens._documents import archived_runs
from actors.lens.messages import Work
from actors.lens.model import Evaluation, Transcript
from actors.lens.models._prompt import render
from config.ids import uuid7
from config.settings import Settings
from db import archive as sql
from db._migrate import migrate
from db._postgres import create_pool
from tests.peers.model_apis import GOOD
from tests.peers.mongo import MongoServer
from tests.support.services import postgres_server
from tests.unit.lens.factories import make_features, make_signal

EVENTS, BATCH = 2_000, 20
ANSWER = orjson.dumps(GOOD).decode()
FEATURES = make_features(make_signal())
MODELS = ("chatgpt", "gemini", "claude", "deepseek")
INSERT_EVENTS = """
INSERT INTO lens_events (event_id, received_at, event_type, signal_direction, symbol, entry_price, size, ts_utc, source,
                         asset_type)
SELECT id, now(), 'OPEN_SIGNAL', 'long', 'BTC', 1.5, 2, now(), 'alpha', 'crypto' FROM unnest($1::uuid[]) AS e (id)
"""
INSERT_ENRICHED = "INSERT INTO lens_enriched SELECT id, 'full_v1', '{}', $2, now() FROM unnest($1::uuid[]) AS e (id)"

SIZE = "SELECT pg_total_relation_size('lens_archive_runs') + pg_total_relation_size('lens_archive_prompts')"


def runs_of(event_id: UUID) -> tuple[sql.RunRow, ...]:
    """Return one event's runs of the four remote models, with a real prompt and answer."""
    signal = make_signal(event_id=event_id, commentary=f"as of {event_id}")
    prompt = render(signal, FEATURES)
    said = Transcript(prompt.name, prompt.system, prompt.user, ANSWER, "stop")
    runs = [Evaluation(name, "x", "SUCCESS", 900, tokens_used=1250, transcript=said) for name in MODELS]
    return archived_runs(Work(signal), runs)


async def commit(archive: Archive, pool: Any, ids: Sequence[UUID], *, runs: bool) -> float:
    """Return the seconds that the archive's part of the stage's transactions took."""
    spent = 0.0
    for first in range(0, len(ids), BATCH):
        batch = ids[first : first + BATCH]
        rows = [row for each in batch for row in runs_of(each)] if runs else []
        async with pool.acquire() as conn, conn.transaction():
            began = time.perf_counter()
            await archive.record(conn, set(batch), rows)
            spent += time.perf_counter() - began
    return spent


async def measure(settings: Settings) -> None:
    """Print the figures."""
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 2, name="bench")
    for mongo in (False, True):
        archive: Any = open_archive(settings if mongo else settings.replace(mongo_url=None), pool)
        for runs in (False, True):
            ids = [uuid7() for _ in range(EVENTS)]
            async with pool.acquire() as conn:
                await conn.execute(INSERT_EVENTS, ids)
                await conn.execute(INSERT_ENRICHED, ids, FEATURES.to_dict())
            spent = await commit(archive, pool, ids, runs=runs)
            store, who = ("MongoDB" if mongo else "Postgres"), ("four remote models" if runs else "technical")
            print(f"{store}, {who}: {spent / EVENTS * 1e6:.0f} µs per event in batches of {BATCH}")
            if mongo:
                began, cpu = time.perf_counter(), time.process_time()
                while await archive.copy():
                    pass
                seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
                print(f"  copied: {EVENTS / seconds:.0f} documents/s, {cpu / EVENTS * 1e6:.0f} µs of our CPU each")
            elif runs:
                size = await pool.fetchval(SIZE)
                print(f"  {size / EVENTS:.0f} bytes per event")
        await archive.close()
    await pool.close()


def main() -> None:
    """Start both servers, measure, stop them."""
    _archive.COPY_DELAY_SECONDS = 0.0  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder, postgres_server(Path(folder) / "pg") as url:
        asyncio.run(migrate(url))
        with MongoServer(Path(folder), durable=False) as mongo:
            settings = Settings.load(env_file=None).replace(database_url=url, mongo_url=mongo.url)
            asyncio.run(measure(settings))


if __name__ == "__main__":
    main()
