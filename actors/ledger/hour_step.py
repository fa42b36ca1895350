"""End an hour in the log: what the market ended before it, splits, expiries, resolutions, and then the mark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from actors.ledger.ends import MINUTE, ended, voided
from actors.ledger.log_time import DAY, HOUR, full_hour
from actors.ledger.market import LIVE, Answers, MinutesWanted, Question
from actors.ledger.minutes_step import asked, check_minutes, has_levels, is_quiet
from actors.ledger.open_log import OpenLog
from actors.ledger.splits import Split, split_positions
from actors.lens.market.options import intrinsic_value
from actors.lens.market.quotes import PricedInstrument, Resolution
from actors.records.entries import AnyEntry, MarkEntry, ResolutionEntry, SplitEntry
from config.values import Value, replace
from db import ledger as sql
from db._postgres import Connection
from db.ledger import Instrument, InstrumentRow, PositionRow, SplitRow, WatchedInstrument
from schemas._instruments import has_expired, parse_option
from schemas._vocabulary import AssetType, CloseReason

HOUR_SECONDS: Final = 60.0  # for everything that is asked for an hour's mark
MARK_BYTES: Final = 60_000  # of an entry's mids; a leaf has 65,535 at most
AWAITED: Final = timedelta(days=7)
"""How long an end is waited for after its day, until what is left of the position counts as if it had never been."""
DELISTED: Final = timedelta(days=30)
"""An instrument without a mid for so long is taken to be delisted: its positions end at the last one."""
KEPT: Final = timedelta(hours=1)
"""How long a position that has ended is kept, as its close may be retracted."""

_EXCHANGE: Final = ZoneInfo("America/New_York")
_EXPIRES_AT: Final = time(16)
_UNDERLYINGS: Final[tuple[AssetType, ...]] = ("stock", "etf")
_PROBABILITIES: Final[Mapping[Resolution, Decimal]] = {"yes": Decimal(1), "no": Decimal(0)}


class InstrumentEnd(Value):
    """The end of all that is open in an instrument: at a price, or as if it had never been."""

    reason: CloseReason | None
    price: Decimal | None
    at: datetime
    resolution: Resolution | None = None

    def end(self, position: PositionRow) -> Sequence[AnyEntry]:
        """End a position."""
        if not position.is_filled:
            return voided(position, "lapsed", self.at)
        if self.price is None:
            return voided(position, "void" if self.reason else "awaiting", self.at, self.reason)
        assert self.reason is not None
        return [ended(position, self.reason, position.open_part, self.price, self.at)]


def question_for(log: OpenLog, market: Answers, hour: datetime, now: datetime) -> Question:
    """Return what has to be asked before an hour can be ended; nothing of what was asked already."""
    question, is_live = Question(HOUR_SECONDS, hour=hour), now - hour < LIVE
    for key, watched in log.watched.items():
        row = watched.row
        if not is_live and _want_hours(question, market, key, row, hour):
            continue
        if has_levels(watched) and not is_quiet(market, key, watched, hour):
            _want(question, market, key, asked(row), row.checked_until, hour)
        if watched.is_held:
            _want_price(question, market, key, asked(row), hour, is_live=is_live)
        if _expires(row, hour):
            for underlying in _underlyings(row):
                _want_price(
                    question, market, (underlying.asset_type, underlying.symbol), underlying, hour, is_live=is_live
                )
        if watched.is_held and _may_be_resolved(row, hour, is_live=is_live):
            question.resolutions[key] = asked(row)
    if market.is_asked(question):
        question.mids, question.resolutions = {}, {}
    return question


async def end_hour(
    conn: Connection, log: OpenLog, market: Answers, splits: Iterable[Split], hour: datetime, now: datetime
) -> None:
    """Append all that belongs before the mark of an hour, and the mark."""
    await check_minutes(conn, log, market, {key: hour for key, each in log.watched.items() if has_levels(each)})
    is_live = now - hour < LIVE
    await _apply_splits(conn, log, splits, hour)
    await _end_positions(conn, log, market, hour, is_live=is_live)
    mids = _mids(log, market, hour, is_live=is_live)
    await log.append(conn, mark_entries(hour, mids))
    for key, mid in mids.items():
        log.watched[key].row = replace(log.watched[key].row, mid=mid, mid_at=hour)
    await sql.update_instruments(conn, [each.row for each in log.watched.values()])
    await sql.purge_positions(conn, hour - KEPT)
    await sql.purge_instruments(conn)
    await log.watch_anew(conn)
    await log.reach(conn, hour, is_marked=True)
    market.forget({key: min(each.row.checked_until, hour - HOUR) for key, each in log.watched.items()})


def mark_entries(hour: datetime, mids: Mapping[Instrument, Decimal]) -> list[MarkEntry]:
    """Return the marks of an hour: as many entries as their size asks for, at least one; the last one says so."""
    entries: list[dict[AssetType, dict[str, Decimal]]] = [{}]
    size = 0
    for (asset_type, instrument), mid in sorted(mids.items()):
        size += len(instrument.encode()) * 2 + len(str(mid)) + 8  # a name may have to be escaped
        if size > MARK_BYTES:
            entries.append({})
            size = 0
        entries[-1].setdefault(asset_type, {})[instrument] = mid
    return [MarkEntry(hour, each, each is entries[-1]) for each in entries]


def _want(
    question: Question,
    market: Answers,
    key: Instrument,
    instrument: PricedInstrument,
    since: datetime,
    until: datetime,
) -> None:
    if until <= since or not market.wants(key, since, until):
        return
    known = question.minutes.get(key)
    if known is not None:
        since, until = min(since, known.since), max(until, known.until)
    question.minutes[key] = MinutesWanted(instrument, since, until)


def _want_hours(question: Question, market: Answers, key: Instrument, row: InstrumentRow, hour: datetime) -> bool:
    since = full_hour(min(row.checked_until, hour - HOUR))
    if not market.wants_hours(key, since, hour):
        return False
    question.hours[key] = MinutesWanted(asked(row), since, hour)
    return True


def _want_price(
    question: Question,
    market: Answers,
    key: Instrument,
    instrument: PricedInstrument,
    hour: datetime,
    *,
    is_live: bool,
) -> None:
    if is_live:
        question.mids[key] = instrument
    elif market.price_at(key, hour) is None:
        _want(question, market, key, instrument, hour - HOUR, hour + MINUTE)


def _price(market: Answers, key: Instrument, hour: datetime, *, is_live: bool) -> Decimal | None:
    return market.mid(key, hour) if is_live else market.price_at(key, hour)


def _mids(log: OpenLog, market: Answers, hour: datetime, *, is_live: bool) -> dict[Instrument, Decimal]:
    found = {key: _price(market, key, hour, is_live=is_live) for key, watched in log.watched.items() if watched.is_held}
    return {key: mid for key, mid in found.items() if mid is not None}


def _expires(row: InstrumentRow, hour: datetime) -> bool:
    return row.asset_type == "option" and row.expires_on is not None and has_expired(row.expires_on, hour)


def _may_be_resolved(row: InstrumentRow, hour: datetime, *, is_live: bool) -> bool:
    """Return whether to ask: sources do not say when, so of a past hour only what must have come before is asked."""
    return row.asset_type == "prediction" and (is_live or _day_is_over(row, hour))


def _day_is_over(row: InstrumentRow, hour: datetime) -> bool:
    return row.expires_on is not None and hour >= datetime.combine(row.expires_on, time(), UTC) + DAY


def _underlyings(row: InstrumentRow) -> Sequence[PricedInstrument]:
    try:
        name = parse_option(row.symbol).underlying
    except ValueError:  # stored under other rules than today's
        return ()
    return [PricedInstrument(asset_type, name) for asset_type in _UNDERLYINGS]


async def _apply_splits(conn: Connection, log: OpenLog, splits: Iterable[Split], hour: datetime) -> None:
    for split in splits:
        key: Instrument = (split.asset_type, split.instrument)
        row = SplitRow(*key, split.day)
        if split.at > hour or key not in log.watched or row in log.splits:
            continue
        log.splits.add(row)
        before = [each for each in await sql.open_in(conn, [key]) if each.received_at < split.at]
        if not before:
            continue
        split_positions(before, split)
        await log.append(conn, [SplitEntry(*key, split.new, split.old, split.at)])
        await sql.insert_splits(conn, [row])
        await log.change(conn, before, 0)
        await log.watch_anew(conn, [key])


async def _end_positions(conn: Connection, log: OpenLog, market: Answers, hour: datetime, *, is_live: bool) -> None:
    """End what expired, was resolved or is no longer traded."""
    ways = {key: way for key, each in log.watched.items() if (way := _way(market, key, each, hour, is_live=is_live))}
    if not ways:
        return
    positions = await sql.open_in(conn, list(ways))
    entries: list[AnyEntry] = [
        ResolutionEntry(key[1], way.resolution, hour) for key, way in ways.items() if way.resolution is not None
    ]
    for position in positions:
        entries += ways[position.asset_type, position.instrument].end(position)
    await log.append(conn, entries)
    await log.change(conn, positions, -len(positions))
    await log.watch_anew(conn, list(ways))


def _way(
    market: Answers, key: Instrument, watched: WatchedInstrument, hour: datetime, *, is_live: bool
) -> InstrumentEnd | None:
    row = watched.row
    if _expires(row, hour):
        assert row.expires_on is not None
        at = datetime.combine(row.expires_on, _EXPIRES_AT, _EXCHANGE).astimezone(UTC)
        price = _value_at_expiry(market, key, row, hour, is_live=is_live)
        if price is not None:
            return InstrumentEnd("expiry", price, at)
        return InstrumentEnd(None, None, hour) if hour >= at + AWAITED else None
    if row.asset_type == "prediction":
        resolution = market.resolution(key, hour) if _may_be_resolved(row, hour, is_live=is_live) else None
        if resolution is not None:
            return InstrumentEnd("resolution", _PROBABILITIES.get(resolution), hour, resolution)
        return InstrumentEnd(None, None, hour) if _day_is_over(row, hour - AWAITED) else None
    if row.mid is not None and row.mid_at is not None and hour - row.mid_at >= DELISTED:
        return InstrumentEnd("delisted", row.mid, hour)
    return None


def _value_at_expiry(
    market: Answers, key: Instrument, row: InstrumentRow, hour: datetime, *, is_live: bool
) -> Decimal | None:
    """Return an option's intrinsic value; where nothing is known of its underlying, its own last price."""
    for underlying in _underlyings(row):
        price = _price(market, (underlying.asset_type, underlying.symbol), hour, is_live=is_live)
        if price is not None:
            return intrinsic_value(row.symbol, price)
    own = _price(market, key, hour, is_live=is_live)
    return row.mid if own is None else own
