"""Archive what each event's decisions were based on, in Postgres, or by way of it in MongoDB.

Runs are written in the transaction of the stage that made them: a crash loses none and nothing waits in memory. What
Postgres has anyway (the event, its features, the decisions) is not written again: a document is assembled when it is
requested, or when it is copied.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from actors.lens._documents import assemble, present
from config import clock, metrics
from config.backoff import Backoff, jittered
from config.bisection import bisect_failures
from config.documents import Loaded
from config.settings import Settings
from config.tasks import cancel, spawn
from db import archive as sql
from db._postgres import Connection, Pool, connection, database_errors, transaction
from schemas.errors import DatabaseUnavailable, Unavailable

if TYPE_CHECKING:
    from db._mongo import Collection

log = logging.getLogger(__name__)

COLLECTION: Final = "lens_archive"

COPY_DELAY_SECONDS: Final = 5.0
"""Delay of a document's copy after a change: the event's other models may be about to answer."""

COPY_BATCH: Final = 100
EXPIRE_BATCH: Final = 1_000
PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
REFUSED_SECONDS: Final = 600.0  # until a document that MongoDB refused is tried again
EXPIRE_EVERY_SECONDS: Final = 3_600.0


def open_archive(settings: Settings, pool: Pool) -> Archive:
    """Open the archive: in MongoDB if there is a MONGO_URL, else in Postgres. Connects when first used."""
    if settings.mongo_url is None:
        return Archive(pool, settings.lens_archive_days)
    from db._mongo import Collection  # late: without a MongoDB its driver is not loaded

    return MongoArchive(pool, settings.lens_archive_days, Collection(settings.mongo_url, COLLECTION))


class Archive:
    """Store the archive in Postgres.

    `record` writes in the caller's transaction. `start` begins its maintenance, which one process at a time should do
    (more do no harm); `close` ends that. Reading needs neither.
    """

    def __init__(self, pool: Pool, days: int) -> None:
        self._pool = pool
        self._days = days
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to delete expired runs."""
        self._tasks.append(spawn(self._expire_forever(), name="lens archive: expire"))

    async def close(self) -> None:
        """Stop the maintenance."""
        await cancel(*self._tasks)

    async def record(self, conn: Connection, changed: set[UUID], runs: Sequence[sql.RunRow]) -> None:
        """Store runs. `changed` are the events whose document changes, those of the runs among them.

        A run that cannot be stored is dropped, counted and logged: it must not fail the event. An error of the server
        fails the transaction.
        """
        if runs:
            await self._insert(conn, runs)

    async def fetch(self, event_id: UUID) -> Loaded | None:
        """Return one event's document, times as RFC 3339 and ids as text, or None. Raises Unavailable."""
        document = await self._assemble_one(event_id)
        return None if document is None else present(document)

    async def expire(self, now: datetime) -> int:
        """Delete a batch of expired rows; return how many (of the most numerous kind) it was. Raises Unavailable."""
        async with transaction(self._pool) as conn:
            gone = await sql.expire(conn, _first_id(now - timedelta(days=self._days)), EXPIRE_BATCH)
        metrics.ARCHIVE_EXPIRED.labels("postgres").inc(gone)
        return gone

    async def _assemble_one(self, event_id: UUID) -> Loaded | None:
        async with connection(self._pool) as conn:
            parts = await sql.read_parts(conn, [event_id])
        return assemble(parts[event_id]) if event_id in parts else None

    async def _insert(self, conn: Connection, runs: Sequence[sql.RunRow]) -> None:
        async def insert(part: Sequence[sql.RunRow]) -> None:
            async with database_errors(), conn.transaction():  # a savepoint
                await sql.insert_runs(conn, part)

        refused = await bisect_failures(runs, insert, passing=(DatabaseUnavailable,))
        for run, error in refused:
            log.error("the archive cannot store a run of %s on event %s", run.model, run.event_id, exc_info=error)
        metrics.ARCHIVE_RUNS.labels("dropped").inc(len(refused))
        metrics.ARCHIVE_RUNS.labels("stored").inc(len(runs) - len(refused))

    async def _expire_forever(self) -> None:
        delay = PAUSE_SECONDS * 60  # not in the middle of a start
        while True:
            await asyncio.sleep(jittered(delay))
            try:
                more = await self.expire(clock.now()) >= EXPIRE_BATCH
            except Unavailable as error:
                log.warning("the archive's old documents stay for now: %s", error.message)
                more = False
            except Exception:
                log.exception("the archive's old documents cannot be deleted")
                more = False
            delay = PAUSE_SECONDS / 10 if more else EXPIRE_EVERY_SECONDS


