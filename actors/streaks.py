"""Days in a row: which calendar day an instant is in somebody's time zone, and what it does to a streak. Pure.

A change of zone never breaks a streak and never counts a date twice: dates only go forward, and a streak is over only
when both the zone that was in force at the last activity and the one that is in force now have left a day out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Streak:
    """A run of days, and the longest there ever was. Days are dates in the zone that was in force on them."""

    current: int
    longest: int
    started_on: date
    last_on: date  # the latest day that counted
    seen_on: date  # the day of the latest activity in `zone`; before last_on after a move to the west
    zone: str


@dataclass(frozen=True, slots=True)
class Run:
    """A streak that is over."""

    count: int
    started_on: date
    ended_on: date


def record(streak: Streak | None, at: datetime, zone: str) -> tuple[Streak, Run | None]:
    """The streak after an activity, and the one that ended by it: a day was left out. Repeating it changes nothing."""
    day = local_day(at, zone)
    if streak is None:
        return Streak(1, 1, day, day, day, zone), None
    if day <= streak.last_on:
        moved = zone != streak.zone or day > streak.seen_on
        return (replace(streak, seen_on=day, zone=zone) if moved else streak), None
    if not is_alive(streak, at, zone):
        ended = Run(streak.current, streak.started_on, streak.last_on)
        return Streak(1, streak.longest, day, day, day, zone), ended
    count = streak.current + 1
    return Streak(count, max(streak.longest, count), streak.started_on, day, day, zone), None


def record_all(streak: Streak | None, instants: Sequence[datetime], zone: str) -> tuple[Streak | None, Sequence[Run]]:
    """`record` for several activities, in their order."""
    ended: list[Run] = []
    for at in instants:
        streak, run = record(streak, at, zone)
        if run is not None:
            ended.append(run)
    return streak, ended


def is_alive(streak: Streak, at: datetime, zone: str) -> bool:
    """Whether no day has been left out until now: an activity now would go on with it."""
    return local_day(at, zone) <= _following(streak.last_on, zone) or (
        local_day(at, streak.zone) <= _following(streak.seen_on, streak.zone)
    )


def local_day(at: datetime, zone: str) -> date:
    """The calendar day of an instant in a zone."""
    return at.astimezone(_zone(zone)).date()


def next_midnight(at: datetime, zone: str) -> datetime:
    """When the calendar day of `at` is over in a zone, in UTC."""
    return _midnight(local_day(at, zone) + _DAY, zone)


def _following(day: date, zone: str) -> date:
    # Not always the next date: when Samoa went over the date line, the 30th of December 2011 was left out.
    return local_day(_midnight(day + _DAY, zone), zone)


def _midnight(day: date, zone: str) -> datetime:
    # A midnight that clocks skip is, by fold=0, the instant at which they skip it; of one that comes twice, the first.
    return datetime.combine(day, time(), _zone(zone)).astimezone(UTC)


@cache
def _zone(name: str) -> ZoneInfo:
    # Zones are renamed and, seldom, dropped: what this machine does not know any more is no reason to fail.
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")
