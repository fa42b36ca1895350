"""Define the values that pass through the Lens pipeline: immutable, with a JSON form.

Prices are floats in here: the exact decimals stay in Postgres, and an indicator is an approximation anyway. Optional
numbers are None where the data was missing, never NaN or infinite: every value can be written as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Self
from uuid import UUID

import numpy as np
from msgspec import convert, to_builtins
from msgspec.structs import astuple
from numpy.typing import NDArray

from actors.lens.quote import ReceiptQuote, VenueQuote
from config.clock import rfc3339
from config.documents import Document, Loaded
from config.values import Value, field
from schemas._vocabulary import (
    AssetType,
    DecisionKind,
    Direction,
    EventType,
    ModelStatus,
    OpportunityTier,
    OrderType,
    PublishedAction,
    Side,
    StopMethod,
    VoteSide,
)

Interval = Literal["15m", "1h", "4h"]
Query = Literal["mid", "order_book", "candles_15m", "candles_1h", "candles_4h", "asset_context"]
FailureReason = Literal["TIMEOUT", "NETWORK_ERROR", "PROVIDER_ERROR", "RATE_LIMITED"]
FeatureProfile = Literal["trend_follow_v1", "crypto_perps_v1", "full_v1"]
ModelReason = Literal["TIMEOUT", "NETWORK_ERROR", "PROVIDER_ERROR", "MODEL_ERROR", "SCHEMA_ERROR", "RATE_LIMITED"]

INTERVAL_SECONDS: dict[Interval, int] = {"15m": 900, "1h": 3600, "4h": 14400}
CANDLES_QUERY: dict[Interval, Query] = {"15m": "candles_15m", "1h": "candles_1h", "4h": "candles_4h"}


Number = int | float
"""A number that is shown as it was computed: a whole one stays whole."""


class JsonRecord(Value):
    """A record with a JSON form: the object of its fields, each by its name."""

    def to_dict(self) -> Document:
        """Return the JSON form; its arrays are tuples."""
        document: Document = to_builtins(self)
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Self:
        """Return the record of a JSON form; keys that this version does not know are left out. Raises ValueError."""
        return convert(document, cls)


class RawSignal(JsonRecord, rename={"order_type": "order"}):
    """An accepted raw signal. `symbol` is normalised, `size` > 0, times are aware.

    `entry_price` is 0 only of what closes an option or a prediction.
    """

    event_id: UUID
    event_type: EventType
    symbol: str
    signal_direction: Direction
    entry_price: float
    size: float
    ts_utc: datetime
    source: str
    liquidation_price: float | None = None
    asset_type: AssetType = "crypto"
    asset_data: Document | None = None
    commentary: str | None = None
    order_type: OrderType | None = None  # from here on as in `db._orders.OrderTerms`
    take_profit: tuple[float, ...] | None = None
    stop_loss: float | None = None
    valid_until: datetime | None = None
    close_fraction: float | None = None

    def to_dict(self) -> Document:
        """Return the JSON form; times to the millisecond, as everywhere outside."""
        until = None if self.valid_until is None else rfc3339(self.valid_until)
        return super().to_dict() | {"ts_utc": rfc3339(self.ts_utc), "valid_until": until}

    @classmethod
    def of(cls, fields: Loaded) -> Self:
        """Return the signal of checked fields, among others; its prices may be decimals."""
        values = {name: fields[name] for name in cls.__struct_fields__}
        for name in ("entry_price", "size", "liquidation_price", "stop_loss", "close_fraction"):
            values[name] = None if values[name] is None else float(values[name])
        if values["take_profit"] is not None:
            values["take_profit"] = tuple(map(float, values["take_profit"]))
        return cls(**values)


def side_of(direction: Direction) -> Side:
    """Return the side of the position that a signal opens or closes."""
    return "long" if direction.endswith("long") else "short"


class Candles(Value, eq=False, weakref=True, gc=True):
    """A run of candles of one interval, oldest first. Signals share it, and the indicators of it, by its identity.

    `ohlcv` is a C-contiguous float64 array of shape (5, n), rows open, high, low, close, volume: TA-Lib takes a row
    without a copy. `last_open_ms` is when the last candle opened, in Unix milliseconds; it may still be forming.
    `filled` of them were left out by the venue, for lack of trades: flat at the close before, without volume.
    """

    interval: Interval
    last_open_ms: int
    ohlcv: NDArray[np.float64]
    filled: int = 0

    @classmethod
    def checked(cls, interval: Interval, last_open_ms: int, ohlcv: NDArray[np.float64], filled: int = 0) -> Self:
        """Return the candles after checking that they are plausible: for adapters. Raises ValueError."""
        ohlcv = np.ascontiguousarray(ohlcv, dtype=np.float64)
        if ohlcv.ndim != 2 or ohlcv.shape[0] != 5 or ohlcv.shape[1] == 0:
            raise ValueError(f"candles of shape {ohlcv.shape}, not (5, n)")
        if not np.isfinite(ohlcv).all():
            raise ValueError("a candle with a value that is not finite")
        opened, high, low, close, volume = ohlcv
        if low.min() <= 0 or volume.min() < 0:
            raise ValueError("a candle with a price of zero or less, or a negative volume")
        if (high < np.maximum(opened, close)).any() or (low > np.minimum(opened, close)).any():
            raise ValueError("a candle whose high or low does not enclose its open and close")
        return cls(interval, last_open_ms, ohlcv, filled)

    def __len__(self) -> int:
        return int(self.ohlcv.shape[1])


class Quote(Value):
    """The middle of the market at `as_of_ms` (Unix milliseconds)."""

    mid: float
    as_of_ms: int


class OrderBook(Value):
    """(price, size) levels, best first, at `as_of_ms` (Unix milliseconds)."""

    bids: tuple[tuple[float, float], ...]
    asks: tuple[tuple[float, float], ...]
    as_of_ms: int


class AssetContext(Value):
    """The venue's data on a perpetual: the funding rate per hour, the open interest in units, the mark price."""

    funding_rate: float | None
    open_interest: float | None
    mark_price: float | None


