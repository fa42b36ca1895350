"""Define the messages that the Lens actors accept."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

from msgspec.structs import asdict

from actors._runtime.messages import Message
from actors.lens.model import Evaluation, Features, RawSignal, Score
from actors.lens.quote import ReceiptQuote
from config.documents import Document, Loaded
from config.ids import time_of
from config.values import Value
from db._orders import OrderTerms
from db.lens.dlq import DeadLetterFilters
from db.lens.intake import Submission
from schemas._orders import valid_until
from schemas._vocabulary import AssetType, EventType, OrderType, WayIn

INTAKE = "lens/intake"
ENRICH = "lens/enrich"
EVALUATE = "lens/evaluate"
PUBLISH = "lens/publish"


class Receipt(Value):
    """The reply to a submitted signal. `replayed`: the idempotency key had been used for the same body before."""

    event_id: UUID
    status: str
    received_at: datetime
    replayed: bool


class Submit(Submission, Message[Receipt]):
    """Submit a raw signal, validated; to `lens/intake`, key: the source. The reply means that it is durable.

    The sender makes `event_id`, a UUIDv7 whose time is the time of receipt: so a message delivered twice is one event.
    Raises IdempotencyMismatch when `idempotency_key` was used for another body within 24 hours.
    """

    idempotent: ClassVar[bool] = True

    idempotency_key: str | None = None
    order_type: OrderType | None = None  # from here on as in `db._orders.OrderTerms`
    take_profit: list[Decimal] | None = None
    stop_loss: Decimal | None = None
    valid_until: datetime | None = None
    close_fraction: Decimal | None = None

    @property
    def facts(self) -> Loaded:
        """Return the fields, each by its name; the times that the producer did not give follow from the receipt."""
        received_at = time_of(self.event_id)
        return asdict(self) | {
            "ts_utc": self.ts_utc or received_at,
            "valid_until": valid_until(self.order_type, self.valid_until, received_at),
        }


class Retrying(Value):
    """A dead letter being retried: the stage at which it starts, and the number of all its retries."""

    id: UUID
    stage: str
    retry_count: int


class RetryDeadLetter(Message[Retrying]):
    """Retry a dead letter from its stage on; to `lens/intake`. `payload` holds the changes of the signal, as JSON.

    One that is in progress is not begun anew, unless the payload changes it: the reply is the same. Raises NotFound,
    and ValidationFailed for an entry that is resolved and for a signal that cannot be retried.
    """

    id: UUID
    payload: Document | None


class ResolveDeadLetter(Message[datetime]):
    """Resolve a dead letter; to `lens/intake`. Replies when. Raises NotFound; ValidationFailed if already resolved."""

    id: UUID
    resolution_note: str


class Counts(Value):
    """Count the dead letters that matched, those that were changed, and those among the matches that were skipped."""

    matched: int
    done: int
    skipped: int


class RetryDeadLetters(Message[Counts]):
    """Retry up to `most` of those that match and are not in progress, `per_second` of them; to `lens/intake`.

    Skipped are those whose event is in progress for another reason, and those whose payload is still no signal.
    """

    filters: DeadLetterFilters
    most: int
    per_second: float | None
    is_dry: bool


class ResolveDeadLetters(Message[Counts]):
    """Resolve up to `most` of the dead letters that match; to `lens/intake`."""

    filters: DeadLetterFilters
    resolution_note: str
    most: int
    is_dry: bool


class CarriedStep(Value):
    """A stage's finished work on an event that is not stored yet, from time `at`; the next commit stores it.

    `status` and `timeline` are its contribution to the event's row.
    """

    stage: str
    status: str | None
    timeline: list[Document]
    at: datetime


class Work(Value):
    """One event on its way through the stages, with all that the next one needs to know of it.

    `failures` are those of this stage so far, as the dead-letter queue shows them. `carried` are the steps before this
    one that Postgres does not have yet, oldest first: there, the event still waits for the first of them. Set only for
    an event that came back from that queue, for the `round`-th time: its exact prices if they were edited, the models
    that are to be `asked` (None: all), and, if it was published before, the models whose decisions were `announced`
    then.
    """

    signal: RawSignal
    attempt: int = 0
    round: int = 0
    failures: tuple[Loaded, ...] = ()
    features: Features | None = None
    evaluations: tuple[Evaluation, ...] = ()
    edited_prices: tuple[Decimal, Decimal] | None = None  # entry price, size
    asked: tuple[str, ...] | None = None
    announced: tuple[str, ...] | None = None
    carried: tuple[CarriedStep, ...] = ()
    edited_terms: OrderTerms | None = None  # with the edited prices
    exact_price: Decimal | None = None  # the entry price, before any edit

    @property
    def declared_price(self) -> Decimal:
        """Return the exact entry price; an older process has handed over none."""
        if self.edited_prices is not None:
            return self.edited_prices[0]
        return Decimal(repr(self.signal.entry_price)) if self.exact_price is None else self.exact_price

    @property
    def ungated(self) -> bool:
        """Return whether the gates of age and drift no longer apply."""
        return self.round > 0

    @property
    def is_published(self) -> bool:
        """Return whether the event is in the feed already: it keeps its `feed_seq` and status through this round."""
        return self.announced is not None


class Process(Message[None]):
    """Hand work to a stage. Nothing waits for it: the stage's sweep finds lost work in Postgres."""

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
    source: str  # the provider it is attributed to, as the `source` of a raw signal
    provider_name: str  # of the system provider, if one has to be made
    price: Decimal | None
    asset_data: Loaded
    created_at: datetime
    received_at: datetime | None = None
    event_type: EventType = "OPEN_SIGNAL"
    entry_price: Decimal | None = None  # None: `price`
    commentary: str | None = None
    order_type: OrderType | None = None  # from here on as in `db._orders.OrderTerms`
    take_profit: list[Decimal] | None = None
    stop_loss: Decimal | None = None
    liquidation_price: Decimal | None = None
    valid_until: datetime | None = None
    close_fraction: Decimal | None = None
    way_in: WayIn = "redis"
    quote: ReceiptQuote | None = None


