"""Run the evaluate stage: every model judges each signal, in parallel and independently."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Sequence

from prometheus_client import Histogram

from actors._runtime.context import ActorContext
from actors.lens._archive import open_archive
from actors.lens._documents import archived_runs
from actors.lens._positions import Positions
from actors.lens._results import (
    Advanced,
    DeadLettered,
    GivenUp,
    Noted,
    StageFailure,
    StageResult,
    advance,
    cause,
    dead_letter,
    entry,
    note,
    retry,
)
from actors.lens._rows import store_decisions
from actors.lens._stage import Stage
from actors.lens.messages import PUBLISH, Work
from actors.lens.model import Evaluation, Features
from actors.lens.models import Model, open_models
from actors.lens.models.technical import TechnicalModel
from actors.lens.technical import MODEL
from config import clock, metrics
from config.documents import Document, Loaded
from config.masking import redact
from config.texts import escape_unstorable
from config.values import replace
from db._postgres import Connection
from schemas._vocabulary import ModelStatus, ReasonCode

log = logging.getLogger(__name__)

REASONS: dict[ModelStatus, ReasonCode] = {
    "TIMEOUT": "TIMEOUT",
    "API_ERROR": "MODEL_ERROR",
    "SCHEMA_ERROR": "SCHEMA_ERROR",
    "RATE_LIMITED": "RATE_LIMITED",
}

MOST_SECONDS = 1_000
"""Measured times of the local model that are kept, to be written together."""


class Evaluate(Stage):
    """Have models judge events. Owns those that wait for the models' decisions.

    Each model answers for itself: a decision is stored as soon as it is there, and asked for only once. A model that
    fails is retried alone, unless that cannot help; given up, it leaves a dead letter of its own. The event goes on if
    any model succeeded. The transcripts go to the archive, with the transition.
    """

    stage = "EVALUATE"
    next_actor = PUBLISH
    carries = True  # only a local model judges at once, and it decides the same again

    def __init__(self) -> None:
        super().__init__()
        self._seconds: list[float] = []  # measured of the local model, not written yet

    async def start(self, context: ActorContext) -> None:
        """Open the archive, which the first shard also maintains, before the first commit."""
        self._archive = open_archive(context.settings, context.pool)
        if context.shard == 0:
            self._archive.start()
        self._positions = Positions(context)
        await super().start(context)

    async def stop(self) -> None:
        """Stop; the archive last."""
        await super().stop()
        await self._positions.close()
        await self._archive.close()

    async def prepare(self) -> None:
        """Open the configured models."""
        self._models = open_models(self.context.settings)

    async def close(self) -> None:
        """Close their connections."""
        for model in self._models:
            await model.close()

    def work_at_once(self, work: Work) -> StageResult | None:
        """Ask a local model that is the only one, at the first attempt. If it fails, `work` asks it again."""
        if len(self._models) != 1 or work.asked is not None or work.failures or work.evaluations:
            return None
        model = self._models[0]
        if type(model) is not TechnicalModel or work.features is None:  # one that is derived from it may wait
            return None
        began = time.perf_counter()
        try:
            run = model.judge_at_once(work.signal, work.features)
        except Exception:  # noqa: BLE001
            return None
        self._seconds.append(time.perf_counter() - began)
        if len(self._seconds) >= MOST_SECONDS:  # under so much load `rest` is not called
            self.rest()
        return advance(replace(work, evaluations=(run,)), status="MODEL_DONE", stage="PUBLISH", timeline=[_done(run)])

    def rest(self) -> None:
        """Record how long the local model took on each signal that was judged at once."""
        if self._seconds:
            seconds, self._seconds = self._seconds, []
            metrics.observe_many(_seconds_of(MODEL, "SUCCESS"), seconds)

    async def work(self, work: Work) -> StageResult:
        """Ask every model that has neither answered nor been given up; after a retry, only those that it is about."""
        if work.asked is not None:
            work = replace(work, failures=(*work.failures, *self._unknown(work.asked, work)))
        answered = {each.model for each in work.evaluations}
        wanted = set(self._wanted(work)) - answered
        asked = [m for m in self._models if m.name in wanted and not self._given_up(work, m.name)]
        features = await self._features_for(asked, work)
        if len(asked) == 1:
            runs = unrecorded = [await self._judge(asked[0], work, features)]
            timeline = [_done(each) for each in runs if each.decision is not None]
        else:
            runs = await asyncio.gather(*(self._judge_and_note(model, work, features) for model in asked))
            unrecorded = [each for each in runs if each.decision is None]
            timeline = []
        result = self._conclude(
            replace(
                work,
                evaluations=(*work.evaluations, *(each for each in runs if each.decision is not None)),
                failures=(*work.failures, *(_cause(each) for each in runs if each.decision is None)),
            ),
            timeline,
            at_least=max((each.retry_after_seconds or 0.0 for each in runs if not each.is_final), default=0.0),
        )
        said = archived_runs(work, unrecorded)
        return replace(result, runs=said) if said else result

    async def _features_for(self, asked: Sequence[Model], work: Work) -> Features:
        """Return the models' input; for a CLOSE signal with its position, if one of them is a language model."""
        assert work.features is not None, "an event reaches this stage enriched"
        if work.signal.event_type != "CLOSE_SIGNAL" or not any(getattr(each, "in_words", False) for each in asked):
            return work.features
        return replace(work.features, position=await self._positions.find(work.signal))

    async def _judge_and_note(self, model: Model, work: Work, features: Features) -> Evaluation:
        run = await self._judge(model, work, features)
        if run.decision is not None:
            # The others may take half a minute: this answer must not be lost, nor paid for twice.
            noted = note(replace(work, evaluations=(run,)), status="MODEL_DONE", timeline=[_done(run)])
            self.note(replace(noted, runs=archived_runs(work, [run])))
        return run

    async def _judge(self, model: Model, work: Work, features: Features) -> Evaluation:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(model.timeout_seconds):
                run = await model.judge(work.signal, features)
        except TimeoutError:
            run = _failed(model, "TIMEOUT", f"no answer within {model.timeout_seconds:g} s", began)
        except Exception as error:
            # One model's bug must not discard the others' answers.
            log.exception("model %s failed on event %s", model.name, work.signal.event_id)
            run = _failed(model, "API_ERROR", f"{type(error).__name__}: {error}", began)
        _seconds_of(run.model, run.status).observe(time.perf_counter() - began)
        return run if run.at is not None else replace(run, at=clock.now())

    def _conclude(self, work: Work, timeline: list[Document], *, at_least: float) -> StageResult:
        answered = {each.model for each in work.evaluations}
        silent = [name for name in self._wanted(work) if name not in answered]
        if any(not self._given_up(work, name) for name in silent):
            return retry(work, self.stage, work.failures, self.policy, at_least)
        dead_letters = tuple(GivenUp(name, _failures_of(work, name)) for name in silent)
        if not answered:
            return dead_letter(work, dead_letters, clock.now())
        return advance(work, status="MODEL_DONE", stage="PUBLISH", timeline=timeline, dead_letters=dead_letters)

    def _wanted(self, work: Work) -> Sequence[str]:
        return [model.name for model in self._models] if work.asked is None else work.asked

    def _unknown(self, asked: Sequence[str], work: Work) -> list[Loaded]:
        """Return the failures of models that are to be asked again but no longer run here."""
        running = {model.name for model in self._models}
        return [
            cause(StageFailure("MODEL_ERROR", f"{name} is not in use"), clock.now(), model=name, is_final=True)
            for name in asked
            if name not in running and not _failures_of(work, name)
        ]

    def _given_up(self, work: Work, model: str) -> bool:
        failures = _failures_of(work, model)
        return len(failures) > self.policy.retries or any(each.get("is_final") for each in failures)

    def cured(self, result: StageResult) -> Sequence[str | None]:
        """Resolve a model's dead letter by its answer."""
        answered = [each.model for each in result.work.evaluations] if isinstance(result, (Noted, Advanced)) else []
        return [*super().cured(result), *answered]

    async def store(self, conn: Connection, results: Sequence[StageResult]) -> None:
        """Store the decisions, one per event and model, even if a run was repeated; and the archive's rows."""
        await store_decisions(conn, [o.work for o in results if isinstance(o, (Noted, Advanced))])
        # Events with another run, and events that will have no more of them.
        changed = {o.work.signal.event_id for o in results if o.runs or isinstance(o, (Advanced, DeadLettered))}
        await self._archive.record(conn, changed, [run for result in results for run in result.runs])


@functools.cache
def _seconds_of(model: str, status: str) -> Histogram:
    return metrics.MODEL_SECONDS.labels(model, status)


def _done(run: Evaluation) -> Document:
    return entry("MODEL_DONE", run.at or clock.now(), {"model": run.model})


def _failed(model: Model, status: ModelStatus, error: str, began: float) -> Evaluation:
    latency_ms = round((time.perf_counter() - began) * 1000)
    return Evaluation(model.name, model.version, status, latency_ms, error=escape_unstorable(redact(error)))


def _cause(run: Evaluation) -> Loaded:
    failure = StageFailure(run.reason_code or REASONS[run.status], run.error or "no reason given")
    more = {"is_final": True} if run.is_final else {}
    return cause(failure, clock.now(), model=run.model, **more)


def _failures_of(work: Work, model: str) -> tuple[Loaded, ...]:
    return tuple(each for each in work.failures if each.get("model") == model)
