"""Record daily activity for streaks, asynchronously: the streaks' owners are notified once per user and local day."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from actors.streaks import local_day, next_midnight
from actors.users.messages import USERS, Activity, progress_key
from actors.users.users import SETTINGS_CHANNEL
from config import tasks
from config.backoff import Backoff
from config.ids import parse_uuid
from db import streaks
from db._postgres import connection
from db._subscription import Subscription, reading
from schemas._json import parse_texts
from schemas.errors import Unavailable

if TYPE_CHECKING:
    from handlers._http.services import Services

log = logging.getLogger(__name__)

REMEMBERED = 50_000  # users, about 10 MB; the one reported longest ago is dropped, then reported again
WAITING = 10_000  # users not yet reported while the owners are unavailable; past it, reported at a later request
BATCH = 500
TOGETHER_SECONDS = 0.02  # activity within this time is reported in one batch
REPORT_SECONDS = 5.0
RETRY_SECONDS = (0.5, 15.0)
WAIT_SECONDS = 1.0  # how long a request for one's streaks waits until its own activity has been reported


@dataclass(slots=True)
class _Seen:
    first: float  # Unix time
    last: float
    reported: asyncio.Event = field(default_factory=asyncio.Event)


class ActivityRecorder:
    """Keeps which users have been active today. A user who changes their time zone is checked anew."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # by user: the midnight before which there is nothing to report
        self._waiting: dict[str, _Seen] = {}
        self._reporting: set[str] = set()
        self._came = asyncio.Event()
        self._services: Services | None = None
        self._task: asyncio.Task[None] | None = None
        self._settings: Subscription | None = None

    def note(self, subject: str) -> None:
        """Note that this user has made a request."""
        at = time.time()
        if at < self._until.get(subject, 0.0):
            return
        seen = self._waiting.get(subject)
        if seen is not None:
            seen.last = at
        elif len(self._waiting) < WAITING:
            self._waiting[subject] = _Seen(at, at)
            self._came.set()

    def forget(self, subject: str) -> None:
        """Check this user's activity anew, because their time zone, and so their day, may have changed.

        The user has just been active: they changed the zone themselves. Activity up to then must be recorded before
        anything decides whether the new zone has left a day out.
        """
        was_here = self._until.pop(subject, None) is not None
        self._reporting.discard(subject)
        if was_here:
            self.note(subject)

    def _forget(self, subjects: Iterable[str]) -> None:
        for subject in subjects:
            self.forget(subject)

    def _forget_all(self) -> None:
        # Whose settings changed while the subscription was not open is unknown.
        self._until.clear()
        self._reporting.clear()

    async def wait_until_reported(self, subject: str) -> None:
        """Wait until this user's activity has been reported, for WAIT_SECONDS at most."""
        seen = self._waiting.get(subject)
        if seen is not None and self._task is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(seen.reported.wait(), WAIT_SECONDS)

    def start(self, services: Services) -> None:
        """Start reporting activity."""
        self._services = services
        self._task = tasks.spawn(self._run(services), name="report activity")
        self._settings = Subscription(
            services.redis, {SETTINGS_CHANNEL: reading(parse_texts, self._forget)}, on_open=self._forget_all
        )
        self._settings.start()

    async def stop(self) -> None:
        """Report what is still waiting, if that is possible now, and stop."""
        await tasks.cancel(self._task)
        if self._settings is not None:
            await self._settings.stop()
        if self._services is not None and self._waiting:
            with suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(WAIT_SECONDS):
                    await self._report(self._services)

    async def _run(self, services: Services) -> None:
        backoff = Backoff(*RETRY_SECONDS)
        while True:
            await self._came.wait()
            await asyncio.sleep(TOGETHER_SECONDS)
            self._came.clear()
            try:
                await self._report(services)
            except Unavailable as error:
                log.warning("the activity of %d users waits to be reported: %s", len(self._waiting), error)
            except Exception:
                log.exception("activity is not reported")
            else:
                backoff.reset()
                if self._waiting:
                    self._came.set()
                continue
            await asyncio.sleep(backoff.next())
            self._came.set()

    async def _report(self, services: Services) -> None:
        """Report a batch of waiting users; those whose owner is unavailable stay queued. Raises Unavailable then."""
        batch = dict(itertools.islice(self._waiting.items(), BATCH))
        self._reporting = set(batch)
        ids = {subject: found for subject in batch if (found := parse_uuid(subject)) is not None}
        async with connection(services.pool) as conn:
            zones = await streaks.load_zones(conn, list(ids.values()))
        answers = await asyncio.gather(
            *(_report_one(services, ids.get(subject), seen, zones) for subject, seen in batch.items()),
            return_exceptions=True,
        )
        failure: BaseException | None = None
        for (subject, seen), until in zip(batch.items(), answers, strict=True):
            if isinstance(until, BaseException):
                failure = until
                self._waiting[subject] = self._waiting.pop(subject)  # behind those whose owner may be available
            else:
                self._reported(subject, seen, until)
        if failure is not None:
            raise failure

    def _reported(self, subject: str, seen: _Seen, until: float) -> None:
        # The user was active meanwhile, on another day; or moved meanwhile, and the report was of the old zone's day.
        if seen.last >= until or subject not in self._reporting:
            seen.first = seen.last
            return
        del self._waiting[subject]
        seen.reported.set()
        self._until.pop(subject, None)
        self._until[subject] = until
        if len(self._until) > REMEMBERED:
            del self._until[next(iter(self._until))]


async def _report_one(services: Services, user_id: UUID | None, seen: _Seen, zones: Mapping[UUID, str]) -> float:
    """Report one user's activity; returns the Unix time until which nothing more is due. Raises Unavailable."""
    if user_id is None:  # the token's subject is no user
        return float("inf")
    zone = zones.get(user_id, "UTC")
    first, last = (datetime.fromtimestamp(each, UTC) for each in (seen.first, seen.last))
    key = progress_key(user_id)
    ref = services.actors.ref(USERS, key)
    for at in (first, last) if local_day(first, zone) < local_day(last, zone) else (last,):
        try:
            await ref.ask(key, Activity("login", at, zone), deadline_seconds=REPORT_SECONDS)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - it would fail again: an account that does not exist, a bug
            log.info("activity counts for nobody: %r", error)
    return next_midnight(last, zone).timestamp()
