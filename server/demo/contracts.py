"""Choose and price what the demo's traders trade, and describe it for signals. Pure.

An option is worth what the server's simulated market says: by Black and Scholes, on its underlying's path.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from actors.lens.market._moving import Anchor, SimulatedOption, option_of, price_at
from config.documents import Document
from schemas._instruments import parse_option
from schemas._vocabulary import AssetType
from server.demo.markets import Market

_LIFE_DAYS = 60  # of an option: longer than most positions are held
_VOLATILITY = 0.5  # a year's, by which an option is priced first
_DAY_HOURS = 24
_EXCHANGE: Final = ZoneInfo("America/New_York")


class Contract(Struct, frozen=True):
    """A position's contract: its public symbol; of an option also its first premium, and when that was."""

    symbol: str
    asset_type: AssetType
    market: str
    expiry: date | None = None
    premium: float = 0.0
    seconds: float = 0.0


def choose(market: Market, moment: float, *, rises: bool) -> Contract:
    """Choose a contract for an expected move: the asset itself, or a call or a put at the money."""
    name, asset_type = market.instrument.symbol, market.instrument.asset_type
    if asset_type != "option":
        return Contract(name, asset_type, name)
    price, at = market.close(moment), market.time_of(moment)
    step = 10.0 ** math.floor(math.log10(price) - 1) / 2  # 5 of 195
    strike = round(price / step) * step
    expiry = (at.astimezone(UTC) + timedelta(days=_LIFE_DAYS)).date()
    symbol = f"{market.instrument.underlying} {strike:g}{'C' if rises else 'P'} {expiry.month}/{expiry.day}"
    expires = datetime.combine(expiry, time(16), _EXCHANGE).timestamp() / 60
    first = SimulatedOption(market.path, strike, rises, expires, _VOLATILITY)
    return Contract(symbol, asset_type, name, expiry, round(price_at(first, at.timestamp()), 4), at.timestamp())


def price_of(contract: Contract, market: Market, moment: float) -> float:
    """Return the price of the asset, the premium or the probability at a moment; > 0."""
    if contract.expiry is None:
        price = market.close(moment)
        return round(price, 4) if contract.asset_type == "prediction" else float(f"{price:.8g}")
    worth = price_at(_option(contract, market), market.time_of(moment).timestamp())
    return max(round(worth, 4), 0.01)


def describe(contract: Contract, market: Market, moment: float) -> Document:
    """Return the `asset_data` of a signal."""
    price = price_of(contract, market, moment)
    before = price_of(contract, market, moment - _DAY_HOURS)
    if contract.asset_type == "prediction":
        return {
            "platform": "polymarket",
            "market_id": contract.symbol.lower().replace(" ", "-").rstrip("?"),
            "market_question": contract.symbol,
            "probability": price,
            "prob_change_24h": round(price - before, 4),
            "resolution_date": market.resolution_date,
        }
    if contract.expiry is None:
        return {"price": price, "price_change_24h": round(price / before - 1, 4)}
    terms = parse_option(contract.symbol)
    return {
        "underlying": terms.underlying,
        "strike": float(terms.strike),
        "option_type": "call" if terms.is_call else "put",
        "expiry": contract.expiry.isoformat(),
        "premium": price,
    }


def end_of(contract: Contract, market: Market) -> float:
    """Return the moment after which it can be traded no more."""
    if contract.expiry is None:
        return market.ends
    return market.moment_of(datetime(contract.expiry.year, contract.expiry.month, contract.expiry.day, tzinfo=UTC))


@lru_cache(maxsize=4096)
def _option(contract: Contract, market: Market) -> SimulatedOption:
    assert contract.expiry is not None
    anchor = Anchor(contract.premium, contract.seconds)
    return option_of(parse_option(contract.symbol), contract.expiry, anchor, market.path)
