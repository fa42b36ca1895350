"""Make a market of instruments whose mids move unpredictably hour by hour, with a spread."""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from actors.records.book import Instrument, Marks
from actors.records.returns import Touch

HOURS = 24
INSTRUMENTS = 40
HOURLY_DEVIATION = 0.009
HALF_SPREAD = 0.8e-4
_DIGITS = 10


class Market:
    """`days` days of hourly mids: fat-tailed returns (Student's t, 5 degrees of freedom), calm spells and wild ones."""

    def __init__(self, random: np.random.Generator, days: int) -> None:
        self.days = days
        hours = days * HOURS + 1
        calm = np.exp(0.5 * np.sin(np.linspace(0, 12 * np.pi, hours))[:, None] * random.uniform(0.3, 1, INSTRUMENTS))
        steps = random.standard_t(5, (hours, INSTRUMENTS)) / np.sqrt(5 / 3) * HOURLY_DEVIATION * calm
        self.steps = np.clip(steps, -0.2, 0.2)
        self.mids: NDArray[np.float64] = random.lognormal(3, 2, INSTRUMENTS) * np.exp(np.cumsum(self.steps, axis=0))

    def instrument(self, number: int) -> Instrument:
        """Return the name of an instrument."""
        return "crypto", f"C{number}"

    def touch(self, number: int, hour: int) -> Touch:
        """Return the best prices at an hour."""
        mid = self.mids[hour, number]
        return Touch(bid=_decimal(mid * (1 - HALF_SPREAD)), ask=_decimal(mid * (1 + HALF_SPREAD)))

    @cached_property
    def closing_marks(self) -> list[Marks]:
        """Return the mids at the end of each day."""
        return [
            {self.instrument(i): _decimal(self.mids[(day + 1) * HOURS, i]) for i in range(INSTRUMENTS)}
            for day in range(self.days)
        ]


def _decimal(price: float) -> Decimal:
    return Decimal(f"{price:.{_DIGITS}g}")
