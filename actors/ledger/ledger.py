"""The actor `ledger`: the one owner of the log of everything that records are computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from actors._follower import Follower
from actors._runtime.context import ActorContext, Behaviour
from actors._runtime.messages import Envelope
from actors.ledger.checkpoints import Checkpoints
from actors.ledger.keeper import LogKeeper
from actors.ledger.market import Answers
from actors.ledger.splits import SplitsFile
from actors.ledger.watch import MinuteWatch
from actors.lens.market.quotes import PriceSource
from actors.lens.market.source import open_prices
from config import clock
from schemas.errors import Internal
from schemas.feed import FEED_CHANNEL


class LogOwner(Behaviour):
    """Owns the log, its tiles and checkpoints, and the positions that are open.

    Success: every feed item up to the stored number, and every end and mark that the market gave, is an entry, in one
    order. A crash loses what was asked of the market, which is asked again. Repeating is harmless: entries, positions
    and how far was read are one transaction. `source` is asked instead of MARKET_DATA's where one is given.
    """

    def __init__(self, source: PriceSource | None = None, now: Callable[[], datetime] = clock.now) -> None:
        self._source = source
        self._now = now

    async def start(self, context: ActorContext) -> None:
        """Begin to sign, and to follow the feed and the market."""
        await super().start(context)
        self._checkpoints = Checkpoints(context)
        self._market = Answers(self._source or open_prices(context.settings, context.pool), self._now)
        await self._checkpoints.start()  # may refuse; then `stop` closes the market
        splits = SplitsFile(context.settings.splits_file)
        await splits.refresh()
        self.keeper = LogKeeper(context, self._market, splits, self._now)
        follower = Follower(context, FEED_CHANNEL, self.keeper.catch_up)
        follower.start()
        self.watch = MinuteWatch(context, self.keeper, self._market, splits, follower.wake, self._now)
        self.watch.start()

    async def stop(self) -> None:
        """See Behaviour."""
        await self._market.close()
        await self._checkpoints.close()

    async def process(self, batch: Sequence[Envelope]) -> Sequence[object]:
        """Accept no messages: this actor reads the feed and the market."""
        return [Internal("ledger takes no messages") for _ in batch]

    def stats(self) -> Mapping[str, float]:
        """See Behaviour."""
        return self.keeper.stats
