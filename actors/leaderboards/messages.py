"""The messages that `leaderboards` takes, and its answers."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, NamedTuple
from uuid import UUID

from actors._runtime.messages import Message
from config.values import Value
from schemas._vocabulary import Board, Period

LEADERBOARDS = "leaderboards"


class Record(NamedTuple):
    """A provider's current track record, in absolute figures: the next one makes up for one that was lost."""

    provider_id: UUID
    total_signals: int
    followers: int
    closed: int
    wins: int
    return_sum: int  # of the closed signals' returns, in units of 1e-12
    current_streak: int


class Standings(Message[None]):
    """Changed records; their owners send them after the commit, in the order of the commits."""

    idempotent: ClassVar[bool] = True

    records: tuple[Record, ...]


class Place(NamedTuple):
    """One entry of a board; `change` is null where there is nothing to compare with."""

    rank: int
    provider_id: UUID
    value: float
    change: float | None


class Ranking(Value):
    """The first entries of a board, and when it last changed."""

    places: tuple[Place, ...]
    updated_at: datetime


class Top(Message[Ranking]):
    """Ask for the first `limit` entries of a board."""

    writes: ClassVar[bool] = False

    board: Board
    period: Period
    limit: int


class Standing(NamedTuple):
    """A provider's position on a board; rank and value are null when it is not on it."""

    rank: int | None
    value: float | None


class PlaceOf(Message[Standing | None]):
    """Ask for a provider's position on a board; None for an id that is no provider's."""

    writes: ClassVar[bool] = False

    board: Board
    period: Period
    provider_id: UUID
