"""Show providers' records from the market as of now: what is stored, and what the log has had since."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from actors.records.book import Book
from actors.records.curve import DayResult
from actors.records.entries import AnyEntry, decode
from actors.records.equity import Curve, curve_since, thinned
from actors.records.live import Present, days_with_today, present_of, with_entries
from actors.records.returns import UNIT, rounded
from actors.records.stored import decode_book
from config.clock import now, rfc3339
from config.documents import Document
from db._postgres import Connection
from db.providers import books
from db.providers.books import PresentRow

BASIS = "marked_daily"
PERIODS: Mapping[str, int | None] = {"week": 7, "month": 30, "year": 365, "all": None}
"""The days of each period before today."""

_FIGURE_UNITS = 10**4
_AGE_SECONDS = 60  # an age is shown in whole minutes, so that a page that is read again is the same

Costs = Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class PresentRecord:
    """A provider's record now, the feed item that it is as of, and what the last night said of it."""

    present: Present
    as_of_seq: int
    risk_score: int | None
    companions: list[tuple[UUID, float]]


async def read_records(
    conn: Connection, ids: Collection[UUID], costs: Costs, at: datetime
) -> dict[UUID, PresentRecord]:
    """Return the present records of those providers that exist."""
    rows = await books.load_present(conn, ids)
    entries: defaultdict[UUID, list[AnyEntry]] = defaultdict(list)
    after = {each.provider_id: -1 if each.book_index is None else each.book_index for each in rows if _is_behind(each)}
    if after:
        until = max(each.applied_index for each in rows)
        known = {each.provider_id: each.applied_index for each in rows}
        for entry in await books.read_entries_since(conn, after, until):
            if entry.provider_id is not None and entry.index <= known[entry.provider_id]:
                entries[entry.provider_id].append(decode(entry.body))
    found = {
        row.provider_id: with_entries(
            Book() if row.book is None else decode_book(row.book), entries[row.provider_id], costs
        )
        for row in rows
    }
    wanted = {position.instrument for book in found.values() for position in book.positions.values()}
    mids = await books.load_mids(conn, wanted) if wanted else ()
    marks = {(each.asset_type, each.instrument): each.mid for each in mids}
    companions = await books.load_companions(conn, ids)
    return {
        row.provider_id: PresentRecord(
            present_of(found[row.provider_id], marks, at, costs),
            row.applied_seq,
            row.risk_score,
            companions.get(row.provider_id, []),
        )
        for row in rows
    }


async def read_equity(
    conn: Connection, provider_id: UUID, costs: Costs, *, period: str, points: int
) -> Document | None:
    """Return the curve of a provider over a period as the API shows it; None for one that does not exist."""
    at = now()
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        record = (await read_records(conn, [provider_id], costs, at)).get(provider_id)
        rows = await books.load_days(conn, provider_id)
    if record is None:
        return None
    days = [
        DayResult(row.day, row.result, row.equity, row.realised, row.open_result, row.exposure, row.drawdown)
        for row in rows
    ]
    length = PERIODS[period]
    start = None if length is None else at.date() - timedelta(days=length)
    curve = curve_since(days_with_today(days, record.present.today), start)
    return _equity(curve, points, at) | {
        "as_of": at,
        "as_of_seq": record.as_of_seq,
        "basis": BASIS,
        "cost_bps": {kind: float(each) for kind, each in costs.items()},
    }


def describe_record(record: PresentRecord) -> Document:
    """Return the object `record` of a profile."""
    figures = record.present.figures
    document: Document = {name: getattr(figures, name) for name in figures.__slots__}
    age = figures.oldest_open_seconds
    document["oldest_open_seconds"] = None if age is None else age // _AGE_SECONDS * _AGE_SECONDS
    interval = figures.win_rate_interval
    document["win_rate_interval"] = None if interval is None else {"lower": interval[0], "upper": interval[1]}
    document["missing"] = [each._asdict() for each in figures.missing]
    document["risk_score"] = record.risk_score
    document["moves_with"] = [
        {"provider_id": other, "correlation": round(correlation, 4)} for other, correlation in record.companions
    ]
    return document


def _equity(curve: Curve, points: int, at: datetime) -> Document:
    last = len(curve.days) - 1
    chosen = thinned(curve.days, points)
    return {
        "points": [_point(day, at if day is curve.days[last] else _end_of(day.day, at)) for day in chosen],
        "months": [{"month": each.name, "return_": _figure(each.result)} for each in curve.months],
        "max_drawdown": _figure(curve.max_drawdown),
        "ruined": curve.is_ruined,
    }


def _point(day: DayResult, at: datetime) -> Document:
    return {
        "t": rfc3339(at),
        "equity": _figure(day.equity),
        "realised": _figure(day.realised),
        "open": _figure(day.open_result),
        "exposure": _figure(day.exposure),
        "drawdown": _figure(day.drawdown),
    }


def _end_of(day: date, at: datetime) -> datetime:
    return datetime.combine(day + timedelta(days=1), datetime.min.time(), at.tzinfo)


def _is_behind(row: PresentRow) -> bool:
    return row.applied_index > (-1 if row.book_index is None else row.book_index)


def _figure(amount: int) -> float:
    return rounded(amount * _FIGURE_UNITS, UNIT) / _FIGURE_UNITS
