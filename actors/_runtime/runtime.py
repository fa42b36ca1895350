"""Run actors in one process: the only class that is made remote. Each actor gets its context and its batches."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from actors._runtime.context import ActorContext, Behaviour
from actors._runtime.fencing import Fence
from actors._runtime.messages import UNDECODABLE, Envelope, decode, encode_replies
from actors._runtime.placement import ActorProcess, ActorSpec
from actors._runtime.ref import ActorRefs
from actors._runtime.transport import Transport
from config import clock, collector, metrics, tasks
from config.backoff import backoff_seconds, jittered
from config.log import configure_logging
from config.masking import redact
from config.settings import Settings
from config.texts import escape_unstorable
from db import actors as sql
from db._postgres import Pool, create_pool, loudness, show_pool, transaction
from db._redis import RedisClient, create_redis
from schemas.errors import ActorUnavailable, AppError, Fenced, Internal, Unavailable

log = logging.getLogger(__name__)

NAMESPACE = "tradestream"

# A sender stops retrying at its deadline, and no person repeats a request later than this.
COMMAND_RETENTION_SECONDS = 3600.0
_SHOW_EVERY_SECONDS = 10.0
_EXPIRE_ROUNDS = 6  # of stats: once a minute
_EXPIRE_AT_ONCE = 2000  # some 40 ms of Postgres's time

_START_PATIENCE_SECONDS = 1.0  # a batch that arrives during the start waits for it this long
_RETRY_SECONDS = (0.1, 2.0)
_MAX_CONCURRENCY = 1000  # concurrent calls: one of each ActorRef, and the pings
_EXIT_FENCED = 3

Stats = Mapping[str, Any]
# Given the actors of this process, which are reached without Ray.
OpenRefs = Callable[[Mapping[str, Transport]], ActorRefs]


class ActorRuntime:
    """Run the actors of one process.

    Guarantee: a batch is answered when its Behaviour has processed it, under the epoch of its actor; when another
    process has taken a newer one, this process ends. A crash loses what the Behaviours keep in memory only; Ray starts
    the process again.
    """

    def __init__(self, process: ActorProcess, settings: Settings, open_refs: OpenRefs) -> None:
        settings.protect_secrets()
        configure_logging(settings.log_level, settings.log_format)
        self.name = process.name
        self._shared = Shared(process, settings, open_refs)
        self._actors = {
            spec.name_of(shard): HostedActor(spec, shard, settings, self._shared) for spec, shard in process.actors
        }
        self._shared.neighbours.update(self._actors)
        for actor in self._actors.values():
            actor.start()
        self._upkeep = tasks.spawn(self._shared.keep_up(), name=f"{self.name}: upkeep")

    def __repr__(self) -> str:
        return self.name

    async def deliver(self, actor: str, batch: bytes) -> bytes:
        """Have an actor process an encoded batch; return the encoded replies, errors among them as values."""
        return await self._actors[actor].deliver(batch)

    async def ping(self) -> dict[str, Stats]:
        """Return the stats of each actor."""
        return {name: actor.ping() for name, actor in self._actors.items()}

    async def drain(self, seconds: float) -> bool:
        """Accept no more batches, finish those in progress, stop. Return whether all finished within `seconds`."""
        finished = await asyncio.gather(*(actor.drain(seconds) for actor in self._actors.values()))
        await tasks.cancel(self._upkeep)
        await self._shared.close()
        return all(finished)


class Shared:
    """Share Postgres and Redis connections, and references to other actors, among the actors of a process."""

    def __init__(self, process: ActorProcess, settings: Settings, open_refs: OpenRefs) -> None:
        self.neighbours: dict[str, HostedActor] = {}
        self._process = process
        self._open_refs = open_refs
        self._settings = settings
        self._pool: Pool | None = None
        self._redis: RedisClient | None = None
        self._refs: ActorRefs | None = None

    async def pool(self) -> Pool:
        """Return the pool of Postgres connections. None is open at first."""
        if self._pool is None:
            assert self._settings.database_url is not None, "whoever creates actors knows where Postgres is"
            name = f"tradestream {self._process.name}"
            pool = await create_pool(self._settings.database_url, self._process.pool_size, name=name)
            if self._pool is None:
                self._pool = pool
        return self._pool

    @property
    def redis(self) -> RedisClient:
        """Return the Redis client."""
        if self._redis is None:
            assert self._settings.redis_url is not None, "whoever creates actors knows where Redis is"
            self._redis = create_redis(self._settings.redis_url)
        return self._redis

    @property
    def refs(self) -> ActorRefs:
        """Return the references to all actors; those of this process are reached without Ray."""
        if self._refs is None:
            self._refs = self._open_refs(self.neighbours)
        return self._refs

    async def keep_up(self) -> None:
        """Delete expired commands and report the pool's stats, periodically."""
        for round_number in itertools.count(1):
            await asyncio.sleep(jittered(_SHOW_EVERY_SECONDS, 0.1))
            if self._pool is None:
                continue
            show_pool(self._pool, self._process.name)
            if round_number % _EXPIRE_ROUNDS == 0:
                try:
                    await _expire_commands(self._pool)
                except Exception as error:  # noqa: BLE001 - whatever it is, the next round tries again
                    log.log(loudness(error), "%s: old commands stay for now: %s", self._process.name, error)

    async def close(self) -> None:
        """Close all of it."""
        if self._refs is not None:
            await self._refs.close()
        if self._redis is not None:
            await self._redis.aclose()
        if self._pool is not None:
            self._pool.terminate()  # everything that counts is committed, and an open transaction must not stay


