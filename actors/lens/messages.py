"""The messages that the Lens actors take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from actors._messages import Message
from actors.lens.model import AssetType, Direction, Evaluation, EventType, Features, RawSignal, Value

INTAKE = "lens/intake"
ENRICH = "lens/enrich"
EVALUATE = "lens/evaluate"
PUBLISH = "lens/publish"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a submitted signal. `replayed`: the idempotency key had been used for the same body before."""

    event_id: UUID
    status: str
    received_at: datetime
    replayed: bool


@dataclass(frozen=True, slots=True)
class Submit(Message[Receipt]):
    """A raw signal, validated; to `lens/intake`, key: the source. The answer means that it is durable.

    The sender makes `event_id`, a UUIDv7 whose time is the time of receipt: so a message delivered twice is one event.
    Raises IdempotencyMismatch when `idempotency_key` was used for another body within 24 hours.
    """

    idempotent: ClassVar[bool] = True

    event_id: UUID
    event_type: EventType
    signal_direction: Direction
    symbol: str  # as stored: upper case but for predictions
    entry_price: Decimal
    size: Decimal
    liquidation_price: Decimal | None
    ts_utc: datetime
    source: str
    asset_type: AssetType = "crypto"
    asset_data: dict[str, Any] | None = None
    commentary: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Work(Value):
    """One event on its way through the stages, with all that the next one needs to know of it.

    `failures` are those of this stage so far, as the timeline of the dead-letter queue shows them.
    """

    signal: RawSignal
    attempt: int = 0
    ungated: bool = False
    failures: tuple[dict[str, Any], ...] = ()
    features: Features | None = None
    evaluations: tuple[Evaluation, ...] = ()


@dataclass(frozen=True, slots=True)
class Process(Message[None]):
    """Work for a stage. Nobody waits for it: the stage's sweeper finds in Postgres whatever got lost."""

    writes: ClassVar[bool] = False  # the stage commits later, in batches of its own
    idempotent: ClassVar[bool] = True

    work: tuple[Work, ...]
