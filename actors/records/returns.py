"""Compute what a position returns, from the prices of its record.

A price is the market's or worse (`record_price`). Returns, values and costs are whole numbers of 1e-12 of the
position's notional value at entry; a prediction's price is the probability of YES, whichever side was taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from schemas._vocabulary import MAY_END_WORTHLESS, Side

UNIT: Final = 10**12
"""One, in the units of returns, fractions, costs and equity."""

_PREDICTION: Final = "prediction"


@dataclass(frozen=True, slots=True)
class Touch:
    """The best prices of a market at one moment: `bid` ≤ `ask`, both above 0 (a prediction's: from 0 to 1)."""

    bid: Decimal
    ask: Decimal


def record_price(declared: Decimal, touch: Touch, *, is_buy: bool) -> Decimal:
    """Return the price that counts for a record: the declared one or the market's, whichever is worse.

    A producer that buys pays at least the ask, one that sells gets at most the bid, so naming a price gains nothing.
    """
    return max(declared, touch.ask) if is_buy else min(declared, touch.bid)


def buys(side: Side, *, opens: bool) -> bool:
    """Return whether a signal buys: it opens a long position or closes a short one."""
    return (side == "long") is opens


def can_enter(asset_type: str, price: Decimal) -> bool:
    """Return whether a position can be opened at this price: above 0, and a prediction's below 1."""
    return price > 0 and (asset_type != _PREDICTION or price < 1)


def can_exit(asset_type: str, price: Decimal) -> bool:
    """Return whether a position can be closed at this price: options and predictions may end worthless."""
    if asset_type == _PREDICTION:
        return 0 <= price <= 1
    return price > 0 or (price == 0 and asset_type in MAY_END_WORTHLESS)


def return_of(asset_type: str, side: Side, entry: Decimal, exit_price: Decimal) -> int:
    """Return what a position returns that was entered and left at these prices, in units of 1e-12.

    Long: exit/entry − 1. Short: 1 − exit/entry, never below −1. Prediction: yes p₁/p₀ − 1, no (p₀ − p₁)/(1 − p₀).
    """
    # Whole numbers, not Fractions, which would be reduced at every step: a third of the time.
    entry_part, entry_parts = entry.as_integer_ratio()
    exit_part, exit_parts = exit_price.as_integer_ratio()
    gain = exit_part * entry_parts - entry_part * exit_parts
    if side == "long":
        return rounded(gain * UNIT, entry_part * exit_parts)
    at_stake = entry_parts - entry_part if asset_type == _PREDICTION else entry_part
    return max(rounded(-gain * UNIT, at_stake * exit_parts), -UNIT)


def floor_price(asset_type: str, side: Side, entry: Decimal) -> Decimal | None:
    """Return the price at which nothing is left of a position and it is closed: twice a short one's entry.

    None: its loss is bounded by its price alone.
    """
    return 2 * entry if side == "short" and asset_type != _PREDICTION else None


def cost_of(cost_bps: Mapping[str, Decimal], asset_type: str, fraction: int) -> int:
    """Return what one side of a trade costs on `fraction` (units of 1e-12) of a position, in the same units."""
    part, parts = cost_bps[asset_type].as_integer_ratio()
    return rounded(part * fraction, parts * 10_000)


def part_of(open_fraction: int, close_fraction: Decimal) -> int:
    """Return the part of a position that a close takes: `close_fraction` (0–1] of what is still open."""
    part, parts = close_fraction.as_integer_ratio()
    return min(max(rounded(open_fraction * part, parts), 1), open_fraction)


def times(value: int, factor: int) -> int:
    """Return the product of two amounts in units of 1e-12, in the same units."""
    return rounded(value * factor, UNIT)


def rounded(numerator: int, denominator: int) -> int:
    """Return numerator / denominator (> 0) as a whole number, a half rounded to even."""
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2))
