"""Streaks: over midnights, clock changes, and moves between time zones."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.streaks import EndedStreak, Streak, from_row, is_alive, local_day, next_midnight, record, record_all, to_row

ZONES = (
    "UTC",
    "America/New_York",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "America/Havana",
    "America/St_Johns",
    "Europe/Vienna",
    "Africa/Casablanca",
    "Asia/Tokyo",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Honolulu",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Chatham",
)
zones = st.sampled_from(ZONES)
BOUNDS = (datetime(2005, 1, 1), datetime(2035, 1, 1))  # noqa: DTZ001 - hypothesis wants them naive
instants = st.datetimes(*BOUNDS, timezones=st.just(UTC))


def local(zone: str, text: str) -> datetime:
    """`2026-03-08 23:30` on a clock in that zone."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def after(zone: str, *texts: str) -> tuple[Streak, list[EndedStreak]]:
    streak, ended = record_all(None, [local(zone, text) for text in texts], zone)
    assert streak is not None
    return streak, list(ended)


def test_the_same_day_counts_once_the_next_one_adds_and_a_later_one_begins_anew() -> None:
    streak, ended = after("Asia/Tokyo", "2026-01-01 00:00", "2026-01-01 23:59", "2026-01-02 00:00", "2026-01-03 12:00")
    assert (streak.current, streak.longest, streak.last_on, ended) == (3, 3, date(2026, 1, 3), [])
    streak, run = record(streak, local("Asia/Tokyo", "2026-01-05 00:00"), "Asia/Tokyo")
    assert run == EndedStreak(3, date(2026, 1, 1), date(2026, 1, 3))
    assert (streak.current, streak.longest, streak.started_on) == (1, 3, date(2026, 1, 5))


def test_late_activity_changes_nothing() -> None:
    streak, _ = after("UTC", "2026-01-01 12:00", "2026-01-02 12:00")
    assert record(streak, local("UTC", "2025-12-24 12:00"), "UTC") == (streak, None)
    assert record(streak, local("UTC", "2026-01-02 00:00"), "UTC") == (streak, None)


@pytest.mark.parametrize(
    ("zone", "first", "second"),
    [
        ("America/New_York", "2026-03-07 23:30", "2026-03-08 23:30"),  # a day of 23 hours
        ("America/New_York", "2026-10-31 00:30", "2026-11-01 23:30"),  # a day of 25
        ("America/Sao_Paulo", "2018-11-03 23:30", "2018-11-04 01:00"),  # that midnight never was
        ("America/Havana", "2026-10-31 23:30", "2026-11-01 00:30"),  # that half past midnight comes twice
        ("America/St_Johns", "2010-11-06 23:30", "2010-11-07 12:00"),  # the date itself went back for an hour
        ("Pacific/Apia", "2011-12-29 12:00", "2011-12-31 12:00"),  # that 30th of December never was
    ],
)
def test_a_day_is_a_day_however_long_it_is(zone: str, first: str, second: str) -> None:
    streak, ended = after(zone, first, second)
    assert (streak.current, ended) == (2, [])


@pytest.mark.parametrize("zone", ["America/New_York", "America/Sao_Paulo", "Pacific/Apia", "UTC"])
def test_a_day_left_out_is_left_out_however_short_it_is(zone: str) -> None:
    streak, ended = after(zone, "2018-11-02 23:59", "2018-11-04 01:00")
    assert streak.current == 1
    assert [run.count for run in ended] == [1]


def test_a_move_to_the_east_that_skips_a_date_does_not_break() -> None:
    streak, _ = after("Pacific/Honolulu", "2026-01-01 23:00")
    streak, ended = record(streak, local("Pacific/Kiritimati", "2026-01-03 00:30"), "Pacific/Kiritimati")
    assert (streak.current, streak.last_on, ended) == (2, date(2026, 1, 3), None)


def test_a_move_to_the_west_does_not_count_a_date_twice() -> None:
    streak, _ = after("Pacific/Kiritimati", "2026-01-02 12:00", "2026-01-03 00:30")
    for text in ("2026-01-02 01:00", "2026-01-02 23:00", "2026-01-03 12:00"):
        streak, ended = record(streak, local("Pacific/Honolulu", text), "Pacific/Honolulu")
        assert (streak.current, streak.last_on, ended) == (2, date(2026, 1, 3), None)
    streak, ended = record(streak, local("Pacific/Honolulu", "2026-01-04 23:00"), "Pacific/Honolulu")
    assert (streak.current, ended) == (3, None)


