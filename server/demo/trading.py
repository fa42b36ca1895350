"""The demo's trading: styles of two numbers, exits, cheats, and the trades that follow on a market. Pure.

The simulated market has no trend that a rule could find. So those who are meant to be skilled have `insight`: they look
at where the price will be, which only a simulation allows, and are right that often.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from zlib import crc32

import numpy as np
import talib
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from config.documents import Document, Loaded
from schemas._vocabulary import Side
from server.demo.contracts import Contract, choose, describe, end_of, price_of
from server.demo.markets import Array, Market

HOUR, QUARTER_MINUTE = 1.0, 1 / 240
_WINDOW = 120  # bars that are enough for every style
_CLOSE_TO_END = 24.0  # hours before a contract's end, nothing is opened

Cheat = Literal["declares better prices", "never closes losers"]
_BETTER: Final = 0.015  # of the price, within what the server's gate of drift allows


@dataclass(frozen=True, slots=True)
class Style:
    """A trading style: it follows a move of `bars` beyond `threshold` deviations; below 0 it trades against it.

    It exits at a gain or a loss in deviations of a bar, or after `patience` bars, and then pauses for `rest` bars.
    `insight` is the part of its trades whose direction it knows. `exits`: by closing signals, by levels that the market
    executes, or in two halves. `enters`: at the market, or by a limit order a little better.
    """

    bars: int
    threshold: float
    gain: float
    loss: float
    patience: int
    rest: int = 0
    insight: float = 0.0
    exits: Literal["signal", "levels", "halves"] = "signal"
    enters: Literal["market", "limit"] = "market"
    cheat: Cheat | None = None

    def wishes(self, closes: Array) -> NDArray[np.int64]:
        """Return for each bar: 1 to be long from its end on, −1 short, 0 neither."""
        before = np.concatenate((np.full(self.bars, closes[0]), closes[: -self.bars]))
        moved = np.log(closes / before) / (deviations(closes) * np.sqrt(self.bars))
        return np.where(np.abs(moved) > abs(self.threshold), np.sign(moved) * np.sign(self.threshold), 0).astype(int)

    def is_over(self, moved: float, deviation: float, held: int) -> bool:
        """Return whether to close a position that has `moved` (a fraction, above 0 is a gain) in `held` bars."""
        wins = moved >= self.gain * deviation
        if self.cheat == "never closes losers":
            return held > 0 and wins
        return held > 0 and (wins or moved <= -self.loss * deviation or held >= self.patience)


def deviations(closes: Array) -> Array:
    """Return at each bar the deviation of the moves of the last 60; infinite before that."""
    moves = np.diff(np.log(closes), prepend=np.log(closes[0]))
    found: Array = np.maximum(np.nan_to_num(talib.STDDEV(moves, 60), nan=np.inf), 1e-6)
    return found


class Position(Struct, frozen=True):
    """An open position: its contract, moment and price. A contract's strike and expiry stay as bought.

    `levels` are a stop and a target that the market executes.
    """

    contract: Contract
    side: Side
    opened: float
    spot: float
    rises: bool  # whether the position wins by a rising spot price
    levels: tuple[float, float] | None = None
    is_half: bool = False

    def moved(self, spot: float) -> float:
        """Return the market's move since, as a fraction; above 0 is in the position's favour."""
        change = spot / self.spot - 1
        return change if self.rises else -change


@dataclass(frozen=True, slots=True)
class Trade:
    """A position that is opened or closed at a moment."""

    style: Style
    market: Market
    position: Position
    moment: float
    closes: bool
    fraction: float = 1.0

    @property
    def raw_fields(self) -> Loaded:
        """Return the fields that only a raw signal has."""
        side = self.position.side
        if self.closes:
            return {"event_type": "CLOSE_SIGNAL", "signal_direction": f"close_{side}"}
        return {"event_type": "OPEN_SIGNAL", "signal_direction": side}

    @property
    def terms(self) -> Document:
        """Return the terms beyond the price: levels, the kind of order, the part that is closed."""
        if self.closes:
            return {} if self.fraction == 1.0 else {"close_fraction": self.fraction}
        terms: Document = {}
        if self.style.enters == "limit":
            terms["order"] = "limit"
        if self.position.levels is not None:
            terms |= {"stop_loss": self.position.levels[0], "take_profit": [self.position.levels[1]]}
        return terms

    @property
    def price(self) -> float:
        """Return the price that is declared: of the asset, the premium or the probability."""
        price = price_of(self.position.contract, self.market, self.moment)
        buys = (self.position.side == "long") != self.closes
        if self.style.cheat == "declares better prices":
            price *= 1 - _BETTER if buys else 1 + _BETTER
        elif self.style.enters == "limit" and not self.closes:
            price *= 1 - _nearby(self) if buys else 1 + _nearby(self)
        return float(f"{price:.8g}")

    @property
    def asset_data(self) -> Document:
        """Return the signal's `asset_data`."""
        return describe(self.position.contract, self.market, self.moment)


