"""Commit a stage's results: a batch in one fenced transaction; an event that Postgres refuses fails alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from actors._runtime.context import ActorContext
from actors.lens._results import GivenUp, Noted, StageFailure, StageResult, cause, dead_letter, stored_move
from actors.lens.messages import Work
from config import clock
from config.bisection import bisect_failures
from config.ids import time_of, uuid7
from db._postgres import CONTENDED, Connection, loudness
from db.lens import dlq, stages
from schemas.errors import AppError

log = logging.getLogger(__name__)

LEASE_SECONDS = 5.0
"""How long a hand-over may take before the sweep re-takes it. The sweep skips what its own stage holds."""


class Storing(Protocol):
    """The part of a stage that its commits need."""

    context: ActorContext

    @property
    def stage(self) -> str:
        """Return its name."""

    async def store(self, conn: Connection, results: Sequence[StageResult]) -> None:
        """Store what belongs to the results that moved, in their transaction."""

    async def store_steps(self, conn: Connection, works: Sequence[Work]) -> None:
        """Store what belongs to the steps that events carry, in the same transaction."""

    def cured(self, result: StageResult) -> Sequence[str | None]:
        """Return whose dead letters of this stage the result resolves: models, and None for the stage itself."""


class Commits:
    """Commit the results of one stage. Raises Unavailable and CONTENDED for a batch, which may then be tried again."""

    def __init__(self, stage: Storing) -> None:
        self._stage = stage

    async def commit(self, batch: Sequence[StageResult], done: list[StageResult]) -> None:
        """Commit the batch; if a row of it cannot be stored, its halves, so that one such event fails alone.

        Committed results are added to `done`; it may hold a part of the batch when the rest raises. An event that fails
        with the steps it carries is not dead-lettered: their stages have to store them one by one to tell which fails.
        """

        async def attempt(part: Sequence[StageResult]) -> None:
            done.extend(await self._commit_once(part))

        failed = await bisect_failures(batch, attempt, passing=(AppError, *CONTENDED))
        for result, error in failed:  # a constraint, a text, a value that no codec takes
            if result.work.carried:
                log.warning("%s cannot store event %s with its steps", self._stage.stage, result.work.signal.event_id)
            else:
                done += await self._dead_letter_alone(result, error)

    async def free(self, works: Sequence[Work]) -> None:
        """Let the sweeps take events at once, and not after a lease: they carry steps and are not stored from here.

        The sweep of the stage where Postgres has them takes them, and then they go on step by step. They may also have
        moved on meanwhile, and that hand-over was dropped where they were still held.
        """
        try:
            async with self._stage.context.connection() as conn:
                await stages.free(conn, [work.signal.event_id for work in works])
        except Exception as error:  # noqa: BLE001 - whatever it is, they wait for their leases then
            log.log(loudness(error), "%s cannot free %d events: %s", self._stage.stage, len(works), error)

    async def _dead_letter_alone(self, result: StageResult, error: Exception) -> list[StageResult]:
        stage, event_id = self._stage.stage, result.work.signal.event_id
        log.error("%s cannot store event %s", stage, event_id, exc_info=error)
        now = clock.now()
        failure = StageFailure("PUBLISH_ERROR" if stage == "PUBLISH" else "INTERNAL_ERROR", str(error))
        given_up = GivenUp(None, (*result.work.failures, cause(failure, now)))
        try:
            return await self._commit_once([dead_letter(result.work, (given_up,), now)])
        except (AppError, *CONTENDED):
            raise
        except Exception:
            log.exception("%s cannot dead-letter event %s either; the sweep takes it again", stage, event_id)
            return []

    async def _commit_once(self, batch: Sequence[StageResult]) -> list[StageResult]:
        stage = self._stage.stage
        notes = [result for result in batch if isinstance(result, Noted)]
        moves = [result for result in batch if not isinstance(result, Noted)]
        async with self._stage.context.transaction() as conn:
            moved: set[UUID] = set()
            if notes:  # before the moves: a note belongs to the attempt that a move ends
                moved = await stages.note_status(conn, stage, [o.move for o in notes])
            if moves:
                moved |= await stages.move(conn, stage, [stored_move(o) for o in moves], lease_seconds=LEASE_SECONDS)
            done = [result for result in batch if result.work.signal.event_id in moved]
            if done:
                if carriers := [result.work for result in done if result.work.carried]:
                    await self._stage.store_steps(conn, carriers)
                await self._stage.store(conn, done)
                if letters := [_dead_letter(each, given_up, stage) for each in done for given_up in each.dead_letters]:
                    await dlq.insert_dead_letters(conn, letters)
                if again := [result for result in done if result.work.round]:
                    await self._close_retries(conn, again)
        return done

    async def _close_retries(self, conn: Connection, results: Sequence[StageResult]) -> None:
        cured = [(o.work.signal.event_id, model) for o in results for model in self._stage.cured(o)]
        if cured:
            await dlq.resolve_cured(conn, self._stage.stage.lower(), cured)
        if ended := [result.work.signal.event_id for result in results if result.move.ended]:
            await dlq.end_retries(conn, ended)


def _dead_letter(result: StageResult, given_up: GivenUp, stage: str) -> dlq.NewDeadLetter:
    last = given_up.failures[-1]
    dead_letter_id = uuid7()
    return dlq.NewDeadLetter(
        id=dead_letter_id,
        event_id=result.work.signal.event_id,
        stage=stage.lower(),
        model=given_up.model,
        reason_code=last["reason_code"],
        error_message=last["error_message"],
        payload=result.work.signal.to_dict(),
        attempts=list(given_up.failures),
        retry_count=len(given_up.failures) - 1,
        created_at=time_of(dead_letter_id),
    )
