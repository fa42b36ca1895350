"""Parse Hyperliquid's answers into our values. An implausible one raises ValueError with a message that says why.

Prices and sizes come as strings. Answers of the whole venue are read coin by coin, when one is needed: that costs
nothing for the others, and invalid data on one coin is that coin's alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from operator import itemgetter
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.lens.market import CANDLE_COUNT
from actors.lens.market.quotes import Bar
from actors.lens.model import INTERVAL_SECONDS, AssetContext, Candles, Interval, OrderBook, Quote
from actors.lens.quote import VenueQuote
from config.documents import Json

_MOST_COINS: Final = 20_000
_BOOK_LEVELS: Final = 20  # the number that the venue sends; the features read ten
_OHLCV: Final = itemgetter("o", "h", "l", "c", "v")
_OPEN_TIME: Final = itemgetter("t")
_IDENTITY: Final = itemgetter("s", "i")


class _MinuteCandle(msgspec.Struct):
    t: int
    s: str
    i: str
    o: Decimal
    h: Decimal
    l: Decimal  # noqa: E741 - the venue's name
    c: Decimal
    v: Decimal


class Mids:
    """Read `allMids`: the middle of every market, {"BTC": "97012.5", …}, at `as_of_ms` (it has no time of its own)."""

    def __init__(self, document: Json, as_of_ms: int) -> None:
        if not isinstance(document, dict) or not 0 < len(document) <= _MOST_COINS:
            raise ValueError("mids that are no object of coins")
        self._mids: Mapping[str, Json] = document
        self._as_of_ms = as_of_ms

    @property
    def names(self) -> list[str]:
        """Return the coins of the venue."""
        return list(self._mids)

    def quote(self, coin: str) -> Quote | None:
        """Return the coin's mid; None where the venue has none."""
        mid = self._mids.get(coin)
        return None if mid is None else Quote(_positive(mid, "a mid"), self._as_of_ms)


class Contexts:
    """Read `metaAndAssetCtxs` [{"universe": [{"name": …}, …]}, [{"funding": …, "openInterest": …, "markPx": …}, …]]."""

    def __init__(self, document: Json) -> None:
        if not isinstance(document, list) or len(document) != 2 or not isinstance(document[0], dict):
            raise ValueError("contexts that are no pair of universe and contexts")
        universe, contexts = document[0].get("universe"), document[1]
        if not isinstance(universe, list) or not isinstance(contexts, list) or len(universe) != len(contexts):
            raise ValueError("contexts that do not match their universe")
        if len(universe) > _MOST_COINS or not all(
            isinstance(each, dict) and type(each.get("name")) is str for each in universe
        ):
            raise ValueError("a universe with a coin without a name")
        self._contexts: Mapping[str, Json] = {
            each["name"]: context for each, context in zip(universe, contexts, strict=True)
        }

    def context(self, coin: str) -> AssetContext | None:
        """Return the coin's context; None for a coin without a perpetual."""
        context = self._contexts.get(coin)
        if context is None:
            return None
        if not isinstance(context, dict):
            raise ValueError("a context that is no object")
        funding, open_interest, mark = (_field(context, name) for name in ("funding", "openInterest", "markPx"))
        return AssetContext(
            funding_rate=None if funding is None else _finite(funding, "a funding rate"),
            open_interest=None if open_interest is None else _not_negative(open_interest, "an open interest"),
            mark_price=None if mark is None else _positive(mark, "a mark price"),
        )


def order_book_of(document: Json, coin: str, now_ms: int) -> OrderBook | None:
    """Read `l2Book`: {"coin", "time", "levels": [[{"px", "sz", "n"}, …], [asks]]}; None where there is no such book."""
    if document is None:
        return None
    if not isinstance(document, dict):
        raise ValueError("a book that is no object")
    if _field(document, "coin") != coin:
        raise ValueError("the book of another coin")
    levels, time_ms = _field(document, "levels"), _field(document, "time")
    if not isinstance(levels, list) or len(levels) != 2:
        raise ValueError("a book without its two sides")
    if type(time_ms) is not int or time_ms <= 0:
        raise ValueError("a book without its time")
    bids, asks = (_side(levels[0], descending=True), _side(levels[1], descending=False))
    if bids and asks and bids[0][0] >= asks[0][0]:
        raise ValueError("a crossed book")
    return OrderBook(bids, asks, min(time_ms, now_ms))


