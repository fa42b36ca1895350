"""Look at the market's minutes: SQL finds the positions that an instrument's prices touched; no others are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from actors.ledger.ends import MarketEntry, apply_minutes
from actors.ledger.market import Answers
from actors.ledger.open_log import OpenLog
from actors.lens.market.quotes import Bar, PricedInstrument
from db import ledger as sql
from db._postgres import Connection
from db.ledger import Instrument, InstrumentRow, PositionRow, TouchedRow, WatchedInstrument


def asked(row: InstrumentRow) -> PricedInstrument:
    """Return the instrument as its source is asked for it."""
    is_option = row.asset_type == "option"
    return PricedInstrument(
        row.asset_type,
        row.symbol,
        row.expires_on if is_option else None,
        row.platform,
        row.market_id,
        None if is_option else row.expires_on,
    )


def has_levels(watched: WatchedInstrument) -> bool:
    """Return whether minute candles of the instrument can do anything."""
    return not (watched.low_level is None and watched.high_level is None and watched.first_lapse is None)


def is_quiet(market: Answers, key: Instrument, watched: WatchedInstrument, until: datetime) -> bool:
    """Return whether the candles of hours say that nothing was touched since the last look."""
    reach = market.reach(key, watched.row.checked_until, until)
    return reach is not None and not _touches(watched, *reach, until)


async def check_minutes(conn: Connection, log: OpenLog, market: Answers, until: Mapping[Instrument, datetime]) -> int:
    """Look at the known minutes of instruments up to these times, and append what ended, in the order of its time.

    Returns how many entries that were.
    """
    rows: list[TouchedRow] = []
    since: dict[Instrument, datetime] = {}
    for key, end in until.items():
        watched = log.watched[key]
        start = watched.row.checked_until
        if end > start and is_quiet(market, key, watched, end):
            log.set_checked(key, end)
            continue
        known = min(end, market.known_until(key, start))
        if known <= start:
            continue
        low, high = _range(market.bars(key, start, known))
        if _touches(watched, low, high, known):
            rows.append(TouchedRow(*key, low, high, known))
            since[key] = start
        log.set_checked(key, known)
    if not rows:
        return 0
    ends = {key: min(until[key], log.watched[key].row.checked_until) for key in since}
    bars = {key: market.bars(key, since[key], ends[key]) for key in since}
    found = _apply(await sql.touched(conn, rows), bars, ends)
    entries = [entry for _, _, entry in found]
    changed = {position.signal_id: position for _, position, _ in found}
    await log.append(conn, entries)
    await log.change(conn, changed.values(), -sum(not each.open_part for each in changed.values()))
    await log.watch_anew(conn, since.keys())
    return len(entries)


def _apply(
    positions: Iterable[PositionRow], bars: Mapping[Instrument, Sequence[Bar]], ends: Mapping[Instrument, datetime]
) -> list[tuple[datetime, PositionRow, MarketEntry]]:
    found = []
    for position in positions:
        key: Instrument = (position.asset_type, position.instrument)
        found += [(entry.at, position, entry) for entry in apply_minutes(position, bars[key], ends[key])]
    return sorted(found, key=lambda each: (each[0], each[1].opened_seq))  # stable: a position's own order stays


def _range(bars: Sequence[Bar]) -> tuple[Decimal | None, Decimal | None]:
    if not bars:
        return None, None
    return min(bar.low for bar in bars), max(bar.high for bar in bars)


def _touches(watched: WatchedInstrument, low: Decimal | None, high: Decimal | None, until: datetime) -> bool:
    if watched.first_lapse is not None and watched.first_lapse <= until:
        return True
    if low is not None and watched.low_level is not None and low <= watched.low_level:
        return True
    return high is not None and watched.high_level is not None and high >= watched.high_level
