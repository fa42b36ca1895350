"""Check what a provider needs to be ranked (pure): bets, days with exposure, age, verified prices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple

from schemas._vocabulary import Gate

GATES: Final[dict[Gate, float]] = {"bets": 30, "days": 30, "age_days": 60, "unverified_share": 0.20}
"""At least so many bets, days with exposure, days since the first; at most that share of positions without a quote."""


FALSE_DISCOVERY_RATE: Final = 0.10
"""The greatest chance of luck of whom a board of skill lists."""


@dataclass(frozen=True, slots=True)
class Track:
    """The figures that the gates check. `first_day` is None before any exposure; `positions` are all ever opened."""

    bets: int
    days: int
    first_day: date | None
    positions: int
    unverified: int

    @property
    def unverified_share(self) -> float:
        """Return the share of positions whose price the market did not confirm."""
        return self.unverified / self.positions if self.positions else 0.0


class MissingGate(NamedTuple):
    """A gate that keeps a provider off the boards: its figure, and the least (of `unverified_share`: the most) that
    passes.
    """

    gate: Gate
    have: float
    need: float


def missing_gates(track: Track | None, today: date) -> list[MissingGate]:
    """Return the gates that keep a provider off the boards, none of one that is eligible; None: it has no record yet.

    `today` is the day after the last that is in the track.
    """
    track = track or Track(0, 0, None, 0, 0)
    age = 0 if track.first_day is None else (today - track.first_day).days
    figures: Iterable[tuple[Gate, int]] = (("bets", track.bets), ("days", track.days), ("age_days", age))
    missing = [MissingGate(gate, have, GATES[gate]) for gate, have in figures if have < GATES[gate]]
    most: Gate = "unverified_share"
    # In whole numbers: a fifth is no float.
    if track.unverified * 100 > round(GATES[most] * 100) * track.positions:
        missing.append(MissingGate(most, round(track.unverified_share, 4), GATES[most]))
    return missing
