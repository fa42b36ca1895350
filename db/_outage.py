"""Report the outages of a store: one log line when one begins, one now and then, one at its end; and a metric."""

from __future__ import annotations

import logging
import time

from config.metrics import STORE_UNAVAILABLE

log = logging.getLogger(__name__)

REMIND_SECONDS = 30.0  # between two log lines of one outage
FLAP_SECONDS = 1.0  # between the first log lines of two outages


class Outage:
    """The outages of one store, as this process sees them. Failures and answers may be noted at any rate."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._since: float | None = None
        self._logged_at = -REMIND_SECONDS

    def failed(self, error: BaseException) -> None:
        """Note that the store did not answer."""
        present = time.monotonic()
        is_event = self._since is None
        if self._since is None:
            self._since = present
            STORE_UNAVAILABLE.labels(self._store.lower()).set(1)
        # An intermittent outage is logged at most once a second.
        if present - self._logged_at >= (FLAP_SECONDS if is_event else REMIND_SECONDS):
            self._logged_at = present
            log.warning(
                "%s is unavailable%s: %s%s",
                self._store,
                "" if is_event else f" for {present - self._since:.0f} s",
                type(error).__name__,
                f": {error}" if str(error) else "",
            )

    def answered(self) -> None:
        """Note that the store answered."""
        if self._since is not None:
            log.info("%s answers again, after %.1f s", self._store, time.monotonic() - self._since)
            self._since = None
            STORE_UNAVAILABLE.labels(self._store.lower()).set(0)
