"""Compute the boards that find skill from everyone's record (pure), as arrays: 100 000 providers in under a second."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from actors.records.gates import FALSE_DISCOVERY_RATE, GATES
from actors.records.skill import Floats, assess
from db._board_nights import Candidate, Night, StatsColumns

LEAST_LOSS = 1e-4
"""The least daily loss that steadiness is measured by, a basis point: without any loss it would have no value."""

_SHOWN = 4  # decimals


def night_of(day: date, stats: StatsColumns | None, computed_at: datetime) -> tuple[Night, list[Candidate]]:
    """Return the boards as of a day's end, and everyone who was ever eligible.

    Both boards list those that pass every gate and whose chance of luck is at most FALSE_DISCOVERY_RATE, over all that
    were ever eligible. `skill` is ordered by the lower bound of the shrunk Sharpe ratio, `steady` by the mean daily
    return over the loss that 95 % of days stay within.
    """
    if stats is None:
        return Night(day, 0, computed_at, 0, 0, None), []
    passes = passing(stats, day)
    ever = np.flatnonzero(passes | np.array(stats.was_eligible))
    days = np.array(stats.days, float)[ever]
    sums = np.array(stats.day_sum)[ever]
    skill = assess(days, sums, np.array(stats.day_square_sum)[ever])
    steadiness = sums / days / np.maximum(np.array(stats.daily_loss)[ever], LEAST_LOSS)
    is_listed = passes[ever] & (skill.luck <= FALSE_DISCOVERY_RATE)
    ids = [stats.provider_id[place] for place in ever.tolist()]
    ranks = [_ranks(skill.lower, is_listed, ids), _ranks(steadiness, is_listed, ids)]
    positions, unverified = np.array(stats.positions, float)[ever], np.array(stats.unverified, float)[ever]
    figures = [skill.lower, skill.upper, skill.luck, steadiness]
    parts = [
        np.array(stats.max_drawdown)[ever],
        np.array(stats.open_result)[ever],
        1 - unverified / np.maximum(positions, 1),
    ]
    rows = zip(
        ids,
        *ranks,
        *(np.round(each, _SHOWN).tolist() for each in figures),
        np.array(stats.bets)[ever].tolist(),
        days.astype(int).tolist(),
        *(np.round(each, _SHOWN).tolist() for each in parts),
        strict=True,
    )
    least_luck = round(float(skill.luck.min()), _SHOWN) if len(ever) else None
    night = Night(day, stats.as_of_seq, computed_at, len(ever), int(is_listed.sum()), least_luck)
    return night, [Candidate(day, *row) for row in rows]


def passing(stats: StatsColumns, day: date) -> NDArray[np.bool_]:
    """Return who passes every gate at the end of a day: `gates.missing_gates` of all at once."""
    age = (day - date.min).days + 1 - np.array(stats.first_on)
    most_unverified = round(GATES["unverified_share"] * 100)
    return (
        (np.array(stats.bets) >= GATES["bets"])
        & (np.array(stats.days) >= GATES["days"])
        & (age >= GATES["age_days"])
        & (np.array(stats.unverified) * 100 <= most_unverified * np.array(stats.positions))
    )


def _ranks(values: Floats, is_listed: NDArray[np.bool_], ids: list[UUID]) -> list[int | None]:
    """Return each one's rank by a value, the highest first, ties by id; None: not listed."""
    ranks: list[int | None] = [None] * len(ids)
    listed = sorted(np.flatnonzero(is_listed).tolist(), key=lambda place: (-values[place], ids[place]))
    for rank, place in enumerate(listed, start=1):
        ranks[place] = rank
    return ranks
