"""When the copy in Postgres is made anew: after a start, every hour, and when it is far from the truth. Pure."""

from __future__ import annotations

import random

REFRESH_SECONDS = 3600.0
"""How old the copy gets, and by how much a window may begin too early."""

LEAST_SECONDS = 60.0
"""Between two refreshes, whatever happens."""

MOST_DRIFT = 0.05
"""How much of the records may be missing in the copy: more is an import, or the copy of another time."""

_LONGEST_PAUSE_SECONDS = 960.0
PAUSES = 20  # times as long as a refresh took it rests: a twentieth of one of Postgres's processes at most


class Refreshing:
    """Says when to look at the copy, and whether to make it anew. Times are those of one steady clock, in seconds."""

    def __init__(self) -> None:
        self._wanted = True  # what was there before the start, or before a failure, is not trusted for an hour
        self._look_at = 0.0
        self._failures = 0

    def may_look(self, at: float) -> bool:
        """Whether the pause is over; the next one begins then."""
        if at < self._look_at:
            return False
        self._look_at = at + LEAST_SECONDS
        return True

    def is_due(self, age_seconds: float | None, drift: float) -> bool:
        """Whether a copy so old (None: an empty one), of which so large a part is wrong, is to be made anew."""
        if age_seconds is None:
            return drift > 0
        if age_seconds < LEAST_SECONDS:  # perhaps by the process before this one
            return False
        return self._wanted or age_seconds >= REFRESH_SECONDS or drift > MOST_DRIFT

    def succeeded(self, at: float, took_seconds: float) -> None:
        """It has been made and read."""
        self._wanted, self._failures = False, 0
        self._look_at = at + max(LEAST_SECONDS, PAUSES * took_seconds)

    def failed(self, at: float) -> None:
        """It could not be made or read: again in a minute, then in two, in four, up to a quarter of an hour."""
        pause = min(LEAST_SECONDS * 2.0 ** min(self._failures, 10), _LONGEST_PAUSE_SECONDS)
        self._wanted, self._failures = True, self._failures + 1
        self._look_at = at + pause * random.uniform(1.0, 1.2)  # noqa: S311 - spreads load, guards nothing
