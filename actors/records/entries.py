"""Define the entries of the log: everything that a record is computed from, and nothing else.

An entry is canonical JSON: the fields in the order of their class, without those that have their default, decimals as
texts, times in UTC. Names and texts of people are never in it. Parts are whole numbers of 1e-12 of a whole position.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Final, Literal
from uuid import UUID

import msgspec

from config.values import Value
from schemas._vocabulary import AssetType, CloseReason, EventType, OrderType, Side, WayIn

LOG_VERSION: Final = 1


class Entry(Value, omit_defaults=True, tag_field="kind"):
    """One leaf of the log."""


class LoggedQuote(Value):
    """The market at a signal's receipt, as its source wrote it."""

    bid: Decimal
    ask: Decimal
    mid: Decimal
    at: datetime
    source: str


class SignalEntry(Entry, tag="signal"):
    """A published signal; one that neither opens nor closes counts as a signal.

    `opens`: it opens a position, or places an order, under its own id. `closes`: it closes `part` of that position.

    `record_price` follows from the declared price and the quote; None: it is unverified. `verdicts` are SHA-256 of the
    models' decisions, `texts` of the salt and the texts, in hexadecimal.
    """

    feed_seq: int
    signal_id: UUID
    provider_id: UUID
    asset_type: AssetType
    instrument: str
    event_type: EventType
    direction: Side | None
    declared_price: Decimal | None
    received_at: datetime
    published_at: datetime
    score: int
    texts: str
    way_in: WayIn
    version: int = LOG_VERSION
    quote: LoggedQuote | None = None
    record_price: Decimal | None = None
    opens: bool = False
    order: OrderType = "market"
    take_profit: tuple[Decimal, ...] = ()
    stop_loss: Decimal | None = None
    liquidation_price: Decimal | None = None
    valid_until: datetime | None = None
    expires_on: date | None = None
    fraction: Decimal | None = None
    closes: UUID | None = None
    part: int = 0
    verdicts: tuple[str, ...] = ()


class FillEntry(Entry, tag="fill"):
    """A limit order was filled at its limit, by the candle of the minute that begins at `at`."""

    position: UUID
    provider_id: UUID
    price: Decimal
    at: datetime


class EndEntry(Entry, tag="end"):
    """The market closed `part` of a position at `price`. Without a price the rest of it counts as if it had never been:
    an order that lapsed, a prediction that is void or was not resolved in time (`note`).
    """

    position: UUID
    provider_id: UUID
    reason: CloseReason | None
    part: int
    price: Decimal | None
    at: datetime
    note: Literal["lapsed", "void", "awaiting", "cancelled"] | None = None


class MarkEntry(Entry, tag="mark"):
    """The mids of instruments at a full hour, by asset type. The hour ends with the entry that is `last`; with that of
    00:00 UTC ends the day. An instrument that is missing keeps its last mid.
    """

    hour: datetime
    mids: dict[AssetType, dict[str, Decimal]]
    last: bool = True


class RetractionEntry(Entry, tag="retraction"):
    """A signal was retracted: its position counts as if it had never been; a close, as if it had not been said."""

    feed_seq: int
    signal_id: UUID
    provider_id: UUID
    at: datetime


class ResolutionEntry(Entry, tag="resolution"):
    """A prediction's market was resolved."""

    instrument: str
    result: Literal["yes", "no", "void"]
    at: datetime


class SplitEntry(Entry, tag="split"):
    """Each share became `new` for `old` at `at`: prices from before are multiplied by old/new."""

    asset_type: AssetType
    instrument: str
    new: int
    old: int
    at: datetime


AnyEntry = SignalEntry | FillEntry | EndEntry | MarkEntry | RetractionEntry | ResolutionEntry | SplitEntry

_decoder: Final = msgspec.json.Decoder(AnyEntry)
_encoder: Final = msgspec.json.Encoder(decimal_format="string", uuid_format="canonical")


def encode(entry: AnyEntry) -> bytes:
    """Return the leaf of an entry."""
    return _encoder.encode(entry)


def decode(body: bytes) -> AnyEntry:
    """Return the entry of a leaf. Raises msgspec.ValidationError."""
    entry: AnyEntry = _decoder.decode(body)
    return entry
