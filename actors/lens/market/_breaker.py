"""Break the circuit to a venue or vendor that is down, so that nothing waits for it. Decisions only, no I/O."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal

from actors.lens.market._http import CallFailed
from config.backoff import doubled, jittered

State = Literal["closed", "half_open", "open"]

VENUE: Final = ""
"""The subject of the query that every signal needs, of the whole venue (its mids): the witness of its state."""

FAILURES_TO_OPEN: Final = 5
_SUBJECTS_TO_OPEN: Final = 2
_QUIET_SECONDS: Final = 1.0
_FIRST_PAUSE_SECONDS: Final = 2.0
_LONGEST_PAUSE_SECONDS: Final = 60.0


class Breaker:
    """Decide whether calls may go out, by how earlier ones ended.

    Closed: calls go out. Open: they fail at once. Half-open: one probe is in flight, everything else still fails.

    A provider's failures on one subject (a coin, a signal) must not stop the calls about others. So only outages count
    (`CallFailed.is_outage`), and it takes all of these to open:

    - they are of two subjects, and the `witness` is one of them, where there is one: however many coins fail, a
      venue that answers what signals ask of it as a whole, each second, is not down; one that is down shows there with
      the first signal that it fails;
    - they are `FAILURES_TO_OPEN` in a row, no more than one signal's queries: the first signal in vain is the last;
    - nothing succeeded within the last second: concurrent calls end in any order.

    A 429 opens it at once, for as long as the provider asks. Where there is a witness, a 429 without a wait and not the
    witness's own counts for the provider only if a second subject is limited too. The owner waits `pause_seconds`,
    probes, and reports how the probe went; each failed probe doubles the pause, up to a minute.
    """

    def __init__(self, *, witness: str | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._witness = witness
        self._now = now
        self.state: State = "closed"
        self.pause_seconds = 0.0
        self._cause: CallFailed | None = None
        self._failures = 0
        self._subjects: set[str] = set()
        self._limited: set[str] = set()
        self._failed_probes = 0
        self._last_success = float("-inf")

    @property
    def refusal(self) -> CallFailed | None:
        """Return why no call may go out, with the reason of the failure that opened the circuit; None while closed."""
        if self.state == "closed" or self._cause is None:
            return None
        return CallFailed(self._cause.reason, f"{self._cause.message} (calls are paused)")

    def succeeded(self) -> None:
        """Report an answered call. One that was sent before the circuit opened does not close it: the probe does."""
        self._last_success = self._now()
        self._forget()

    def failed(self, subject: str, failure: CallFailed) -> bool:
        """Report a failed call for `subject`; return True if that opened the circuit."""
        if self.state != "closed":
            return False
        if self._is_limited(subject, failure) if failure.reason == "RATE_LIMITED" else self._is_down(subject, failure):
            self._open(failure)
            return True
        return False

    def probing(self) -> None:
        """Report that the pause is over and the probe goes out."""
        self.state = "half_open"

    def probed(self, failure: CallFailed | None) -> None:
        """Report the probe's answer or failure. An invalid answer is an answer, too: the provider is up."""
        if failure is not None and (failure.is_outage or failure.reason == "RATE_LIMITED"):
            self._failed_probes += 1
            self._open(failure)
            return
        self.state = "closed"
        self._failed_probes = 0
        self.succeeded()

    def _is_limited(self, subject: str, failure: CallFailed) -> bool:
        self._limited.add(subject)
        is_wish = failure.retry_after_seconds is not None
        return is_wish or self._witness in {None, subject} or len(self._limited) >= _SUBJECTS_TO_OPEN

    def _is_down(self, subject: str, failure: CallFailed) -> bool:
        if not failure.is_outage:
            return False
        self._failures += 1
        self._subjects.add(subject)
        return (
            self._failures >= FAILURES_TO_OPEN
            and (self._witness is None or self._witness in self._subjects)
            and len(self._subjects) >= _SUBJECTS_TO_OPEN
            and self._now() - self._last_success >= _QUIET_SECONDS
        )

    def _open(self, failure: CallFailed) -> None:
        self.state = "open"
        self._cause = failure
        pause = doubled(self._failed_probes + 1, _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        # Longer by chance (up to a quarter), never shorter: the wait that the provider asked for is the least.
        self.pause_seconds = jittered(1.125 * max(pause, failure.retry_after_seconds or 0.0), 1 / 9)
        self._forget()

    def _forget(self) -> None:
        self._failures = 0
        self._subjects.clear()
        self._limited.clear()
