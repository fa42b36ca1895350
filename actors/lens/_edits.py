"""Decide what a retry may change of a signal, and build the changed signal. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal

from marshmallow import ValidationError

from config.clock import rfc3339
from config.documents import Document, Loaded
from db.lens.retries import OpenDeadLetter, RetriedEvent
from schemas._problems import field_errors
from schemas.errors import FieldError, ValidationFailed
from schemas.ingest import load_scored, patch_scored
from schemas.lens import StoredSubmission

ENRICHED = frozenset({"event_type", "signal_direction", "symbol", "asset_type", "asset_data", "entry_price", "ts_utc"})
"""The inputs of the features: a signal that changes in one of these must be enriched anew."""

JUDGED = ENRICHED | {"size", "liquidation_price"}
"""The inputs of a model: once one has decided, a change would attribute to it what it never judged."""

_SUBMISSION = StoredSubmission()
_KEYS = {name: field.data_key or name for name, field in _SUBMISSION.fields.items()}
"""The names of a loaded submission's fields in its document."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A signal as it is processed from now on: as JSON, prices as Decimals. `is_anew`: it must be enriched again."""

    signal: Document
    is_anew: bool


def edit_signal(event: RetriedEvent, dead_letter: OpenDeadLetter, patch: Document) -> Edit | None:
    """Return the event's signal with the patch applied; None if that changes nothing. Raises ValidationFailed.

    A field of the patch that repeats the payload shown by the entry is no change, though the payload's numbers and
    times have fewer digits than the signal's: so all of it may be sent back, with one field changed.
    """
    shown = _parse(dead_letter.edited_payload or dead_letter.payload) | {"event_id": str(event.event_id)}
    patch = {name: value for name, value in patch.items() if name not in shown or shown[name] != value}
    if "event_id" in patch:
        raise ValidationFailed.of("payload.event_id", "cannot be changed")
    before = _before(event)
    after = _load(before | patch)
    changed = _changed(before, after)
    if not changed:
        return None
    if event.status == "PUBLISHED":
        raise _fixed(changed, "cannot be changed: the signal is published")
    if event.models and changed & JUDGED:
        raise _fixed(changed & JUDGED, f"cannot be changed: {', '.join(event.models)} judged the signal by it")
    return Edit(to_json(after), is_anew=bool(changed & ENRICHED))


def new_submission(dead_letter: OpenDeadLetter, patch: Document | None) -> Loaded:
    """Return the fields of a `Submit` from the payload of an entry that never became an event. Raises ValidationFailed.

    Without a patch the payload must be a valid submission as it is; under a patch, foreign fields are left out.
    """
    document = _parse(dead_letter.edited_payload or dead_letter.payload)
    if patch is not None:
        document = {name: value for name, value in document.items() if name in _KEYS.values()} | dict(patch)
    return _load(document)


def scored_message(dead_letter: OpenDeadLetter, patch: Document | None) -> Loaded:
    """Return the message of a scored signal to be read again. Raises ValidationFailed when it still is none."""
    document = _parse(dead_letter.edited_payload or dead_letter.payload)
    if patch is not None:
        document = patch_scored(document, patch)
    load_scored(document, "payload")
    return document


def to_json(loaded: Loaded) -> Document:
    """Return a loaded submission as a JSON document, except for its Decimals."""
    document = {_KEYS[name]: value for name, value in loaded.items()}
    times = {name: document[name] for name in ("ts_utc", "valid_until") if document[name] is not None}
    return document | {name: rfc3339(each) for name, each in times.items()}


def _before(event: RetriedEvent) -> Document:
    if event.edited is not None:
        return _parse(event.edited)
    return {
        "event_type": event.event_type,
        "symbol": event.symbol,
        "signal_direction": event.signal_direction,
        "entry_price": event.entry_price,
        "size": event.size,
        "liquidation_price": event.liquidation_price,
        "ts_utc": event.ts_utc.isoformat(),
        "source": event.source,
        "asset_type": event.asset_type,
        "asset_data": None if event.asset_data is None else _parse(event.asset_data),
        "commentary": event.commentary,
        "order": event.order_type,
        "take_profit": None if event.take_profit is None else json.loads(event.take_profit, parse_float=Decimal),
        "stop_loss": event.stop_loss,
        "valid_until": None if event.valid_until is None else event.valid_until.isoformat(),
        "close_fraction": event.close_fraction,
    }


def _parse(text: str) -> Document:
    document: Document = json.loads(text, parse_float=Decimal)
    return document


def _load(document: Document) -> Loaded:
    try:
        loaded: Loaded = _SUBMISSION.load(document)
    except ValidationError as error:
        raise ValidationFailed(details=field_errors(error.messages, "payload")) from None
    return loaded


def _changed(before: Document, after: Document) -> frozenset[str]:
    try:
        known = _load(before)
    except ValidationFailed:  # accepted under other rules than today's
        return frozenset(map(_KEYS.__getitem__, after))
    return frozenset(_KEYS[name] for name in after if after[name] != known[name])


def _fixed(names: frozenset[str], why: str) -> ValidationFailed:
    return ValidationFailed(details=[FieldError(f"payload.{name}", why) for name in sorted(names)])