def test_a_journey_there_and_back_does_not_break_either() -> None:
    streak, _ = after("Pacific/Kiritimati", "2026-01-03 00:30")
    for text in ("2026-01-02 12:00", "2026-01-03 23:00"):
        streak, _ = record(streak, local("Pacific/Honolulu", text), "Pacific/Honolulu")
    streak, ended = record(streak, local("Pacific/Kiritimati", "2026-01-05 00:30"), "Pacific/Kiritimati")
    assert (streak.current, ended) == (2, None)


@pytest.mark.parametrize(
    ("at", "first", "then", "days"),
    [
        ("2026-01-01 12:00", "UTC", "Pacific/Kiritimati", 1),  # its midnight was two hours ago
        ("2026-01-01 10:29", "Pacific/Honolulu", "Pacific/Apia", 1),
        ("2026-07-01 15:30", "America/New_York", "Asia/Tokyo", 1),
        ("2026-01-01 09:59", "UTC", "Pacific/Kiritimati", 2),  # a midnight of the zone moved to is in that minute
    ],
)
def test_a_hop_over_dates_is_a_day_only_with_a_midnight_in_between(at: str, first: str, then: str, days: int) -> None:
    """The kind: a number of days that is counted by calendar dates, not by the time that has passed."""
    begun, _ = record(None, local("UTC", at), first)
    for seconds in (60, 90, 120):
        begun, ended = record(begun, local("UTC", at) + timedelta(seconds=seconds), then)
        assert (begun.current, ended) == (days, None)


def test_hopping_between_zones_and_back_loses_no_day_and_gains_none() -> None:
    streak, _ = record(None, local("UTC", "2026-01-01 12:00"), "UTC")
    for text, zone in (("12:01", "Pacific/Kiritimati"), ("12:02", "UTC"), ("12:03", "Pacific/Honolulu")):
        streak, _ = record(streak, local("UTC", f"2026-01-01 {text}"), zone)
        assert streak.current == 1
    for day in (2, 3):
        streak, ended = record(streak, local("UTC", f"2026-01-0{day} 12:00"), "UTC")
        assert (streak.current, ended) == (day, None)


def test_the_zones_of_a_whole_day_make_no_more_than_the_dates_of_it() -> None:
    """A user who changes zones can see a midnight every hour; each date counts once."""
    streak: Streak | None = None
    begin = local("UTC", "2026-01-01 00:30")
    for hour in range(48):
        zone = f"Etc/GMT{(hour + 12) % 24 - 11:+d}"
        streak, _ = record(streak, begin + timedelta(hours=hour), zone)
    assert streak is not None
    assert streak.current <= 4


def test_a_streak_of_dates_alone_goes_on() -> None:
    """Streaks were stored with dates only, before instants were added."""
    old = Streak(5, 7, date(2026, 1, 1), date(2026, 1, 5), date(2026, 1, 5), "Europe/Vienna")
    assert record(old, local("Europe/Vienna", "2026-01-05 20:00"), "Europe/Vienna")[0].current == 5
    assert record(old, local("Europe/Vienna", "2026-01-06 00:00"), "Europe/Vienna")[0].current == 6
    hopped, _ = record(old, local("Europe/Vienna", "2026-01-05 20:00"), "Pacific/Kiritimati")
    assert hopped.current == 5
    again, ended = record(hopped, local("Europe/Vienna", "2026-01-06 09:00"), "Europe/Vienna")
    assert (again.current, ended) == (6, None)
    assert is_alive(old, local("Europe/Vienna", "2026-01-06 23:59"), "Europe/Vienna")
    assert record(old, local("Europe/Vienna", "2026-01-07 00:00"), "Europe/Vienna")[0].current == 1


def test_a_stored_streak_is_the_same_one() -> None:
    streak, _ = record(None, local("UTC", "2026-01-01 12:00"), "UTC")
    row = to_row(UUID(int=1), "login", streak)
    assert from_row(row) == streak


def test_idleness_breaks_a_streak_also_when_its_owner_moves() -> None:
    streak, _ = after("America/New_York", "2026-01-01 12:00")
    streak, ended = record(streak, local("Asia/Tokyo", "2026-01-04 00:30"), "Asia/Tokyo")
    assert (streak.current, ended) == (1, EndedStreak(1, date(2026, 1, 1), date(2026, 1, 1)))


def test_a_streak_is_alive_until_a_whole_day_has_passed() -> None:
    streak, _ = after("Europe/Vienna", "2026-03-28 08:00")
    assert is_alive(streak, local("Europe/Vienna", "2026-03-29 23:59"), "Europe/Vienna")
    assert not is_alive(streak, local("Europe/Vienna", "2026-03-30 00:00"), "Europe/Vienna")


def test_a_zone_that_nobody_knows_any_more_is_utc() -> None:
    assert local_day(datetime(2026, 1, 1, 23, 30, tzinfo=UTC), "Mars/Olympus") == date(2026, 1, 1)


