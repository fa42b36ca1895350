"""Decide which full hours the log has to be marked at (pure).

The log's time is that of its newest full hour. While something is open each hour is marked, and the midnight after any
entry, so that the day of that entry ends; hours in which nothing was open have no mark.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)


def full_hour(at: datetime) -> datetime:
    """Return the full hour at or before a time."""
    return at.replace(minute=0, second=0, microsecond=0)


def next_mark(reached_at: datetime | None, until: datetime, *, is_open: bool, is_day_open: bool) -> datetime | None:
    """Return the next full hour up to `until` that has to be marked, if there is one.

    `is_open`: a position or an order is open; `is_day_open`: the log has entries after its newest mark.
    """
    if reached_at is None or not (is_open or is_day_open):
        return None
    hour = reached_at + HOUR if is_open else reached_at.replace(hour=0) + DAY
    return hour if hour <= until else None
