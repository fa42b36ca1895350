"""Ask for the minute candles that positions wait for, as often as their levels are near."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from actors._runtime.context import ActorContext
from actors.ledger.ends import MINUTE
from actors.ledger.keeper import LogKeeper
from actors.ledger.log_time import HOUR
from actors.ledger.market import Answers, MinutesWanted, Question
from actors.ledger.minutes_step import asked, has_levels
from actors.ledger.splits import SplitsFile
from db.ledger import Instrument, WatchedInstrument

WATCH_SECONDS: Final = 5.0
ASK_SECONDS: Final = 40.0
SETTLED: Final = timedelta(seconds=2)
"""How long after a minute its candle is asked for."""
STEP: Final = Decimal("0.005")
"""A market rarely moves by so much in a minute, nor by √n times as much in n minutes."""
MOST_MINUTES: Final = 30


class MinuteWatch:
    """Asks for candles beside the transactions, so that no feed item waits for them, and wakes who applies them."""

    def __init__(
        self,
        context: ActorContext,
        keeper: LogKeeper,
        market: Answers,
        splits: SplitsFile,
        wake: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        self._context = context
        self._keeper = keeper
        self._market = market
        self._splits = splits
        self._wake = wake
        self._now = now

    def start(self) -> None:
        """Start watching."""
        self._context.every(WATCH_SECONDS, self.look, name="watch the market")

    async def look(self) -> None:
        """Ask for the candles that are due now."""
        await self._splits.refresh()
        question = self._due()
        if question:
            await self._market.ask(question)
            self._wake()

    def _due(self) -> Question:
        question, log = Question(ASK_SECONDS), self._keeper.log
        if log is None or log.reached_at is None or self._now() - log.reached_at >= 2 * HOUR:
            return question  # what was missed is asked for hour by hour
        until = (self._now() - SETTLED).replace(second=0, microsecond=0)
        for key, watched in log.watched.items():
            since = watched.row.checked_until
            if (
                has_levels(watched)
                and until - since >= self._pause(key, watched)
                and self._market.wants(key, since, until)
            ):
                question.minutes[key] = MinutesWanted(asked(watched.row), since, until)
        return question

    def _pause(self, key: Instrument, watched: WatchedInstrument) -> timedelta:
        """Return how long the candles of an instrument may wait: the nearer a level, the shorter."""
        price = self._market.last_price(key)
        return MINUTE * (1 if price is None else minutes_of(price, watched.low_level, watched.high_level))


def minutes_of(price: Decimal, low: Decimal | None, high: Decimal | None) -> int:
    """Return how many minutes a price may go unwatched between the nearest levels below and above it."""
    if price <= 0:
        return 1
    distances = [abs(level - price) / price for level in (low, high) if level is not None]
    return min(max(int((min(distances, default=Decimal(1)) / STEP) ** 2), 1), MOST_MINUTES)