class HostedActor:
    """Run one actor in its process: start it, give it batches, count them, stop it."""

    def __init__(self, spec: ActorSpec, shard: int, settings: Settings, shared: Shared) -> None:
        self.name = spec.name_of(shard)
        self._spec = spec
        self._shard = shard
        self._settings = settings
        self._shared = shared
        self._since = clock.now()
        self._behaviour: Behaviour | None = None  # set while it accepts batches
        self._context: ActorContext | None = None
        self._trouble: Exception | None = None  # why the last attempt to start failed
        self._tried = asyncio.Event()
        self._draining = False
        self._batches = self._messages = self._in_progress = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._batch_seconds = metrics.ACTOR_BATCH_SECONDS.labels(self.name)
        self._starter: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to start, in the background."""
        self._starter = tasks.spawn(self._start(), name=f"{self.name}: start")

    async def deliver(self, batch: bytes) -> bytes:
        """Process an encoded batch; return the encoded replies, errors among them as values. Raises nothing."""
        try:
            envelopes = [Envelope._make(item) for item in decode(batch)]
        except Exception:
            log.exception("%s: a batch cannot be read", self.name)
            return UNDECODABLE
        return encode_replies(await self.process(envelopes))

    async def send(self, batch: Sequence[Envelope]) -> Sequence[object]:
        """See Transport: the caller is an actor in this process."""
        return await asyncio.shield(tasks.spawn(self.process(batch), name=f"{self.name}: batch of a neighbour"))

    async def process(self, batch: Sequence[Envelope]) -> Sequence[object]:
        """Process a batch; return the replies, errors among them as values. Raises nothing."""
        self._in_progress += 1
        self._idle.clear()
        started = time.perf_counter()
        try:
            replies = await self._process(batch)
        finally:
            self._in_progress -= 1
            if not self._in_progress:
                self._idle.set()
        self._count(replies, time.perf_counter() - started)
        return replies

    def ping(self) -> Stats:
        """Return its identity and load: `name`, `ready`, `epoch`, `pid`, … and the Behaviour's stats."""
        return {
            "name": self.name,
            "ready": self._behaviour is not None and not self._draining,
            "trouble": None if self._trouble is None else escape_unstorable(redact(str(self._trouble))),
            "epoch": 0 if self._context is None else self._context.epoch,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": clock.rfc3339(self._since),
            "batches": self._batches,
            "messages": self._messages,
            "in_progress": self._in_progress,
            **({} if self._behaviour is None else self._behaviour.stats()),
        }

    async def drain(self, seconds: float) -> bool:
        """Accept no more batches, finish those in progress, stop. Return whether all finished within `seconds`."""
        self._draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
                if self._starter is not None:
                    await tasks.cancel(self._starter)
                if self._behaviour is not None:
                    await self._behaviour.stop()
        except TimeoutError:
            return False
        finally:
            await self._leave()
        return True

    async def _process(self, batch: Sequence[Envelope]) -> Sequence[object]:
        try:
            if self._behaviour is None or self._draining:
                await self._wait_for_start()
            assert self._behaviour is not None
            replies = await self._behaviour.process(batch)
            assert len(replies) == len(batch), f"{len(replies)} replies to {len(batch)} messages"
        except Fenced:
            error: AppError = ActorUnavailable()  # the reply is not seen: the process is ending
        except AppError as raised:
            error = raised
        except Exception:
            log.exception("%s: a batch failed", self.name)
            error = Internal()
        else:
            return replies
        return [error] * len(batch)

    async def _wait_for_start(self) -> None:
        if self._draining:
            raise ActorUnavailable(f"{self.name} is stopping")
        try:
            async with asyncio.timeout(_START_PATIENCE_SECONDS):
                await self._tried.wait()
        except TimeoutError:
            pass
        if self._behaviour is None:
            raise ActorUnavailable(f"{self.name} is starting")

    async def _start(self) -> None:
        """Take the epoch and start the Behaviour, retrying until it works: Postgres may be unavailable for long."""
        for attempt in itertools.count(1):
            try:
                await self._start_once()
            except Exception as error:
                self._trouble = error
                if isinstance(error, Unavailable):
                    log.warning("%s: cannot start (attempt %d): %s", self.name, attempt, error)
                else:
                    log.error("%s: cannot start (attempt %d)", self.name, attempt, exc_info=error)
                await self._leave()
            else:
                self._trouble = None
                log.info("%s: started with epoch %d", self.name, self._context.epoch if self._context else 0)
                return
            finally:
                self._tried.set()
            await asyncio.sleep(backoff_seconds(attempt, *_RETRY_SECONDS))

    async def _start_once(self) -> None:
        pool = await self._shared.pool()
        context = ActorContext(
            name=self.name,
            shard=self._shard,
            shards=self._spec.shards,
            settings=self._settings,
            pool=pool,
            redis=self._shared.redis,
            fence=Fence(pool, self.name, _end_process, kind=self._spec.kind, names=self._spec.names),
            refs=self._shared.refs,
        )
        self._context = context
        await context.fence.take()
        behaviour = _load(self._spec.behaviour)
        await behaviour.start(context)
        context.every(_SHOW_EVERY_SECONDS, self._show_stats, name="figures")
        self._behaviour = behaviour
        collector.freeze()

    async def _leave(self) -> None:
        self._behaviour = None
        context, self._context = self._context, None
        if context is not None:
            await context.close()

    async def _show_stats(self) -> None:
        if self._behaviour is not None:
            for figure, value in self._behaviour.stats().items():
                metrics.ACTOR_FIGURES.labels(self.name, figure).set(value)

    def _count(self, replies: Sequence[object], seconds: float) -> None:
        self._batches += 1
        self._messages += len(replies)
        self._batch_seconds.observe(seconds)
        errors = [reply.code for reply in replies if isinstance(reply, AppError)]
        for code in set(errors):
            metrics.ACTOR_MESSAGES.labels(self.name, code).inc(errors.count(code))
        if len(errors) < len(replies):
            metrics.ACTOR_MESSAGES.labels(self.name, "OK").inc(len(replies) - len(errors))


