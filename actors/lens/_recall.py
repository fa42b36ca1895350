"""Rebuild work from the rows that the sweep reads in Postgres."""

from __future__ import annotations

from typing import Any

from actors.lens.messages import Work
from actors.lens.model import Decision, Evaluation, Features, RawSignal
from config.values import replace


def recall(row: Any) -> Work:
    """Rebuild work from a row of `db.lens.stages.claim`. Raises KeyError, TypeError, ValueError for other JSON."""
    work = recall_facts(row)
    edited = row["edited"]
    if edited is not None:
        signal = RawSignal.from_dict(edited | {"event_id": row["event_id"]})
        prices = (row["edited_entry_price"], row["edited_size"])
        work = replace(work, signal=signal, edited_prices=prices)
    return replace(
        work,
        features=None if row["document"] is None else Features.from_dict(row["document"]),
        evaluations=tuple(_evaluation(each) for each in row["decisions"]),
    )


def recall_facts(row: Any) -> Work:
    """Return the part of it whose types Postgres checks: enough to end the event."""
    return Work(
        signal=RawSignal(
            event_id=row["event_id"],
            event_type=row["event_type"],
            symbol=row["symbol"],
            signal_direction=row["signal_direction"],
            entry_price=float(row["entry_price"]),
            size=float(row["size"]),
            ts_utc=row["ts_utc"],
            source=row["source"],
            liquidation_price=None if row["liquidation_price"] is None else float(row["liquidation_price"]),
            asset_type=row["asset_type"],
            asset_data=row["asset_data"],
            commentary=row["commentary"],
        ),
        attempt=row["attempt"],
        round=row["round"],
        failures=tuple(row["failures"]),
        asked=None if row["asked"] is None else tuple(row["asked"]),
        announced=None if row["announced"] is None else tuple(row["announced"]),
    )


def _evaluation(row: dict[str, Any]) -> Evaluation:
    return Evaluation(
        model=row["model"],
        model_version=row["model_version"],
        status="SUCCESS",
        latency_ms=row["latency_ms"],
        decision=Decision.from_dict(row),
        tokens_used=row["tokens_used"],
        prompt_hash=row["prompt_hash"],
    )
