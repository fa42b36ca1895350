"""Apply minute candles to a position (pure): what fills an order, and what ends a position or a part of it.

Of one candle only the order of its open is known, so what is bad for the provider is taken to come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal

from actors.lens.market.quotes import Bar
from actors.records.entries import EndEntry, FillEntry
from db.ledger import PositionRow
from schemas._vocabulary import CloseReason

MINUTE: Final = timedelta(minutes=1)

MarketEntry = FillEntry | EndEntry
_EndNote = Literal["lapsed", "void", "awaiting", "cancelled"]


def minute_after(at: datetime) -> datetime:
    """Return the beginning of the first minute that is wholly after a time."""
    return at.replace(second=0, microsecond=0) + MINUTE


def opened_at(bar: Bar) -> datetime:
    """Return the beginning of a candle's interval."""
    return datetime.fromtimestamp(bar.opened_ms / 1000, UTC)


def apply_minutes(position: PositionRow, bars: Iterable[Bar], until: datetime) -> list[MarketEntry]:
    """Apply the minute candles before `until`, oldest first; change the position, and return what happened to it.

    Candles from before `watched_from` change nothing.
    """
    found: list[MarketEntry] = []
    for bar in bars:
        at = opened_at(bar)
        if at >= until or not position.open_part:
            break
        if at < position.watched_from:
            continue
        if position.is_filled:
            found += _losses(position, bar, at) or _targets(position, bar, at)
            continue
        if position.valid_until is not None and at + MINUTE > position.valid_until:
            break
        if _reaches_limit(position, bar):
            found.append(_fill(position, at))
            # Whatever way the price took, it passed the limit before the levels beyond it. Targets may have been first.
            found += _losses(position, bar, at)
    if not position.is_filled and position.valid_until is not None and position.valid_until <= until:
        found += voided(position, "lapsed", position.valid_until)
    if found:
        set_levels(position)
    return found


def set_levels(position: PositionRow) -> None:
    """Set the nearest prices that do something to a position."""
    position.low_level, position.high_level = _levels(position)


def ended(
    position: PositionRow,
    reason: CloseReason,
    part: int,
    price: Decimal,
    at: datetime,
) -> EndEntry:
    """Close a part of a position at a price, all of it at most."""
    part = min(part, position.open_part)
    position.open_part -= part
    if not position.open_part:
        position.ended_at = at
    return EndEntry(position.signal_id, position.provider_id, reason, part, price, at)


def voided(position: PositionRow, note: _EndNote, at: datetime, reason: CloseReason | None = None) -> list[MarketEntry]:
    """Let what is left of a position count as if it had never been."""
    part, position.open_part, position.ended_at = position.open_part, 0, at
    if not part:
        return []
    return [EndEntry(position.signal_id, position.provider_id, reason, part, None, at, note)]


def _levels(position: PositionRow) -> tuple[Decimal | None, Decimal | None]:
    is_long = position.side == "long"
    if not position.is_filled:
        return (position.declared_price, None) if is_long else (None, position.declared_price)
    losses = [level for _, level in _loss_levels(position)]
    targets = position.take_profit
    if is_long:
        return max(losses, default=None), min(targets, default=None)
    return max(targets, default=None), min(losses, default=None)


def _loss_levels(position: PositionRow) -> list[tuple[CloseReason, Decimal]]:
    """Return the levels at which a position is lost, the nearest first; of equal ones the stop."""
    levels: Sequence[tuple[CloseReason, Decimal | None]] = (
        ("stop_loss", position.stop_loss),
        ("liquidation", position.liquidation_price),
        ("floor", position.floor_price),
    )
    known = [(reason, level) for reason, level in levels if level is not None]
    return sorted(known, key=lambda each: each[1] if position.side == "short" else -each[1])


def _losses(position: PositionRow, bar: Bar, at: datetime) -> list[MarketEntry]:
    is_long = position.side == "long"
    for reason, level in _loss_levels(position):
        if bar.low <= level if is_long else bar.high >= level:
            price = level
            if reason == "stop_loss":
                price = min(level, bar.open) if is_long else max(level, bar.open)
            return [ended(position, reason, position.open_part, price, at)]
    return []


def _targets(position: PositionRow, bar: Bar, at: datetime) -> list[MarketEntry]:
    is_long = position.side == "long"
    found: list[MarketEntry] = []
    for target in sorted(position.take_profit, reverse=not is_long):
        if not position.open_part or (bar.high < target if is_long else bar.low > target):
            break
        position.take_profit.remove(target)
        found.append(ended(position, "take_profit", position.target_part, target, at))
    return found


def _reaches_limit(position: PositionRow, bar: Bar) -> bool:
    limit = position.declared_price
    return bar.low <= limit if position.side == "long" else bar.high >= limit


def _fill(position: PositionRow, at: datetime) -> FillEntry:
    position.is_filled, position.watched_from = True, at + MINUTE
    position.record_price = position.declared_price
    return FillEntry(position.signal_id, position.provider_id, position.declared_price, at)
