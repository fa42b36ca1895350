"""Ask Kalshi's public market data, which needs no key: predictions.

Trade API v2: `GET /markets/{ticker}/orderbook` {"orderbook_fp": {"yes_dollars": [["0.1500", "100.00"]], "no_dollars":
…}}, bids of either side without a time (who bids for NO at 0.40 sells YES at 0.60); `GET /markets/{ticker}` {"market":
{"status", "result", …}}; `GET /markets/candlesticks` {"markets": [{"market_ticker", "candlesticks": [{"end_period_ts",
"price": {"open_dollars", …}, "volume_fp"}]}]}; `GET /exchange/status`. 20 calls a second.
https://docs.kalshi.com/api-reference/market/get-market-orderbook
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from http import HTTPStatus
from typing import Final
from urllib.parse import quote as quoted

import msgspec

from actors.lens.market._http import JsonApi
from actors.lens.market.quotes import MINUTE_MS, Bar, Listing, PricedInstrument, Resolution, best_of
from actors.lens.quote import VenueQuote
from config import clock
from schemas._vocabulary import AssetType

_MAX_CONNECTIONS: Final = 16
_UNKNOWN: Final = frozenset({HTTPStatus.NOT_FOUND})
_RESULTS: Final[dict[str, Resolution]] = {"yes": "yes", "no": "no"}

_KalshiLevel = tuple[Decimal, Decimal]


class _Sides(msgspec.Struct):
    yes_dollars: list[_KalshiLevel] | None
    no_dollars: list[_KalshiLevel] | None


class _KalshiBook(msgspec.Struct):
    orderbook_fp: _Sides


class _KalshiMarket(msgspec.Struct):
    ticker: str
    status: str
    result: str = ""


class _MarketAnswer(msgspec.Struct):
    market: _KalshiMarket


class _Prices(msgspec.Struct):
    open_dollars: Decimal | None = None
    high_dollars: Decimal | None = None
    low_dollars: Decimal | None = None
    close_dollars: Decimal | None = None


class _KalshiCandle(msgspec.Struct):
    end_period_ts: int
    price: _Prices
    volume_fp: Decimal


class _MarketCandles(msgspec.Struct):
    market_ticker: str
    candlesticks: list[_KalshiCandle]


class _KalshiCandles(msgspec.Struct):
    markets: list[_MarketCandles]


class Kalshi:
    """The `Vendor` Kalshi."""

    label = "Kalshi API"
    source = "kalshi"
    asset_types: tuple[AssetType, ...] = ("prediction",)
    weight = 1
    has_candles = False

    def __init__(self, base_url: str) -> None:
        self._api = JsonApi(self.label, base_url.rstrip("/"), max_connections=_MAX_CONNECTIONS)

    def listing(self, instrument: PricedInstrument) -> Listing | None:
        """Return the market's ticker; None of another platform, or where the signal names none."""
        if instrument.market_id is None or instrument.platform not in (None, self.source):
            return None
        return Listing(instrument.market_id.upper(), "prediction")

    async def probe(self) -> None:
        """Ask whether the exchange is open; that it answers is enough."""
        await self._api.get("/exchange/status", dict)

    async def quote(self, listing: Listing) -> VenueQuote | None:
        """Return the best bid for YES, and the ask that the best bid for NO amounts to, at the time of receipt."""
        book = await self._api.get(f"{_path(listing)}/orderbook", _KalshiBook, unknown=_UNKNOWN)
        if book is None:
            return None
        sides = book.orderbook_fp
        bid, ask = best_of(
            (price for price, _ in sides.yes_dollars or ()), (1 - no for no, _ in sides.no_dollars or ())
        )
        return VenueQuote.checked("prediction", bid, ask, clock.now(), self.source)

    async def bars(self, listing: Listing, minutes: int, since_ms: int | None, count: int) -> Sequence[Bar]:
        """Return candles of the trades; there are none of minutes without a trade."""
        now_ms = int(clock.now().timestamp() * 1000)
        span_ms = minutes * MINUTE_MS
        start_ms = now_ms - count * span_ms if since_ms is None else since_ms
        params = {
            "market_tickers": listing.name,
            "start_ts": str(start_ms // 1000),
            "end_ts": str(min(now_ms, start_ms + count * span_ms) // 1000),
            "period_interval": str(minutes),
        }
        answer = await self._api.get("/markets/candlesticks", _KalshiCandles, params, unknown=_UNKNOWN)
        found = (each.candlesticks for each in (answer.markets if answer else ()) if each.market_ticker == listing.name)
        return [bar for each in next(found, ()) if (bar := _bar(each, span_ms)) is not None]

    async def resolution(self, listing: Listing) -> Resolution | None:
        """Return the result of a market whose settlement is final; one that is neither yes nor no is void."""
        answer = await self._api.get(_path(listing), _MarketAnswer, unknown=_UNKNOWN)
        if answer is None or answer.market.status != "finalized":
            return None
        if answer.market.ticker != listing.name:
            raise ValueError("another market")
        return _RESULTS.get(answer.market.result, "void")

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()


def _path(listing: Listing) -> str:
    return f"/markets/{quoted(listing.name, safe='')}"


def _bar(candle: _KalshiCandle, span_ms: int) -> Bar | None:
    prices = candle.price
    opened, high, low, close = prices.open_dollars, prices.high_dollars, prices.low_dollars, prices.close_dollars
    if opened is None or high is None or low is None or close is None:
        return None
    return Bar(candle.end_period_ts * 1000 - span_ms, opened, high, low, close, candle.volume_fp)
