"""Keep a short-lived local copy of the sessions that have been ended, so that no request has to ask for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from uuid import UUID

from actors.users.users import REVOCATIONS_CHANNEL
from config import tasks
from config.clock import now
from db._postgres import Pool, connection
from db._redis import RedisClient
from db._subscription import Subscription, reading
from db.users.sessions import revoked_since
from handlers._http.access import Claims
from handlers.auth._tokens import ACCESS_SECONDS
from schemas._json import parse_texts
from schemas.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

# A revoked session is refused within a second on every gateway. Redis announces it in a millisecond; what Redis loses,
# or cannot announce while it is unavailable, is found in Postgres.
POLL_SECONDS = 0.5
# No access token of a session lives longer than this after its end; the margin is for clocks that differ.
KEEP_SECONDS = ACCESS_SECONDS + 300
# A stream that was being admitted when its session ended has opened by then.
LATE_SECONDS = 3.0


class RevokedSessions:
    """The sessions that ended within the life of an access token. Empty until `start`."""

    def __init__(self) -> None:
        self._ended: dict[str, float] = {}  # by id: when it may be dropped, monotonic; ordered by that time
        self._since: datetime | None = None
        self._on_ended: Callable[[str], object] = lambda session_id: None
        self._task: asyncio.Task[None] | None = None
        self._subscription: Subscription | None = None

    async def is_revoked(self, claims: Claims) -> bool:
        """Return whether the token's session has ended."""
        return claims.session_id in self._ended

    def add(self, session_ids: Iterable[UUID | str]) -> None:
        """Record that these sessions have ended."""
        for session_id in map(str, session_ids):
            if session_id not in self._ended:
                self._ended[session_id] = time.monotonic() + KEEP_SECONDS
                self._on_ended(session_id)
                asyncio.get_running_loop().call_later(LATE_SECONDS, self._on_ended, session_id)

    async def start(self, pool: Pool, redis: RedisClient, on_ended: Callable[[str], object]) -> None:
        """Load what has ended until now, then follow; `on_ended` is called with each. Raises DatabaseUnavailable."""
        self._on_ended = on_ended
        await self._look(pool)
        self._task = tasks.spawn(self._poll(pool), name="revoked sessions: poll")
        self._subscription = Subscription(redis, {REVOCATIONS_CHANNEL: reading(parse_texts, self.add)})
        self._subscription.start()

    async def stop(self) -> None:
        """Stop following."""
        await tasks.cancel(self._task)
        if self._subscription is not None:
            await self._subscription.stop()

    async def _poll(self, pool: Pool) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self._look(pool)
            except DatabaseUnavailable:
                await asyncio.sleep(POLL_SECONDS)  # the driver has logged it
            except Exception:
                log.exception("revoked sessions are not looked up")

    async def _look(self, pool: Pool) -> None:
        since = self._since or now() - timedelta(seconds=KEEP_SECONDS)
        async with connection(pool) as conn:
            found = await revoked_since(conn, since)
        self.add(session_id for session_id, _ in found)
        self._since = max((at for _, at in found), default=since)
        present = time.monotonic()
        while self._ended and (oldest := next(iter(self._ended.items())))[1] < present:
            del self._ended[oldest[0]]
