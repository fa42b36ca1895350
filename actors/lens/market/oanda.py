"""Ask OANDA for forex. Of the vendors with a free key it is the one with bid and ask: a practice account has the same
prices as a real one, and 120 calls a second. Twelve Data's free quotes have one price, and 8 calls a minute.

v20 REST API: `GET /v3/accounts/{account}/pricing` {"time", "prices": [{"instrument", "time", "tradeable", "bids":
[{"price"}], "asks": [{"price"}]}]}, `GET /v3/instruments/{instrument}/candles` {"candles": [{"time", "volume", "mid":
{"o", "h", "l", "c"}}]}; prices are strings, best first, and an instrument that it does not know is a 400.
https://developer.oanda.com/rest-live-v20/pricing-ep/
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Final

import msgspec

from actors.lens.market._http import JsonApi
from actors.lens.market.quotes import AwareTime, Bar, Listing, PricedInstrument, Resolution
from actors.lens.quote import VenueQuote
from schemas._vocabulary import AssetType

_MAX_CONNECTIONS: Final = 32
_UNKNOWN: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND})
_GRANULARITIES: Final = {1: "M1", 15: "M15", 60: "H1", 240: "H4"}


class _OandaLevel(msgspec.Struct):
    price: Decimal


class _Price(msgspec.Struct):
    instrument: str
    time: AwareTime
    bids: list[_OandaLevel]
    asks: list[_OandaLevel]
    tradeable: bool = False


class _Pricing(msgspec.Struct):
    time: AwareTime
    prices: list[_Price]


class _Mid(msgspec.Struct):
    o: Decimal
    h: Decimal
    l: Decimal  # noqa: E741 - the vendor's name
    c: Decimal


class _OandaCandle(msgspec.Struct):
    time: AwareTime
    volume: Decimal
    mid: _Mid


class _OandaCandles(msgspec.Struct):
    instrument: str
    candles: list[_OandaCandle]


class Oanda:
    """The `Vendor` OANDA."""

    label = "OANDA API"
    source = "oanda"
    asset_types: tuple[AssetType, ...] = ("forex",)
    weight = 1
    has_candles = True

    def __init__(self, base_url: str, account: str, token: str) -> None:
        self._account = account
        headers = {"Authorization": f"Bearer {token}", "Accept-Datetime-Format": "RFC3339"}
        self._api = JsonApi(self.label, base_url.rstrip("/"), max_connections=_MAX_CONNECTIONS, headers=headers)

    def listing(self, instrument: PricedInstrument) -> Listing | None:
        """Return `EUR_USD` for `EUR/USD`."""
        return Listing(instrument.symbol.replace("/", "_"), "forex")

    async def probe(self) -> None:
        """Ask for the price of what is always there."""
        await self.quote(Listing("EUR_USD", "forex"))

    async def quote(self, listing: Listing) -> VenueQuote | None:
        """Return the best bid and ask. While they can be traded they stand at the answer's time, else at their own."""
        pricing = await self._api.get(
            f"/v3/accounts/{self._account}/pricing", _Pricing, {"instruments": listing.name}, unknown=_UNKNOWN
        )
        if pricing is None:
            return None
        price = next((each for each in pricing.prices if each.instrument == listing.name), None)
        if price is None:
            raise ValueError("no price of what was asked for")
        bid, ask = (side[0].price if side else None for side in (price.bids, price.asks))
        at = pricing.time if price.tradeable else price.time
        return VenueQuote.checked("forex", bid, ask, at, self.source)

    async def bars(self, listing: Listing, minutes: int, since_ms: int | None, count: int) -> Sequence[Bar]:
        """Return candles of the middle; there are none of minutes without a price."""
        params = {"price": "M", "granularity": _GRANULARITIES[minutes], "count": str(count)}
        if since_ms is not None:
            params["from"] = datetime.fromtimestamp(since_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
        answer = await self._api.get(f"/v3/instruments/{listing.name}/candles", _OandaCandles, params, unknown=_UNKNOWN)
        if answer is None:
            return ()
        if answer.instrument != listing.name:
            raise ValueError("candles of another instrument")
        return [
            Bar(int(each.time.timestamp() * 1000), each.mid.o, each.mid.h, each.mid.l, each.mid.c, each.volume)
            for each in answer.candles
        ]

    async def resolution(self, _: Listing) -> Resolution | None:
        """Return None: there are no predictions."""
        return None

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()
