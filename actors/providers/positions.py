"""Decide what becomes of positions (pure): legs by declared prices and by those that count, until nothing is open."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from uuid import UUID

from actors.records.curve import divided
from actors.records.entries import EndEntry, SignalEntry
from actors.records.history import worse_exit
from actors.records.returns import can_enter, can_exit, return_of, times
from db.providers.outcomes import WHOLE, Leg, OutcomeRow
from schemas._vocabulary import OutcomeStatus


def opened(entry: SignalEntry) -> OutcomeRow | None:
    """Return the position that a signal opens; None where its price is none that can be entered."""
    price = entry.declared_price
    if price is None or entry.direction is None or not price.is_finite() or not can_enter(entry.asset_type, price):
        return None
    record_price = entry.record_price
    has_entry = record_price is not None and entry.order == "market" and can_enter(entry.asset_type, record_price)
    return OutcomeRow(
        entry.signal_id,
        entry.provider_id,
        entry.instrument,
        entry.direction,
        price,
        entry.feed_seq,
        entry.published_at,
        asset_type=entry.asset_type,
        record_entry=record_price if has_entry else None,
    )


def leg_of_signal(position: OutcomeRow, entry: SignalEntry) -> Leg | None:
    """Return the leg that a closing signal makes; None where its price is none that can be left at."""
    price = entry.declared_price
    if price is None or not price.is_finite() or not can_exit(entry.asset_type, price):
        return None
    part = min(entry.part, position.open_part)
    exit_price = entry.record_price
    if exit_price is not None and not can_exit(entry.asset_type, exit_price):
        exit_price = None
    returned = return_of(position.asset_type, position.direction, position.entry_price, price)
    counts = _record_return(position, exit_price)
    return Leg(entry.published_at, price, part, returned, counts, "signal", entry.signal_id)


def leg_of_end(position: OutcomeRow, entry: EndEntry) -> Leg | None:
    """Return the leg that an end by the market makes."""
    if entry.price is None or entry.reason is None:
        return None
    part = min(entry.part, position.open_part)
    returned = return_of(position.asset_type, position.direction, position.entry_price, entry.price)
    return Leg(entry.at, entry.price, part, returned, _record_return(position, entry.price), entry.reason, None)


def with_legs(position: OutcomeRow, legs: tuple[Leg, ...], seq: int) -> None:
    """Set the legs of a position, and what follows from them; `seq` numbers the entry of the last one."""
    position.legs = legs
    position.open_part = WHOLE - sum(each.part for each in legs)
    position.status, position.returned, position.record_return = "PENDING", None, None
    position.closed_at = position.closed_by = position.closed_seq = position.close_reason = None
    position.is_unmarked = position.record_entry is not None and any(each.record_return is None for each in legs)
    if position.open_part:
        return
    last = legs[-1]
    position.returned = sum(times(each.part, each.returned) for each in legs)
    position.status = _status(position, legs, position.returned)
    position.closed_at, position.closed_by, position.closed_seq = last.at, last.closed_by, seq
    position.close_reason = last.reason
    _settle(position)


def marked(position: OutcomeRow, mid: Decimal) -> None:
    """Give the legs that had no quote the price that counts: the first mark after them, or theirs if that is worse."""
    position.legs = tuple(
        each
        if each.record_return is not None
        else replace(each, record_return=_record_return(position, worse_exit(position.direction, each.price, mid)))
        for each in position.legs
    )
    position.is_unmarked = False
    if not position.open_part:
        _settle(position)


def split(position: OutcomeRow, new: int, old: int) -> None:
    """Convert the entry, and the prices of legs that wait for a mark, into today's shares."""
    position.entry_price = divided(position.entry_price, new, old)
    if position.record_entry is not None:
        position.record_entry = divided(position.record_entry, new, old)
        position.legs = tuple(
            each if each.record_return is not None else replace(each, price=divided(each.price, new, old))
            for each in position.legs
        )


def without_leg(position: OutcomeRow, closed_by: UUID) -> tuple[Leg, ...]:
    """Return the legs of a position without the one of this signal."""
    return tuple(each for each in position.legs if each.closed_by != closed_by)


def _settle(position: OutcomeRow) -> None:
    known = [(each.part, each.record_return) for each in position.legs if each.record_return is not None]
    if position.record_entry is not None and len(known) == len(position.legs):
        position.record_return = sum(times(part, returned) for part, returned in known)


def _record_return(position: OutcomeRow, price: Decimal | None) -> int | None:
    if position.record_entry is None or price is None:
        return None
    return return_of(position.asset_type, position.direction, position.record_entry, price)


def _status(position: OutcomeRow, legs: tuple[Leg, ...], returned: int) -> OutcomeStatus:
    """Return the status by the sign of the return; what is rounded to 0 still counts where one leg is all."""
    gain = Decimal(returned)
    if not returned and len(legs) == 1:
        gain = legs[0].price - position.entry_price
        gain = gain if position.direction == "long" else -gain
    return "PROFIT" if gain > 0 else "LOSS" if gain < 0 else "BREAKEVEN"
