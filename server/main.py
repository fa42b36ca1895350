"""Run a gateway process: compose, serve, drain. `python -m server.main`; the supervisor starts it."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import orjson
import uvloop
from tornado.netutil import bind_sockets

from actors._runtime import registry
from actors._runtime.placement import place
from actors._runtime.registry import ActorRegistry, specs_of
from config import collector, metrics
from config.backoff import Backoff
from config.log import configure_logging
from config.settings import ConfigurationError, Settings
from config.tasks import cancel, spawn
from db._postgres import Pool, create_pool, show_pool
from db._redis import create_redis
from handlers._http.limits import Limiter
from handlers._http.services import Services
from handlers.auth._accounts import Accounts
from handlers.streams import LiveFeed
from schemas.errors import AppError
from server.app import Application, http_server
from server.mail import Mailer
from server.routes import effective_limits, routes_for
from server.supervisor.ports import listening_hosts
from server.supervisor.secrets import with_kept_secrets

log = logging.getLogger(__name__)

BACKLOG = 4096  # as the kernel's own bound: a restart brings back all streams at once
LAST_SECONDS = 1.0  # of the drain: for closing connections
DESCRIPTORS = 1 << 16
CLOSE_SECONDS = 2.0  # for pools and Ray; the supervisor waits for 3 s beyond the drain

RETRY_SECONDS = (1.0, 15.0)
POOL_SECONDS = 5.0  # between two looks at how many connections are in use


class GatewayProcess:
    """A gateway process, from its start to its exit."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app = Application(settings)
        self._http = http_server(self._app)
        self._opened = AsyncExitStack()
        self._stop = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT, then drain. `/health` answers at once, `/ready` when everything has started.

        The exit status: 0, or 1 when the start failed in a way that trying again does not mend.
        """
        self._catch_signals()
        sockets = [
            each
            for host in listening_hosts(self._settings.host)
            for each in bind_sockets(self._settings.port, host, backlog=BACKLOG, reuse_port=True)
        ]
        await self._http.listen(sockets, backlog=BACKLOG)
        log.info("gateway %d listens on %s:%d", os.getpid(), self._settings.host, self._settings.port)
        spawn(self._app.gateway.border.learn_own_name(), name="learn this machine's name")
        starting = spawn(self._start(), name="start the services")
        starting.add_done_callback(self._started)
        await self._stop.wait()
        await cancel(starting)
        await self._drain()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._opened.aclose()
        except TimeoutError:
            log.warning("not everything could be closed in time")
        log.info("gateway %d has ended", os.getpid())
        return self._status

    def _started(self, starting: asyncio.Task[None]) -> None:
        if not starting.cancelled() and starting.exception() is not None:  # spawn has logged it
            self._status = 1
            self._stop.set()

    async def _start(self) -> None:
        began = time.monotonic()
        await _insist(lambda: registry.connect(self._settings), "join Ray")
        self._opened.push_async_callback(registry.disconnect)
        self._catch_signals()  # again: ray.init replaces ours
        services, actors = await self._compose()
        self._app.gateway.services = services
        await _insist(actors.start, "start the actors")
        await self._feed.start()
        await _insist(lambda: self._follow_sessions(services), "learn which sessions have ended")
        self._app.gateway.activity_recorder.start(services)
        self._opened.push_async_callback(self._app.gateway.activity_recorder.stop)
        mailer = Mailer(self._settings, services.pool)
        self._opened.push_async_callback(mailer.stop)
        mailer.start()
        collector.freeze()
        self._app.gateway.lifecycle.state = "serving"
        log.info("gateway %d is ready after %.1f s", os.getpid(), time.monotonic() - began)

    async def _compose(self) -> tuple[Services, ActorRegistry]:
        settings = self._settings
        assert settings.database_url is not None  # main() has refused it
        assert settings.redis_url is not None
        pool = await create_pool(settings.database_url, settings.database_pool_size, name=f"gateway {os.getpid()}")
        self._opened.callback(pool.terminate)
        showing = spawn(_show_pool(pool), name="show the pool")
        self._opened.push_async_callback(partial(cancel, showing))
        redis = create_redis(settings.redis_url)
        self._opened.push_async_callback(redis.aclose)
        actors = ActorRegistry(settings)
        self._opened.push_async_callback(actors.close)
        limiter = Limiter(redis, standard_limit=settings.rate_limit_per_minute, enabled=settings.rate_limit_enabled)
        self._feed = LiveFeed(settings, pool, redis)
        self._opened.push_async_callback(self._feed.stop)
        accounts = Accounts.of(settings)
        self._opened.callback(accounts.close)
        return Services(settings, pool, redis, actors, self._feed, limiter, accounts), actors

    async def _follow_sessions(self, services: Services) -> None:
        def end_streams(session_id: str) -> int:
            return self._feed.end_streams("SESSION_REVOKED", session_id=session_id)

        await self._app.gateway.revoked.start(services.pool, services.redis, end_streams)
        self._opened.push_async_callback(self._app.gateway.revoked.stop)

    async def _drain(self) -> None:
        lifecycle, seconds = self._app.gateway.lifecycle, self._settings.drain_seconds
        was_serving = lifecycle.state == "serving"
        if was_serving and self._settings.drain_delay_seconds:
            lifecycle.state = "leaving"
            log.info("leaving: serves on for %.0f s", self._settings.drain_delay_seconds)
            await asyncio.sleep(self._settings.drain_delay_seconds)
        ends_at = time.monotonic() + max(0.0, seconds - LAST_SECONDS)
        log.info("draining: %d requests, up to %.0f s", lifecycle.in_flight, seconds)
        lifecycle.state = "draining"
        # A balancer that asks /ready sees it fail before a connection is refused.
        await asyncio.sleep(min(1.0, seconds / 10))
        await self._http.stop()
        if was_serving:
            await self._feed.drain(max(0.0, ends_at - time.monotonic()))
        if not await lifecycle.until_idle(max(0.1, ends_at - time.monotonic())):
            log.warning("%d requests were not answered in time", lifecycle.in_flight)
        if not await self._http.until_taken(max(0.1, ends_at - time.monotonic())):
            log.warning("not all answers were read in time")
        await self._http.close_all_connections()

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)


async def _show_pool(pool: Pool) -> None:
    while True:
        show_pool(pool, "gateway")
        await asyncio.sleep(POOL_SECONDS)


async def _insist(attempt: Callable[[], Awaitable[object]], what: str) -> None:
    """Retry `attempt` until it succeeds: what is unavailable comes back, and `/ready` fails meanwhile."""
    backoff = Backoff(*RETRY_SECONDS)
    while True:
        try:
            await attempt()
        except AppError as error:
            log.warning("cannot %s yet: %s", what, error.message)
        else:
            return
        await asyncio.sleep(backoff.next())


def _allow_descriptors() -> None:
    # Each connection is one. Systems give out 1024 and allow far more; MAX_CONNECTIONS and MAX_STREAMS are our bounds.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def unknown_names(settings: Settings) -> list[str]:
    """Return the faults of RATE_LIMITS and ACTOR_PLACEMENT: routes and kinds of actors that do not exist."""
    problems: list[str] = []
    for check in (
        lambda: effective_limits(routes_for(settings), settings),
        lambda: place(specs_of(settings), settings.actor_placement),
    ):
        try:
            check()
        except ConfigurationError as error:
            problems += error.problems
    return problems


def check_names() -> int:
    """Print the unknown names, a line each. Standard input: [ENVIRONMENT, RATE_LIMITS, ACTOR_PLACEMENT, LENS_SHARDS].

    `python -m server.main names` runs this for the supervisor's preflight check, since a supervisor imports neither
    handlers nor Ray.
    """
    environment, limits, placement, shards = orjson.loads(sys.stdin.buffer.read())
    settings = Settings.load(env_file=None).replace(
        environment=environment,
        rate_limits=tuple((route, limit) for route, limit in limits),
        actor_placement=placement,
        lens_shards=shards,
    )
    problems = unknown_names(settings)
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


def main() -> int:
    """Run a gateway; return 0 after a drain, 1 for an unexpected failure, 2 for a configuration that cannot be used."""
    os.umask(0o077)
    try:
        settings = Settings.load()
        missing = [name for name in ("database_url", "redis_url", "ray_address") if getattr(settings, name) is None]
        if missing:
            raise ConfigurationError(f"{name.upper()}: a gateway does not start it; run.py does" for name in missing)
        settings = with_kept_secrets(settings)  # what the supervisor starts has it already
        if problems := unknown_names(settings):
            raise ConfigurationError(problems)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - logging is configured by what is wrong here
        return 2
    configure_logging(settings.log_level, settings.log_format)
    _allow_descriptors()
    uvloop.run(_serve(settings))
    return 1  # not reached: _serve ends the process, or raises


async def _serve(settings: Settings) -> None:
    status = await GatewayProcess(settings).run()
    metrics.http_requests.write()
    logging.shutdown()
    # All is closed. A thread that still tries to join an unavailable Ray would hold the interpreter for half a minute.
    os._exit(status)


if __name__ == "__main__":
    sys.exit(check_names() if sys.argv[1:] == ["names"] else main())
