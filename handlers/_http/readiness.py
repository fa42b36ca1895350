"""Report whether this process can work now: all dependencies are tried at once, briefly, not anew for each probe."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from config.clock import now
from config.documents import Document
from config.masking import redact
from config.tasks import spawn
from config.texts import escape_unstorable
from db._postgres import Pool, connection
from db._redis import RedisClient, RedisUnavailable
from schemas.errors import ActorUnavailable, AppError, DatabaseUnavailable

if TYPE_CHECKING:
    from actors._runtime.registry import ActorRegistry
    from handlers._http.services import GatewayState, Services

log = logging.getLogger(__name__)

PROBE_SECONDS = 1.2  # below the contract's 2 s, overhead included
CACHE_SECONDS = 0.5  # a storm of probes costs one query each half second

# Without Redis requests are still served: limits are counted here, signals are accepted and read, streams catch up
# from Postgres. All gateways share it, so not being ready would take all of them out of service for a survivable fault.
_NEEDED = ("postgres", "ray")


@dataclass(frozen=True, slots=True)
class Report:
    """The content of `/ready`."""

    is_ready: bool
    dependencies: dict[str, str]

    @property
    def document(self) -> Document:
        """The response's document."""
        status = "ready" if self.is_ready else "not_ready"
        return {"status": status, "dependencies": self.dependencies, "timestamp": now()}


class ReadinessProbe:
    """The probes of one process."""

    def __init__(self) -> None:
        self._probing: asyncio.Task[dict[str, str]] | None = None
        self._probed_at = -CACHE_SECONDS
        self._found: dict[str, str] = {}

    async def report(self, gateway: GatewayState) -> Report:
        """Report the state of the process and of its dependencies, within PROBE_SECONDS."""
        services = gateway.services
        if services is None:
            return Report(False, dict.fromkeys(("redis", "postgres", "ray"), "error: starting"))
        if time.monotonic() - self._probed_at >= CACHE_SECONDS:
            if self._probing is None or self._probing.done():
                self._probing = spawn(self._probe(services), name="probe the dependencies")
            found = await asyncio.shield(self._probing)
        else:
            found = self._found
        serving = gateway.lifecycle.state == "serving"
        return Report(serving and all(found[name] == "ok" for name in _NEEDED), found)

    async def _probe(self, services: Services) -> dict[str, str]:
        probes: dict[str, Callable[[], Awaitable[object]]] = {
            "redis": lambda: _ping(services.redis),
            "postgres": lambda: _select(services.pool),
            "ray": lambda: _every_actor(services.actors),
        }
        answers = await asyncio.gather(*(_try(name, probe) for name, probe in probes.items()))
        # Set together: a caller between the two would take the last probe's answer for the present one.
        self._found, self._probed_at = dict(zip(probes, answers, strict=True)), time.monotonic()
        return self._found


async def _ping(redis: RedisClient) -> None:
    async with redis.answering(PROBE_SECONDS - 0.1):
        await redis.ping()


async def _select(pool: Pool) -> None:
    # Not pool.fetchval: when it is cancelled it waits for the server to confirm, which a stopped server never does.
    async with connection(pool, deadline_seconds=PROBE_SECONDS - 0.1) as conn:
        await conn.fetchval("SELECT 1")


async def _every_actor(actors: ActorRegistry) -> None:
    answers = await actors.probe()
    silent = sorted(name for name, answer in answers.items() if isinstance(answer, AppError) or not answer["ready"])
    if silent:
        raise ActorUnavailable(f"{', '.join(silent)} not ready")


async def _try(name: str, probe: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await probe()
    except Exception as error:  # noqa: BLE001 - three drivers, one question: does it work?
        return f"error: {_reason(name, error)}"
    return "ok"


def _reason(name: str, error: Exception) -> str:
    cause = (isinstance(error, (DatabaseUnavailable, RedisUnavailable)) and error.__cause__) or error
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, AppError):
        return escape_unstorable(redact(error.message))
    log.warning("%s is not ready: %s: %s", name, type(error).__name__, error)
    return "unavailable"
