"""Ask Alpaca's market data: stocks, ETFs, and options by their OCC symbols. A key of its free plan is enough.

Market Data API: `GET /v2/stocks/quotes/latest` and `GET /v1beta1/options/quotes/latest` {"quotes": {symbol: {"t", "bp",
"ap", …}}}, `GET /v2/stocks/bars` and `GET /v1beta1/options/bars` {"bars": {symbol: [{"t", "o", "h", "l", "c", "v"}]}};
prices are JSON numbers, an empty side of a quote is 0, a symbol that it does not know is left out or a 400. The free
plan has the feeds `iex` and `indicative` and 200 calls a minute. https://docs.alpaca.markets/reference/stocklatestquotes
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Final

import msgspec

from actors.lens.market._http import CallFailed, JsonApi
from actors.lens.market.options import occ_symbol
from actors.lens.market.quotes import AwareTime, Bar, Listing, PricedInstrument, Resolution
from actors.lens.quote import VenueQuote
from config import clock
from schemas._instruments import spelled_alike
from schemas._vocabulary import AssetType

_MAX_CONNECTIONS: Final = 16
_UNKNOWN: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND})
_TICKER: Final = re.compile(r"[A-Z]{1,6}([.-][A-Z]{1,3})?")  # another one would be refused, with all of its batch
_FRAMES: Final = {1: "1Min", 15: "15Min", 60: "1Hour", 240: "4Hour"}
_OPEN_PART: Final = 4  # of the week: markets are open 32.5 of 168 hours, and for some hours before and after
_HOLIDAYS: Final = timedelta(days=5)


class _Quote(msgspec.Struct):
    t: AwareTime
    bp: Decimal
    ap: Decimal


class _Quotes(msgspec.Struct):
    quotes: dict[str, msgspec.Raw]


class _Bar(msgspec.Struct):
    t: AwareTime
    o: Decimal
    h: Decimal
    l: Decimal  # noqa: E741 - the vendor's name
    c: Decimal
    v: Decimal


class _Bars(msgspec.Struct):
    bars: dict[str, list[_Bar] | None] | None


class Alpaca:
    """The `Vendor` Alpaca. `stock_feed` and `option_feed` are those of the plan."""

    label = "Alpaca API"
    source = "alpaca"
    asset_types: tuple[AssetType, ...] = ("stock", "etf", "option")
    weight = 1
    has_candles = True
    batch = 100

    def __init__(self, base_url: str, key_id: str, secret: str, *, stock_feed: str, option_feed: str) -> None:
        self._feeds = {True: option_feed, False: stock_feed}
        headers = {"APCA-API-KEY-ID": key_id, "APCA-API-SECRET-KEY": secret}
        self._api = JsonApi(self.label, base_url.rstrip("/"), max_connections=_MAX_CONNECTIONS, headers=headers)

    def listing(self, instrument: PricedInstrument) -> Listing | None:
        """Return the ticker, or an option's OCC symbol."""
        if instrument.asset_type != "option":
            ticker = spelled_alike(instrument.symbol, instrument.asset_type)
            return Listing(ticker, instrument.asset_type) if _TICKER.fullmatch(ticker) else None
        name = None if instrument.expiry is None else occ_symbol(instrument.symbol, instrument.expiry)
        return None if name is None else Listing(name, "option")

    async def probe(self) -> None:
        """Ask for the quote of what is always there."""
        await self.quote(Listing("SPY", "etf"))

    async def quote(self, listing: Listing) -> VenueQuote | None:
        """Return the latest quote, with the time at which it came to stand."""
        quote = (await self.quotes([listing]))[listing]
        if isinstance(quote, CallFailed):
            raise quote
        return quote

    async def quotes(self, listings: Sequence[Listing]) -> Mapping[Listing, VenueQuote | CallFailed | None]:
        """Return the latest quotes of listings of one asset type."""
        names = ",".join(each.name for each in listings)
        params = {"symbols": names, "feed": self._feeds[listings[0].asset_type == "option"]}
        answer = await self._api.get(f"{_path(listings[0])}/quotes/latest", _Quotes, params, unknown=_UNKNOWN)
        if answer is None and len(listings) > 1:  # one of them is refused: the others must not suffer for it
            half = len(listings) // 2
            return {**await self.quotes(listings[:half]), **await self.quotes(listings[half:])}
        found = {} if answer is None else answer.quotes
        return {each: self._quote_of(each, found.get(each.name)) for each in listings}

    def _quote_of(self, listing: Listing, raw: msgspec.Raw | None) -> VenueQuote | CallFailed | None:
        if raw is None:
            return None
        try:
            quote = msgspec.json.decode(raw, type=_Quote)
            return VenueQuote.checked(listing.asset_type, quote.bp, quote.ap, quote.t, self.source)
        except (msgspec.DecodeError, ValueError) as error:
            return CallFailed("PROVIDER_ERROR", f"{self.label} answered nonsense: {error}")

    async def bars(self, listing: Listing, minutes: int, since_ms: int | None, count: int) -> Sequence[Bar]:
        """Return candles as they were, not adjusted for splits; there are none of minutes without a trade."""
        if since_ms is None:
            start = clock.now() - _OPEN_PART * count * timedelta(minutes=minutes) - _HOLIDAYS
        else:
            start = datetime.fromtimestamp(since_ms / 1000, UTC)
        params = {
            "symbols": listing.name,
            "timeframe": _FRAMES[minutes],
            "start": start.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "limit": str(count),
            "sort": "desc" if since_ms is None else "asc",
        }
        if listing.asset_type != "option":
            params |= {"feed": self._feeds[False], "adjustment": "raw"}
        answer = await self._api.get(f"{_path(listing)}/bars", _Bars, params, unknown=_UNKNOWN)
        rows = ((answer and answer.bars) or {}).get(listing.name) or []
        bars = [Bar(int(each.t.timestamp() * 1000), each.o, each.h, each.l, each.c, each.v) for each in rows]
        return bars[::-1] if since_ms is None else bars

    async def resolution(self, _: Listing) -> Resolution | None:
        """Return None: there are no predictions."""
        return None

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()


def _path(listing: Listing) -> str:
    return "/v1beta1/options" if listing.asset_type == "option" else "/v2/stocks"
