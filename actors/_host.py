"""The process of an actor: the only class that is made remote. It gives a Behaviour its room and its batches."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import logging
import os
import random
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from actors._behaviour import Behaviour, Room
from actors._fencing import Fence
from actors._mailbox import Limits
from actors._messages import UNDECODABLE, Delivery, decode, encode_replies
from config import clock, collector, metrics, tasks
from config.log import configure_logging
from config.masking import redact
from config.settings import Settings
from db import actors as sql
from db._postgres import Pool, create_pool, show_pool, transaction
from db._redis import create_redis
from schemas.errors import ActorUnavailable, AppError, Fenced, Internal, Unavailable

log = logging.getLogger(__name__)

NAMESPACE = "tradestream"

# A sender whose deadline has passed repeats nothing, and nobody repeats by hand later than this.
COMMAND_RETENTION_SECONDS = 3600.0
_EXPIRE_EVERY_SECONDS = 60.0
_EXPIRE_AT_ONCE = 2000  # some 40 ms of Postgres's time

_START_PATIENCE_SECONDS = 1.0  # a batch that comes during the start waits for it this long
_RETRY_MAX_SECONDS = 2.0
_MAX_CONCURRENCY = 1000  # calls at a time: one of each mailbox, and the pings
_EXIT_FENCED = 3

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """A kind of actor: its name in Ray, what it does, over how many processes it is spread, and its bounds."""

    kind: str
    behaviour: str  # "actors.lens.intake:Intake"
    shards: int = 1
    pool_size: int = 4  # Postgres connections per process, at least 2 (a take-over may need two): batches side by side
    limits: Limits = field(default_factory=Limits)

    def name_of(self, shard: int) -> str:
        """The name in Ray: the kind, and the shard where there are several."""
        return self.kind if self.shards == 1 else f"{self.kind}/{shard}"


class Host:
    """One shard of one kind of actor, in a process of its own.

    Guarantee: a batch is answered when its Behaviour says so, under this process's epoch; when another process has
    taken a newer one, this process ends. A crash loses what the Behaviour keeps in memory only; Ray starts the process
    again.
    """

    def __init__(self, spec: ActorSpec, shard: int, specs: tuple[ActorSpec, ...], settings: Settings) -> None:
        settings.protect_secrets()
        configure_logging(settings.log_level, settings.log_format)
        self.name = spec.name_of(shard)
        self._spec = spec
        self._shard = shard
        self._specs = specs
        self._settings = settings
        self._since = clock.now()
        self._behaviour: Behaviour | None = None  # set while it takes batches
        self._room: Room | None = None
        self._trouble: Exception | None = None  # why the last attempt to start failed
        self._tried = asyncio.Event()
        self._draining = False
        self._batches = self._messages = self._in_progress = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._batch_seconds = metrics.ACTOR_BATCH_SECONDS.labels(self.name)
        self._starter = tasks.spawn(self._start(), name=f"{self.name}: start")

    def __repr__(self) -> str:
        return self.name

    # --- its messages

    async def deliver(self, batch: bytes) -> bytes:
        """Process an encoded batch; the encoded replies, errors among them as values. Raises nothing."""
        try:
            deliveries = [Delivery._make(item) for item in decode(batch)]
        except Exception:
            log.exception("%s: a batch cannot be read", self.name)
            return UNDECODABLE
        self._in_progress += 1
        self._idle.clear()
        started = time.perf_counter()
        try:
            replies = await self._process(deliveries)
        finally:
            self._in_progress -= 1
            if not self._in_progress:
                self._idle.set()
        self._count(replies, time.perf_counter() - started)
        return encode_replies(replies)

    async def ping(self) -> Figures:
        """Who this is and how busy: `name`, `ready`, `epoch`, `pid`, … and what the Behaviour says of itself."""
        return {
            "name": self.name,
            "ready": self._behaviour is not None and not self._draining,
            "trouble": None if self._trouble is None else redact(str(self._trouble)),
            "epoch": 0 if self._room is None else self._room.epoch,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": clock.rfc3339(self._since),
            "batches": self._batches,
            "messages": self._messages,
            "in_progress": self._in_progress,
            **({} if self._behaviour is None else self._behaviour.figures()),
        }

    async def drain(self, seconds: float) -> bool:
        """Take no more batches, finish those under way, stop. Whether all were finished within `seconds`."""
        self._draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
                await tasks.cancel(self._starter)
                if self._behaviour is not None:
                    await self._behaviour.stop()
        except TimeoutError:
            return False
        finally:
            await self._leave()
        return True

    # --- how

    async def _process(self, batch: Sequence[Delivery]) -> Sequence[Any]:
        try:
            if self._behaviour is None or self._draining:
                await self._wait_for_start()
            assert self._behaviour is not None
            replies = await self._behaviour.process(batch)
            assert len(replies) == len(batch), f"{len(replies)} replies to {len(batch)} messages"
        except Fenced:
            error: AppError = ActorUnavailable()  # the answer is not seen: the process is ending
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
        """Take the epoch and start the Behaviour; again and again until it works. Postgres may be away for long."""
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
                log.info("%s: started with epoch %d", self.name, self._room.epoch if self._room else 0)
                return
            finally:
                self._tried.set()
            longest = min(_RETRY_MAX_SECONDS, 0.1 * 2.0 ** min(attempt, 10))
            await asyncio.sleep(random.uniform(0.5, 1.0) * longest)  # noqa: S311 - spreads load, guards nothing

    async def _start_once(self) -> None:
        from actors._directory import Directory  # it creates Hosts

        settings = self._settings
        assert settings.database_url is not None, "whoever creates actors knows where Postgres is"
        assert settings.redis_url is not None, "whoever creates actors knows where Redis is"
        pool = await create_pool(settings.database_url, self._spec.pool_size, name=f"tradestream {self.name}")
        room = Room(
            name=self.name,
            shard=self._shard,
            shards=self._spec.shards,
            settings=settings,
            pool=pool,
            redis=create_redis(settings.redis_url),
            fence=Fence(pool, self.name, on_lost=_end_process),
            directory=Directory(settings, self._specs),
        )
        self._room = room
        await room.fence.take()
        behaviour = _load(self._spec.behaviour)
        await behaviour.start(room)
        room.every(_EXPIRE_EVERY_SECONDS, lambda: _expire_commands(pool), name="expire commands")
        room.every(_EXPIRE_EVERY_SECONDS / 6, self._show_figures, name="figures")
        self._behaviour = behaviour
        collector.settle()

    async def _leave(self) -> None:
        self._behaviour = None
        room, self._room = self._room, None
        if room is not None:
            await room.close()
            await room.directory.close()
            await room.redis.aclose()
            room.pool.terminate()  # what matters is committed, and an open transaction must not stay

    async def _show_figures(self) -> None:
        if self._behaviour is not None:
            for figure, value in self._behaviour.figures().items():
                metrics.ACTOR_FIGURES.labels(self.name, figure).set(value)
        if self._room is not None:
            show_pool(self._room.pool, self.name)

    def _count(self, replies: Sequence[Any], seconds: float) -> None:
        self._batches += 1
        self._messages += len(replies)
        self._batch_seconds.observe(seconds)
        errors = [reply.code for reply in replies if isinstance(reply, AppError)]
        for code in set(errors):
            metrics.ACTOR_MESSAGES.labels(self.name, code).inc(errors.count(code))
        if len(errors) < len(replies):
            metrics.ACTOR_MESSAGES.labels(self.name, "OK").inc(len(replies) - len(errors))


def remote_host(spec: ActorSpec, shard: int) -> Any:
    """The Ray actor class of a shard, with every option it has; `.remote(...)` gets it if it exists, or creates it.

    Its class is named after its kind (`LensEnrich`), so that `ps` and the dashboard tell the processes apart.
    """
    title = "".join(word.capitalize() for word in spec.kind.replace("/", " ").replace("_", " ").split())
    cls = type(title, (Host,), {"__doc__": Host.__doc__})
    return ray.remote(cls).options(
        name=spec.name_of(shard),
        namespace=NAMESPACE,
        lifetime="detached",  # it outlives the gateway that happened to create it
        get_if_exists=True,
        num_cpus=0,  # with 1 the third actor of a two-core machine waits for ever, silently
        max_restarts=-1,
        max_task_retries=0,  # the mailbox repeats: it knows the deadlines
        max_concurrency=_MAX_CONCURRENCY,
        enable_task_events=False,  # a list of a thousand `deliver` a second says nothing and costs a tenth of each
        scheduling_strategy="SPREAD",
    )


def _load(path: str) -> Behaviour:
    module, _, name = path.partition(":")
    behaviour = getattr(importlib.import_module(module), name)()
    assert isinstance(behaviour, Behaviour), f"{path} is not a Behaviour"
    return behaviour


def _end_process() -> None:
    # Not ray.actor.exit_actor: that is for good. Ray restarts this actor if it is the one that it knows, and takes no
    # notice if it has a newer one.
    os._exit(_EXIT_FENCED)


async def _expire_commands(pool: Pool) -> None:
    expired = _EXPIRE_AT_ONCE
    while expired == _EXPIRE_AT_ONCE:
        async with transaction(pool) as conn:
            expired = await sql.expire_commands(conn, COMMAND_RETENTION_SECONDS, _EXPIRE_AT_ONCE)