def remote_runtime(process: ActorProcess) -> Any:
    """Return the Ray actor class of a process, with all its options; `.remote(...)` gets the process or creates it.

    Its class is named after its actors (`LensIntake`), so that `ps` and the dashboard tell the processes apart.
    """
    cls = type(process.title, (ActorRuntime,), {"__doc__": ActorRuntime.__doc__})
    return ray.remote(cls).options(
        name=process.name,
        namespace=NAMESPACE,
        lifetime="detached",  # it outlives the gateway that created it
        get_if_exists=True,
        num_cpus=0,  # with 1 the third actor of a two-core machine waits for ever, silently
        max_restarts=-1,
        max_task_retries=0,  # the ActorRef retries: it knows the deadlines
        max_concurrency=_MAX_CONCURRENCY,
        enable_task_events=False,  # a log of a thousand `deliver` a second says nothing and costs a tenth of each
        scheduling_strategy="SPREAD",
    )


def _load(path: str) -> Behaviour:
    module, _, name = path.partition(":")
    behaviour = getattr(importlib.import_module(module), name)()
    assert isinstance(behaviour, Behaviour), f"{path} is not a Behaviour"
    return behaviour


def _end_process() -> None:
    # Not ray.actor.exit_actor: that is final. Ray restarts this actor if it is the current one, and ignores its end if
    # there is a newer one.
    os._exit(_EXIT_FENCED)


async def _expire_commands(pool: Pool) -> None:
    expired = _EXPIRE_AT_ONCE
    while expired == _EXPIRE_AT_ONCE:
        async with transaction(pool) as conn:
            expired = await sql.expire_commands(conn, COMMAND_RETENTION_SECONDS, _EXPIRE_AT_ONCE)
