"""Rebuild work from the rows that the sweep reads in Postgres."""

from __future__ import annotations

from actors.lens.messages import Work
from actors.lens.model import Evaluation, Features, RawSignal
from config.documents import Loaded
from config.values import replace


def recall(row: Loaded) -> Work:
    """Rebuild work from a row of `db.lens.stages.claim`. Raises ValueError for other JSON."""
    work = recall_facts(row)
    if row["edited"] is not None:
        signal = RawSignal.from_dict(row["edited"] | {"event_id": row["event_id"]})
        work = replace(work, signal=signal, edited_prices=(row["edited_entry_price"], row["edited_size"]))
    decided = ({**each, "status": "SUCCESS", "decision": each} for each in row["decisions"])
    return replace(
        work,
        features=None if row["document"] is None else Features.from_dict(row["document"]),
        evaluations=tuple(map(Evaluation.from_dict, decided)),
    )


def recall_facts(row: Loaded) -> Work:
    """Return the part of it whose types Postgres checks: enough to end the event."""
    return Work(
        signal=RawSignal.of(row),
        attempt=row["attempt"],
        round=row["round"],
        failures=tuple(row["failures"]),
        asked=None if row["asked"] is None else tuple(row["asked"]),
        announced=None if row["announced"] is None else tuple(row["announced"]),
    )