@given(instants, zones)
def test_a_day_ends_at_the_next_midnight_and_not_before(at: datetime, zone: str) -> None:
    midnight = next_midnight(at, zone)
    assert at < midnight <= at + timedelta(hours=49)
    assert local_day(midnight, zone) > local_day(at, zone)
    assert local_day(midnight - timedelta(seconds=61), zone) <= local_day(at, zone)


@given(instants, zones, st.lists(st.integers(0, 72 * 60), max_size=60))
def test_a_streak_in_one_zone_is_what_counting_the_dates_says(at: datetime, zone: str, minutes: list[int]) -> None:
    times = [at]
    for each in minutes:
        times.append(times[-1] + timedelta(minutes=each))
    streak, ended = record_all(None, times, zone)
    assert streak is not None
    dates = sorted({local_day(each, zone) for each in times})
    runs = [[dates[0]]]
    for one, two in itertools.pairwise(dates):
        between = {
            local_day(datetime(one.year, one.month, one.day, tzinfo=UTC) + timedelta(hours=h), zone)
            for h in range(-24, 24 * ((two - one).days + 1))
        }
        if any(one < each < two for each in between):
            runs.append([])
        runs[-1].append(two)
    assert [run.count for run in ended] == [len(run) for run in runs[:-1]]
    assert (streak.current, streak.longest) == (len(runs[-1]), max(map(len, runs)))
    assert (streak.started_on, streak.last_on) == (runs[-1][0], runs[-1][-1])


@given(instants, st.lists(st.tuples(st.integers(1, 22 * 60), zones), min_size=1, max_size=80))
def test_activity_every_22_hours_keeps_the_streak_in_any_zone(at: datetime, steps: list[tuple[int, str]]) -> None:
    streak, dates = None, set()
    for minutes, zone in steps:
        at += timedelta(minutes=minutes)
        before = streak
        streak, ended = record(streak, at, zone)
        assert ended is None
        assert before is None or streak.current - before.current in (0, 1)
        dates.add(local_day(at, zone))
    assert streak is not None
    assert streak.current <= len(dates)
    assert streak.last_on == max(dates)


@given(instants, st.lists(st.tuples(st.integers(0, 60 * 60), zones), min_size=1, max_size=60))
def test_a_date_never_counts_twice_and_repeating_changes_nothing(at: datetime, steps: list[tuple[int, str]]) -> None:
    streak, total = None, 0
    dates = set()
    for minutes, zone in steps:
        at += timedelta(minutes=minutes)
        dates.add(local_day(at, zone))
        streak, ended = record(streak, at, zone)
        total += ended.count if ended else 0
        assert record(streak, at, zone) == (streak, None)
        assert streak.last_on >= streak.started_on
        assert 1 <= streak.current <= (streak.last_on - streak.started_on).days + 1
        assert streak.longest >= streak.current
    assert streak is not None
    assert total + streak.current <= len(dates)


@given(instants, st.lists(st.tuples(st.integers(0, 60 * 60), zones), min_size=1, max_size=60))
def test_two_days_have_a_midnight_of_the_present_zone_between_them_and_only_a_day_left_out_ends_a_run(
    at: datetime, steps: list[tuple[int, str]]
) -> None:
    """Over any moves, clock changes and the date line, days are counted by instants in one zone."""
    streak: Streak | None = None
    counted = seen = at
    last_zone = "UTC"
    for minutes, zone in steps:
        at += timedelta(minutes=minutes)
        before = streak
        streak, ended = record(streak, at, zone)
        if before is None:
            counted = at
        elif ended is not None:
            for each in (zone, last_zone):
                first, now = local_day(seen, each), local_day(at, each)
                assert next_midnight(next_midnight(seen, each), each) <= at, "two midnights, in both zones"
                assert now > first
            counted = at
        elif streak.current > before.current:
            assert next_midnight(counted, zone) <= at
            counted = at
        seen, last_zone = at, zone


@given(instants, st.lists(st.tuples(st.integers(0, 26 * 60), zones), min_size=1, max_size=60), zones)
def test_staying_in_a_zone_counts_every_day_from_then_on(at: datetime, steps: list[tuple[int, str]], home: str) -> None:
    streak: Streak | None = None
    for minutes, zone in steps:
        at += timedelta(minutes=minutes)
        streak, _ = record(streak, at, zone)
    for _ in range(2):  # of which the first may have a date that has counted elsewhere
        at = next_midnight(at, home)
        streak, ended = record(streak, at, home)
        assert ended is None
    for _ in range(3):
        at = next_midnight(at, home)
        before = streak
        streak, ended = record(streak, at, home)
        assert before is not None
        assert (streak.current, ended) == (before.current + 1, None)
