"""Assemble the archive's documents. Pure.

    {event_id, symbol, source, received_at, enriched_at, signal: {…}, features: {…},
     evaluations: [{id, model, version, status, reason_code, error, prompt_hash, prompt, system, user, answer,
                    stop_reason, truncated, tokens_used, latency_ms, decision, at}]}

`signal` is the raw one without its free texts, `features` None until the event is enriched. An evaluation is one run of
one model, failed ones and retries included, oldest first; `at` is when it ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from actors.lens.messages import Work
from actors.lens.model import Evaluation, Transcript
from config import clock
from config.documents import Document, Loaded
from config.ids import uuid7
from db import archive as sql

LONGEST_TEXT_BYTES: Final = 64 * 1024
"""Four times the longest prompt, and sixteen times an answer of 1000 tokens. What is longer is cut."""

_SIGNAL: Final = (
    *("event_type", "signal_direction", "entry_price", "size", "liquidation_price", "ts_utc", "asset_type"),
    *("order", "take_profit", "stop_loss", "valid_until", "close_fraction"),
)
# An evaluation's names in order, and the columns that have another.
_COLUMNS: Final = {"version": "model_version", "prompt": "name", "user": "question"}
_EVALUATION: Final = {
    name: _COLUMNS.get(name, name)
    for name in (
        *("id", "model", "version", "status", "reason_code", "error", "prompt_hash", "prompt", "system", "user"),
        *("answer", "stop_reason", "truncated", "tokens_used", "latency_ms", "decision", "at"),
    )
}
_DECISION: Final = ("decision", "confidence", "entry_plan", "risk_plan", "size_pct", "reasons")


def archived_runs(work: Work, runs: Sequence[Evaluation]) -> tuple[sql.RunRow, ...]:
    """Return the rows to archive: runs that a prompt was sent for, and failures. The rest is in the decisions."""
    event_id = work.signal.event_id
    return tuple(_run_row(event_id, run) for run in runs if run.transcript is not None or run.decision is None)


def assemble(parts: sql.Parts) -> Loaded:
    """Assemble the document from Postgres's parts: its times are datetimes, its ids UUIDs."""
    event, decisions = parts.event, {row["model"]: row for row in parts.decisions}
    evaluations = [
        _evaluation(row, decisions.get(row["model"]) if row["status"] == "SUCCESS" else None) for row in parts.runs
    ]
    # A decision with a prompt has a run; if that is not here, it is in the other store.
    evaluations += [
        _evaluation(row, row, status="SUCCESS", truncated=False, at=row["evaluated_at"])
        for row in parts.decisions
        if row["prompt_hash"] is None
    ]
    return {
        "event_id": event["event_id"],
        "symbol": event["symbol"],
        "source": event["source"],
        "received_at": event["received_at"],
        "enriched_at": event["enriched_at"],
        "signal": {name: _number(event[name]) for name in _SIGNAL},
        "features": event["document"],
        "evaluations": sorted(evaluations, key=_id_of)[-sql.MAX_RUNS :],
    }


def present(document: Loaded) -> Loaded:
    """Return a document of either store as JSON has it, the evaluations in the order of time."""
    shown = {
        "event_id": document.get("event_id") or document["_id"],
        **{name: document.get(name) for name in ("symbol", "source", "received_at", "enriched_at", "signal")},
        "features": document.get("features"),
        "evaluations": sorted(document["evaluations"], key=_id_of)[-sql.MAX_RUNS :],
    }
    return {name: _plain(each) for name, each in shown.items()}


def _run_row(event_id: UUID, run: Evaluation) -> sql.RunRow:
    said = run.transcript
    prompt = None if said is None else _prompt_row(event_id, said)
    texts = () if said is None else (said.system, said.user, said.answer)
    return sql.RunRow(
        event_id=event_id,
        id=uuid7(),
        model=run.model,
        model_version=run.model_version,
        status=run.status,
        reason_code=run.reason_code,
        error=_storable(run.error),
        latency_ms=run.latency_ms,
        tokens_used=run.tokens_used,
        prompt_hash=run.prompt_hash,
        prompt=prompt,
        prompt_digest=None if prompt is None else prompt.digest,
        answer=None if said is None else _storable(said.answer),
        stop_reason=None if said is None else _storable(said.stop_reason),
        truncated=any(len(each.encode(errors="replace")) > LONGEST_TEXT_BYTES for each in texts if each is not None),
        at=clock.now(),
    )


def _prompt_row(event_id: UUID, said: Transcript) -> sql.PromptRow:
    system, question = _storable(said.system) or "", _storable(said.user) or ""
    digest = hashlib.blake2b(f"{system}\0{question}".encode(), digest_size=16).digest()
    return sql.PromptRow(event_id, digest, said.prompt, system, question)


def _storable(text: str | None) -> str | None:
    """Return the text as Postgres takes it (no NUL, no lone surrogate), cut at LONGEST_TEXT_BYTES."""
    if text is None:
        return None
    return text.replace("\0", "\ufffd").encode(errors="replace")[:LONGEST_TEXT_BYTES].decode(errors="ignore")


def _evaluation(row: Mapping[str, object], decision: Mapping[str, object] | None, **known: object) -> Document:
    """Return the evaluation of a run, or of a decision without one; `known` is what its row does not have."""
    shown: Document = {name: row.get(column) for name, column in _EVALUATION.items()} | known
    shown["decision"] = None if decision is None else {name: decision[name] for name in _DECISION}
    return shown


def _id_of(evaluation: Loaded) -> UUID:
    found: UUID = evaluation["id"]
    return found


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return clock.rfc3339(value)
    return str(value) if isinstance(value, UUID) else value


def _number(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else value
