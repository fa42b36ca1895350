"""Describe a provider's curve over a period: its points, months and drawdown, from the days of its book."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from actors.records.curve import DayResult
from actors.records.returns import UNIT, rounded


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month, `2026-11`, and what the equity returned in it, in units of 1e-12."""

    name: str
    result: int


@dataclass(frozen=True, slots=True)
class Curve:
    """Days that begin at an equity of 1, and what follows from them."""

    days: tuple[DayResult, ...]
    months: tuple[Month, ...]
    max_drawdown: int
    is_ruined: bool


def curve_since(days: Sequence[DayResult], start: date | None) -> Curve:
    """Return the curve of the days from `start` on (None: of all), as if the equity had been 1 before them."""
    before = next((day for day in reversed(days) if start is not None and day.day < start), None)
    chosen = [day for day in days if start is None or day.day >= start]
    base = UNIT if before is None else before.equity
    highest, deepest = UNIT, 0
    rebased = []
    for day in chosen:
        equity = _part(day.equity, base)
        highest = max(highest, equity)
        drawdown = rounded((highest - equity) * UNIT, highest)
        deepest = max(deepest, drawdown)
        open_result = _part(day.open_result, base)
        rebased.append(
            DayResult(day.day, day.result, equity, equity - UNIT - open_result, open_result, day.exposure, drawdown)
        )
    return Curve(tuple(rebased), tuple(_months(chosen, base)), deepest, bool(chosen) and chosen[-1].equity == 0)


def thinned(days: Sequence[DayResult], most: int) -> list[DayResult]:
    """Return at most `most` of the days: first, last, highest, lowest and both ends of the drawdown always, and more
    of them at even distances. Where those alone are more than `most`, they are all that is returned.
    """
    if len(days) <= most:
        return [*days]
    kept = _turning_points(days)
    room = most - len(kept)
    if room > 0:
        others = [index for index in range(len(days)) if index not in kept]
        step = len(others) / room
        kept |= {others[int(step * place)] for place in range(room)}
    return [days[index] for index in sorted(kept)]


def _turning_points(days: Sequence[DayResult]) -> set[int]:
    equities = [day.equity for day in days]
    low = max(range(len(days)), key=lambda index: days[index].drawdown)
    high = max(range(low + 1), key=lambda index: (equities[index], index))
    return {0, len(days) - 1, equities.index(max(equities)), equities.index(min(equities)), low, high}


def _months(days: Sequence[DayResult], base: int) -> list[Month]:
    """Return each month's result: what the days of it compound to, since the end of the month before."""
    ends: dict[str, int] = {}
    for day in days:
        ends[f"{day.day:%Y-%m}"] = day.equity
    months = []
    for name, equity in ends.items():
        months.append(Month(name, _part(equity, base) - UNIT))
        base = equity
    return months


def _part(amount: int, base: int) -> int:
    return rounded(amount * UNIT, base) if base else 0
