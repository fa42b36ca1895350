"""Tell skill from luck: significance over all providers at once, and Sharpe ratios shrunk towards their median.

Sharpe ratios are of daily marked returns, not annualised: mean by sample deviation (ddof 1). The test takes the
variance under the null, t = SR·√(D − 1), and Student's distribution with D − 1 degrees of freedom, one-sided. Listed
are those that pass Benjamini and Hochberg's procedure over everyone who was ever eligible, so that the best of many is
not taken for skilled. Sources: docs/records.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.records.gates import FALSE_DISCOVERY_RATE

ONE_SIDED_95: Final = 1.645

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Skill:
    """The board's statistics, one place for each provider that was ever eligible.

    `luck` is the false discovery rate at which a provider would just be listed (the adjusted p-value). `spread` is the
    variance of true Sharpe ratios (τ²) and `median` the value that they are shrunk towards.
    """

    sharpe: Floats
    luck: Floats
    shrunk: Floats
    lower: Floats
    upper: Floats
    is_listed: NDArray[np.bool_]
    median: float
    spread: float


def assess(days: Floats, sums: Floats, square_sums: Floats) -> Skill:
    """Assess providers by their number of days (≥ 2), and the sums of their daily returns and of the squares.

    A provider whose days are all alike has no Sharpe ratio, and is taken as one of 0.
    """
    if not len(days):
        nothing = np.empty(0)
        return Skill(nothing, nothing, nothing, nothing, nothing, np.empty(0, bool), 0.0, 0.0)
    mean = sums / days
    variance = np.maximum(square_sums - sums * mean, 0.0) / (days - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        sharpe = np.where(variance > _least_variance(mean), mean / np.sqrt(variance), 0.0)
    error = 1 / (days - 1)
    from scipy.special import stdtr  # late: once a night, and a third of a second of the process's start

    luck = adjusted(stdtr(days - 1, -sharpe / np.sqrt(error)))
    median = float(np.median(sharpe))
    spread = max(0.0, float(np.mean((sharpe - median) ** 2 - error)))
    weight = spread / (spread + error)
    shrunk = weight * sharpe + (1 - weight) * median
    margin = ONE_SIDED_95 * np.sqrt(weight * error)
    is_listed = luck <= FALSE_DISCOVERY_RATE
    return Skill(sharpe, luck, shrunk, shrunk - margin, shrunk + margin, is_listed, median, spread)


def adjusted(p: Floats) -> Floats:
    """Return Benjamini and Hochberg's adjusted p-values: at a rate above its own, a provider is among the discoveries.

    Source: Benjamini & Hochberg (1995), Journal of the Royal Statistical Society B 57(1).
    """
    order = np.argsort(p)[::-1]
    ranks = np.arange(len(p), 0, -1)
    result = np.empty(len(p))
    result[order] = np.minimum(np.minimum.accumulate(p[order] * len(p) / ranks), 1.0)
    return result


def wilson(wins: int, count: int) -> tuple[float, float] | None:
    """Return Wilson's two-sided 95 % interval of a win rate; None without a bet. To be shown, never ranked by."""
    if not count:
        return None
    z = 1.959963984540054
    rate, z2 = wins / count, z * z
    centre = (rate + z2 / (2 * count)) / (1 + z2 / count)
    half = z * np.sqrt(rate * (1 - rate) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return max(float(centre - half), 0.0), min(float(centre + half), 1.0)


def daily_loss(sorted_days: list[int]) -> int | None:
    """Return the loss that 95 % of days stay within, as a positive number in the units of the days; None without days.

    It is the smallest return whose rank, of ascending returns, is at least 5 % of their number; a gain counts as 0.
    """
    if not sorted_days:
        return None
    return max(-sorted_days[(len(sorted_days) + 19) // 20 - 1], 0)


def _least_variance(mean: Floats) -> Floats:
    # Rounding alone leaves this much between sums of equal numbers.
    return np.maximum(mean * mean, 1e-24) * 1e-12
