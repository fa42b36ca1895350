"""The adapter and its local venue together, with clocks that a test can advance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from actors.lens.features import PROFILE_QUERIES, build_features
from actors.lens.market import MarketRequest
from actors.lens.market._guard import CallLimits
from actors.lens.market.hyperliquid import HyperliquidMarketData
from actors.lens.market.quotes import PricedInstrument, use_of
from actors.lens.market.receipt import receipt_quote
from actors.lens.model import Features, MarketSnapshot
from tests.peers.hyperliquid import HyperliquidPeer
from tests.unit.lens.factories import make_signal

QUERIES = PROFILE_QUERIES["full_v1"]
OF_A_COIN = 4  # the book and three intervals
OF_THE_VENUE = 2  # the mids and the contexts


class Clocks:
    """Clocks that are `ahead` of the machine's by a constant.

    They start a minute after a candle of every interval has opened, so that none closes in the middle of a test.
    """

    def __init__(self) -> None:
        self.ahead = 60.0 - time.time() % (4 * 3600)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def now_ms(self) -> int:
        return int((time.time() + self.ahead) * 1000)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_ms() / 1000, UTC)


@dataclass(slots=True)
class Scene:
    """A venue, the adapter that asks it, and their clocks."""

    peer: HyperliquidPeer
    market: HyperliquidMarketData
    clocks: Clocks = field(default_factory=Clocks)

    async def ask(self, symbol: str = "BTC", **changes: Any) -> MarketSnapshot:
        """Return the snapshot for a signal on that symbol."""
        fields: dict[str, Any] = {
            "asset_type": "crypto",
            "entry_price": 100.0,
            "queries": QUERIES,
            "now": self.clocks.now(),
        } | changes
        return await self.market.snapshot(MarketRequest(symbol=symbol, **fields))

    async def features(self, symbol: str = "BTC") -> Features:
        """Return the features of a new signal at the market's price."""
        snapshot = await self.ask(symbol)
        price = self.peer.price("BTC") if snapshot.quote is None else snapshot.quote.mid
        now = self.clocks.now()
        signal = make_signal(symbol=symbol, entry_price=price, ts_utc=now)
        quote = snapshot.venue_quote
        is_used = quote is not None and use_of(quote, now, now) == "use"
        receipt = receipt_quote(quote, PricedInstrument("crypto", symbol)) if quote is not None and is_used else None
        return build_features(signal, snapshot, "full_v1", now, receipt)


@asynccontextmanager
async def scene(**limits: Any) -> AsyncIterator[Scene]:
    """Open a scene that is closed afterwards; `limits` are the adapter's, two seconds a call unless said."""
    clocks = Clocks()
    async with HyperliquidPeer(now_ms=clocks.now_ms) as peer:
        market = HyperliquidMarketData(
            peer.base_url,
            CallLimits(**({"timeout_seconds": 2.0} | limits)),
            monotonic=clocks.monotonic,
            now_ms=clocks.now_ms,
        )
        try:
            yield Scene(peer, market, clocks)
        finally:
            await market.close()


async def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until the condition holds; fail after so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.005)