class Placed(Value):
    """The result of publishing scored signals: how many are new in the feed, and how many were there already.

    `refused` holds the error for each one that Postgres would not store, by its index in the batch.
    """

    published: int
    known: int
    refused: dict[int, str]


class PublishScored(Message[Placed]):
    """Publish scored signals in the feed; to `lens/publish`. The reply means that they are durable.

    Repeating is harmless: an id that is there is left as it is. Raises DatabaseUnavailable; some may be published then.
    """

    idempotent: ClassVar[bool] = True

    signals: tuple[Scored, ...]


class Retracted(Value):
    """The reply to a retraction: when it was first asked for."""

    signal_id: UUID
    retracted_at: datetime


class Retract(Message[Retracted]):
    """Retract a signal, for its own provider; to `lens/publish`, key: the provider's id.

    The reply means that it is durable. Raises NotFound, Forbidden for another's signal, and Conflict with the condition
    that fails: the time since its receipt, the number of retractions, the market's move.
    """

    idempotent: ClassVar[bool] = True

    signal_id: UUID
    provider_id: UUID
    asked_at: datetime


class BackfilledSignal(Value):
    """A past signal, scored as it would have been then; `entry_price`, `size` and `terms` are its exact ones."""

    signal: RawSignal
    score: Score
    entry_price: Decimal
    size: Decimal
    published_at: datetime
    terms: OrderTerms | None = None


class PublishBackfill(Message[Placed]):
    """Publish past signals in the feed, in this order; to `lens/publish`, in development only.

    Repeating is harmless: an id that is there is left as it is. Streams are not notified. Raises DatabaseUnavailable.
    """

    idempotent: ClassVar[bool] = True

    signals: tuple[BackfilledSignal, ...]
