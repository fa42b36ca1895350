"""Providers of a simulated world: without skill, skilled, and those who cheat in one way each.

Each makes trades: what was declared and when it was received. The server's rules decide what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from schemas._vocabulary import Side
from tests.simulation.market import HALF_SPREAD, HOURLY_DEVIATION, INSTRUMENTS, Market

COSTS = 2 * (10e-4 + HALF_SPREAD)  # of a trade, both sides


@dataclass(slots=True)
class Trade:
    """A position as its owner claims it: hours of receipt, and declared prices (None: the market's).

    `close_hour` None: it is never closed. `is_void`: retracted. `close_is_unquoted`: its close comes when there is no
    quote. `known_move`: by which part the market has moved the right way since a quote of before the receipt was taken.
    """

    instrument: int
    side: Side
    open_hour: int
    close_hour: int | None
    declared_entry: Decimal | None = None
    declared_exit: Decimal | None = None
    is_void: bool = False
    close_is_unquoted: bool = False
    known_move: float = 0.0


class Trader:
    """One provider's random source, and the helpers that strategies share."""

    def __init__(self, market: Market, random: np.random.Generator, closes: int) -> None:
        self.market = market
        self.random = random
        self.closes = closes
        self.start = int(random.integers(0, 24 * 7))

    @property
    def last_hour(self) -> int:
        """Return the last hour of the market."""
        return len(self.market.mids) - 2

    def slots(self, mean_hold: float = 20.0, mean_pause: float = 6.0) -> Iterator[tuple[int, int]]:
        """Yield hours of opening and closing of trades one after the other, as many as the world has closes."""
        hour = self.start
        for _ in range(self.closes):
            close = hour + 1 + int(self.random.exponential(mean_hold))
            if close > self.last_hour:
                return
            yield hour, close
            hour = close + 1 + int(self.random.exponential(mean_pause))

    def side(self) -> Side:
        """Return either side by chance."""
        return "long" if self.random.random() < 0.5 else "short"

    def instrument(self) -> int:
        """Return an instrument by chance."""
        return int(self.random.integers(INSTRUMENTS))

    def gains(self, instrument: int, side: Side, start: int) -> NDArray[np.float64]:
        """Return what a position that is opened at an hour has gained at each hour from then on, before costs."""
        mids = self.market.mids[start : self.last_hour, instrument]
        return (mids / mids[0] - 1) * (1 if side == "long" else -1)

    def moved(self, instrument: int, start: int, end: int) -> float:
        """Return by which part a mid moved between two hours."""
        return float(self.market.mids[end, instrument] / self.market.mids[start, instrument] - 1)


def unskilled(trader: Trader) -> list[Trade]:
    """Trade by chance."""
    return [Trade(trader.instrument(), trader.side(), *slot) for slot in trader.slots()]


def skilled(sharpe: float) -> Callable[[Trader], list[Trade]]:
    """Return a strategy whose trades have this expected net return by their deviation."""

    def trade(trader: Trader) -> list[Trade]:
        made = []
        for start, end in trader.slots():
            instrument = trader.instrument()
            deviation = HOURLY_DEVIATION * np.sqrt(end - start)
            # E[side·r] = (2p − 1)·E|r|, and E|r| is about 0.75 deviations of these fat-tailed returns.
            right = min(0.5 + (sharpe + COSTS / deviation) / (2 * 0.75), 0.999)
            rises = trader.moved(instrument, start, end) > 0
            is_right = trader.random.random() < right
            made.append(Trade(instrument, "long" if rises == is_right else "short", start, end))
        return made

    return trade


def makes_prices_up(trader: Trader) -> list[Trade]:
    """Declare to have bought at next to nothing and sold for a fortune."""
    low, high = Decimal("0.0001"), Decimal(1_000_000)
    return [
        Trade(t.instrument, t.side, t.open_hour, t.close_hour, *((low, high) if t.side == "long" else (high, low)))
        for t in unskilled(trader)
    ]


def names_better_prices(trader: Trader) -> list[Trade]:
    """Declare prices that are 190 bps better than the market's, inside the flag for drift."""
    made = []
    for t in unskilled(trader):
        better = Decimal("0.981") if t.side == "long" else Decimal("1.019")
        assert t.close_hour is not None
        entry = trader.market.touch(t.instrument, t.open_hour).ask * better
        end = trader.market.touch(t.instrument, t.close_hour).bid * (2 - better)
        made.append(Trade(t.instrument, t.side, t.open_hour, t.close_hour, entry, end))
    return made


def enters_late(trader: Trader) -> list[Trade]:
    """Declare the price of an hour ago, where the market has moved the right way since."""
    made = []
    for start, end in trader.slots():
        instrument = trader.instrument()
        hour_ago = max(start - 1, 0)
        side: Side = "long" if trader.moved(instrument, hour_ago, start) > 0 else "short"
        touch = trader.market.touch(instrument, hour_ago)
        made.append(Trade(instrument, side, start, end, touch.ask if side == "long" else touch.bid))
    return made


def never_closes_losers(trader: Trader) -> list[Trade]:
    """Close what is ahead, and leave open what is behind."""
    made = []
    for start, end in trader.slots():
        instrument, side = trader.instrument(), trader.side()
        gain = trader.moved(instrument, start, end) * (1 if side == "long" else -1)
        made.append(Trade(instrument, side, start, end if gain > COSTS else None))
    return made


def has_one_lucky_trade(trader: Trader) -> list[Trade]:
    """Make one trade that did very well, by luck, and trades of minutes ever after."""
    made = []
    for number, (start, end) in enumerate(trader.slots()):
        instrument = trader.instrument()
        if number == 0:
            long_end = min(start + 24 * 5, trader.last_hour)
            moves = [trader.moved(i, start, long_end) for i in range(INSTRUMENTS)]
            instrument = int(np.argmax(np.abs(moves)))
            made.append(Trade(instrument, "long" if moves[instrument] > 0 else "short", start, long_end))
        elif start > made[0].close_hour:  # type: ignore[operator]
            made.append(Trade(instrument, trader.side(), start, min(start + 1, end)))
    return made


def splits_one_trade(trader: Trader) -> list[Trade]:
    """Split one trade into twenty that are opened and closed together."""
    made = []
    for number, (start, end) in enumerate(trader.slots(mean_hold=60, mean_pause=20)):
        if number * 20 >= trader.closes:
            break
        instrument, side = trader.instrument(), trader.side()
        made += [Trade(instrument, side, start, end) for _ in range(20)]
    return made


def opens_pairs(trader: Trader) -> list[Trade]:
    """Open long and short together, close the one that is ahead, and the other when it is ahead, too, or never."""
    made = []
    for start, end in list(trader.slots())[: trader.closes // 2 + 1]:
        instrument = trader.instrument()
        winner: Side = "long" if trader.moved(instrument, start, end) > 0 else "short"
        loser: Side = "short" if winner == "long" else "long"
        gains = trader.gains(instrument, loser, start)[end - start :]
        later = int(np.argmax(gains > COSTS))
        loser_end = end + later if gains[later] > COSTS else None
        made += [Trade(instrument, winner, start, end), Trade(instrument, loser, start, loser_end)]
    return made


def doubles_down(trader: Trader) -> list[Trade]:
    """Play martingale: while a trade is behind add as much again, and close everything when the sum is ahead."""
    made: list[Trade] = []
    hour = trader.start
    while len(made) < trader.closes and hour < trader.last_hour - 1:
        instrument, side = trader.instrument(), trader.side()
        opens, end = _double_until_ahead(trader, instrument, side, hour)
        made += [Trade(instrument, side, each, end) for each in opens]
        if end is None:
            break
        hour = end + 1 + int(trader.random.exponential(6))
    return made


def _double_until_ahead(trader: Trader, instrument: int, side: Side, start: int) -> tuple[list[int], int | None]:
    """Return the hours at which units are opened, and the one at which all are closed; None: the world ends first."""
    mids = trader.market.mids[:, instrument]
    opens, sign = [start], 1 if side == "long" else -1
    for hour in range(start + 1, trader.last_hour):
        gain = sum(sign * (mids[hour] / mids[each] - 1) - COSTS for each in opens)
        if gain > 0.002 * len(opens):
            return opens, hour
        if len(opens) < 64 and sign * (mids[hour] / mids[opens[-1]] - 1) < -0.03:
            opens += [hour] * len(opens)
    return opens, None


def retracts_when_behind(trader: Trader) -> list[Trade]:
    """Retract within ten seconds what is behind, as far as the rules allow: a move of 2 bps, three times in 30 days."""
    made: list[Trade] = []
    retracted: list[int] = []
    for start, end in trader.slots(mean_hold=4):
        instrument, side = trader.instrument(), trader.side()
        step = float(trader.market.steps[start + 1, instrument])
        # Ten seconds of the hour that follows, given how it ends.
        part = 10 / 3600
        moved = step * part + trader.random.normal() * HOURLY_DEVIATION * np.sqrt(part * (1 - part))
        is_behind = moved < 0 if side == "long" else moved > 0
        may = abs(moved) <= 2e-4 and sum(start - each < 24 * 30 for each in retracted) < 3
        if is_behind and may:
            retracted.append(start)
        made.append(Trade(instrument, side, start, end, is_void=is_behind and may))
    return made


def closes_without_quotes(trader: Trader) -> list[Trade]:
    """Close what is behind only at times without a quote, at a price of one's own, so that it would not count."""
    made = []
    for t in unskilled(trader):
        assert t.close_hour is not None
        gain = trader.moved(t.instrument, t.open_hour, t.close_hour) * (1 if t.side == "long" else -1)
        made.append(Trade(t.instrument, t.side, t.open_hour, t.close_hour, close_is_unquoted=gain < COSTS))
    return made


def stops_when_ahead(trader: Trader) -> list[Trade]:
    """Trade by chance until the record looks best, and never again."""
    trades = unskilled(trader)
    gains = gains_of(trader, trades)
    if len(gains) < 35:
        return trades
    counts = np.arange(1, len(gains) + 1)
    score = np.cumsum(gains) / np.sqrt(np.cumsum(gains**2)) * (counts >= 35)
    return trades[: int(np.argmax(score)) + 1]


def inflates_its_peak(trader: Trader) -> list[Trade]:
    """Open a hundred hedged pairs once, so that all later days are tiny parts of the greatest number of units."""
    first = trader.start
    pairs = [Trade(0, side, first, first + 1) for side in _BOTH for _ in range(100)]
    return pairs + [Trade(trader.instrument(), trader.side(), *slot) for slot in trader.slots() if slot[0] > first + 1]


def opens_pairs_and_waits(trader: Trader) -> list[Trade]:
    """Open long and short together, so that days are calm, and close the side that is behind a day later."""
    made = []
    for start, end in trader.slots(mean_hold=48):
        instrument = trader.instrument()
        gain = trader.moved(instrument, start, end)
        ahead: Side = "long" if gain > 0 else "short"
        behind: Side = "short" if gain > 0 else "long"
        later = min(end + 24, trader.last_hour)
        made += [Trade(instrument, ahead, start, end), Trade(instrument, behind, start, later)]
    return made


def snipes(age_seconds: float) -> Callable[[Trader], list[Trade]]:
    """Return a strategy against quotes that are so old at the receipt of a signal: it waits for the day's greatest move
    within that time in any instrument, and buys at the price of before it.
    """

    def trade(trader: Trader) -> list[Trade]:
        windows = INSTRUMENTS * 24 * 3600 / max(age_seconds, 1)
        scale = HOURLY_DEVIATION * np.sqrt(age_seconds / 3600) / np.sqrt(5 / 3)
        made = []
        for start, _ in trader.slots(mean_hold=1, mean_pause=22):
            # The greatest of n draws of Student's t with 5 degrees of freedom, whose upper tail is 9.49 / t^5.
            greatest = scale * (9.49 * windows / trader.random.exponential()) ** (1 / 5)
            made.append(Trade(trader.instrument(), trader.side(), start, start + 1, known_move=float(greatest)))
        return made

    return trade


def best_of_abandoned(trader: Trader) -> list[Trade]:
    """Open a hundred accounts, and go on with the one that looks best: before any is eligible, so that none counts."""
    tries = [unskilled(trader) for _ in range(ABANDONED + 1)]
    before = [trades[:29] for trades in tries]
    best = max(range(len(tries)), key=lambda number: _score(trader, before[number]))
    return tries[best][:35]


def _score(trader: Trader, trades: list[Trade]) -> float:
    gains = gains_of(trader, trades)
    return float(np.sum(gains) / np.sqrt(np.sum(np.square(gains)) + 1e-12))


def gains_of(trader: Trader, trades: list[Trade]) -> NDArray[np.float64]:
    """Return what closed trades gained, before costs."""
    return np.array(
        [trader.moved(t.instrument, t.open_hour, t.close_hour or 0) * (1 if t.side == "long" else -1) for t in trades]
    )


ABANDONED = 99
_BOTH: tuple[Side, Side] = ("long", "short")

CHEATS: dict[str, Callable[[Trader], list[Trade]]] = {
    "prices made up": makes_prices_up,
    "prices 190 bps better": names_better_prices,
    "an hour late": enters_late,
    "losers never closed": never_closes_losers,
    "one lucky trade": has_one_lucky_trade,
    "one trade split": splits_one_trade,
    "long and short as a pair": opens_pairs,
    "martingale": doubles_down,
    "retracts when behind": retracts_when_behind,
    "closes without quotes": closes_without_quotes,
    "stops when ahead": stops_when_ahead,
    "inflates its peak": inflates_its_peak,
    "pairs, the loser a day later": opens_pairs_and_waits,
    "best of abandoned accounts": best_of_abandoned,
}
