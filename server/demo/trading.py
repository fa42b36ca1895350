"""Simulate a style's trades on a market, and their signals, scored as the product scores. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zlib import crc32

import numpy as np

from actors.lens.features import build_features
from actors.lens.model import Candles, Evaluation, MarketSnapshot, Quote, RawSignal
from actors.lens.scoring import score_signal
from actors.lens.technical import MODEL, MODEL_VERSION, evaluate
from config.clock import rfc3339
from config.ids import derived_uuid7
from schemas._vocabulary import Direction, EventType, Side
from server.demo.contracts import Contract, choose, describe, price_of
from server.demo.prices import HOUR_STEPS, Array, Market
from server.demo.rules import WINDOW, Style, deviation_of

HISTORY_DAYS = 62.0  # two of the months that boards compare


@dataclass(frozen=True, slots=True)
class Position:
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

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Position:
        """Restore a position from its `to_dict`."""
        return cls(**{**document, "contract": Contract(**document["contract"])})


@dataclass(frozen=True, slots=True)
class Trade:
    """A position that is opened or closed at a moment: before the anchor, the end of a bar."""

    market: Market
    position: Position
    moment: float
    closes: bool

    @property
    def event_type(self) -> EventType:
        """Return Lens's event type."""
        return "CLOSE_SIGNAL" if self.closes else "OPEN_SIGNAL"

    @property
    def direction(self) -> Direction:
        """Return Lens's direction."""
        if self.closes:
            return "close_long" if self.position.side == "long" else "close_short"
        return self.position.side

    @property
    def price(self) -> float:
        """Return the price of the asset, the premium or the probability."""
        return price_of(self.position.contract, self.market, self.moment)

    @property
    def asset_data(self) -> dict[str, Any]:
        """Return the signal's `asset_data`."""
        return describe(self.position.contract, self.market, self.moment)


def enter(market: Market, moment: float, *, rises: bool, at: datetime) -> Trade:
    """Open a position. Puts are bought, everything else can be sold short."""
    contract = choose(market, moment, rises=rises, at=at)
    side: Side = "long" if rises or contract.asset_type == "option" else "short"
    return Trade(market, Position(contract, side, moment, market.close(moment), rises), moment, closes=False)


def next_trade(style: Style, market: Market, moment: float, position: Position | None, at: datetime) -> Trade | None:
    """Return the style's trade at the end of a bar, if any."""
    return _next(style, market, moment, position, at, market.window(moment, WINDOW), 1.0)


def next_quick_trade(
    style: Style, market: Market, moment: float, position: Position | None, at: datetime
) -> Trade | None:
    """Return the style's trade on steps of a quarter of a minute instead of bars: small trades, soon over."""
    return _next(style, market, moment, position, at, market.steps(moment, WINDOW), 1 / HOUR_STEPS)


def _next(
    style: Style, market: Market, moment: float, position: Position | None, at: datetime, bars: Array, unit: float
) -> Trade | None:
    if position is None:
        wish = int(style.wishes(bars)[-1])
        return enter(market, moment, rises=wish > 0, at=at) if wish else None
    if style.is_over(position.moved(float(bars[3, -1])), deviation_of(bars), int((moment - position.opened) / unit)):
        return Trade(market, position, moment, closes=True)
    return None


def past_trades(style: Style, market: Market, anchor: datetime, days: float = HISTORY_DAYS) -> Iterator[Trade]:
    """Return the style's trades in the days before the anchor, in order; one position at a time."""
    first = market.first_bar(days)
    bars = market.window(0, market.length)
    wishes, closes = style.wishes(bars), bars[3]
    position: Position | None = None
    resting = first
    for bar in range(first, 1):
        place = market.length - 1 + bar
        if position is not None:
            deviation = deviation_of(bars[:, place - 60 : place + 1])
            if style.is_over(position.moved(closes[place]), deviation, int(bar - position.opened)):
                yield Trade(market, position, bar, closes=True)
                position, resting = None, bar + style.rest + 1
        elif bar >= resting and wishes[place]:
            trade = enter(market, bar, rises=bool(wishes[place] > 0), at=market.time_of(bar, anchor))
            position = trade.position
            yield trade


