"""Implement what the stages share: work in memory, group commits, the hand-over, and the sweep for lost work.

A stage holds its work in memory and answers hand-overs at once; Postgres has it all (`lens_progress`). Each event has a
task of its own, so that one that waits delays no other. Results that are finished by then are committed in one
transaction, then handed to the next stage in one message. Work that was done at once, without waiting, can be repeated
at no cost: it is handed over uncommitted, as a step that the event carries to the next commit.

The sweep finds lost messages, work of a killed stage, and retries that are due. Every transition is a compare-and-set,
so work that ran twice counts once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID

import asyncpg

from actors._runtime.context import ActorContext, Behaviour
from actors._runtime.messages import Envelope
from actors.lens._commits import LEASE_SECONDS, Commits
from actors.lens._handover import linger_after
from actors.lens._recall import recall, recall_facts
from actors.lens._results import (
    Advanced,
    Carried,
    DeadLettered,
    GivenUp,
    Noted,
    Retried,
    RetryPolicy,
    StageFailure,
    StageResult,
    carry,
    cause,
    dead_letter,
    fail,
    overtaken,
    stored,
)
from actors.lens._rows import store_steps
from actors.lens.messages import Process, Work
from config import clock, metrics
from config.backoff import Backoff, jittered
from config.tasks import cancel, spawn
from db._postgres import CONTENDED, Connection, loudness
from db.lens import stages
from schemas.errors import AppError, Unavailable

log = logging.getLogger(__name__)

MAX_ACTIVE = 4_000
"""Events in a stage's memory. Past it hand-overs are dropped: they wait in Postgres until the sweep has room."""

AT_ONCE = 50
"""Events that are worked on before other tasks run in the event loop: some 5 ms."""

MAX_COMMIT = 500
"""Events in one transaction: 10–20 ms of Postgres's time, and what is lost if it must be done again one by one."""

MORE_COMMIT = 25
"""How many more are tried after each commit, once less was halved: too many again would cost a whole deadline again."""

SWEEP_SECONDS = 0.5
WORK_SECONDS = 120.0
"""The longest that one attempt may take, whatever its own deadlines were."""


