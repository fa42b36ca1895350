"""Price options and predictions on recorded prices, simply, and describe them for signals. Pure.

An option is worth what exercising it would bring, and a part for the time that it has left; a prediction's probability
follows how far the price is from what is asked. Both move with the underlying, which is all that a demo needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas._vocabulary import AssetType
from server.demo.prices import Market

LIFE_BARS = 1440  # of a contract: much longer than a position is held, so that its price follows and does not leap
VOLATILITY = 0.3  # a year's, of every underlying
_DAY_BARS = 24
_BARS_A_YEAR = 252 * 6  # most recordings are of days, each of which lasts six bars


@dataclass(frozen=True, slots=True)
class Contract:
    """A position's contract: its public symbol; of an option or a prediction also its underlying and its last bar."""

    symbol: str
    asset_type: AssetType
    market: str
    strike: float | None = None
    is_call: bool = True
    expiry: str | None = None
    last_bar: float = 0


def choose(market: Market, moment: float, *, rises: bool, at: datetime) -> Contract:
    """Choose a contract for an expected move: the asset itself, a call or a put at the money, or a question."""
    instrument = market.instrument
    if instrument.asset_type not in ("option", "prediction"):
        return Contract(instrument.symbol, instrument.asset_type, instrument.symbol)
    underlying = instrument.symbol.partition(" ")[0]
    price = market.close(moment)
    step = 10.0 ** math.floor(math.log10(price) - 1) / 2  # 5 of 195, 500 of 67 420
    strike = round(price / step) * step
    expires = (at.astimezone(UTC) + timedelta(hours=LIFE_BARS)).date()
    is_question = instrument.asset_type == "prediction"
    symbol = (
        f"{underlying} above {strike:g} on {expires:%b} {expires.day}"
        if is_question
        else f"{underlying} {strike:g}{'C' if rises else 'P'} {expires.month}/{expires.day}"
    )
    is_call, last_bar = rises or is_question, moment + LIFE_BARS
    return Contract(symbol, instrument.asset_type, instrument.symbol, strike, is_call, expires.isoformat(), last_bar)


def price_of(contract: Contract, market: Market, moment: float) -> float:
    """Return the price of the asset, the premium or the probability at a moment; > 0."""
    spot = market.close(moment)
    if contract.strike is None:
        return float(f"{spot:.8g}")  # as precise as a feed
    width = _width(contract, moment)
    away = (spot - contract.strike) / width
    if contract.asset_type == "prediction":
        return min(max(round(_share(away), 3), 0.02), 0.98)
    gain = spot - contract.strike if contract.is_call else contract.strike - spot
    return max(round(max(gain, 0.0) + 0.4 * width * math.exp(-abs(away)), 2), 0.05)


def describe(contract: Contract, market: Market, moment: float) -> dict[str, Any]:
    """Return the `asset_data` of a signal."""
    price = price_of(contract, market, moment)
    before = price_of(contract, market, moment - _DAY_BARS)
    if contract.strike is None:
        return {"price": price, "price_change_24h": round(price / before - 1, 4)}
    underlying = market.instrument.symbol.partition(" ")[0]
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
    return {
        "underlying": underlying,
        "strike": contract.strike,
        "option_type": "call" if contract.is_call else "put",
        "expiry": contract.expiry,
        "premium": price,
        "greeks": _greeks(contract, market.close(moment), moment),
        "open_interest": round(volume / 400),
        "volume": round(volume / 1600),
    }


def _greeks(contract: Contract, spot: float, moment: float) -> dict[str, float]:
    """Return the greeks as orders of magnitude. Theta is for a day, vega for a point of volatility."""
    assert contract.strike is not None
    width, left = _width(contract, moment), max(contract.last_bar - moment, 1)
    delta = _share((spot - contract.strike) / width)
    return {
        "delta": round(delta if contract.is_call else delta - 1, 4),
        "theta": round(-0.2 * width * _DAY_BARS / left, 4),
        "gamma": round(delta * (1 - delta) * 1.6 / width, 6),
        "vega": round(0.4 * width / VOLATILITY / 100, 4),
        "iv": VOLATILITY,
    }


def _width(contract: Contract, moment: float) -> float:
    """Return how far the underlying may well move until the contract's last bar."""
    assert contract.strike is not None
    return contract.strike * VOLATILITY * math.sqrt(max(contract.last_bar - moment, 1) / _BARS_A_YEAR)


def _share(away: float) -> float:
    return 1 / (1 + math.exp(-1.6 * away))