class MongoArchive(Archive):
    """Store the archive in MongoDB. Runs are first stored in Postgres, and copied from there in batches.

    A copy is made at least once, and repeating it changes nothing; only then is the copied part deleted in Postgres.
    While MongoDB is unavailable, Postgres is the archive, with the same retention.
    """

    def __init__(self, pool: Pool, days: int, mongo: Collection) -> None:
        super().__init__(pool, days)
        self._mongo = mongo

    def start(self) -> None:
        """Begin to copy, and to delete expired runs and documents."""
        super().start()
        self._tasks.append(spawn(self._copy_forever(), name="lens archive: copy"))

    async def close(self) -> None:
        """Stop; runs that were not copied stay in Postgres."""
        await super().close()
        self._mongo.close()

    async def record(self, conn: Connection, changed: set[UUID], runs: Sequence[sql.RunRow]) -> None:
        """Store runs, and have the documents of `changed` copied."""
        if changed:
            await sql.enqueue(conn, changed, delay_seconds=COPY_DELAY_SECONDS)
        await super().record(conn, changed, runs)

    async def fetch(self, event_id: UUID) -> Loaded | None:
        """Return one event's document, merged from both stores. Raises Unavailable."""
        # Postgres first: a row that is copied and deleted in between is then seen twice, and not missed.
        waiting = await self._assemble_one(event_id)
        copied = await self._mongo.find(event_id)
        if waiting is None or copied is None:
            found = copied or waiting
            return None if found is None else present(found)
        evaluations = {each["id"]: each for each in (*copied["evaluations"], *waiting["evaluations"])}
        known = {name: value for name, value in waiting.items() if value is not None}
        return present({**copied, **known, "evaluations": list(evaluations.values())})

    async def copy(self) -> int:
        """Copy a batch of due documents, then delete it in Postgres; return how many were due. Raises Unavailable."""
        async with connection(self._pool) as conn:
            due = await sql.due(conn, COPY_BATCH)
            parts = await sql.read_parts(conn, list(due)) if due else {}
        documents = [assemble(each) for each in parts.values()]
        refused = await self._merge(documents) if documents else {}
        if due:
            async with transaction(self._pool) as conn:
                await sql.finish(conn, {each: version for each, version in due.items() if each not in refused})
                if refused:
                    await sql.postpone(conn, list(refused), delay_seconds=REFUSED_SECONDS)
        return len(due)

    async def expire(self, now: datetime) -> int:
        """Delete a batch of expired documents in either store."""
        gone = await self._mongo.delete_before(_first_id(now - timedelta(days=self._days)), EXPIRE_BATCH)
        metrics.ARCHIVE_EXPIRED.labels("mongo").inc(gone)
        return max(gone, await super().expire(now))

    async def _merge(self, documents: list[Loaded]) -> dict[UUID, str]:
        stored = [{name: value for name, value in each.items() if value is not None} for each in documents]
        for each in stored:
            each["_id"] = each.pop("event_id")
        refused = await self._mongo.merge(stored, items="evaluations", most=sql.MAX_RUNS)
        for event_id, reason in refused.items():
            log.error("MongoDB refuses the document of event %s: %s", event_id, reason[:500])
        metrics.ARCHIVE_COPIES.labels("refused").inc(len(refused))
        metrics.ARCHIVE_COPIES.labels("copied").inc(len(documents) - len(refused))
        return refused

    async def _copy_forever(self) -> None:
        backoff = Backoff(2 * PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        while True:
            delay = jittered(PAUSE_SECONDS)
            try:
                while await self.copy() == COPY_BATCH:
                    pass
                backoff.reset()
            except Unavailable as error:
                delay = backoff.next()
                log.warning("the archive's documents wait in Postgres: %s", error.message)
            except Exception:
                delay = jittered(LONGEST_PAUSE_SECONDS)
                log.exception("the archive's documents cannot be copied")
            await self._observe()
            await asyncio.sleep(delay)

    async def _observe(self) -> None:
        try:
            async with connection(self._pool) as conn:
                metrics.ARCHIVE_LAG_SECONDS.set(await sql.lag_seconds(conn))
        except Unavailable:
            pass  # reported elsewhere, and the last value stands


def _first_id(moment: datetime) -> UUID:
    """Return the smallest UUIDv7 of a moment: earlier events have smaller ids."""
    milliseconds = int(moment.astimezone(UTC).timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | 0x2 << 62)
