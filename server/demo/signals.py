"""The signals of trades: what the public API takes, and past ones as the backfill takes them, scored as the product
scores. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from zlib import crc32

import numpy as np

from actors.lens.features import build_features
from actors.lens.model import Candles, Evaluation, MarketSnapshot, Quote, RawSignal
from actors.lens.scoring import score_signal
from actors.lens.technical import MODEL, MODEL_VERSION, evaluate
from config.clock import rfc3339
from config.documents import Document, Loaded
from config.ids import derived_uuid7
from server.demo.cast import Cast
from server.demo.markets import HISTORY_DAYS, Array, Market
from server.demo.state import State
from server.demo.trading import Trade, held_from_the_start, past_trades

_CANDLES = 120


def fields_of(trade: Trade) -> Loaded:
    """Return the fields that every form of the trade's signal has; its size is worth some thousands."""
    contract, position, price = trade.position.contract, trade.position, trade.price
    if trade.closes:
        moved = position.moved(trade.market.close(trade.moment))
        commentary = f"Out of {contract.symbol}: {moved:+.1%} on the underlying since the entry."
    else:
        words = ("Strong setup here", "Small size, tight plan", "Watching this closely", "My rule says so, so I do it")
        hope = "up" if position.rises else "down"
        commentary = f"{words[int(trade.moment * 240) % 4]}: {contract.market.partition(' ')[0]} should go {hope}."
    return {
        "symbol": contract.symbol,
        "asset_type": contract.asset_type,
        "entry_price": price,
        "size": float(f"{1000 / price:.3g}"),
        "asset_data": trade.asset_data,
        "commentary": commentary,
    }


def past_signal(trade: Trade, name: str) -> Document:
    """Return a trade of `name` for the backfill, the same whenever it is made."""
    at = trade.market.time_of(trade.moment)
    seed = (
        f"{rfc3339(trade.market.anchor)} {name} {trade.position.contract.market} {trade.moment} {trade.closes}".encode()
    )
    signal = RawSignal(
        event_id=derived_uuid7(int(at.timestamp() * 1000), seed),
        ts_utc=at - timedelta(seconds=crc32(seed) % 1500),
        source=name,
        **trade.raw_fields,
        **fields_of(trade),
    )
    features = build_features(signal, _snapshot(trade, at), "trend_follow_v1", at)
    judged = Evaluation(MODEL, MODEL_VERSION, "SUCCESS", 0, decision=evaluate(signal, features))
    document = {name: value for name, value in signal.to_dict().items() if value is not None}
    document["id"] = document.pop("event_id")
    del document["ts_utc"]
    score = score_signal(signal, features, [judged], at).to_dict()
    return {**document, **trade.terms, "published_at": rfc3339(at), "score": score}


def imagine(cast: Cast, markets: Mapping[str, Market], state: State) -> list[tuple[str, Loaded]]:
    """Simulate every style's past trades, as (name, past signal) in the order of publication.

    Positions that are still open are kept in the state. The holder begins: each instrument starts at an honest price.
    """
    past: list[tuple[str, Loaded]] = []
    state.held.clear()
    for market in markets.values():
        if market.instrument.asset_type != "option":
            trade = held_from_the_start(cast.holder.style, market, -24 * HISTORY_DAYS)
            past.append((cast.holder.name, past_signal(trade, cast.holder.name)))
    for trader in cast.traders:
        for name in trader.markets:
            for trade in past_trades(trader.style, markets[name], cast.days_of(trader)):
                past.append((trader.name, past_signal(trade, trader.name)))
                state.note(trader.name, trade)
    return sorted(past, key=lambda each: each[1]["published_at"])


def _snapshot(trade: Trade, at: datetime) -> MarketSnapshot:
    """Return hourly bars as the market data of the moment: finer ones would change little, and take long."""
    now_ms = int(at.timestamp() * 1000)
    last = int(trade.moment)
    hours = trade.market.bars(last - 4 * _CANDLES + 1, last)
    return MarketSnapshot(
        quote=Quote(trade.price, now_ms),
        candles={
            "1h": Candles("1h", now_ms - 3_600_000, hours[:, -_CANDLES:].copy()),
            "4h": Candles("4h", now_ms - 14_400_000, _by_four(hours)),
        },
        candle_unit=trade.price / float(hours[3, -1]),
    )


def _by_four(bars: Array) -> Array:
    groups = bars[:, bars.shape[1] % 4 :].reshape(5, -1, 4)
    rows = groups[0, :, 0], groups[1].max(axis=1), groups[2].min(axis=1), groups[3, :, -1], groups[4].sum(axis=1)
    return np.ascontiguousarray(rows)
