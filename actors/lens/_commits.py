"""Commit a stage's results: a batch in one fenced transaction; an event that Postgres refuses fails alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from actors.lens._results import GivenUp, Noted, StageFailure, StageResult, cause, dead_letter, steps_move, stored_move
from actors.lens.messages import Work
from config import clock
from config.bisection import bisect_failures
from config.ids import time_of, uuid7
from config.values import replace
from db._postgres import CONTENDED, Connection, loudness
from db.lens import dlq, stages
from schemas.errors import AppError

if TYPE_CHECKING:
    from actors.lens._stage import Stage

log = logging.getLogger(__name__)

LEASE_SECONDS = 5.0
"""How long a hand-over may take before the sweep re-takes it. The sweep skips what its own stage holds."""


class Commits:
    """Commit the results of one stage. Raises Unavailable and CONTENDED for a batch, which may then be tried again."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def commit(self, batch: Sequence[StageResult], done: list[StageResult]) -> None:
        """Commit the batch; if a row of it cannot be stored, its halves, so that one such event fails alone.

        Committed results are added to `done`; it may hold a part of the batch when the rest raises.
        """

        async def attempt(part: Sequence[StageResult]) -> None:
            done.extend(await self._commit_once(part))

        failed = await bisect_failures(batch, attempt, passing=(AppError, *CONTENDED))
        for result, error in failed:  # a constraint, a text, a value that no codec takes
            if result.work.carried:
                await self._commit_apart(result, done)
            else:
                done += await self._dead_letter_alone(result, error, self._stage.stage)

    async def commit_steps(self, works: Sequence[Work], stage: str | None = None) -> set[UUID]:
        """Store carried steps and move their events to this (or another) `stage`; return the ids of those moved."""
        stage = stage or self._stage.stage
        async with self._stage.context.transaction() as conn:
            moves = [steps_move(work, stage) for work in works]
            moved = await stages.move(conn, stage, moves, lease_seconds=LEASE_SECONDS)
            await self._stage.store_steps(conn, [work for work in works if work.signal.event_id in moved])
        return moved

    async def free(self, works: Sequence[Work]) -> None:
        """Let the sweeps take events at once, and not after a lease, whose steps could not be stored from here.

        Storing them may have taken longer than a lease, and the stage that moved them since has handed them over again:
        that hand-over was dropped where they were still held.
        """
        try:
            async with self._stage.context.connection() as conn:
                await stages.free(conn, [work.signal.event_id for work in works])
        except Exception as error:  # noqa: BLE001 - whatever it is, they wait for their leases then
            log.log(loudness(error), "%s cannot free %d events: %s", self._stage.stage, len(works), error)

    async def _commit_apart(self, result: StageResult, done: list[StageResult]) -> None:
        """Commit each step of an event that cannot be stored with the steps it carries, to find out which one fails."""
        work, steps = replace(result.work, carried=()), result.work.carried
        for step, stage in zip(steps, [*(each.stage for each in steps[1:]), self._stage.stage], strict=True):
            try:
                if not await self.commit_steps([replace(work, carried=(step,))], stage):
                    return
            except (AppError, *CONTENDED):
                raise
            except Exception as error:  # noqa: BLE001 - as in `commit`
                done += await self._dead_letter_alone(replace(result, work=work), error, step.stage)
                return
        await self.commit([replace(result, work=work)], done)

    async def _dead_letter_alone(self, result: StageResult, error: Exception, stage: str) -> list[StageResult]:
        event_id = result.work.signal.event_id
        log.error("%s cannot store event %s", stage, event_id, exc_info=error)
        now = clock.now()
        failure = StageFailure("PUBLISH_ERROR" if stage == "PUBLISH" else "INTERNAL_ERROR", str(error))
        work = result.work
        buried = dead_letter(work, (GivenUp(None, (*work.failures, cause(failure, now))),), now)
        try:
            return await self._commit_once([buried], stage)
        except (AppError, *CONTENDED):
            raise
        except Exception:
            log.exception("%s cannot dead-letter event %s either; the sweep takes it again", stage, event_id)
            return []

    async def _commit_once(self, batch: Sequence[StageResult], stage: str | None = None) -> list[StageResult]:
        stage = stage or self._stage.stage
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
                if dead_letters := [
                    _dead_letter(o, dead_letter, stage) for o in done for dead_letter in o.dead_letters
                ]:
                    await dlq.insert_dead_letters(conn, dead_letters)
                if again := [result for result in done if result.work.round]:
                    await self._close_retries(conn, again)
        return done

    async def _close_retries(self, conn: Connection, results: Sequence[StageResult]) -> None:
        cured = [(o.work.signal.event_id, model) for o in results for model in self._stage.cured(o)]
        if cured:
            await dlq.resolve_cured(conn, self._stage.stage.lower(), cured)
        if ended := [result.work.signal.event_id for result in results if result.move.ended]:
            await dlq.end_retries(conn, ended)


def _dead_letter(result: StageResult, dead_letter: GivenUp, stage: str) -> dlq.DeadLetter:
    last = dead_letter.failures[-1]
    dead_letter_id = uuid7()
    return dlq.DeadLetter(
        id=dead_letter_id,
        event_id=result.work.signal.event_id,
        stage=stage.lower(),
        model=dead_letter.model,
        reason_code=last["reason_code"],
        error_message=last["error_message"],
        payload=result.work.signal.to_dict(),
        attempts=list(dead_letter.failures),
        retry_count=len(dead_letter.failures) - 1,
        created_at=time_of(dead_letter_id),
    )
