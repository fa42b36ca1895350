"""Store an event's rows: each stage its own, or the next stage those of the steps that an event carries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from actors.lens.messages import Work
from actors.lens.model import Evaluation
from config import clock
from config.ids import derived_uuid7, milliseconds_of, time_of
from db._postgres import Connection
from db.lens.stages import Enriched, NewDecision, insert_decisions, insert_enriched


async def store_enriched(conn: Connection, works: Iterable[tuple[Work, datetime]]) -> None:
    """Store the enriched documents of events, each with when it was made."""
    rows = []
    for work, at in works:
        if work.features is not None:
            flags, document = work.features.flags.to_dict(), work.features.to_dict()
            rows.append(Enriched(work.signal.event_id, work.features.profile, flags, document, at))
    if rows:
        await insert_enriched(conn, rows)


async def store_decisions(conn: Connection, works: Iterable[Work]) -> None:
    """Store the models' decisions on events, one decision per event and model, even if a run was repeated."""
    rows = [_decision_row(work, each) for work in works for each in work.evaluations]
    if rows:
        await insert_decisions(conn, rows)


async def store_steps(conn: Connection, works: Sequence[Work]) -> None:
    """Store the rows of the steps that events carry."""
    steps = [(work, step) for work in works for step in work.carried]
    if enriched := [(work, step.at) for work, step in steps if step.stage == "ENRICH"]:
        await store_enriched(conn, enriched)
    if judged := [work for work, step in steps if step.stage == "EVALUATE"]:
        await store_decisions(conn, judged)


def _decision_row(work: Work, run: Evaluation) -> NewDecision:
    judged = run.decision
    assert judged is not None
    # Dated by its run: however late it is stored, it is as old as its line of the timeline.
    ended_ms = milliseconds_of(run.at or clock.now())
    decision_id = derived_uuid7(ended_ms, work.signal.event_id.bytes + run.model.encode())
    return NewDecision(
        id=decision_id,
        event_id=work.signal.event_id,
        model=run.model,
        symbol=work.signal.symbol,
        event_type=work.signal.event_type,
        model_version=run.model_version,
        latency_ms=run.latency_ms,
        tokens_used=run.tokens_used or 0,
        prompt_hash=run.prompt_hash,
        evaluated_at=time_of(decision_id),
        decision=judged.decision,
        confidence=judged.confidence,
        entry_plan=judged.entry_plan.to_dict(),
        risk_plan=judged.risk_plan.to_dict(),
        size_pct=judged.size_pct,
        reasons=list(judged.reasons),
    )
