"""Limit concurrent calls to a vendor, and stop them while it is known to be down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, cast

from actors.lens.market._breaker import Breaker
from actors.lens.market._http import CallFailed
from actors.lens.model import FailureReason
from actors.lens.models._failures import ModelFailure

_LONGEST_PAUSE_SECONDS: Final = 300.0  # a wrong header must not silence a model for a day


class VendorGate:
    """Let calls through, and learn from how they end.

    While the vendor is down or has asked for a pause, a call fails at once with the reason; none queues. When the
    pause is over, the next call is the probe.
    """

    def __init__(self, vendor: str, slots: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._vendor = vendor
        self._slots = asyncio.Semaphore(slots)
        self._now = now
        self._breaker = Breaker(now=now)
        self._probe_at = 0.0

    @asynccontextmanager
    async def enter(self, subject: str, deadline: float) -> AsyncIterator[None]:
        """Hold a slot for a call for `subject`; wait for it until `deadline` (the loop's time). Raises ModelFailure."""
        self._refuse()
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError:
            raise ModelFailure("TIMEOUT", f"{self._vendor}: every call allowed at once was still waiting") from None
        try:
            is_probe = self._admit()
            try:
                yield
            except ModelFailure as failure:
                self._learn(subject, _of_vendor(failure), is_probe)
                raise
            except BaseException:
                if is_probe:  # cut short, it showed nothing: the next call after the pause probes again
                    self._learn(subject, CallFailed("NETWORK_ERROR", f"{self._vendor}: the probe was given up"), True)
                raise
            self._learn(subject, None, is_probe)
        finally:
            self._slots.release()

    def _admit(self) -> bool:
        """Return whether this call is the probe."""
        self._refuse()  # the gate may have closed while this call waited
        if self._breaker.state == "closed":
            return False
        self._breaker.probing()
        return True

    def _refuse(self) -> None:
        refusal = self._breaker.refusal
        wait = self._probe_at - self._now()
        if refusal is None or (self._breaker.state == "open" and wait <= 0):
            return
        # Only a pause that the vendor asked for is worth waiting for. A vendor that is down may be so for hours: each
        # signal goes through its few quick retries, and on without this model.
        asked = wait if refusal.reason == "RATE_LIMITED" and wait > 0 else None
        raise ModelFailure(refusal.reason, refusal.message, retry_after_seconds=asked)

    def _learn(self, subject: str, failure: CallFailed | None, is_probe: bool) -> None:
        if is_probe:
            self._breaker.probed(failure)
            opened = failure is not None
        elif failure is not None:
            opened = self._breaker.failed(subject, failure)
        else:
            self._breaker.succeeded()
            opened = False
        if opened:
            self._probe_at = self._now() + self._breaker.pause_seconds


def _of_vendor(failure: ModelFailure) -> CallFailed | None:
    """Return the failure as one of the vendor; None if the vendor is up and only this request was at fault."""
    if failure.reason == "PROVIDER_ERROR" and failure.is_final and failure.retry_after_seconds is None:
        return None
    if failure.reason in ("MODEL_ERROR", "SCHEMA_ERROR"):
        return None
    wait = failure.retry_after_seconds
    return CallFailed(
        cast(FailureReason, failure.reason),
        failure.message,
        None if wait is None else min(wait, _LONGEST_PAUSE_SECONDS),
        is_outage=True,
    )
