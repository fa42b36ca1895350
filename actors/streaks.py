"""Compute streaks of consecutive days in a user's time zone, as pure functions.

Two activities fall on two days only if a midnight of the zone that is in force now lies between their instants,
whatever their dates are: moving over the date line within a minute adds no day. A date never counts twice. A streak
ends only when a day was left out both in the zone in force at the last activity and in the one in force now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from uuid import UUID
from zoneinfo import ZoneInfo

from db.streaks import StreakRow, StreakType

_DAY = timedelta(days=1)
_MOMENT = timedelta(microseconds=1)
_QUARTER_SECONDS = 900  # in every zone, midnights fall on full quarters of an hour of UTC


@dataclass(frozen=True, slots=True)
class Streak:
    """A run of consecutive days, and the longest run so far; days are dates in the zone that was in force on them.

    A field that is None had no column yet when the streak was stored: its days counted, and its latest activity was at
    the day's end.
    """

    current: int
    longest: int
    started_on: date
    last_on: date  # the latest day with an activity; it counts, unless no midnight was before it
    seen_on: date  # the day of the latest activity in `zone`; before last_on after a move to the west
    zone: str
    counted_on: date | None = None  # the latest day that counted
    counted_at: datetime | None = None  # the activity that made it count
    seen_at: datetime | None = None  # the latest activity, to the quarter of an hour in which no midnight can be


def from_row(row: StreakRow) -> Streak:
    """Return a streak from its row."""
    return Streak(
        row.current_count,
        row.longest_count,
        row.started_on,
        row.last_on,
        row.seen_on,
        row.zone,
        row.counted_on,
        row.counted_at,
        row.seen_at,
    )


def to_row(owner_id: UUID, kind: StreakType, streak: Streak) -> StreakRow:
    """Return the row of a streak of a user or of a provider."""
    return StreakRow(
        owner_id,
        kind,
        streak.current,
        streak.longest,
        streak.started_on,
        streak.last_on,
        streak.seen_on,
        streak.zone,
        streak.counted_on,
        streak.counted_at,
        streak.seen_at,
    )


@dataclass(frozen=True, slots=True)
class EndedStreak:
    """A streak that has ended."""

    count: int
    started_on: date
    ended_on: date


def record(streak: Streak | None, at: datetime, zone: str) -> tuple[Streak, EndedStreak | None]:
    """Return the streak after an activity, and the one that ended because a day was left out; idempotent."""
    day = local_day(at, zone)
    if streak is None:
        return _begun(1, day, at, zone), None
    if at < _seen_at(streak, at):
        return streak, None
    if day <= _counted_on(streak) or day <= local_day(_counted_at(streak, at), zone):
        return _seen(streak, day, at, zone), None
    if not is_alive(streak, at, zone):
        ended = EndedStreak(streak.current, streak.started_on, streak.last_on)
        return _begun(streak.longest, day, at, zone), ended
    count, last = streak.current + 1, max(streak.last_on, day)
    return Streak(count, max(streak.longest, count), streak.started_on, last, day, zone, day, at, at), None


def record_all(
    streak: Streak | None, instants: Sequence[datetime], zone: str
) -> tuple[Streak | None, Sequence[EndedStreak]]:
    """Apply `record` to several activities, in their order."""
    ended: list[EndedStreak] = []
    for at in instants:
        streak, run = record(streak, at, zone)
        if run is not None:
            ended.append(run)
    return streak, ended


def is_alive(streak: Streak, at: datetime, zone: str) -> bool:
    """Return whether no day has been left out until now: an activity now would continue the streak."""
    seen = _seen_at(streak, at)
    return any(local_day(at, each) <= _following(local_day(seen, each), each) for each in (zone, streak.zone))


def local_day(at: datetime, zone: str) -> date:
    """Return the calendar day of an instant in a zone."""
    return at.astimezone(_zone(zone)).date()


def next_midnight(at: datetime, zone: str) -> datetime:
    """Return when the calendar day of `at` ends in a zone, in UTC."""
    return _midnight(local_day(at, zone) + _DAY, zone)


def _begun(longest: int, day: date, at: datetime, zone: str) -> Streak:
    return Streak(1, longest, day, day, day, zone, day, at, at)


def _seen(streak: Streak, day: date, at: datetime, zone: str) -> Streak:
    """Return the streak with its latest activity; the same object where the instant adds nothing."""
    before = streak.seen_at
    if zone == streak.zone and before is not None and _quarter(before) == _quarter(at):
        return streak
    return replace(
        streak,
        last_on=max(streak.last_on, day),
        seen_on=day,
        zone=zone,
        counted_on=_counted_on(streak),
        counted_at=_counted_at(streak, at),
        seen_at=at,
    )


def _quarter(at: datetime) -> int:
    return int(at.timestamp()) // _QUARTER_SECONDS


def _seen_at(streak: Streak, now: datetime) -> datetime:
    """Return the latest activity; if no instant of its date is known, the end of that day or now, if earlier."""
    at = streak.seen_at
    if at is not None and local_day(at, streak.zone) == streak.seen_on:
        return at
    return min(_midnight(streak.seen_on + _DAY, streak.zone) - _MOMENT, now)


def _counted_on(streak: Streak) -> date:
    return streak.last_on if streak.counted_on is None else min(streak.counted_on, streak.last_on)


def _counted_at(streak: Streak, now: datetime) -> datetime:
    seen = _seen_at(streak, now)
    return seen if streak.counted_at is None else min(streak.counted_at, seen)


def _following(day: date, zone: str) -> date:
    # Not always the next date: when Samoa went over the date line, the 30th of December 2011 was left out.
    return local_day(_midnight(day + _DAY, zone), zone)


def _midnight(day: date, zone: str) -> datetime:
    # A midnight that clocks skip is, by fold=0, the instant of the skip; of one that comes twice, the first.
    return datetime.combine(day, time(), _zone(zone)).astimezone(UTC)


@cache
def _zone(name: str) -> ZoneInfo:
    # Zones are renamed and, seldom, dropped: a zone that this machine does not know is no reason to fail.
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")