def _nearby(trade: Trade) -> float:
    """Return how much better than the market a limit order asks for: half of an hour's deviation."""
    closes = trade.market.bars(int(trade.moment) - 60, int(trade.moment))[3]
    return float(deviations(closes)[-1]) / 2


def enter(style: Style, market: Market, moment: float, deviation: float, *, rises: bool) -> Trade:
    """Open a position. Puts are bought, everything else can be sold short."""
    contract = choose(market, moment, rises=rises)
    side: Side = "long" if rises or contract.asset_type == "option" else "short"
    spot, levels = market.close(moment), None
    if style.exits == "levels":
        price, sign = price_of(contract, market, moment), 1 if side == "long" else -1
        stop, target = (price * (1 + sign * each * deviation) for each in (-style.loss, style.gain))
        levels = float(f"{stop:.7g}"), float(f"{target:.7g}")
    return Trade(style, market, Position(contract, side, moment, spot, rises, levels), moment, closes=False)


def next_trade(
    style: Style, market: Market, at: datetime, position: Position | None, bar: float = HOUR
) -> Trade | None:
    """Return the style's trade at a time, if any, on bars of an hour or of a quarter of a minute."""
    moment = market.moment_of(at)
    closes = market.closes(moment - bar * np.arange(_WINDOW, -1.0, -1.0))
    deviation = float(deviations(closes)[-1])
    if position is None:
        return _entry(style, market, moment, int(style.wishes(closes)[-1]), deviation, bar)
    held = int((moment - position.opened) / bar)
    if style.is_over(position.moved(float(closes[-1])), deviation, held) or moment > end_of(position.contract, market):
        return _exit(style, market, moment, position)
    return None


def past_trades(style: Style, market: Market, days: float) -> Iterator[Trade]:
    """Return the style's trades in the days before moment 0, in order; one position at a time."""
    first = -int(days * 24)
    closes = market.bars(first - _WINDOW, 0)[3]
    wishes, spread = style.wishes(closes), deviations(closes)
    position: Position | None = None
    resting = first
    for bar in range(first, 1):
        place = bar - 1  # from the end
        moment = bar - _chance("when", style, market, bar) * 0.8  # signals do not come at full hours
        if position is not None:
            held = int(bar - position.opened)
            is_over = style.is_over(position.moved(closes[place]), spread[place], held)
            if is_over or moment > end_of(position.contract, market):
                closing = _exit(style, market, moment, position)
                yield closing
                is_half = closing.fraction < 1
                position, resting = (closing.position, resting) if is_half else (None, bar + style.rest + 1)
        elif bar > resting and (trade := _entry(style, market, moment, int(wishes[place]), float(spread[place]), HOUR)):
            position = trade.position
            yield trade


def held_from_the_start(style: Style, market: Market, start: float) -> Trade:
    """Return the opening of a position at the market's beginning, at its level."""
    return enter(style, market, start, 0.0, rises=True)


def _entry(style: Style, market: Market, moment: float, wish: int, deviation: float, bar: float) -> Trade | None:
    if not wish or moment > market.ends - _CLOSE_TO_END:
        return None
    if _chance("insight", style, market, moment) < style.insight:
        ahead = market.close(moment + bar * style.patience / 2) - market.close(moment)
        wish = 1 if ahead > 0 else -1
    return enter(style, market, moment, deviation, rises=wish > 0)


def _exit(style: Style, market: Market, moment: float, position: Position) -> Trade:
    if style.exits == "halves" and not position.is_half:
        half = replace(position, is_half=True)
        return Trade(style, market, half, moment, closes=True, fraction=0.5)
    return Trade(style, market, position, moment, closes=True)


def _chance(what: str, style: Style, market: Market, moment: float) -> float:
    """Return a number from 0 to 1, the same for the same circumstances."""
    return crc32(f"{what} {style} {market.instrument.symbol} {moment:.6f}".encode()) / 2**32
