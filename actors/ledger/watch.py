"""Ask for the minute candles that positions wait for: of all instruments each minute, or of those whose turn it is."""

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
STEP: Final = 0.005
"""A market rarely moves by so much in a minute, nor by √n times as much in n minutes."""
MOST_MINUTES: Final = 60
MOST_A_MINUTE: Final = 100
"""Instruments that are asked for in a minute; those with the nearest levels first, and all of them before each hour."""


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
        self._answers = market
        self._splits = splits
        self._wake = wake
        self._now = now
        self._minute: datetime | None = None  # the newest that was asked for

    def start(self) -> None:
        """Start watching."""
        self._context.every(WATCH_SECONDS, self.look, name="watch the market")

    async def look(self) -> None:
        """Ask for the candles that are due now."""
        await self._splits.refresh()
        question = self._due()
        if question:
            await self._answers.ask(question)
            self._wake()

    def _due(self) -> Question:
        question, log = Question(ASK_SECONDS), self._keeper.log
        until = (self._now() - SETTLED).replace(second=0, microsecond=0)
        if until == self._minute or log is None or log.reached_at is None or self._now() - log.reached_at >= 2 * HOUR:
            return question  # what was missed for long is asked for hour by hour
        self._minute = until
        due = [
            (key, watched)
            for key, watched in log.watched.items()
            if has_levels(watched) and self._answers.wants(key, watched.row.checked_until, until)
        ]
        if len(due) > MOST_A_MINUTE:
            due.sort(key=lambda each: self._urgency(each[0], each[1], until), reverse=True)
        for key, watched in due[:MOST_A_MINUTE]:
            question.minutes[key] = MinutesWanted(asked(watched.row), watched.row.checked_until, until)
        return question

    def _urgency(self, key: Instrument, watched: WatchedInstrument, until: datetime) -> float:
        """Return how long an instrument was not looked at, as a part of how long it may wait."""
        price = self._answers.last_price(key)
        pause = MINUTE * (1 if price is None else minutes_of(price, watched.low_level, watched.high_level))
        return (until - watched.row.checked_until) / pause


def minutes_of(price: Decimal, low: Decimal | None, high: Decimal | None) -> int:
    """Return how many minutes a price may go unwatched between the nearest levels below and above it."""
    now = float(price)
    if now <= 0:
        return 1
    nearest = min((abs(float(level) / now - 1) for level in (low, high) if level is not None), default=1.0)
    return min(max(int((nearest / STEP) ** 2), 1), MOST_MINUTES)
