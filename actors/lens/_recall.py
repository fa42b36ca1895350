"""Rebuild work from the rows that the sweep reads in Postgres."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal

from actors.lens.messages import Work
from actors.lens.model import Evaluation, Features, RawSignal
from config.documents import Loaded
from config.values import replace
from db._orders import OrderTerms


def recall(row: Loaded) -> Work:
    """Rebuild work from a row of `db.lens.stages.claim`. Raises ValueError for other JSON."""
    work = recall_facts(row)
    if row["edited"] is not None:
        exact = json.loads(row["edited_exactly"], parse_float=Decimal, parse_int=Decimal)
        work = replace(
            work,
            signal=RawSignal.from_dict(row["edited"] | {"event_id": row["event_id"]}),
            edited_prices=(exact["entry_price"], exact["size"]),
            edited_terms=_terms(exact),
        )
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
        exact_price=row["entry_price"],
        asked=None if row["asked"] is None else tuple(row["asked"]),
        announced=None if row["announced"] is None else tuple(row["announced"]),
    )


def _terms(edited: Loaded) -> OrderTerms:
    until = edited.get("valid_until")
    return OrderTerms(
        order_type=edited.get("order"),
        take_profit=edited.get("take_profit"),
        stop_loss=edited.get("stop_loss"),
        liquidation_price=edited.get("liquidation_price"),
        valid_until=None if until is None else datetime.fromisoformat(until),
        close_fraction=edited.get("close_fraction"),
    )
