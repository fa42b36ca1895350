"""The messages that `leaderboards` takes, and its answers."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, NamedTuple
from uuid import UUID

from actors._runtime.messages import Message
from config.values import Value
from db.leaderboards import BoardRecord
from schemas._vocabulary import Board, Period

LEADERBOARDS = "leaderboards"


class RankRecords(Message[None]):
    """Changed records; their owners send them after the commit, in the order of the commits."""

    idempotent: ClassVar[bool] = True

    records: tuple[BoardRecord, ...]


class BoardEntry(NamedTuple):
    """One entry of a board; `change` is null where there is nothing to compare with."""

    rank: int
    provider_id: UUID
    value: float
    change: float | None


class Ranking(Value):
    """The first entries of a board, and when it last changed."""

    entries: tuple[BoardEntry, ...]
    updated_at: datetime


class Top(Message[Ranking]):
    """Ask for the first `limit` entries of a board."""

    writes: ClassVar[bool] = False

    board: Board
    period: Period
    limit: int


class BoardPosition(NamedTuple):
    """A provider's position on a board; rank and value are null when it is not on it."""

    rank: int | None
    value: float | None


class PositionOf(Message[BoardPosition | None]):
    """Ask for a provider's position on a board; None for an id that is no provider's."""

    writes: ClassVar[bool] = False

    board: Board
    period: Period
    provider_id: UUID
