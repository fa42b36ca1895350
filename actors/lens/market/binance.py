"""Ask Binance's public market data, which needs no key: crypto, quoted in a stablecoin for the dollar.

Spot REST API: `GET /api/v3/ticker/bookTicker` (bidPrice, askPrice: strings, without a time), `GET /api/v3/klines`
(arrays from the open time on), `GET /api/v3/ping`; -1121 with status 400 for a symbol that it does not know. A question
weighs 2 of 6 000 a minute and address; who goes on after a 429 gets a 418.
https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from http import HTTPStatus
from typing import Final

import msgspec

from actors.lens.market._http import JsonApi
from actors.lens.market._units import bar_of_one, quote_of_one
from actors.lens.market.quotes import Bar, Listing, PricedInstrument, Resolution
from actors.lens.quote import VenueQuote
from config import clock
from schemas._instruments import crypto_pair
from schemas._vocabulary import AssetType

_MAX_CONNECTIONS: Final = 64
_UNKNOWN: Final = frozenset({HTTPStatus.BAD_REQUEST})
_INTERVALS: Final = {1: "1m", 15: "15m", 60: "1h", 240: "4h"}
# What it lists by the thousand; others, as PEPE, by one.
_BY_THOUSAND: Final = frozenset({"CAT", "CHEEMS", "SATS"})
_THOUSAND: Final = "1000"
_POWER: Final = 3


class _Ticker(msgspec.Struct):
    symbol: str
    bid: Decimal = msgspec.field(name="bidPrice")
    ask: Decimal = msgspec.field(name="askPrice")


# Open time, open, high, low, close, volume, close time, quote volume, trades, and the takers' two volumes.
_Kline = tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal, int, Decimal, int, Decimal, Decimal, str]


class Binance:
    """The `Vendor` Binance."""

    label = "Binance API"
    source = "binance"
    asset_types: tuple[AssetType, ...] = ("crypto",)
    weight = 2
    has_candles = True

    def __init__(self, base_url: str) -> None:
        self._api = JsonApi(self.label, base_url.rstrip("/"), max_connections=_MAX_CONNECTIONS)

    def listing(self, instrument: PricedInstrument) -> Listing | None:
        """Return the pair of `BTC`, `BTC/USD`, `BTC-PERP`, `BTCUSDT`, `BINANCE:BTCUSDT`, `ETH/BTC`: `BTCUSDT`, …"""
        pair = crypto_pair(instrument.symbol)
        if pair is None:
            return None
        base = f"{_THOUSAND}{pair.base}" if pair.base in _BY_THOUSAND else pair.base
        return Listing(base + (pair.quote or "USDT"), "crypto")

    async def probe(self) -> None:
        """Test the connectivity."""
        await self._api.get("/api/v3/ping", dict)

    async def quote(self, listing: Listing) -> VenueQuote | None:
        """Return the best bid and ask at the time of receipt."""
        ticker = await self._api.get("/api/v3/ticker/bookTicker", _Ticker, {"symbol": listing.name}, unknown=_UNKNOWN)
        if ticker is None:
            return None
        if ticker.symbol != listing.name:
            raise ValueError("the quote of another symbol")
        quote = VenueQuote.checked("crypto", ticker.bid, ticker.ask, clock.now(), self.source)
        return quote_of_one(quote, _POWER) if quote is not None and listing.name.startswith(_THOUSAND) else quote

    async def bars(self, listing: Listing, minutes: int, since_ms: int | None, count: int) -> Sequence[Bar]:
        """Return candles, the last of which may be forming."""
        params = {"symbol": listing.name, "interval": _INTERVALS[minutes], "limit": str(count)}
        if since_ms is not None:
            params["startTime"] = str(since_ms)
        rows = await self._api.get("/api/v3/klines", list[_Kline], params, unknown=_UNKNOWN)
        bars = [Bar(*row[:6]) for row in rows or ()]
        return [bar_of_one(each, _POWER) for each in bars] if listing.name.startswith(_THOUSAND) else bars

    async def resolution(self, _: Listing) -> Resolution | None:
        """Return None: there are no predictions."""
        return None

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()
