"""Access Redis (or Valkey): a client with short time-outs and a bounded pool, which judges whether it is available."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from config.backoff import jittered
from config.imports import without
from config.tasks import cancel, spawn
from db._outage import Outage

with without("opentelemetry.sdk"):  # a tenth of a second of each process's start
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import EqualJitterBackoff
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import RedisError

# What the driver raises when Redis is unavailable: refused, lost, timed out, out of connections, or an error reply.
REDIS_ERRORS = (RedisError, OSError)
CONNECTION_LOST = RedisConnectionError

CONNECT_SECONDS = 0.5
ANSWER_SECONDS = 1.0
ROUND_TRIP_SECONDS = 0.5  # a healthy Redis answers in one or two milliseconds
PROBE_SECONDS = 0.5  # how often Redis is tried while it is unavailable
MAX_CONNECTIONS = 32  # past it a command waits up to ANSWER_SECONDS for a connection, then fails
HEALTH_CHECK_SECONDS = 30  # an idle connection is tried before it is used again


class RedisUnavailable(RedisError):
    """Redis did not answer, or not in time; whether the command took effect is unknown."""


class RedisClient(Redis):
    """The client of a process, and its one judgement of whether Redis is available.

    A command that fails inside `answering` makes it unavailable at once; from then on it is tried with a ping, twice a
    second, and one that is answered ends the outage. Only that does: a slow server must not be taken for a good one by
    those who wait longest. `lost_at`: when it last became unavailable, by the event loop's clock.
    """

    def __init__(self, pool: BlockingConnectionPool) -> None:
        super().__init__(connection_pool=pool)
        self.auto_close_connection_pool = True
        self.is_available = True
        self.lost_at = float("-inf")
        self._outage = Outage("Redis")
        self._watchers: list[Callable[[], None]] = []
        self._probe: asyncio.Task[None] | None = None
        self._prompt_seconds = ROUND_TRIP_SECONDS  # a doubt ends with a ping that is answered within it
        self._is_closed = False

    @property
    def is_trusted(self) -> bool:
        """Whether it is available, and not being tried because of a doubt."""
        return self.is_available and self._probe is None

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever Redis becomes unavailable or available again."""
        self._watchers.append(changed)

    def answering(self, seconds: float = ROUND_TRIP_SECONDS, *, is_proof: bool = True) -> _Answering:
        """Guard a block of commands, which must be answered within `seconds`. Raises RedisUnavailable.

        Without `is_proof` a late answer proves no outage, so that Redis is only doubted.
        """
        return _Answering(self, seconds, is_proof)

    async def announce(self, messages: Mapping[str, bytes]) -> bool:
        """Publish a message on each channel, in one round trip; False if Redis is unavailable. Receivers catch up."""
        if not messages:
            return True
        try:
            async with self.answering(ANSWER_SECONDS), self.pipeline(transaction=False) as pipe:
                for channel, message in messages.items():
                    pipe.publish(channel, message)
                await pipe.execute()
        except RedisUnavailable:
            return False
        return True

    def failed(self, error: BaseException) -> None:
        """Note that Redis did not answer: it is unavailable until it answers a ping."""
        self._outage.failed(error)
        if self.is_available:
            self.is_available = False
            self.lost_at = asyncio.get_running_loop().time()
            self._changed()
        self._begin_probe(PROBE_SECONDS)

    def doubt(self, seconds: float = ROUND_TRIP_SECONDS) -> None:
        """Try Redis now, because of something that proves no outage, such as one lost connection.

        It is trusted again once a ping is answered within `seconds`: who waits no longer would find it late again.
        """
        self._prompt_seconds = min(self._prompt_seconds, seconds)
        self._begin_probe(0.0)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections, and end the probe."""
        self._is_closed = True
        await cancel(self._probe)
        await super().aclose(close_connection_pool)

    def _begin_probe(self, pause: float) -> None:
        if self._probe is None and not self._is_closed:
            self._probe = spawn(self._try(pause), name="probe Redis")

    async def _try(self, pause: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                await asyncio.sleep(pause)
                began = loop.time()
                try:
                    async with asyncio.timeout(ROUND_TRIP_SECONDS):
                        await self.ping()
                except (*REDIS_ERRORS, TimeoutError) as error:
                    self.failed(error)
                else:
                    if loop.time() - began <= self._prompt_seconds:
                        break
                    self._answered()
                pause = jittered(PROBE_SECONDS)
        finally:
            self._probe = None
            self._prompt_seconds = ROUND_TRIP_SECONDS
        self._answered()

    def _answered(self) -> None:
        self._outage.answered()
        if not self.is_available:
            self.is_available = True
            self._changed()

    def _changed(self) -> None:
        for changed in self._watchers:
            changed()


class _Answering:
    """The block of `RedisClient.answering`."""

    __slots__ = ("_is_proof", "_redis", "_seconds", "_timeout")

    def __init__(self, redis: RedisClient, seconds: float, is_proof: bool) -> None:
        self._redis = redis
        self._is_proof = is_proof
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            await self._timeout.__aexit__(kind, error, None)
        except TimeoutError as late:
            if self._is_proof:
                self._redis.failed(late)
            else:
                self._redis.doubt(self._seconds)
            raise RedisUnavailable("no answer in time") from late
        if isinstance(error, REDIS_ERRORS):
            self._redis.failed(error)
            raise RedisUnavailable(str(error) or type(error).__name__) from error


def create_redis(url: str) -> RedisClient:
    """Create a client for `redis://`, `rediss://` or `unix://`; it connects when first used, answers are bytes.

    A lost connection is retried once, at once (a restarted server closes idle ones); a time-out is not, since the
    command may have run. Subscriptions wait without a time-out. Close it with `await client.aclose()`.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=ANSWER_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        health_check_interval=HEALTH_CHECK_SECONDS,
        retry=Retry(EqualJitterBackoff(cap=0.1, base=0.02), 1, supported_errors=(RedisConnectionError,)),
    )
    return RedisClient(pool)
