"""Make a source of prices and market data of a vendor's few questions, on the guard that all calls go through.

An answer is shared while it is fresh, and a question that is under way is waited for, not repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final, Protocol, cast

import numpy as np

from actors.lens.market import CANDLE_COUNT, NO_SOURCE, MarketRequest
from actors.lens.market._batch import BatchVendor, QuoteBatches
from actors.lens.market._cache import Cell, Cells, answer_of
from actors.lens.market._guard import CallGuard, CallLimits
from actors.lens.market._http import CallFailed
from actors.lens.market.quotes import (
    MINUTES_PAGE,
    Bar,
    Listing,
    PricedInstrument,
    Resolution,
    checked_bars,
    complete_minutes,
    first_minute_ms,
)
from actors.lens.model import (
    CANDLES_QUERY,
    INTERVAL_SECONDS,
    Candles,
    Interval,
    MarketSnapshot,
    OrderBook,
    Query,
    QueryFailure,
    Quote,
)
from actors.lens.quote import VenueQuote
from config import clock
from schemas._vocabulary import AssetType

_MAX_CELLS: Final = 4096
_QUOTE_SECONDS: Final = 1.0  # a quote may be 5 s old at a signal's receipt; the stage asks again within 2 s
_RESOLUTION_SECONDS: Final = 60.0
_NONSENSE: Final = (ValueError, ArithmeticError, LookupError)


class Vendor(Protocol):
    """The questions that a vendor answers. Each is one call or two, and raises CallFailed or ValueError.

    `label` begins error texts, `source` is its name in `MARKET_DATA`, `weight` what a question costs of its limit a
    minute. `has_candles`: it has candles of the intervals of `Interval`, not of minutes alone.
    """

    label: str
    source: str
    asset_types: tuple[AssetType, ...]
    weight: int
    has_candles: bool

    def listing(self, instrument: PricedInstrument) -> Listing | None:
        """Return what the venue calls the instrument; None where it cannot have it."""

    async def probe(self) -> None:
        """Ask something that needs no instrument, to see whether the vendor is up."""

    async def quote(self, listing: Listing) -> VenueQuote | None:
        """Return the newest quote; None where the venue does not know it or a side is empty."""

    async def bars(self, listing: Listing, minutes: int, since_ms: int | None, count: int) -> Sequence[Bar]:
        """Return up to `count` candles of so many minutes, oldest first: from `since_ms` on, else the newest ones."""

    async def resolution(self, listing: Listing) -> Resolution | None:
        """Return how a prediction ended; None while it has not."""

    async def close(self) -> None:
        """Close its connections."""


class GuardedVenue:
    """The `PriceSource` and the `MarketData` of one vendor; `monotonic` (seconds) is its clock."""

    def __init__(
        self,
        vendor: Vendor,
        limits: CallLimits,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vendor = vendor
        self._monotonic = monotonic
        self._guard = CallGuard(vendor.label, limits, {"probe": self._probe}, witness=None, now=monotonic)
        self._cells: Cells[tuple[str, Listing]] = Cells(_MAX_CELLS)
        self._batches: QuoteBatches | None = None
        if isinstance(vendor, BatchVendor):
            self._batches = QuoteBatches(vendor, self._guard, _QUOTE_SECONDS, monotonic)

    async def quote(self, instrument: PricedInstrument) -> VenueQuote | None:
        """Return the newest quote, at most a second after the vendor's answer."""
        listing = self._listing(instrument)
        return None if listing is None else cast("VenueQuote | None", await self._answer("quote", listing))

    async def minutes(self, instrument: PricedInstrument, since: datetime) -> Sequence[Bar]:
        """Return a page of the complete minute candles that opened at or after `since`, oldest first."""
        listing = self._listing(instrument)
        if listing is None:
            return ()
        since_ms = first_minute_ms(since)
        cell = Cell()  # hardly anything else asks for the same minutes
        ask = partial(self._fill, cell, 0.0, partial(self._minutes, listing, since_ms))
        return cast("Sequence[Bar]", await self._result(cell, "minutes", listing, ask))

    async def resolution(self, instrument: PricedInstrument) -> Resolution | None:
        """Return how a prediction ended; None while it has not."""
        listing = self._listing(instrument)
        if listing is None or instrument.asset_type != "prediction":
            return None
        return cast("Resolution | None", await self._answer("resolution", listing))

    def snapshot_at_once(self, request: MarketRequest) -> MarketSnapshot | None:
        """Return the snapshot where every answer is fresh."""
        if request.asset_type not in self._vendor.asset_types:
            return NO_SOURCE
        listing = self._listing_of(request)
        if listing is None:
            return NO_SOURCE
        questions = self._questions(request)
        cells = [self._cells.of((question, listing)) for question in questions]
        if any(self._monotonic() >= cell.fresh_until for cell in cells):
            return None
        return _snapshot(request, {each: cell.value for each, cell in zip(questions, cells, strict=True)}, {})

    async def snapshot(self, request: MarketRequest) -> MarketSnapshot:
        """Return the answers to the request's queries, all asked at once, each within a call's time-out."""
        at_once = self.snapshot_at_once(request)
        listing = self._listing_of(request)
        if at_once is not None or listing is None:
            return at_once or NO_SOURCE
        questions = self._questions(request)
        answers = await asyncio.gather(*(self._answer(each, listing) for each in questions), return_exceptions=True)
        values: dict[str, object] = {}
        failures: dict[str, CallFailed] = {}
        for question, answer in zip(questions, answers, strict=True):
            if isinstance(answer, CallFailed):
                failures[question] = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                values[question] = answer
        return _snapshot(request, values, failures)

    async def close(self) -> None:
        """Cancel the calls and close the connections."""
        await self._guard.close()
        await self._vendor.close()

    def _listing(self, instrument: PricedInstrument) -> Listing | None:
        return self._vendor.listing(instrument) if instrument.asset_type in self._vendor.asset_types else None

    def _listing_of(self, request: MarketRequest) -> Listing | None:
        return self._listing(PricedInstrument.of(request.symbol, request.asset_type, request.asset_data, request.now))

    def _questions(self, request: MarketRequest) -> list[str]:
        asked = dict.fromkeys(_QUESTION_OF.get(query, query) for query in request.queries)
        return [each for each in asked if each == "quote" or (each in _INTERVAL_OF and self._vendor.has_candles)]

    async def _answer(self, question: str, listing: Listing) -> object:
        cell = self._cells.of((question, listing))
        if self._monotonic() < cell.fresh_until:
            return cell.value
        interval = _INTERVAL_OF.get(question)
        if question == "quote":
            ask = partial(self._fill, cell, _QUOTE_SECONDS, partial(self._vendor.quote, listing))
        elif interval is None:
            ask = partial(self._fill, cell, _RESOLUTION_SECONDS, partial(self._vendor.resolution, listing))
        else:
            # The forming candle changes all the time, but a sixtieth of its interval moves no indicator by much.
            seconds = INTERVAL_SECONDS[interval]
            ask = partial(self._fill, cell, seconds / 60, partial(self._candles, listing, interval))
        return await self._result(cell, question, listing, ask)

    async def _result(self, cell: Cell, question: str, listing: Listing, ask: Callable[[], Awaitable[None]]) -> object:
        if cell.call is None and self._monotonic() >= cell.retry_at:
            if question == "quote" and self._batches is not None:
                self._batches.join(cell, listing)
            else:
                self._guard.begin(cell, question, listing.name, self._vendor.weight, ask)
        return await answer_of(cell)

    async def _fill(self, cell: Cell, seconds: float, ask: Callable[[], Awaitable[object]]) -> None:
        try:
            value = await ask()
        except _NONSENSE as error:
            raise CallFailed("PROVIDER_ERROR", f"{self._vendor.label} answered nonsense: {error}") from error
        cell.store(value, self._monotonic(), refresh=seconds, fresh=seconds, keep=seconds)

    async def _probe(self) -> None:
        with contextlib.suppress(*_NONSENSE):  # an answer, if a bad one: the vendor is up
            await self._vendor.probe()

    async def _minutes(self, listing: Listing, since_ms: int) -> tuple[Bar, ...]:
        bars = await self._vendor.bars(listing, 1, since_ms, MINUTES_PAGE)
        return complete_minutes(listing.asset_type, bars, since_ms, clock.now())

    async def _candles(self, listing: Listing, interval: Interval) -> Candles | None:
        found = await self._vendor.bars(listing, INTERVAL_SECONDS[interval] // 60, None, CANDLE_COUNT)
        bars = checked_bars(listing.asset_type, found)
        if not bars:
            return None
        rows = [(bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in bars]
        candles = Candles.checked(interval, bars[-1].opened_ms, np.array(rows, dtype=np.float64).T)
        candles.ohlcv.setflags(write=False)  # shared by all signals
        return candles


_QUESTION_OF: Final[dict[Query, str]] = {"mid": "quote", "order_book": "quote"}
_INTERVAL_OF: Final[dict[str, Interval]] = {query: interval for interval, query in CANDLES_QUERY.items()}


def _snapshot(request: MarketRequest, values: dict[str, object], failures: dict[str, CallFailed]) -> MarketSnapshot:
    found = values.get("quote")
    quote = found if isinstance(found, VenueQuote) else None
    as_of_ms = 0 if quote is None else int(quote.at.timestamp() * 1000)
    book = None
    if quote is not None and "order_book" in request.queries:
        # Of the touch alone, of unknown sizes: it has a spread, and no imbalance.
        book = OrderBook(((float(quote.bid), 0.0),), ((float(quote.ask), 0.0),), as_of_ms)
    return MarketSnapshot(
        quote=Quote(float(quote.mid), as_of_ms) if quote is not None and "mid" in request.queries else None,
        order_book=book,
        candles={each.interval: each for each in values.values() if isinstance(each, Candles)},
        failures=tuple(
            QueryFailure(query, failure.reason, failure.message)
            for query in request.queries
            if (failure := failures.get(_QUESTION_OF.get(query, query))) is not None
        ),
        venue_quote=quote,
    )