class Stage(Behaviour):
    """Run one stage of the pipeline. A subclass defines how to `work` on one event, and what else to `store`.

    Owns: the events whose `lens_progress.stage` is its own. Success: the transition is committed. A crash loses the
    work of the current attempt and nothing else; repeating it is harmless: the transition is a compare-and-set.
    """

    stage: ClassVar[str]
    next_actor: ClassVar[str | None]
    carries: bool = False
    """Whether work done at once goes on uncommitted. Only where the next stage will not keep it waiting."""

    def __init__(self) -> None:
        # In memory only, rebuilt by the sweep:
        self._active: dict[UUID, float] = {}
        self._shown = 0  # of them, in the metrics
        self._active_gauge = metrics.STAGE_ACTIVE.labels(self.stage)
        self._stage_seconds = metrics.STAGE_SECONDS.labels(self.stage)
        # The active ones that are not begun yet, and whether each may go on without being stored.
        self._taken: deque[tuple[Work, bool]] = deque()
        self._arrived = asyncio.Event()
        self._carried: list[Carried] = []  # done and not handed over yet
        self._waiting: list[Work] = []  # that cannot go on at once, and carry steps which must be stored before
        self._finished: list[StageResult] = []
        self._ready = asyncio.Event()
        self._due = asyncio.Event()
        self._next_due = float("inf")
        self._tasks: list[asyncio.Task[Any]] = []
        self._commits = Commits(self)

    async def start(self, context: ActorContext) -> None:
        """Begin to sweep and to commit."""
        await super().start(context)
        settings = context.settings
        self.policy = RetryPolicy(
            settings.lens_retries, settings.lens_retry_base_seconds, settings.lens_retry_max_seconds
        )
        await self.prepare()
        self._tasks = [
            spawn(self._begin_forever(), name=f"{context.name}: begin"),
            spawn(self._commit_forever(), name=f"{context.name}: commit"),
            spawn(self._sweep_forever(), name=f"{context.name}: sweep"),
        ]

    async def stop(self) -> None:
        """Stop; what is unfinished stays in Postgres for the next start."""
        await cancel(*self._tasks)
        self._active.clear()
        self._show_active()
        await self.close()

    async def process(self, batch: Sequence[Envelope]) -> list[Any]:
        """Take hand-overs into memory; those past the bound are left to the sweep."""
        for envelope in batch:
            if isinstance(envelope.message, Process):
                self._take(envelope.message.work, may_carry=self.carries)
        return [None] * len(batch)

    # --- for subclasses

    async def prepare(self) -> None:
        """Get ready, once, before the first event."""

    async def close(self) -> None:
        """Close what `prepare` opened."""

    def work_at_once(self, work: Work) -> StageResult | None:
        """Do `work` where that needs no waiting; return None where it may. A task of its own costs 20 µs."""
        return None

    @abstractmethod
    async def work(self, work: Work) -> StageResult:
        """Make one attempt on one event. Raises StageFailure, which is retried or dead-lettered by the policy."""

    async def store(self, conn: Connection, results: Sequence[StageResult]) -> None:
        """Store what belongs to the results that moved, in their transaction."""

    async def store_steps(self, conn: Connection, works: Sequence[Work]) -> None:
        """Store what belongs to the steps that events carry, in the same transaction."""
        await store_steps(conn, works)

    async def committed(self, results: Sequence[StageResult]) -> None:
        """Notify others, after the commit."""

    def cured(self, result: StageResult) -> Sequence[str | None]:
        """Return whose dead letters of this stage the result resolves: models, and None for the stage itself."""
        return () if isinstance(result, (Noted, Retried, DeadLettered)) else (None,)

    def rest(self) -> None:
        """Do what can wait until all received work is begun, such as writing metrics."""

    def note(self, result: Noted) -> None:
        """Store part of the work of an event that stays: committed with all else that is finished."""
        self._finish(result)

    # --- the work

    def _take(self, items: Sequence[Work], *, may_carry: bool) -> None:
        now = time.perf_counter()
        for item in items:
            event_id = item.signal.event_id
            if event_id in self._active or len(self._active) >= MAX_ACTIVE:
                continue
            self._active[event_id] = now
            self._taken.append((item, may_carry))
        self._arrived.set()
        self._show_active()

    async def _begin_forever(self) -> None:
        while True:
            await self._arrived.wait()
            for _ in range(min(len(self._taken), AT_ONCE)):
                work, may_carry = self._taken.popleft()
                try:
                    self._begin(work, may_carry=may_carry)
                except Exception:
                    event_id = work.signal.event_id
                    log.exception("%s cannot begin event %s; the sweep brings it back", self.stage, event_id)
                    self._active.pop(event_id, None)
            if not self._taken:
                self._arrived.clear()
                self.rest()
            if not self._taken or len(self._carried) + len(self._waiting) >= MAX_COMMIT:
                self._hand_on()
            await asyncio.sleep(0)

    def _begin(self, work: Work, *, may_carry: bool) -> None:
        try:
            result = self.work_at_once(work)
        except Exception as error:  # noqa: BLE001 - whatever it is, `_failed` classifies it
            result = self._failed(work, error)
        if result is None and work.carried:
            self._waiting.append(work)
        elif result is None:
            spawn(self._attempt(work), name=f"{self.stage} {work.signal.event_id}")
        elif may_carry and type(result) is Advanced and not (work.attempt or work.round or work.failures):
            self._carried.append(carry(result, self.stage, clock.now()))
        else:
            self._finish(result)

    def _hand_on(self) -> None:
        """Hand over carried work, in the batches in which it came; free work that has to wait here after all.

        The latter is rare: the sender has other models, or a local model failed. Its steps are stored one by one.
        """
        if self._carried:
            batch, self._carried = self._carried, []
            self._let_go(batch, batch)
        if self._waiting:
            works, self._waiting = self._waiting, []
            for work in works:
                self._active.pop(work.signal.event_id, None)
            spawn(self._commits.free(works), name=f"{self.stage}: free what has to wait")

    async def _attempt(self, work: Work) -> None:
        try:
            async with asyncio.timeout(WORK_SECONDS):
                result = await self.work(work)
        except Exception as error:  # noqa: BLE001
            result = self._failed(work, error)
        self._finish(result)

    def _failed(self, work: Work, error: Exception) -> StageResult:
        if isinstance(error, StageFailure):
            failure = error
        elif isinstance(error, TimeoutError):
            failure = StageFailure("TIMEOUT", f"no result within {WORK_SECONDS:.0f} s")
        elif isinstance(error, Unavailable):
            failure = StageFailure("NETWORK_ERROR", error.message)
        else:
            # Any error on one event must end in its dead-letter entry, never in the stage.
            log.error("%s failed on event %s", self.stage, work.signal.event_id, exc_info=error)
            failure = StageFailure("INTERNAL_ERROR", f"{type(error).__name__}: {error}")
        return fail(work, self.stage, failure, self.policy, clock.now())

    def _finish(self, result: StageResult) -> None:
        self._finished.append(result)
        self._ready.set()

    # --- the commits

    async def _commit_forever(self) -> None:
        backoff, limit, linger = Backoff(0.1, 2.0), MAX_COMMIT, 0.0
        while True:
            await self._ready.wait()
            if linger and len(self._finished) < limit:
                await asyncio.sleep(linger)
            batch = self._finished[:limit]
            linger = linger_after(len(batch))
            done: list[StageResult] = []
            try:
                await self._commits.commit(batch, done)
            except (Unavailable, *CONTENDED) as error:
                # It may have been too much at once for a deadline: continue with less.
                limit = max(limit // 2, 1)
                log.log(loudness(error), "%s cannot commit %d events: %s", self.stage, len(batch), error)
                if done:  # what was committed before the failure
                    stored = set(map(id, done))
                    self._finished = [each for each in self._finished if id(each) not in stored]
                    await self._tell(done, done)
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            limit = min(limit + MORE_COMMIT, MAX_COMMIT)
            del self._finished[: len(batch)]
            if not self._finished:
                self._ready.clear()
            await self._tell(batch, done)

    async def _tell(self, batch: Sequence[StageResult], done: Sequence[StageResult]) -> None:
        self._let_go(batch, done)
        if done:
            await self._announce(done)
        if len(done) < len(batch) and (works := overtaken(batch, done)):
            await self._commits.free(works)

    def _let_go(self, batch: Sequence[StageResult], done: Sequence[StageResult]) -> None:
        """Count the events that leave the stage, and hand on those that are `done` and go on."""
        now = time.perf_counter()
        moves = [result for result in batch if not isinstance(result, Noted)]
        began = [self._active.pop(result.work.signal.event_id, now) for result in moves]
        metrics.observe_many(self._stage_seconds, [now - each for each in began])
        for kind, count in Counter(map(type, moves)).items():
            name = "advanced" if kind is Carried else kind.__name__.lower()
            metrics.STAGE_OUTCOMES.labels(self.stage, name).inc(count)
        for result in moves:
            if isinstance(result, Retried):
                self._expect(result.move.delay_seconds)
        self._show_active()
        if self.next_actor is not None and (going := [result for result in done if isinstance(result, Advanced)]):
            forward = tuple(o.work if isinstance(o, Carried) else stored(o.work) for o in going)
            self.context.peer(self.next_actor).tell("", Process(forward))

    def _show_active(self) -> None:
        # Added, not set: shards of a stage may share a process, and their gauge.
        count = len(self._active)
        self._active_gauge.inc(count - self._shown)
        self._shown = count

    async def _announce(self, done: Sequence[StageResult]) -> None:
        try:
            await self.committed(done)
        except Exception:
            # It is stored: a subscriber that missed the message reads it from Postgres.
            log.exception("%s could not announce %d events", self.stage, len(done))

    # --- the sweep

    def _expect(self, delay_seconds: float) -> None:
        self._next_due = min(self._next_due, time.monotonic() + delay_seconds)
        self._due.set()

    async def _sweep_forever(self) -> None:
        fresh = True  # the previous owner of this stage's events is dead and fenced: take them whatever their lease
        while True:
            try:
                more = await self._sweep(regardless=fresh)
                fresh = fresh and more
            except (AppError, asyncpg.PostgresError, OSError) as error:
                log.log(loudness(error), "%s cannot sweep: %s", self.stage, error)
                more = False
            except Exception:
                log.exception("%s cannot sweep", self.stage)
                more = False
            if not more:
                await self._pause()

    async def _sweep(self, *, regardless: bool) -> bool:
        limit = min(MAX_ACTIVE - len(self._active), MAX_COMMIT)
        if limit <= 0:
            return False
        async with self.context.connection() as conn:
            rows = await stages.claim(
                conn,
                self.stage,
                (self.context.shard, self.context.shards),
                busy=list(self._active),
                limit=limit,
                lease_seconds=LEASE_SECONDS,
                regardless=regardless,
            )
        # Work that was lost once is stored from now on: hand-overs that are always lost must not keep it here.
        self._take([work for work in map(self._recall, rows) if work is not None], may_carry=False)
        return len(rows) == limit

    def _recall(self, row: Any) -> Work | None:
        try:
            return recall(row)
        except Exception as error:
            # The stored data of one event cannot be read: that must not keep the others from being swept.
            log.exception("%s cannot recall event %s", self.stage, row["event_id"])
            now, work = clock.now(), recall_facts(row)
            failure = StageFailure("INTERNAL_ERROR", f"what is stored of it cannot be read: {error!r}")
            self._active[work.signal.event_id] = time.perf_counter()
            self._finish(dead_letter(work, (GivenUp(None, (*work.failures, cause(failure, now))),), now))
            return None

    async def _pause(self) -> None:
        """Wait until a retry of this stage is due, or the next round."""
        self._due.clear()
        now = time.monotonic()
        wait = min(jittered(SWEEP_SECONDS), max(self._next_due - now, 0.0))
        if self._next_due <= now:
            self._next_due = float("inf")
            return
        try:
            async with asyncio.timeout(wait):
                await self._due.wait()
        except TimeoutError:
            pass
        if self._next_due <= time.monotonic():
            self._next_due = float("inf")
