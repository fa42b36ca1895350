"""Price options and predictions on their underlyings, simply, and describe them for signals. Pure.

An option is worth what exercising it would bring, and a part for the time that it has left; a prediction's probability
follows how far the price is from what is asked. Both move with the underlying, which is all that a demo needs.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from config.documents import Document
from schemas._vocabulary import AssetType
from server.demo.prices import Market

_LIFE_HOURS = 1440  # of a contract: much longer than a position is held, so that its price follows and does not leap
_VOLATILITY = 0.3  # a year's, of every underlying
_YEAR_HOURS = 252 * 6  # most recordings are of days, each of which lasts six hours
_DAY_HOURS = 24


class Contract(Struct, frozen=True):
    """A position's contract: its public symbol; of an option or a prediction also its strike and its end."""

    symbol: str
    asset_type: AssetType
    market: str
    strike: float | None = None
    is_call: bool = True
    expiry: str | None = None
    ends: float = 0


def choose(market: Market, moment: float, *, rises: bool, at: datetime) -> Contract:
    """Choose a contract for an expected move: the asset itself, a call or a put at the money, or a question."""
    name, asset_type = market.instrument.symbol, market.instrument.asset_type
    if asset_type not in ("option", "prediction"):
        return Contract(name, asset_type, name)
    underlying, price = name.partition(" ")[0], market.close(moment)
    step = 10.0 ** math.floor(math.log10(price) - 1) / 2  # 5 of 195, 500 of 67 420
    strike = round(price / step) * step
    day = (at.astimezone(UTC) + timedelta(hours=_LIFE_HOURS)).date()
    if asset_type == "prediction":
        symbol = f"{underlying} above {strike:g} on {day:%b} {day.day}"
    else:
        symbol = f"{underlying} {strike:g}{'C' if rises else 'P'} {day.month}/{day.day}"
    is_call = rises or asset_type == "prediction"
    return Contract(symbol, asset_type, name, strike, is_call, day.isoformat(), moment + _LIFE_HOURS)


def price_of(contract: Contract, market: Market, moment: float) -> float:
    """Return the price of the asset, the premium or the probability at a moment; > 0."""
    spot = market.close(moment)
    if contract.strike is None:
        return float(f"{spot:.8g}")  # as precise as a feed
    width, away = _width_and_distance(contract, spot, moment)
    if contract.asset_type == "prediction":
        return min(max(round(_share(away), 3), 0.02), 0.98)
    gain = spot - contract.strike if contract.is_call else contract.strike - spot
    return max(round(max(gain, 0.0) + 0.4 * width * math.exp(-abs(away)), 2), 0.05)


def describe(contract: Contract, market: Market, moment: float) -> Document:
    """Return the `asset_data` of a signal."""
    price = price_of(contract, market, moment)
    before = price_of(contract, market, moment - _DAY_HOURS)
    if contract.strike is None:
        return {"price": price, "price_change_24h": round(price / before - 1, 4)}
    underlying = contract.market.partition(" ")[0]
    volume = float(market.window(moment, 1)[4, -1])
    if contract.asset_type == "prediction":
        return {
            "platform": "polymarket" if int(moment) % 2 else "kalshi",
            "market_id": contract.symbol.lower().replace(" ", "-"),
            "market_question": f"Will {underlying} be above {contract.strike:g} on {contract.expiry}?",
            "probability": price,
            "prob_change_24h": round(price - before, 3),
            "volume_usd": round(volume / 10),
            "resolution_date": contract.expiry,
        }
    # The greeks are orders of magnitude: theta for a day, vega for a point of volatility.
    width, away = _width_and_distance(contract, market.close(moment), moment)
    delta, left = _share(away), max(contract.ends - moment, 1)
    return {
        "underlying": underlying,
        "strike": contract.strike,
        "option_type": "call" if contract.is_call else "put",
        "expiry": contract.expiry,
        "premium": price,
        "greeks": {
            "delta": round(delta if contract.is_call else delta - 1, 4),
            "theta": round(-0.2 * width * _DAY_HOURS / left, 4),
            "gamma": round(delta * (1 - delta) * 1.6 / width, 6),
            "vega": round(0.4 * width / _VOLATILITY / 100, 4),
            "iv": _VOLATILITY,
        },
        "open_interest": round(volume / 400),
        "volume": round(volume / 1600),
    }


def _width_and_distance(contract: Contract, spot: float, moment: float) -> tuple[float, float]:
    """Return how far the underlying may well move until the contract ends, and its distance from the strike by that."""
    assert contract.strike is not None
    width = contract.strike * _VOLATILITY * math.sqrt(max(contract.ends - moment, 1) / _YEAR_HOURS)
    return width, (spot - contract.strike) / width


def _share(away: float) -> float:
    return 1 / (1 + math.exp(-1.6 * away))
