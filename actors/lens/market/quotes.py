"""Define what a record reads from the market: quotes, minute candles and resolutions, exact as their source wrote them.

`MarketData` serves indicators, which are approximations, in floats. A record is computed to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Final, Literal, Protocol, runtime_checkable

import msgspec

from actors.lens.quote import VenueQuote, check_price
from config.values import Value
from schemas._instruments import expiry_of, spelled_alike
from schemas._vocabulary import AssetType

MINUTE_MS: Final = 60_000
MINUTES_PAGE: Final = 500
"""The minute candles of one answer: what every venue gives at once."""
HOURS_PAGE: Final = 48
"""The candles of hours of one answer."""

AwareTime = Annotated[datetime, msgspec.Meta(tz=True)]
"""A vendor's RFC 3339 time, with its offset; of nanoseconds the microseconds are kept, rounded."""

Resolution = Literal["yes", "no", "void"]
"""How a prediction ended: at a probability of 1, of 0, or at neither, so that it does not count."""


class PricedInstrument(Value):
    """An instrument to price: a signal's symbol, and the data that the symbol alone does not have.

    `expiry` is an option's; `platform`, `market_id` and `resolves` (its resolution's day) are a prediction's, where
    its signal names them.
    """

    asset_type: AssetType
    symbol: str
    expiry: date | None = None
    platform: str | None = None
    market_id: str | None = None
    resolves: date | None = None

    @classmethod
    def of(
        cls, symbol: str, asset_type: AssetType, asset_data: Mapping[str, object] | None, at: datetime
    ) -> PricedInstrument:
        """Return the instrument of a signal that was received at `at`."""
        if asset_type == "option":
            return cls(asset_type, symbol, expiry_of(symbol, asset_data, at))
        if asset_type != "prediction" or not asset_data:
            return cls(asset_type, symbol)
        platform, market_id, day = (
            str(asset_data[name]) if asset_data.get(name) else None
            for name in ("platform", "market_id", "resolution_date")
        )
        return cls(asset_type, symbol, None, platform, market_id, _day_of(day))

    @property
    def key(self) -> str:
        """Return a text that is the same for every spelling of the instrument, and of no other."""
        parts = (self.expiry, self.platform, self.market_id)
        return " ".join((self.asset_type, spelled_alike(self.symbol, self.asset_type), *map(str, filter(None, parts))))


class Declaration(Value):
    """The price that a signal declares of an instrument, and when it was received."""

    instrument: PricedInstrument
    price: Decimal
    at: datetime


class Listing(Value):
    """An instrument as its venue names it."""

    name: str
    asset_type: AssetType


class Bar(Value):
    """The prices of one interval from `opened_ms` (Unix milliseconds) on; `volume` in units of the instrument."""

    opened_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


class PriceSource(Protocol):
    """A source of prices for records.

    None, or nothing, is the answer for an instrument that the source does not know or has no price of. Methods raise
    `CallFailed` where the source does not answer, or answers nonsense; each is bounded in time by its own deadline.
    """

    async def quote(self, instrument: PricedInstrument) -> VenueQuote | None:
        """Return the newest quote: one of the last second or two is shared."""

    async def minutes(self, instrument: PricedInstrument, since: datetime) -> Sequence[Bar]:
        """Return the complete minute candles that opened at or after `since`, oldest first: a page, at least."""

    async def resolution(self, instrument: PricedInstrument) -> Resolution | None:
        """Return how a prediction ended; None while it has not, and for other asset types."""

    async def close(self) -> None:
        """Close connections; no question may follow."""


@runtime_checkable
class HourlyPrices(Protocol):
    """A source that also has candles of hours: they read a long past without each of its minutes."""

    async def hours(self, instrument: PricedInstrument, since: datetime) -> Sequence[Bar] | None:
        """Return a page of the complete candles of full hours from `since` on; None: it has none of its asset type."""


class QuoteRule(Value):
    """The bounds of a quote of a signal's receipt: at most so old then, or at most so much later."""

    max_age: timedelta = timedelta(seconds=5)
    wait: timedelta = timedelta(seconds=2)


RECEIPT: Final = QuoteRule()


def use_of(
    quote: VenueQuote | None, received_at: datetime, now: datetime, rule: QuoteRule = RECEIPT
) -> Literal["use", "wait", "give_up"]:
    """Decide about a quote for a signal: use it, wait for a newer one, or leave the signal unverified."""
    if quote is not None and received_at - rule.max_age <= quote.at <= received_at + rule.wait:
        return "use"
    return "wait" if now < received_at + rule.wait else "give_up"


def checked_bars(asset_type: AssetType, bars: Sequence[Bar]) -> tuple[Bar, ...]:
    """Return the candles after checking that they are plausible and in order: for adapters. Raises ValueError."""
    before = -1
    for bar in bars:
        for price in (bar.open, bar.high, bar.low, bar.close):
            check_price(asset_type, price)
        if bar.low > min(bar.open, bar.close) or bar.high < max(bar.open, bar.close):
            raise ValueError("a candle whose high or low does not enclose its open and close")
        if not bar.volume.is_finite() or bar.volume < 0:
            raise ValueError("a candle with a negative volume")
        if bar.opened_ms <= before:
            raise ValueError("candles that are out of order or doubled")
        before = bar.opened_ms
    return tuple(bars)


def best_of(bids: Iterable[Decimal], asks: Iterable[Decimal]) -> tuple[Decimal | None, Decimal | None]:
    """Return the best bid and ask of a prediction's book in any order, None of an empty side. Raises ValueError."""
    sides = list(bids), list(asks)
    for price in (*sides[0], *sides[1]):
        check_price("prediction", price)
    return max(sides[0], default=None), min(sides[1], default=None)


def first_minute_ms(since: datetime) -> int:
    """Return when the first minute opens, in Unix milliseconds, that begins at or after `since`."""
    return -(-int(since.timestamp() * 1000) // MINUTE_MS) * MINUTE_MS


def complete_minutes(asset_type: AssetType, bars: Sequence[Bar], since_ms: int, now: datetime) -> tuple[Bar, ...]:
    """Return the plausible minute candles from `since_ms` on that are complete at `now`. Raises ValueError."""
    last_ms = int(now.timestamp() * 1000) - MINUTE_MS
    checked = checked_bars(asset_type, bars)
    if any(bar.opened_ms % MINUTE_MS for bar in checked):
        raise ValueError("a minute that did not open when minutes do")
    return tuple(bar for bar in checked if since_ms <= bar.opened_ms <= last_ms)


def _day_of(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:  # stored under other rules than today's
        return None
