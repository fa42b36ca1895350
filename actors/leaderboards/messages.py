"""The messages that `leaderboards` takes, and its answers."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, NamedTuple
from uuid import UUID

from actors._runtime.messages import Message
from actors.records.gates import MissingGate
from config.values import Value
from db.leaderboards import BoardRecord
from schemas._vocabulary import LiveBoard, Period

LEADERBOARDS = "leaderboards"


class RankRecords(Message[None]):
    """Changed records; their owners send them after the commit, in the order of the commits.

    `as_of` is the `feed_seq` of the newest signal that is in them.
    """

    idempotent: ClassVar[bool] = True

    records: tuple[BoardRecord, ...]
    as_of: int = 0


class BoardEntry(NamedTuple):
    """One entry of a board; `change` is null where there is nothing to compare with."""

    rank: int
    provider_id: UUID
    value: float
    change: float | None


class Ranking(Value):
    """A page of a board, when it last changed, and its name for further pages: None where it cannot be read again."""

    entries: tuple[BoardEntry, ...]
    updated_at: datetime
    as_of: int | None = None


class Top(Message[Ranking]):
    """Ask for `limit` entries of a board after the first `offset`; `as_of`: as it was then.

    Raises InvalidQuery where that is not remembered.
    """

    writes: ClassVar[bool] = False

    board: LiveBoard
    period: Period
    limit: int
    offset: int = 0
    as_of: int | None = None


class BoardPosition(NamedTuple):
    """A provider's position on a board; rank and value are null when it is not on it, and `missing` says why."""

    rank: int | None
    value: float | None
    missing: tuple[MissingGate, ...] = ()


class PositionOf(Message[BoardPosition | None]):
    """Ask for a provider's position on a board; None for an id that is no provider's."""

    writes: ClassVar[bool] = False

    board: LiveBoard
    period: Period
    provider_id: UUID
    as_of: int | None = None
