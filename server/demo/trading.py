"""The demo's trading: a rule of two numbers, exits, and the trades that follow on a market. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import talib
from msgspec import Struct
from numpy.typing import NDArray

from config.documents import Document, Loaded
from schemas._vocabulary import Side
from server.demo.contracts import Contract, choose, describe, price_of
from server.demo.prices import Array, Market

HOUR, QUARTER_MINUTE = 1.0, 1 / 240
_WINDOW = 120  # bars that are enough for every style


@dataclass(frozen=True, slots=True)
class Style:
    """A trading style: it follows a move of `bars` beyond `threshold` deviations; below 0 it trades against it.

    It exits at a gain or a loss in deviations of a bar, or after `patience` bars, and then pauses for `rest` bars.
    """

    bars: int
    threshold: float
    gain: float
    loss: float
    patience: int
    rest: int = 0

    def wishes(self, closes: Array) -> NDArray[np.int64]:
        """Return for each bar: 1 to be long from its end on, −1 short, 0 neither."""
        before = np.concatenate((np.full(self.bars, closes[0]), closes[: -self.bars]))
        moved = np.log(closes / before) / (deviations(closes) * np.sqrt(self.bars))
        return np.where(np.abs(moved) > abs(self.threshold), np.sign(moved) * np.sign(self.threshold), 0).astype(int)

    def is_over(self, moved: float, deviation: float, held: int) -> bool:
        """Return whether to close a position that has `moved` (a fraction, above 0 is a gain) in `held` bars."""
        return held > 0 and (moved >= self.gain * deviation or moved <= -self.loss * deviation or held >= self.patience)


def deviations(closes: Array) -> Array:
    """Return at each bar the deviation of the moves of the last 60; infinite before that."""
    moves = np.diff(np.log(closes), prepend=np.log(closes[0]))
    found: Array = np.maximum(np.nan_to_num(talib.STDDEV(moves, 60), nan=np.inf), 1e-6)
    return found


class Position(Struct, frozen=True):
    """An open position: its contract, moment and price. A contract's strike and expiry stay as bought."""

    contract: Contract
    side: Side
    opened: float
    spot: float
    rises: bool  # whether the position wins by a rising spot price

    def moved(self, spot: float) -> float:
        """Return the market's move since, as a fraction; above 0 is in the position's favour."""
        change = spot / self.spot - 1
        return change if self.rises else -change


@dataclass(frozen=True, slots=True)
class Trade:
    """A position that is opened or closed at a moment: before the anchor, the end of a bar."""

    market: Market
    position: Position
    moment: float
    closes: bool

    @property
    def raw_fields(self) -> Loaded:
        """Return the fields that only a raw signal has."""
        side = self.position.side
        if self.closes:
            return {"event_type": "CLOSE_SIGNAL", "signal_direction": f"close_{side}"}
        return {"event_type": "OPEN_SIGNAL", "signal_direction": side}

    @property
    def price(self) -> float:
        """Return the price of the asset, the premium or the probability."""
        return price_of(self.position.contract, self.market, self.moment)

    @property
    def asset_data(self) -> Document:
        """Return the signal's `asset_data`."""
        return describe(self.position.contract, self.market, self.moment)


def enter(market: Market, moment: float, *, rises: bool, at: datetime) -> Trade:
    """Open a position. Puts are bought, everything else can be sold short."""
    contract = choose(market, moment, rises=rises, at=at)
    side: Side = "long" if rises or contract.asset_type == "option" else "short"
    return Trade(market, Position(contract, side, moment, market.close(moment), rises), moment, closes=False)


def next_trade(
    style: Style, market: Market, at: datetime, anchor: datetime, position: Position | None, bar: float = HOUR
) -> Trade | None:
    """Return the style's trade at a time, if any, on bars of an hour or of a quarter of a minute."""
    moment = market.moment_of(at, anchor)
    closes = market.closes(moment - bar * np.arange(_WINDOW, -1.0, -1.0))
    if position is None:
        wish = style.wishes(closes)[-1]
        return enter(market, moment, rises=bool(wish > 0), at=at) if wish else None
    held = int((moment - position.opened) / bar)
    if style.is_over(position.moved(float(closes[-1])), float(deviations(closes)[-1]), held):
        return Trade(market, position, moment, closes=True)
    return None


def past_trades(style: Style, market: Market, anchor: datetime, days: float) -> Iterator[Trade]:
    """Return the style's trades in the days before the anchor, in order; one position at a time."""
    closes = market.window(0, market.length)[3]
    wishes, spread = style.wishes(closes), deviations(closes)
    position: Position | None = None
    resting = first = max(60 - market.length, -int(days * 24))
    for bar in range(first, 1):
        place = bar - 1  # from the end
        if position is not None:
            if style.is_over(position.moved(closes[place]), spread[place], int(bar - position.opened)):
                yield Trade(market, position, bar, closes=True)
                position, resting = None, bar + style.rest + 1
        elif bar >= resting and wishes[place]:
            trade = enter(market, bar, rises=bool(wishes[place] > 0), at=market.time_of(bar, anchor))
            position = trade.position
            yield trade
