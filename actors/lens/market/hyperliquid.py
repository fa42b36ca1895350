"""Provide Hyperliquid's market data by few calls, shared by many signals, none of which waits for another's failure.

POST {base}/info answers four queries: `allMids` and `metaAndAssetCtxs` for the whole venue, `l2Book` and
`candleSnapshot` for a coin (and interval). Each query has one cell with its last answer; a signal that needs it while a
call is in flight waits for that call. What keeps one failure from affecting all signals:

- a call has a deadline, and a query that failed is held back for a while, longer each time;
- a circuit breaker fails at once while the venue is down, and honours Retry-After; no single coin's failures open it;
- a budget keeps the calls within the venue's limit; a refresh gives way to a first answer;
- an older answer, with its time, is used where a newer one is unavailable, or not available soon.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Final, cast

from actors.lens.market import CANDLE_COUNT, NO_SOURCE, MarketRequest
from actors.lens.market._breaker import VENUE
from actors.lens.market._cache import Cell, Cells, answer_of
from actors.lens.market._guard import Ask, CallGuard, CallLimits
from actors.lens.market._http import CallFailed, JsonApi
from actors.lens.market._hyperliquid_answers import Contexts, Mids, candles_of, minutes_of, order_book_of, touch_of
from actors.lens.market._hyperliquid_coins import Coins
from actors.lens.market._units import bar_of_one, quote_of_one, snapshot_of_one
from actors.lens.market.quotes import (
    MINUTE_MS,
    MINUTES_PAGE,
    Bar,
    PricedInstrument,
    Resolution,
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
)
from actors.lens.quote import VenueQuote
from config import clock, metrics
from config.documents import Document, Json

_NAME: Final = "Hyperliquid API"
_SOURCE: Final = "hyperliquid"
_PERPETUALS: Final = "*"  # the subject of the contexts, which do not represent the venue: spot pairs have none
_MAX_CELLS: Final = 4096  # four a coin: a thousand coins, 36 MB of candles
_FRESH: Final = 1.5
_INTERVAL_OF: Final[Mapping[Query, Interval]] = MappingProxyType({query: each for each, query in CANDLES_QUERY.items()})


@dataclass(frozen=True, slots=True)
class _Policy:
    """The periods of an answer's use, in seconds, and its call's weight in the venue's limit of 1 200 a minute.

    From `refresh` on it is refreshed in the background; at 1.5 × that a signal waits for the newer one; at `keep` it
    is unusable even where no newer one is available.
    """

    refresh: float
    keep: float
    weight: int


def _candle_policy(interval: Interval) -> _Policy:
    # The forming candle changes all the time, but a sixtieth of its interval moves no indicator by much; at that pace
    # a coin's three intervals cost 131 of the minute's weight. Two intervals old, candles are flagged as stale.
    seconds = INTERVAL_SECONDS[interval]
    return _Policy(refresh=seconds / 60, keep=2.0 * seconds, weight=20 + CANDLE_COUNT // 60)


# A mid or a book that could not be renewed is flagged as stale, and past a minute it is not used at all: by then it
# says little of now, and an event with nothing else has no data. A context has no time of its own to be flagged by.
_POLICIES: Final[Mapping[Query, _Policy]] = MappingProxyType(
    {
        "mid": _Policy(refresh=1.0, keep=60.0, weight=2),
        "order_book": _Policy(refresh=1.0, keep=60.0, weight=2),
        "asset_context": _Policy(refresh=5.0, keep=60.0, weight=20),
        **{query: _candle_policy(interval) for interval, query in CANDLES_QUERY.items()},
    }
)


def _wall_ms() -> int:
    return int(clock.now().timestamp() * 1000)


class HyperliquidMarketData:
    """The `MarketData` of Hyperliquid: crypto only, it has no data for other asset types.

    `monotonic` (seconds) and `now_ms` (Unix milliseconds) are its clocks.
    """

    def __init__(
        self,
        base_url: str,
        limits: CallLimits | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = _wall_ms,
    ) -> None:
        limits = limits or CallLimits()
        self._patience_seconds = limits.patience_seconds
        self._monotonic = monotonic
        self._now_ms = now_ms
        # The mids, the contexts and the probe of the circuit breaker need no coin's slot, nor wait for its connection.
        self._api = JsonApi(_NAME, f"{base_url.rstrip('/')}/info", max_connections=limits.max_calls + 3)
        self._mids = Cell()
        self._contexts = Cell()
        self._cells: Cells[tuple[Query, str]] = Cells(_MAX_CELLS)
        probes: dict[str, Ask] = {
            "mid": partial(self._ask, self._mids, "mid", VENUE),
            "asset_context": partial(self._ask, self._contexts, "asset_context", _PERPETUALS),
        }
        self._guard = CallGuard(_NAME, limits, probes, now=monotonic)
        self._coins = Coins()
        self._meters = {query: _Meters(query) for query in _POLICIES}

    def snapshot_at_once(self, request: MarketRequest) -> MarketSnapshot | None:
        """Return the snapshot where every answer is fresh: under load, nearly always."""
        if request.asset_type != "crypto":
            return NO_SOURCE
        coin = self._coins.find(request.symbol)
        if coin is None:
            return None
        now = self._monotonic()
        cells = [(query, self._cell_of(query, coin)[0]) for query in request.queries]
        if any(now >= cell.refresh_at for _, cell in cells):
            return None
        for query, _ in cells:
            self._meters[query].cached.inc()
        return _of_one(self._read(coin, cells), coin, request.symbol)

    async def snapshot(self, request: MarketRequest) -> MarketSnapshot:
        """Return the answers to the request's queries, within a call's time-out and the patience at most."""
        if request.asset_type != "crypto":
            return NO_SOURCE
        coin = self._coins.find(request.symbol) or await self._look_up(request.symbol)
        if coin is None:
            _, failure = self._mids.result(self._monotonic())
            return MarketSnapshot(failures=() if failure is None else (_failed("mid", failure),))
        cells = [(query, self._cell(query, coin)) for query in request.queries]
        await self._wait([cell for _, cell in cells])
        return _of_one(self._read(coin, cells), coin, request.symbol)

    async def quote(self, instrument: PricedInstrument) -> VenueQuote | None:
        """Return the best bid and ask of the book, with the venue's time."""
        coin = await self._coin_of(instrument)
        if coin is None:
            return None
        cell = self._cell("order_book", coin)
        await self._wait([cell])
        value, failure = cell.result(self._monotonic())
        if failure is not None:
            raise CallFailed(failure.reason, failure.message, failure.retry_after_seconds)
        try:
            quote = touch_of(value, _SOURCE) if isinstance(value, OrderBook) else None
        except ValueError as error:
            raise _nonsense(error) from error
        power = Coins.power_of(coin, instrument.symbol)
        return quote_of_one(quote, power) if quote is not None and power else quote

    async def minutes(self, instrument: PricedInstrument, since: datetime) -> Sequence[Bar]:
        """Return a page of the complete minute candles that opened at or after `since`, oldest first."""
        coin = await self._coin_of(instrument)
        if coin is None:
            return ()
        cell = Cell()  # hardly anything else asks for the same minutes
        ask = partial(self._ask_minutes, cell, coin, first_minute_ms(since))
        self._guard.begin(cell, "minutes", coin, 20 + MINUTES_PAGE // 60, ask)
        bars, power = cast("Sequence[Bar]", await answer_of(cell)), Coins.power_of(coin, instrument.symbol)
        return [bar_of_one(each, power) for each in bars] if power else bars

    async def resolution(self, _: PricedInstrument) -> Resolution | None:
        """Return None: there are no predictions."""
        return None

    async def close(self) -> None:
        """Cancel the calls and close the connections."""
        await self._guard.close()
        await self._api.close()

    async def _coin_of(self, instrument: PricedInstrument) -> str | None:
        """Return the instrument's coin, None if it has none. Raises CallFailed where the venue's names are unknown."""
        if instrument.asset_type != "crypto":
            return None
        coin = self._coins.find(instrument.symbol) or await self._look_up(instrument.symbol)
        if coin is None and not self._coins and (failure := self._mids.result(self._monotonic())[1]) is not None:
            raise CallFailed(failure.reason, failure.message, failure.retry_after_seconds)
        return coin

    async def _look_up(self, symbol: str) -> str | None:
        """Return the coin of a symbol that is not known (yet); a guess if the venue's names do not arrive in time."""
        cell = self._cell("mid", symbol)
        if cell.call is not None and self._monotonic() >= cell.fresh_until:
            await asyncio.wait({cell.call}, timeout=self._patience_seconds)
        return self._coins.find(symbol) if self._coins else Coins.guess(symbol)

    def _cell(self, query: Query, coin: str) -> Cell:
        """Return the query's cell. Unless its answer is fresh, a call is in flight or the cell says why none is."""
        cell, subject = self._cell_of(query, coin)
        meters = self._meters[query]
        now = self._monotonic()
        if now < cell.refresh_at:
            meters.cached.inc()
        elif cell.call is not None:
            meters.shared.inc()
        elif now >= cell.retry_at and self._guard.begin(
            cell, query, subject, _POLICIES[query].weight, partial(self._ask, cell, query, coin)
        ):
            meters.called.inc()
        else:
            meters.held.inc()
        return cell

    def _cell_of(self, query: Query, coin: str) -> tuple[Cell, str]:
        if query == "mid":
            return self._mids, VENUE
        if query == "asset_context":
            return self._contexts, _PERPETUALS
        return self._cells.of((query, coin)), coin

    async def _wait(self, cells: list[Cell]) -> None:
        """Wait for the calls that are needed; only for a moment for those that would refresh an available answer."""
        calls = [(cell.call, cell) for cell in cells if cell.call is not None]
        if not calls:
            return
        now = self._monotonic()
        needed = {call for call, cell in calls if now >= cell.keep_until}
        wanted = {call for call, cell in calls if cell.fresh_until <= now < cell.keep_until}
        if wanted:
            await asyncio.wait(needed | wanted, timeout=self._patience_seconds)
        if needed:
            await asyncio.wait(needed)  # each has its own deadline

    def _read(self, coin: str, cells: list[tuple[Query, Cell]]) -> MarketSnapshot:
        now = self._monotonic()
        quote = order_book = asset_context = venue_quote = None
        candles: dict[Interval, Candles] = {}
        failures = []
        for query, cell in cells:
            value, failure = cell.result(now)
            try:
                match value:
                    case Mids():
                        quote = value.quote(coin)
                    case Contexts():
                        asset_context = value.context(coin)
                    case OrderBook():
                        order_book = value
                        venue_quote = touch_of(value, _SOURCE)
                    case Candles():
                        candles[value.interval] = value
            except ValueError as error:
                failure = _nonsense(error)
            if failure is not None:
                failures.append(_failed(query, failure))
        return MarketSnapshot(quote, order_book, candles, asset_context, tuple(failures), venue_quote=venue_quote)

    async def _ask(self, cell: Cell, query: Query, coin: str) -> None:
        """Query the venue and store its answer in the cell. Raises CallFailed."""
        document = await self._api.post(self._question(query, coin))
        try:
            self._store(cell, query, coin, document)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise _nonsense(error) from error

    async def _ask_minutes(self, cell: Cell, coin: str, since_ms: int) -> None:
        end_ms = min(self._now_ms(), since_ms + MINUTES_PAGE * MINUTE_MS)
        span = {"coin": coin, "interval": "1m", "startTime": since_ms, "endTime": end_ms}
        document = await self._api.post({"type": "candleSnapshot", "req": span})
        try:
            now = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
            bars = complete_minutes("crypto", minutes_of(document, coin), since_ms, now)
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            raise _nonsense(error) from error
        cell.store(bars, self._monotonic(), refresh=0.0, fresh=0.0, keep=0.0)

    def _question(self, query: Query, coin: str) -> Document:
        if query == "mid":
            return {"type": "allMids"}
        if query == "asset_context":
            return {"type": "metaAndAssetCtxs"}
        if query == "order_book":
            return {"type": "l2Book", "coin": coin}
        interval = _INTERVAL_OF[query]
        interval_ms = INTERVAL_SECONDS[interval] * 1000
        end_ms = self._now_ms()
        start_ms = end_ms - end_ms % interval_ms - (CANDLE_COUNT - 1) * interval_ms
        span = {"coin": coin, "interval": interval, "startTime": start_ms, "endTime": end_ms}
        return {"type": "candleSnapshot", "req": span}

    def _store(self, cell: Cell, query: Query, coin: str, document: Json) -> None:
        now_ms = self._now_ms()
        policy = _POLICIES[query]
        refresh, fresh = policy.refresh, _FRESH * policy.refresh
        value: Mids | Contexts | OrderBook | Candles | None
        if query == "mid":
            value = Mids(document, now_ms)
            self._coins.learn(value.names)
        elif query == "asset_context":
            value = Contexts(document)
        elif query == "order_book":
            value = order_book_of(document, coin, now_ms)
        else:
            value = candles_of(document, coin, _INTERVAL_OF[query], now_ms)
            if value is not None:
                refresh, fresh = _until_next_candle(value, now_ms, refresh, fresh)
        cell.store(value, self._monotonic(), refresh=refresh, fresh=fresh, keep=policy.keep)


class _Meters:
    """The counters of a query, looked up once: a look-up by label costs more than the cache."""

    def __init__(self, query: Query) -> None:
        self.cached, self.shared, self.called, self.held = (
            metrics.MARKET_QUESTIONS.labels(query, met) for met in ("cached", "shared", "called", "held")
        )


def _until_next_candle(candles: Candles, now_ms: int, refresh: float, fresh: float) -> tuple[float, float]:
    """Return `refresh` and `fresh`, at most until the forming candle is complete and the next one opens.

    If the next one should have opened by now, the next look is after as long as it is late already.
    """
    seconds_left = (candles.last_open_ms - now_ms) / 1000 + INTERVAL_SECONDS[candles.interval]
    if seconds_left > 0:
        return min(refresh, seconds_left), min(fresh, seconds_left)
    late = max(1.0, -seconds_left)
    return min(refresh, late), min(fresh, _FRESH * late)


def _of_one(snapshot: MarketSnapshot, coin: str, symbol: str) -> MarketSnapshot:
    power = Coins.power_of(coin, symbol)
    return snapshot_of_one(snapshot, power) if power else snapshot


def _nonsense(error: Exception) -> CallFailed:
    return CallFailed("PROVIDER_ERROR", f"{_NAME} answered nonsense: {error}")


def _failed(query: Query, failure: CallFailed) -> QueryFailure:
    return QueryFailure(query, failure.reason, failure.message)
