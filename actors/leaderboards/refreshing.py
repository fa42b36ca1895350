"""Decide (pure) when to refresh the copy in Postgres: after a start, every hour, and when it is far out of date."""

from __future__ import annotations

from config.backoff import backoff_seconds

REFRESH_SECONDS = 3600.0
"""The age at which the copy is refreshed, and the most by which a window may begin too early."""

LEAST_SECONDS = 60.0
"""The least time between two refreshes, in any case."""

MOST_DRIFT = 0.05
"""The most of the records that may be missing in the copy: more means an import, or the copy of another time."""

_LONGEST_PAUSE_SECONDS = 960.0
PAUSES = 20  # the pause is so many times as long as a refresh took: a twentieth of one of Postgres's processes at most


class Refreshing:
    """Decides when to check the copy, and whether to refresh it; times are seconds of one steady clock."""

    def __init__(self) -> None:
        self._wanted = True  # what was there before the start, or before a failure, is not trusted for an hour
        self._look_at = 0.0
        self._failures = 0

    def may_look(self, at: float) -> bool:
        """Return whether the pause is over; if so, start the next one."""
        if at < self._look_at:
            return False
        self._look_at = at + LEAST_SECONDS
        return True

    def is_due(self, age_seconds: float | None, drift: float) -> bool:
        """Return whether a copy of this age (None: an empty one), with this part of it wrong, is due for a refresh."""
        if age_seconds is None:
            return drift > 0
        if age_seconds < LEAST_SECONDS:  # perhaps by the process before this one
            return False
        return self._wanted or age_seconds >= REFRESH_SECONDS or drift > MOST_DRIFT

    def succeeded(self, at: float, took_seconds: float) -> None:
        """Note that the copy has been refreshed and read."""
        self._wanted, self._failures = False, 0
        self._look_at = at + max(LEAST_SECONDS, PAUSES * took_seconds)

    def failed(self, at: float) -> None:
        """Note a failure to refresh or read: retry in a minute, then in two, in four, up to a quarter of an hour."""
        self._wanted, self._failures = True, self._failures + 1
        pause = backoff_seconds(self._failures, LEAST_SECONDS, _LONGEST_PAUSE_SECONDS)
        self._look_at = at + max(LEAST_SECONDS, pause)