def candles_of(document: Json, coin: str, interval: Interval, now_ms: int) -> Candles | None:
    """Read `candleSnapshot`: [{"t", "T", "s", "i", "o", "c", "h", "l", "v", "n"}, …], oldest first; None if empty.

    `t` is the open time in Unix milliseconds. The last `CANDLE_COUNT` are kept, the last of which may be forming. A
    candle that the venue left out, for lack of trades, is filled in at the close before it, without volume.
    """
    if not isinstance(document, list):
        if document is None:
            return None
        raise ValueError("candles that are no list")
    if not document:
        return None
    rows = document[-CANDLE_COUNT:]
    try:
        opened_ms = np.array(list(map(_OPEN_TIME, rows)), dtype=np.int64)
        identities = set(map(_IDENTITY, rows))
        ohlcv = np.array(list(map(_OHLCV, rows)), dtype=np.float64)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise ValueError("a candle without all of its numbers") from error
    if identities != {(coin, interval)}:
        raise ValueError("candles of another coin or interval")
    interval_ms = INTERVAL_SECONDS[interval] * 1000
    steps = np.diff(opened_ms) if opened_ms.ndim == 1 else np.zeros(1, dtype=np.int64)
    if (steps <= 0).any() or (steps % interval_ms).any():
        raise ValueError("candles that are out of order, doubled or not of their interval")
    last_open_ms = int(opened_ms[-1])
    if last_open_ms % interval_ms or not 0 < last_open_ms < now_ms + interval_ms:
        raise ValueError("candles that did not open when candles do")
    if ohlcv.ndim != 2:
        raise ValueError("a candle without all of its numbers")
    candles = Candles.checked(interval, last_open_ms, *_filled(ohlcv.T, steps // interval_ms))
    candles.ohlcv.setflags(write=False)  # shared by all signals
    return candles


def minutes_of(document: Json, coin: str) -> list[Bar]:
    """Read `candleSnapshot` of minutes, as it is: for ends, not for indicators."""
    rows = msgspec.convert(document or [], list[_MinuteCandle])
    if any((row.s, row.i) != (coin, "1m") for row in rows):
        raise ValueError("candles of another coin or interval")
    return [Bar(row.t, row.o, row.h, row.l, row.c, row.v) for row in rows]


def touch_of(book: OrderBook, source: str) -> VenueQuote | None:
    """Return the best bid and ask; None where a side is empty.

    A price has five significant figures, or is whole: the float that it was read as is written as it was.
    """
    bid, ask = (Decimal(repr(side[0][0])) if side else None for side in (book.bids, book.asks))
    return VenueQuote.checked("crypto", bid, ask, datetime.fromtimestamp(book.as_of_ms / 1000, UTC), source)


def _filled(ohlcv: NDArray[np.float64], steps: NDArray[np.int64]) -> tuple[NDArray[np.float64], int]:
    """Fill in omitted candles, `steps` from each to the next; return them, and how many of the last are filled in."""
    missing = int(steps.sum()) - steps.size
    if not missing:
        return ohlcv, 0
    # Before the ones that are kept, a gap may be of any width.
    repeats = np.append(np.minimum(steps, CANDLE_COUNT), 1)
    places = np.cumsum(repeats) - repeats  # indices of those that the venue has
    whole = np.repeat(ohlcv, repeats, axis=1)
    is_filled = np.ones(whole.shape[1], dtype=bool)
    is_filled[places] = False
    whole[:3, is_filled] = whole[3, is_filled]
    whole[4, is_filled] = 0.0
    return whole[:, -CANDLE_COUNT:], int(is_filled[-CANDLE_COUNT:].sum())


def _side(levels: Json, *, descending: bool) -> tuple[tuple[float, float], ...]:
    if not isinstance(levels, list):
        raise ValueError("a side of a book that is no list")
    side = []
    for level in levels[:_BOOK_LEVELS]:
        if not isinstance(level, dict):
            raise ValueError("a level of a book that is no object")
        price = _positive(_field(level, "px"), "a price in a book")
        side.append((price, _not_negative(_field(level, "sz"), "a size in a book")))
    prices = [price for price, _ in side]
    if any((before <= after) if descending else (before >= after) for before, after in itertools.pairwise(prices)):
        raise ValueError("a book that is not sorted from its best price on")
    return tuple(side)


def _field(document: Mapping[str, Json], name: str) -> Json:
    try:
        return document[name]
    except KeyError:
        raise ValueError(f"an answer without its {name}") from None


def _finite(value: Json, what: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{what} that is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"{what} that is not finite")
    return number


def _positive(value: Json, what: str) -> float:
    number = _finite(value, what)
    if number <= 0:
        raise ValueError(f"{what} of zero or less")
    return number


def _not_negative(value: Json, what: str) -> float:
    number = _finite(value, what)
    if number < 0:
        raise ValueError(f"{what} below zero")
    return number
