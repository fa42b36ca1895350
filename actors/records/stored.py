"""Encode books as they are stored: JSON of whole numbers of any size, positions as rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from actors.records.book import (
    Bet,
    Bets,
    Book,
    MarkedPosition,
    PositionId,
    RecentClose,
    UnitChange,
    UnquotedClose,
    WaitingOrder,
)
from config.documents import Loaded

_NUMBERS: Final = (
    *("units_before", "peak_before", "opened", "unverified", "units", "peak_units", "gain", "exposed", "stale"),
    *("equity", "highest", "deepest", "worst_day", "days", "day_sum", "day_square_sum"),
)

Row = Sequence[object]


def encode_book(book: Book) -> bytes:
    """Return a book as JSON."""
    closed = book.closed
    ended = {each.position.id: each.position for each in book.closes.values() if each.position.id not in book.positions}
    document = {
        "numbers": [getattr(book, name) for name in _NUMBERS],
        "first_day": None if book.first_day is None else book.first_day.isoformat(),
        "newest": _text(book.newest),
        "closed": [closed.count, closed.wins, closed.losses, closed.gain_sum, closed.loss_sum],
        "holding": [*book.holding.items()],
        "bets": [[*instrument, *_bet_row(bet)] for instrument, bet in book.bets.items()],
        "positions": [_position_row(each) for each in book.positions.values()],
        "ended": [_position_row(each) for each in ended.values()],
        "orders": [[str(key), *each.instrument, each.side] for key, each in book.orders.items()],
        "unquoted": [
            [str(key), str(each.position_id), each.part, str(each.price), _text(each.at)]
            for key, each in book.unquoted.items()
        ],
        "closes": [_close_row(key, each) for key, each in book.closes.items()],
        "changes": [
            [_text(each.at), str(each.position_id), each.part, None if each.closed_by is None else str(each.closed_by)]
            for each in book.changes
        ],
        "unverified": [[str(key), _text(at)] for key, at in book.unverified_openings.items()],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def decode_book(body: bytes) -> Book:
    """Return the book of a JSON."""
    stored = json.loads(body)
    book = Book(
        positions=_positions(stored, "positions"),
        bets={(row[0], row[1]): Bet(*row[2:]) for row in stored["bets"]},
        closed=Bets(*stored["closed"]),
        holding=dict(map(tuple, stored["holding"])),
        orders={UUID(row[0]): WaitingOrder((row[1], row[2]), row[3]) for row in stored["orders"]},
        unquoted={
            UUID(row[0]): UnquotedClose(UUID(row[1]), row[2], Decimal(row[3]), datetime.fromisoformat(row[4]))
            for row in stored["unquoted"]
        },
        newest=_time(stored["newest"]),
        changes=[
            UnitChange(datetime.fromisoformat(row[0]), UUID(row[1]), row[2], None if row[3] is None else UUID(row[3]))
            for row in stored["changes"]
        ],
        unverified_openings={UUID(row[0]): datetime.fromisoformat(row[1]) for row in stored["unverified"]},
        first_day=None if stored["first_day"] is None else date.fromisoformat(stored["first_day"]),
        **dict(zip(_NUMBERS, stored["numbers"], strict=True)),
    )
    known = book.positions | _positions(stored, "ended")
    for closed_by, at, position_id, bet, *numbers in stored["closes"]:
        close = RecentClose(datetime.fromisoformat(at), known[UUID(position_id)], *numbers)
        close.bet = None if bet is None else Bet(*bet)
        book.closes[UUID(closed_by)] = close
    return book


def _position_row(position: MarkedPosition) -> Row:
    return (
        str(position.id),
        *position.instrument,
        position.side,
        str(position.entry),
        position.opened_at.isoformat(),
        _text(position.ended_at),
        position.open_part,
        position.value,
        position.accrued,
        position.realised,
        position.costs,
        position.is_new,
    )


def _positions(stored: Loaded, name: str) -> dict[PositionId, MarkedPosition]:
    found: dict[PositionId, MarkedPosition] = {}
    for position_id, asset_type, instrument, side, entry, opened_at, ended_at, *numbers in stored[name]:
        position = MarkedPosition(
            UUID(position_id),
            (asset_type, instrument),
            side,
            Decimal(entry),
            datetime.fromisoformat(opened_at),
            *numbers,
        )
        position.ended_at = _time(ended_at)
        found[position.id] = position
    return found


def _close_row(closed_by: PositionId, close: RecentClose) -> Row:
    return (
        str(closed_by),
        _text(close.at),
        str(close.position.id),
        None if close.bet is None else _bet_row(close.bet),
        close.part,
        close.value,
        close.gain,
        close.realised,
        close.cost,
        close.accrued,
    )


def _bet_row(bet: Bet) -> Row:
    return bet.count, bet.open_count, bet.result_sum


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
