"""The messages that the Lens actors take."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from actors._runtime.messages import Message
from actors.lens.model import AssetType, Direction, Evaluation, EventType, Features, RawSignal, Score
from config.values import Value
from db.lens.dlq import DeadLetterFilters

INTAKE = "lens/intake"
ENRICH = "lens/enrich"
EVALUATE = "lens/evaluate"
PUBLISH = "lens/publish"


class Receipt(Value):
    """The answer to a submitted signal. `replayed`: the idempotency key had been used for the same body before."""

    event_id: UUID
    status: str
    received_at: datetime
    replayed: bool


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
    ts_utc: datetime | None  # None: the time of receipt
    source: str
    asset_type: AssetType = "crypto"
    asset_data: dict[str, Any] | None = None
    commentary: str | None = None
    idempotency_key: str | None = None


class Retrying(Value):
    """A dead letter on its way again: from which stage on, and how often it was retried in all."""

    id: UUID
    stage: str
    retry_count: int


class RetryDeadLetter(Message[Retrying]):
    """Process it again from its stage on; to `lens/intake`. `payload` is what changes of the signal, as JSON.

    One that is under way is not begun anew, unless the payload changes it: the answer is the same. Raises NotFound, and
    ValidationFailed for an entry that is resolved and for a signal that cannot be.
    """

    id: UUID
    payload: dict[str, Any] | None


class ResolveDeadLetter(Message[datetime]):
    """Mark it as done with; to `lens/intake`. Answers when. Raises NotFound; ValidationFailed if it was already."""

    id: UUID
    resolution_note: str


class Counts(Value):
    """How many dead letters matched, what was done with how many, and how many of the first were passed over."""

    matched: int
    done: int
    skipped: int


class RetryDeadLetters(Message[Counts]):
    """Retry up to `most` of those that match and are not under way, `per_second` of them; to `lens/intake`.

    Passed over are those whose event is under way for another reason, and those whose payload is still no signal.
    """

    filters: DeadLetterFilters
    most: int
    per_second: float | None
    is_dry: bool


class ResolveDeadLetters(Message[Counts]):
    """Mark up to `most` of those that match as done with; to `lens/intake`."""

    filters: DeadLetterFilters
    resolution_note: str
    most: int
    is_dry: bool


class Step(Value):
    """A stage that is done with an event at `at` and has not stored that: it travels along, to be stored with the next.

    `status` and `timeline` are what the event's row gets of it.
    """

    stage: str
    status: str | None
    timeline: list[dict[str, Any]]
    at: datetime


class Work(Value):
    """One event on its way through the stages, with all that the next one needs to know of it.

    `failures` are those of this stage so far, as the dead-letter queue shows them. `carried` are the steps before this
    one that Postgres does not have yet, oldest first: there, the event still waits for the first of them. Only of an
    event that came back from that queue, for the `round`-th time, are its exact prices if they were edited, the models
    that are to be `asked` (None: all), and, if it was published before, the models whose decisions were `announced`
    then.
    """

    signal: RawSignal
    attempt: int = 0
    round: int = 0
    failures: tuple[dict[str, Any], ...] = ()
    features: Features | None = None
    evaluations: tuple[Evaluation, ...] = ()
    edited_prices: tuple[Decimal, Decimal] | None = None  # entry price, size
    asked: tuple[str, ...] | None = None
    announced: tuple[str, ...] | None = None
    carried: tuple[Step, ...] = ()

    @property
    def ungated(self) -> bool:
        """Whether the gates of age and drift no longer count."""
        return self.round > 0

    @property
    def is_published(self) -> bool:
        """Whether it has its place in the feed already: it keeps that, and its status, whatever comes of this round."""
        return self.announced is not None


class Process(Message[None]):
    """Work for a stage. Nobody waits for it: the stage's sweeper finds in Postgres whatever got lost."""

    writes: ClassVar[bool] = False  # the stage commits later, in batches of its own
    idempotent: ClassVar[bool] = True

    work: tuple[Work, ...]


class Scored(Value):
    """A signal that another system has scored, validated; `created_at` is theirs, or else when it arrived."""

    id: UUID
    asset_type: AssetType
    symbol: str  # as stored
    action: str
    score: int
    confidence: float | None
    reasoning: str
    source: str  # whom it is attributed to, as the `source` of a raw signal
    provider_name: str  # of the system provider, if one has to be made
    price: Decimal | None
    asset_data: dict[str, Any]
    created_at: datetime
    received_at: datetime | None = None
    event_type: EventType = "OPEN_SIGNAL"
    entry_price: Decimal | None = None  # None: `price`
    commentary: str | None = None


class Placed(Value):
    """What became of a batch of scored signals: how many are new in the feed, and how many were there already.

    `refused` says why Postgres would not take one of them, by its place in the batch.
    """

    published: int
    known: int
    refused: dict[int, str]


class PublishScored(Message[Placed]):
    """Give scored signals their places in the feed; to `lens/publish`. The answer means that they are durable.

    Again is harmless: an id that is there is left as it is. Raises DatabaseUnavailable; some may be published then.
    """

    idempotent: ClassVar[bool] = True

    signals: tuple[Scored, ...]


class Past(Value):
    """A signal of the past, scored as it would have been then; `entry_price` and `size` are the exact ones of it."""

    signal: RawSignal
    score: Score
    entry_price: Decimal
    size: Decimal
    published_at: datetime


class PublishBackfill(Message[Placed]):
    """Give signals of the past their places in the feed, in this order; to `lens/publish`, in development only.

    Again is harmless: an id that is there is left as it is. Streams are not told. Raises DatabaseUnavailable.
    """

    idempotent: ClassVar[bool] = True

    signals: tuple[Past, ...]
