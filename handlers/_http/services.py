"""Hold what a request is served with: the services, and the state of this process between start and end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from config.settings import Settings
from db._postgres import Pool
from db._redis import RedisClient
from db._totals import Totals
from handlers._activity import ActivityRecorder
from handlers._http.access import Gatekeeper
from handlers._http.border import Border
from handlers._http.compression import Compressor
from handlers._http.limits import Limiter, Rule
from handlers._http.readiness import ReadinessProbe
from handlers._http.shared_reads import KeptReads, SharedReads
from handlers._profiles import Profiles
from handlers.auth._accounts import Accounts
from handlers.auth._revocations import RevokedSessions
from handlers.streams import LiveFeed

if TYPE_CHECKING:
    from actors._runtime.registry import ActorRegistry  # it imports Ray

FEED_TOTALS = 5_000  # cached totals of social feeds, one a reader: 2 MB
BOARD_SECONDS = 0.2
"""How old a leaderboard may be beyond its actor's own delay: both together stay within the second that is promised."""


@dataclass(frozen=True, slots=True)
class Services:
    """All services behind the handlers. Made once, by server/main.py."""

    settings: Settings
    pool: Pool
    redis: RedisClient
    actors: ActorRegistry
    feed: LiveFeed
    limiter: Limiter
    accounts: Accounts
    totals: Totals = field(default_factory=Totals)
    feed_totals: Totals = field(default_factory=lambda: Totals(FEED_TOTALS))
    shared_reads: SharedReads = field(default_factory=SharedReads)
    boards: KeptReads = field(default_factory=lambda: KeptReads(BOARD_SECONDS))
    profiles: Profiles = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "profiles", Profiles(self.pool, self.settings.costs_bps))


@dataclass(slots=True)
class Lifecycle:
    """The process's state, `starting` → `serving` → `leaving` → `draining`, and how many requests are being answered.

    While `leaving`, it serves as before but is not ready any more: load balancers are learning that.
    """

    state: Literal["starting", "serving", "leaving", "draining"] = "starting"
    in_flight: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def enter(self) -> None:
        """Count a request that has begun."""
        self.in_flight += 1

    def leave(self) -> None:
        """Uncount a request that has been answered, or became a stream."""
        self.in_flight -= 1
        if self.in_flight == 0:
            self._idle.set()

    async def until_idle(self, seconds: float) -> bool:
        """Wait until no request is being answered; returns whether that happened in time."""
        if self.in_flight:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), seconds)
            except TimeoutError:
                return False
        return True


@dataclass(slots=True)
class GatewayState:
    """The state that all handlers share. `services` is None until they have been made."""

    settings: Settings
    gatekeeper: Gatekeeper
    border: Border
    revoked: RevokedSessions
    limits: Mapping[str, Rule]  # by route name: the table's, overridden by RATE_LIMITS
    openapi: Callable[[], bytes]  # the encoded document
    collect_metrics: Callable[[], Awaitable[tuple[bytes, str]]]  # the text and its media type
    compressor: Compressor = field(default_factory=Compressor)
    readiness: ReadinessProbe = field(default_factory=ReadinessProbe)
    activity_recorder: ActivityRecorder = field(default_factory=ActivityRecorder)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    services: Services | None = None
