"""Define the results of one event in one stage, and the rule by which a failure is retried or dead-lettered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from actors.lens.messages import CarriedStep, Work
from config.backoff import backoff_seconds
from config.clock import rfc3339
from config.documents import Document, Loaded
from config.masking import redact
from config.texts import escape_unstorable
from config.values import Value, replace
from db.archive import RunRow
from db.lens.stages import Move
from schemas._vocabulary import ReasonCode

MESSAGE_CHARACTERS = 2_000


class StageFailure(Exception):
    """A stage's attempt on one event failed. `retry_after`: the least delay in seconds, if one was asked for."""

    def __init__(
        self, reason_code: ReasonCode, message: str, *, retryable: bool = True, retry_after: float = 0.0
    ) -> None:
        self.message = escape_unstorable(redact(message))
        super().__init__(self.message)
        self.reason_code = reason_code
        self.retryable = retryable
        self.retry_after = retry_after


class GivenUp(Value):
    """The content of a dead letter: the causes of one model's failure, or of the whole stage's (`model` None)."""

    model: str | None
    failures: tuple[Loaded, ...]


class StageResult(Value):
    """The end of one attempt. `move` is the transition to store, `dead_letters` those to store with it.

    `runs` are the models' runs to archive with it.
    """

    work: Work
    move: Move
    dead_letters: tuple[GivenUp, ...] = ()
    runs: tuple[RunRow, ...] = ()


class Advanced(StageResult):
    """The event goes on; `work` is the input of the next stage."""


class Carried(Advanced):
    """The event goes on and its transition with it, to be stored with the next: repeating it costs next to nothing."""


class Noted(StageResult):
    """The event stays, but a part of its work is done and must not be lost: one model of several has answered."""


class Retried(StageResult):
    """The event stays and is attempted again later; it waits in Postgres."""


class Rejected(StageResult):
    """A gate refused the event: it ends without being published."""


class DeadLettered(StageResult):
    """The event ends in the dead-letter queue."""


class RetryPolicy(Value):
    """`retries` after the first attempt, the n-th `base_seconds · 2ⁿ` later, at most `max_seconds`, ± 25 %."""

    retries: int
    base_seconds: float
    max_seconds: float

    def delay_seconds(self, attempt: int, *, at_least: float = 0.0) -> float:
        """Return the wait after attempt number `attempt` (0 is the first)."""
        return max(backoff_seconds(attempt + 1, self.base_seconds, self.max_seconds), at_least)


def advance(
    work: Work, *, status: str, stage: str, timeline: list[Document], dead_letters: tuple[GivenUp, ...] = ()
) -> Advanced:
    """Move the event on to `stage`."""
    move = _move(work, status=status, stage=stage, timeline=timeline, ended=stage == "COMPLETE")
    fresh = work if not work.attempt and not work.failures else replace(work, attempt=0, failures=())
    return Advanced(fresh, move, dead_letters)


def carry(result: Advanced, stage: str, at: datetime) -> Carried:
    """Move the event on without storing it: `stage` is done at `at`."""
    step = CarriedStep(stage, result.move.status, result.move.timeline, at)
    return Carried(replace(result.work, carried=(*result.work.carried, step)), result.move)


def stored_move(result: StageResult) -> Move:
    """Return the transition to store: from the stage that Postgres has for the event, through the carried steps."""
    move, steps = result.move, result.work.carried
    if not steps:
        return move
    timeline = [line for step in steps for line in step.timeline] + move.timeline
    return replace(move, from_stage=steps[0].stage, status=move.status or steps[-1].status, timeline=timeline)


def stored(work: Work) -> Work:
    """Return the work as it is once its carried steps are stored."""
    return replace(work, carried=()) if work.carried else work


def overtaken(batch: Sequence[StageResult], done: Sequence[StageResult]) -> list[Work]:
    """Return the batch's work with carried steps that is not among the committed results, `done`: it was overtaken."""
    moved = {result.work.signal.event_id for result in done}
    carriers = [result.work for result in batch if result.work.carried]
    return [work for work in carriers if work.signal.event_id not in moved]


def note(work: Work, *, status: str, timeline: list[Document]) -> Noted:
    """Record a part of the stage's work as done."""
    return Noted(work, _move(work, status=status, stage="", timeline=timeline))


def retry(work: Work, stage: str, failures: tuple[Loaded, ...], policy: RetryPolicy, at_least: float = 0.0) -> Retried:
    """Return the event to Postgres until the policy's delay is over."""
    delay = policy.delay_seconds(work.attempt, at_least=at_least)
    return Retried(work, _move(work, status=None, stage=stage, timeline=[], delay=delay, failures=failures))


def reject(work: Work, *, reason: str, at: datetime) -> Rejected:
    """End the event by a gate, with the reason in the timeline."""
    timeline = [entry("REJECTED", at, {"reason": reason})]
    return Rejected(work, _move(work, status="REJECTED", stage="COMPLETE", timeline=timeline, ended=True))


def fail(work: Work, stage: str, failure: StageFailure, policy: RetryPolicy, at: datetime) -> Retried | DeadLettered:
    """Retry while the policy allows it and the failure may pass, else dead-letter the event."""
    failures = (*work.failures, cause(failure, at))
    if failure.retryable and work.attempt < policy.retries:
        return retry(work, stage, failures, policy, failure.retry_after)
    return dead_letter(work, (GivenUp(None, failures),), at)


def dead_letter(work: Work, dead_letters: tuple[GivenUp, ...], at: datetime) -> DeadLettered:
    """End the event in the dead-letter queue; the timeline names the last cause.

    A published event stays so: only the dead letters show that this round failed.
    """
    if work.is_published:
        return DeadLettered(
            work, _move(work, status="PUBLISHED", stage="COMPLETE", timeline=[], ended=True), dead_letters
        )
    last = dead_letters[-1].failures[-1]
    details = {"reason_code": last["reason_code"], "error_message": last["error_message"]}
    move = _move(work, status="FAILED", stage="DEAD_LETTER", timeline=[entry("FAILED", at, details)], ended=True)
    return DeadLettered(work, move, dead_letters)


def entry(status: str, at: datetime, details: Document | None = None) -> Document:
    """Return one line of the timeline."""
    line: Document = {"status": status, "timestamp": rfc3339(at)}
    if details is not None:
        line["details"] = details
    return line


def cause(failure: StageFailure, at: datetime, **more: object) -> Loaded:
    """Return one attempt's cause, as the dead-letter queue lists it."""
    message = _storable(failure.message)
    return {"at": rfc3339(at), "reason_code": failure.reason_code, "error_message": message, **more}


def _storable(message: str) -> str:
    """Clean a foreign server's text: one that Postgres refuses would keep its event from ending."""
    text = message[:MESSAGE_CHARACTERS].encode("utf-8", "replace").decode()
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") or "no reason given"


def _move(
    work: Work,
    *,
    status: str | None,
    stage: str,
    timeline: list[Document],
    delay: float = 0.0,
    failures: tuple[Loaded, ...] = (),
    ended: bool = False,
) -> Move:
    retried = status is None
    if work.is_published and not retried:
        status = "PUBLISHED"
    return Move(
        event_id=work.signal.event_id,
        round=work.round,
        attempt=work.attempt,
        status=status,
        stage=stage,
        next_attempt=work.attempt + 1 if retried else 0,
        delay_seconds=delay,
        timeline=timeline,
        failures=list(failures),
        ended=ended,
    )
