"""Ask Polymarket's public market data, which needs no key: predictions.

Gamma API: `GET /markets/{id}`, `GET /markets/slug/{slug}` and `GET /markets?condition_ids=0x…` {"closed",
"umaResolutionStatus", "outcomes", "outcomePrices", "clobTokenIds"}, the last three lists in strings of JSON. CLOB API:
`GET /book?token_id=…` {"asset_id", "timestamp" (Unix milliseconds in a string), "bids": [{"price", "size"}], "asks"},
404 without a book; `GET /prices-history?market={token}&fidelity=1` {"history": [{"t" (seconds), "p"}]}; `GET /time`.
https://docs.polymarket.com/api-reference/market-data/get-order-book
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Final
from urllib.parse import quote as quoted

import msgspec

from actors.lens.market._http import JsonApi
from actors.lens.market.quotes import MINUTE_MS, Bar, Listing, PricedInstrument, Resolution, best_of
from actors.lens.quote import VenueQuote
from config import clock
from config.values import replace
from schemas._vocabulary import AssetType

_MAX_CONNECTIONS: Final = 32
_MAX_TOKENS: Final = 8192
_UNKNOWN: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY})
_LATEST_MS: Final = 1 << 52  # a time beyond would be no date


class _PolymarketLevel(msgspec.Struct):
    price: Decimal


class _PolymarketBook(msgspec.Struct):
    asset_id: str
    timestamp: str
    bids: list[_PolymarketLevel]
    asks: list[_PolymarketLevel]


class _Point(msgspec.Struct):
    t: int
    p: Decimal


class _History(msgspec.Struct):
    history: list[_Point]


class _PolymarketMarket(msgspec.Struct, rename="camel"):
    outcomes: str
    clob_token_ids: str | None = None
    outcome_prices: str | None = None
    closed: bool = False
    uma_resolution_status: str | None = None
    automatically_resolved: bool | None = None


class Polymarket:
    """The `Vendor` Polymarket. The token of a market's YES never changes, so it is looked up once."""

    label = "Polymarket API"
    source = "polymarket"
    asset_types: tuple[AssetType, ...] = ("prediction",)
    weight = 1
    has_candles = False

    def __init__(self, clob_url: str, gamma_url: str) -> None:
        self._clob = JsonApi(self.label, clob_url.rstrip("/"), max_connections=_MAX_CONNECTIONS)
        self._gamma = JsonApi(self.label, gamma_url.rstrip("/"), max_connections=_MAX_CONNECTIONS)
        self._tokens: OrderedDict[str, str] = OrderedDict()

    def listing(self, instrument: PricedInstrument) -> Listing | None:
        """Return the market's id, slug or condition id; None of another platform, or where the signal names none."""
        if instrument.market_id is None or instrument.platform not in (None, self.source):
            return None
        return Listing(instrument.market_id, "prediction")

    async def probe(self) -> None:
        """Ask for the time."""
        await self._clob.get("/time", int)

    async def quote(self, listing: Listing) -> VenueQuote | None:
        """Return the best bid and ask for YES, with the time of the book."""
        token = await self._token(listing)
        book = (
            None
            if token is None
            else await self._clob.get("/book", _PolymarketBook, {"token_id": token}, unknown=_UNKNOWN)
        )
        if book is None:
            return None
        if book.asset_id != token:
            raise ValueError("the book of another token")
        at_ms = int(book.timestamp)
        if not 0 < at_ms < _LATEST_MS:
            raise ValueError("a book without its time")
        bid, ask = best_of((level.price for level in book.bids), (level.price for level in book.asks))
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        return VenueQuote.checked("prediction", bid, ask, at, self.source)

    async def bars(self, listing: Listing, minutes: int, since_ms: int | None, count: int) -> Sequence[Bar]:
        """Return candles of the points of the price history; there are none of minutes without a point."""
        token = await self._token(listing)
        if token is None:
            return ()
        span_ms = minutes * MINUTE_MS
        now_ms = int(clock.now().timestamp() * 1000)
        start_ms = now_ms - count * span_ms if since_ms is None else since_ms
        params = {
            "market": token,
            "startTs": str(start_ms // 1000),
            "endTs": str(min(now_ms, start_ms + count * span_ms) // 1000),
            "fidelity": str(minutes),
        }
        answer = await self._clob.get("/prices-history", _History, params, unknown=_UNKNOWN)
        return _bars(() if answer is None else answer.history, span_ms)

    async def resolution(self, listing: Listing) -> Resolution | None:
        """Return the payout of a market whose resolution is final; one that pays both sides something is void."""
        market = await self._market(listing)
        if market is None or not market.closed:
            return None
        if market.uma_resolution_status != "resolved" and not market.automatically_resolved:
            return None
        prices = _strings(market.outcome_prices)
        payout = Decimal(prices[_yes_of(market)])
        if not 0 <= payout <= 1:
            raise ValueError("a payout that is none")
        return "yes" if payout == 1 else "no" if payout == 0 else "void"

    async def close(self) -> None:
        """Close the connections."""
        await self._clob.close()
        await self._gamma.close()

    async def _token(self, listing: Listing) -> str | None:
        token = self._tokens.get(listing.name)
        if token is None:
            market = await self._market(listing)
            if market is None or market.clob_token_ids is None:
                return None
            token = self._tokens[listing.name] = _strings(market.clob_token_ids)[_yes_of(market)]
            if len(self._tokens) > _MAX_TOKENS:
                self._tokens.popitem(last=False)
        return token

    async def _market(self, listing: Listing) -> _PolymarketMarket | None:
        name = listing.name
        if name.startswith("0x"):
            for closed in ("false", "true"):  # without it the closed ones are left out
                params = {"condition_ids": name, "closed": closed}
                found = await self._gamma.get("/markets", list[_PolymarketMarket], params, unknown=_UNKNOWN)
                if found:
                    return found[0]
            return None
        path = f"/markets/{name}" if name.isdecimal() else f"/markets/slug/{quoted(name, safe='')}"
        return await self._gamma.get(path, _PolymarketMarket, unknown=_UNKNOWN)


def _strings(text: str | None) -> list[str]:
    try:
        return msgspec.json.decode(text or "", type=list[str])
    except msgspec.DecodeError as error:
        raise ValueError(f"no list in a string: {error}") from None


def _yes_of(market: _PolymarketMarket) -> int:
    """Return the place of YES among the outcomes: of two names, as of two teams, the first is."""
    names = [each.casefold() for each in _strings(market.outcomes)]
    return names.index("yes") if "yes" in names else 0


def _bars(points: Sequence[_Point], span_ms: int) -> list[Bar]:
    bars: list[Bar] = []
    for point in points:
        opened_ms = point.t * 1000 // span_ms * span_ms
        if bars and bars[-1].opened_ms == opened_ms:
            last = bars[-1]
            bars[-1] = replace(last, high=max(last.high, point.p), low=min(last.low, point.p), close=point.p)
        else:
            bars.append(Bar(opened_ms, point.p, point.p, point.p, point.p, Decimal(0)))
    return bars