def raw_signal(trade: Trade, source: str, identifier: UUID, at: datetime, commentary: str | None) -> RawSignal:
    """Return the trade as the raw signal that Lens accepts."""
    return RawSignal(
        event_id=identifier,
        event_type=trade.event_type,
        symbol=trade.position.contract.symbol.upper()
        if trade.position.contract.asset_type != "prediction"
        else trade.position.contract.symbol,
        signal_direction=trade.direction,
        entry_price=trade.price,
        size=size_of(trade),
        ts_utc=at,
        source=source,
        asset_type=trade.position.contract.asset_type,
        asset_data=trade.asset_data,
        commentary=commentary,
    )


def size_of(trade: Trade) -> float:
    """Return a size worth some thousands."""
    return float(f"{1000 / trade.price:.3g}")


def past_signal(trade: Trade, name: str, source: str, anchor: datetime) -> dict[str, Any]:
    """Return a trade of `name` for the backfill: published within the bar's hour, the same whenever it is made."""
    contract = trade.position.contract
    seed = f"{rfc3339(anchor)} {name} {contract.market} {trade.moment} {trade.closes}".encode()
    chance = crc32(seed)
    # Up to an hour earlier: no signal lies in the future. One that closes at a bar was opened bars before.
    published_at = trade.market.time_of(trade.moment, anchor) - timedelta(seconds=chance % 3000)
    identifier = derived_uuid7(int(published_at.timestamp() * 1000), seed)
    made_at = published_at - timedelta(seconds=chance % 1500)
    signal = raw_signal(trade, source, identifier, made_at, commentary_of(trade))
    features = build_features(signal, _snapshot(trade, published_at), "trend_follow_v1", published_at)
    judged = Evaluation(MODEL, MODEL_VERSION, "SUCCESS", 0, decision=evaluate(signal, features))
    score = score_signal(signal, features, [judged], published_at).to_dict()
    document = signal.to_dict()
    document["id"] = document.pop("event_id")
    for name_ in ("ts_utc", "liquidation_price"):
        del document[name_]
    return {**document, "published_at": rfc3339(published_at), "score": score}


def commentary_of(trade: Trade) -> str:
    """Return a commentary for the trade."""
    contract, position = trade.position.contract, trade.position
    if trade.closes:
        moved = position.moved(trade.market.close(trade.moment))
        return f"Out of {contract.symbol}: {moved:+.1%} on the underlying since the entry."
    words = ("Strong setup here", "Small size, tight plan", "Watching this one closely", "My rule says so, so I do it")
    hope = "up" if position.rises else "down"
    return f"{words[int(trade.moment * HOUR_STEPS) % 4]}: {contract.market.partition(' ')[0]} should go {hope}."


def _snapshot(trade: Trade, at: datetime) -> MarketSnapshot:
    """Return the recorded bars as the market data of the moment; there are none finer than an hour."""
    market, price = trade.market, trade.price
    now_ms = int(at.timestamp() * 1000)
    hours = market.window(trade.moment, 4 * WINDOW)
    fours = _by_four(hours)
    unit = price / float(hours[3, -1])
    candles = {
        "1h": Candles("1h", now_ms - 3_600_000, hours[:, -WINDOW:].copy()),
        "4h": Candles("4h", now_ms - 14_400_000, fours),
    }
    return MarketSnapshot(quote=Quote(price, now_ms), candles=candles, candle_unit=unit)  # type: ignore[arg-type]


def _by_four(bars: Array) -> Array:
    count = bars.shape[1] // 4
    groups = bars[:, bars.shape[1] - 4 * count :].reshape(5, count, 4)
    return np.ascontiguousarray(
        np.stack(
            (groups[0, :, 0], groups[1].max(axis=1), groups[2].min(axis=1), groups[3, :, -1], groups[4].sum(axis=1))
        )
    )