class QueryFailure(JsonRecord):
    """A market-data query that failed, and why."""

    query: Query
    reason: FailureReason
    message: str


class MarketSnapshot(Value, eq=False):
    """The results of one request's queries. A query that is neither answered nor failed had no data.

    The candles' prices are in units of `candle_unit`: the simulated market has one run of candles, around 1.0, for all
    signals of a symbol, whatever their entry prices. `has_source`: whether any source serves its asset type.
    `venue_quote` is what records need of the same answer, exact.
    """

    quote: Quote | None = None
    order_book: OrderBook | None = None
    candles: dict[Interval, Candles] = field(default_factory=dict)
    asset_context: AssetContext | None = None
    failures: tuple[QueryFailure, ...] = ()
    candle_unit: float = 1.0
    has_source: bool = True
    venue_quote: VenueQuote | None = None

    @property
    def has_data(self) -> bool:
        """Return whether any query has data; if none of a source's has, enriching has failed (`PROVIDER_ERROR`)."""
        return any(each is not None for each in (self.quote, self.order_book, self.asset_context, self.candles or None))


class DataQuality(JsonRecord):
    """Names of data: missing, too old, or asked of a provider that failed. In the order of the profile."""

    missing_data: tuple[str, ...] = ()
    stale_data: tuple[str, ...] = ()
    provider_errors: tuple[str, ...] = ()


class Frame(JsonRecord):
    """The indicators of one interval at its last candle; None where the history is too short."""

    close: float | None = None
    ema_9: float | None = None
    ema_21: float | None = None
    ema_50: float | None = None
    macd: float | None = None
    macd_signal: float | None = None
    macd_histogram: float | None = None
    rsi_14: float | None = None
    atr_14: float | None = None


class Hourly(JsonRecord):
    """The values that the strategies and the score read from the 1h candles beyond their `Frame`.

    `macd_cross_age`: candles since the histogram changed its sign (0: at the last one), None if not of late.
    `percent_b`: position in the Bollinger band (20, 2σ), 0 at the lower line, 1 at the upper.
    `volume_ratio`: volume of the last complete candle ÷ mean of the 20 before it.
    `volume_change`: the change of that candle: (close − open)/open.
    `channel_high`, `channel_low`: the extremes of those 20.
    `price_change`: the price now against that of an hour ago, a fraction; by the last complete hour where the 15m
        candles do not cover it.
    `volatility`: sample standard deviation of (close − open)/open over the last 24 candles.
    """

    rsi_14_previous: float | None = None
    macd_histogram_previous: float | None = None
    macd_cross_age: int | None = None
    percent_b: float | None = None
    percent_b_previous: float | None = None
    volume_ratio: float | None = None
    channel_high: float | None = None
    channel_low: float | None = None
    price_change: float | None = None
    volatility: float | None = None
    volume_change: float | None = None


