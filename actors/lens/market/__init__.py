"""Define the source of market data: the one interface that `simulated` and the real venues implement."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from actors.lens.model import MarketSnapshot, Query
from config.values import Value
from schemas._vocabulary import AssetType

NO_SOURCE = MarketSnapshot(has_source=False)
"""The answer for an asset type that a source does not know."""

CANDLE_COUNT = 300
"""Candles per interval. An EMA starts from a simple mean whose share decays by (1 − 2/(period + 1)) a candle: for the
slowest one here, EMA 50, 300 candles leave 4.5e-5 of it, below a thousandth of a per cent of the price, and RSI and
ATR 14 (Wilder, 13/14 a candle) 1e-9. More candles would cost transfer and memory and change no decision."""


class MarketRequest(Value):
    """Describe the market data that one signal needs: `queries` are those of its feature profile.

    `asset_data` is the signal's: an option's expiry and a prediction's market are named there.
    """

    symbol: str
    asset_type: AssetType
    entry_price: float
    queries: tuple[Query, ...]
    now: datetime
    asset_data: Mapping[str, object] | None = None


class MarketData(Protocol):
    """A source of market data, shared by every signal that a process enriches.

    How an adapter caches, coalesces, bounds and parallelises its calls is internal to it. Its contract:

    - a query that fails is a `QueryFailure` in the snapshot, never an exception, and the other queries' answers stay;
    - a symbol the venue does not know is no failure: there is just no data for it;
    - the answer for an asset type that it does not know is `NO_SOURCE`;
    - an answer that may be old carries its time (`as_of_ms`, `last_open_ms`): the caller decides what is stale;
    - candles went through `Candles.checked`, oldest first, `CANDLE_COUNT` of them if there are as many;
    - `snapshot` is bounded in time by the adapter's own deadline.
    """

    def snapshot_at_once(self, request: MarketRequest) -> MarketSnapshot | None:
        """Return the result of `snapshot` if that needs no waiting and no call; else None."""

    async def snapshot(self, request: MarketRequest) -> MarketSnapshot:
        """Return the answers to `request.queries`, all asked at once."""

    async def close(self) -> None:
        """Close connections; no query may follow."""
