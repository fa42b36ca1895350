"""Price options and predictions on recorded prices by Black and Scholes, and describe them for signals. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from schemas._vocabulary import AssetType
from server.demo.prices import Market

LIFE_BARS = 1440  # of a contract: much longer than a position is held, so that its price follows and does not leap
_SPREAD_BARS = 720  # over which the volatility is measured
_DAY_BARS = 24
_BARS_A_YEAR = 252 * 6  # most recordings are of days, each of which lasts six bars
_NORMAL = 1 / math.sqrt(2 * math.pi)


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
    if instrument.asset_type == "prediction":
        symbol = f"{underlying} above {strike:g} on {expires:%b} {expires.day}"
    else:
        symbol = f"{underlying} {strike:g}{'C' if rises else 'P'} {expires.month}/{expires.day}"
    is_call = rises or instrument.asset_type == "prediction"
    return Contract(
        symbol, instrument.asset_type, instrument.symbol, strike, is_call, expires.isoformat(), moment + LIFE_BARS
    )


def price_of(contract: Contract, market: Market, moment: float) -> float:
    """Return the price of the asset, the premium or the probability at a moment; > 0."""
    if contract.strike is None:
        return float(f"{market.close(moment):.8g}")  # as precise as a feed
    terms = _Terms(contract, market, moment)
    if contract.asset_type == "prediction":
        return min(max(round(_cumulative(terms.d2), 3), 0.02), 0.98)
    return max(round(terms.premium, 2), 0.05)


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
        "greeks": _Terms(contract, market, moment).greeks(),
        "open_interest": round(volume / 400),
        "volume": round(volume / 1600),
    }


class _Terms:
    """Black and Scholes without interest; a bar's deviation is measured on the bars before."""

    def __init__(self, contract: Contract, market: Market, moment: float) -> None:
        assert contract.strike is not None
        closes = market.window(moment, _SPREAD_BARS)[3]
        self._deviation = max(float(np.std(np.diff(np.log(closes)))), 1e-4)
        self._left = max(contract.last_bar - moment, 1)
        self._spot, self._strike, self._is_call = float(closes[-1]), contract.strike, contract.is_call
        spread = self._deviation * math.sqrt(self._left)
        self._d1 = math.log(self._spot / self._strike) / spread + spread / 2
        self.d2 = self._d1 - spread

    @property
    def premium(self) -> float:
        call = self._spot * _cumulative(self._d1) - self._strike * _cumulative(self.d2)
        return call if self._is_call else call - self._spot + self._strike

    def greeks(self) -> dict[str, float]:
        """Return the greeks. Theta is for a day, vega for a point of volatility."""
        density = _NORMAL * math.exp(-self._d1 * self._d1 / 2)
        root = math.sqrt(self._left)
        delta = _cumulative(self._d1)
        return {
            "delta": round(delta if self._is_call else delta - 1, 4),
            "theta": round(-self._spot * density * self._deviation / (2 * root), 4),
            "gamma": round(density / (self._spot * self._deviation * root), 6),
            "vega": round(self._spot * density * root / math.sqrt(_BARS_A_YEAR) / 100, 4),
            "iv": round(self._deviation * math.sqrt(_BARS_A_YEAR), 4),
        }


def _cumulative(value: float) -> float:
    return (1 + math.erf(value / math.sqrt(2))) / 2