class OpenPosition(JsonRecord):
    """The position that a CLOSE signal closes: opening price, and result at the signal's price, as a fraction."""

    opening_price: float
    result: float


class Features(JsonRecord, rename={"profile": "feature_profile", "flags": "quality_flags"}):
    """A signal's enrichment. `price` is the current price: the mid, else the freshest close, else the entry price.

    `drift_bps` is 10 000 · ln(mid/entry price): above zero where the market is above the entry, and as far from zero at
    a tenth of it as at ten times.
    `order_book_imbalance` is −1 (only asks) to 1 (only bids). `position` is looked up for language models only; it is
    no part of the enriched document. `mid` is that of the `quote` where there is one.
    """

    profile: FeatureProfile
    price: float
    age_seconds: float
    mid: float | None = None
    spread_bps: float | None = None
    drift_bps: float | None = None
    frames: dict[Interval, Frame] = field(default_factory=dict)
    hourly: Hourly = field(default_factory=Hourly)
    funding_rate: float | None = None
    open_interest: float | None = None
    mark_price: float | None = None
    support: float | None = None
    resistance: float | None = None
    order_book_imbalance: float | None = None
    flags: DataQuality = field(default_factory=DataQuality)
    failures: tuple[QueryFailure, ...] = ()
    position: OpenPosition | None = None
    quote: ReceiptQuote | None = None

    def to_dict(self) -> Document:
        """Return the enriched document: `feature_profile` and `quality_flags` as in the API, and everything else."""
        document = super().to_dict()
        del document["position"]
        return document


class EntryOrder(JsonRecord, omit_defaults=True):
    """A model's plan for entering; `offset_bps` of a limit order is from the current price, below zero for cheaper."""

    type: OrderType
    offset_bps: Number | None = None


class StopRule(JsonRecord, omit_defaults=True):
    """A model's plan for the exit: `stop_level` is a price, `atr_multiple` 0.5–10, `trail_pct` 0–100."""

    stop_method: StopMethod
    stop_level: Number | None = None
    atr_multiple: Number | None = None
    trail_pct: Number | None = None


class Judgement(JsonRecord):
    """A model's answer: `confidence` 0–1, `size_pct` 0–100, at least one reason in snake_case."""

    decision: DecisionKind
    confidence: Number
    entry_plan: EntryOrder
    risk_plan: StopRule
    size_pct: Number
    reasons: tuple[str, ...]


class Transcript(JsonRecord):
    """A model's prompt and answer, for the archive. `answer` is None if there was none.

    `prompt` is the template's name and version, `stop_reason` the vendor's own word for why the answer ended.
    """

    prompt: str
    system: str
    user: str
    answer: str | None = None
    stop_reason: str | None = None


class Evaluation(JsonRecord):
    """One model's run on one signal. `decision` is set exactly when `status` is SUCCESS, `error` when it is not.

    A failure may have more than its status: the `reason_code`, whether a retry is pointless (`is_final`), and how long
    the model's vendor asks for no calls. `at` is when it ended. The `transcript` stays in the process that asked: it is
    not pickled.
    """

    model: str
    model_version: str
    status: ModelStatus
    latency_ms: int
    decision: Judgement | None = None
    error: str | None = None
    tokens_used: int | None = None
    prompt_hash: str | None = None
    reason_code: ModelReason | None = None
    is_final: bool = False
    retry_after_seconds: float | None = None
    at: datetime | None = None
    transcript: Transcript | None = None

    def __reduce__(self) -> tuple[object, ...]:
        # Without the transcript: the next stage has no use for its kilobytes.
        return type(self), astuple(self)[:-1]


class Vote(JsonRecord):
    """A strategy's vote; `score` 0–1 is the strength of its evidence, from 0.50 on it is a BUY or SELL."""

    name: str
    signal: VoteSide
    score: float


class Score(JsonRecord):
    """A signal's public judgement, fixed at publication. Field names and shapes are those of the signal detail."""

    action: PublishedAction
    confidence: Number
    opportunity_score: int
    opportunity_tier: OpportunityTier
    opportunity_factors: dict[str, dict[str, Number | None]]
    strategy_breakdown: tuple[Vote, ...]
    reasoning: str
    market_context: dict[str, Number | None]
