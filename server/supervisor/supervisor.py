"""Start the plan's services in order, keep them running, stop them in reverse; this process does not import Ray."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from config.settings import Settings
from config.tasks import cancel, spawn
from server.supervisor.actor_logs import POLL_SECONDS, ActorLogs
from server.supervisor.console import Console
from server.supervisor.gateway_service import address_of
from server.supervisor.instance import Instance
from server.supervisor.logfile import LogFile
from server.supervisor.plan import GATEWAY_COMMAND, MIGRATE_COMMAND, Plan, compose
from server.supervisor.ports import check_ports, held_port, shown_host
from server.supervisor.process import Reaper, become_subreaper
from server.supervisor.secrets import with_kept_secrets
from server.supervisor.service import Service, ServiceError
from server.supervisor.terminal import own_terminal
from server.supervisor.unit import Policy, StartFailed, Unit, run_to_end

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

SAME_WISH_SECONDS = 2.0
"""One request to end arrives as several signals: from the terminal and make, from a manager that signals a whole group.
A later signal is a person who will not wait."""


class Supervisor:
    """Run one plan. A child that dies is started again; when Ray's head dies, the gateways start again with it."""

    def __init__(self, plan: Plan, instance: Instance, console: Console, *, policy: Policy | None = None) -> None:
        self._plan = plan
        self._instance = instance
        self._console = console
        self._policy = policy or Policy()
        self._stopping = asyncio.Event()
        self._asked_at = 0.0
        self._hurry = asyncio.Event()
        self._keepers: dict[str, asyncio.Task[object]] = {}
        self._units: dict[str, Unit] = {}
        self._reaper = Reaper()

    async def run(self, ready: Callable[[bool], Sequence[str]] = lambda _: ()) -> None:
        """Start everything, print the lines of `ready`, and serve until a signal. Raises `StartFailed`.

        `ready` receives whether the dashboard answers already, since nothing waits for it.
        """
        with self._signals():
            starting = spawn(_outcome(self._start), name="start everything")
            stopping = spawn(self._stopping.wait(), name="wait for a signal")
            try:
                await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    if (failure := starting.result()) is not None:
                        await self._stop("giving up")
                        raise failure
                    dashboard = self._plan.dashboard
                    is_up = dashboard is not None and self._unit(dashboard).is_up
                    self._console.say("\n".join(ready(is_up)))
                    await stopping
            finally:
                await cancel(starting, stopping)
                await self._stop("stopping")
                self._reaper.close()

    async def _start(self) -> None:
        """Start Ray's head beside the stores, which it does not need, then the gateways, which need all of them."""
        plan, attempts = self._plan, self._policy.first_attempts
        head = spawn(_outcome(lambda: self._start_ray(attempts)), name="start Ray")
        try:
            for service in plan.stores:
                await self._bring_up(self._unit(service), attempts)
                self._keep(service)
            if plan.migration is not None:
                await self._migrate()
            if (failure := await head) is not None:
                raise failure
        finally:
            await cancel(head)
        await self._start_gateways_on(plan.ray, attempts)

    async def _start_ray(self, attempts: int | None) -> None:
        if self._plan.ray is not None:
            await self._bring_up(self._unit(self._plan.ray), attempts)
            if self._plan.actor_logs is not None:
                following = spawn(self._follow(self._plan.actor_logs), name="follow the actors' logs")
                self._keepers["actor logs"] = following

    async def _start_gateways_on(self, ray: Service | None, attempts: int | None) -> None:
        """Start the gateways for the first time; it fails when Ray dies meanwhile."""
        if ray is None:
            await self._start_gateways(attempts)
            return
        unit = self._unit(ray)
        gateways = spawn(_outcome(lambda: self._start_gateways(attempts)), name="start the gateways")
        self._keepers["gateways"] = gateways
        died = spawn(unit.ended(), name="watch Ray")
        try:
            await asyncio.wait({gateways, died}, return_when=asyncio.FIRST_COMPLETED)
            if died.done():
                raise StartFailed(ray.title, f"ended while the gateways started: {died.result()}", unit.tail)
            if (failure := gateways.result()) is not None:
                raise failure
            self._keepers[ray.name] = spawn(self._keep_ray(unit), name="keep Ray")
        finally:
            await cancel(died)

    async def _start_gateways(self, attempts: int | None) -> None:
        """Start the first gateway alone, because it creates the actors; then the others, together."""
        first, *others = self._plan.gateways
        await self._bring_up(self._unit(first), attempts)
        self._keep(first)
        if self._plan.dashboard is not None:  # after the first gateway: it uses the processor for seconds
            self._keep(self._plan.dashboard)
        await asyncio.gather(*(self._bring_up(self._unit(each), attempts) for each in others))
        for each in others:
            self._keep(each)

    async def _bring_up(self, unit: Unit, attempts: int | None) -> None:
        """Start a service with retries; `attempts` None never gives up."""
        with self._console.step(f"starting {unit.service.title}") as step:
            while True:
                try:
                    step.text = await unit.start()
                except StartFailed as failure:
                    attempts = attempts and attempts - 1
                    if attempts == 0 or (failure.final and attempts is not None):
                        raise
                    reason = failure.reason
                else:
                    return
                pause = unit.next_pause()
                self._console.event(f"{reason}; trying again in {pause:.1f} s")
                await asyncio.sleep(pause)

    async def _migrate(self) -> None:
        assert self._plan.migration is not None
        log = LogFile(self._instance.log_dir / "migrate.log")
        try:
            with self._console.step("migrating the database") as step:
                await run_to_end(self._plan.migration, self._reaper, log)
                step.text = log.tail(1) or "database migrated"
        finally:
            log.close()

    async def _follow(self, sessions: Path) -> None:
        logs, log, echo = ActorLogs(sessions), LogFile(self._instance.log_dir / "actors.log"), self._console.channel()
        try:
            while True:
                lines = logs.read()
                log.write(lines)
                echo(lines)
                await asyncio.sleep(POLL_SECONDS)
        finally:
            log.close()

    def _keep(self, service: Service) -> None:
        unit = self._unit(service)
        self._keepers[service.name] = spawn(self._keep_one(unit), name=f"keep {service.title}")

    async def _keep_one(self, unit: Unit) -> None:
        if unit.pid is None:  # the dashboard: nothing has waited for it
            await self._bring_up(unit, None)
        while True:
            await self._await_end(unit)
            await self._bring_up(unit, None)

    async def _keep_ray(self, ray: Unit) -> None:
        while True:
            await self._await_end(ray)
            dependents = [*self._plan.gateways, *([self._plan.dashboard] if self._plan.dashboard else [])]
            names = ["gateways", *(each.name for each in dependents)]
            await cancel(*(self._keepers.get(name) for name in names))
            # The old gateways drain while the new Ray, which has another address, comes up.
            stops = [self._unit(each).stop() for each in dependents]
            await asyncio.gather(*stops, self._bring_up(ray, None))
            # In a task, not here: Ray may die again before they are up.
            self._keepers["gateways"] = spawn(self._start_gateways(None), name="start the gateways again")

    async def _await_end(self, unit: Unit) -> None:
        reason = await unit.ended()
        pause = unit.next_pause()
        self._console.event(f"{unit.service.title} has ended ({reason}); starting it again in {pause:.1f} s")
        await asyncio.sleep(pause)

    async def _stop(self, why: str) -> None:
        """Stop all services in reverse order: gateways (which drain), dashboard, Ray, then the stores."""
        if not self._units:
            return
        plan = self._plan
        await cancel(*self._keepers.values())
        self._keepers.clear()
        groups: list[list[Service]] = [list(plan.gateways), [each for each in (plan.dashboard, plan.ray) if each]]
        groups += [[each] for each in reversed(plan.stores)]
        self._console.say()
        for group in groups:
            units = [self._units[each.name] for each in group if each.name in self._units]
            if units:
                names = ", ".join(each.service.title for each in units)
                with self._console.step(f"{why}: {names}") as step:
                    await asyncio.gather(*(each.stop() for each in units))
                    step.text = f"stopped: {names}"
        await self._instance.end_processes()
        for unit in self._units.values():
            unit.close()
        self._units.clear()

    def _unit(self, service: Service) -> Unit:
        if service.name not in self._units:
            self._units[service.name] = Unit(
                service, self._instance, self._reaper, self._console, self._hurry, self._policy
            )
        return self._units[service.name]

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        caught = [each for each in _SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]
        for number in caught:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in caught:
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        moment = asyncio.get_running_loop().time()
        if not self._stopping.is_set():
            self._asked_at = moment
            self._stopping.set()
        elif moment - self._asked_at > SAME_WISH_SECONDS:
            self._hurry.set()


async def _outcome(work: Callable[[], Awaitable[None]]) -> StartFailed | ServiceError | None:
    """Await `work`, and return an expected failure: as a task's exception it would be logged as a fault."""
    try:
        await work()
    except (ServiceError, StartFailed) as failure:
        return failure
    return None


async def serve(
    settings: Settings,
    *,
    gateway_command: Sequence[str] = GATEWAY_COMMAND,
    migrate_command: Sequence[str] = MIGRATE_COMMAND,
) -> None:
    """Serve from `settings.data_dir` until a signal. Raises `AlreadyRunning`, `ServiceError` or `StartFailed`."""
    instance = Instance(settings.data_dir)
    try:
        instance.acquire()
    except OSError as error:
        raise ServiceError(f"DATA_DIR: {instance.data_dir} cannot be used: {error.strerror or error}") from None
    become_subreaper()
    try:
        ended = await instance.end_processes()  # of a run that was killed
        instance.create_directories()
        settings = with_kept_secrets(settings)
        check_ports(settings)
        instance.announce(address_of(settings))
        log = LogFile(instance.log_dir / "supervisor.log")
        with contextlib.closing(log):
            console = Console(sys.stdout, log)
            console.say(f"TradeStream, data in {instance.data_dir}")
            if ended:
                console.event(f"ended what an earlier run had left behind ({ended} processes)")
            plan = compose(settings, instance, gateway_command=gateway_command, migrate_command=migrate_command)
            with held_port(settings.host, settings.port), own_terminal():
                await Supervisor(plan, instance, console).run(
                    lambda dashboard_is_up: ready_lines(settings, instance, dashboard_is_up=dashboard_is_up)
                )
                for number in _SIGNALS:  # all has ended: a second signal of the same request must not look like a fault
                    signal.signal(number, signal.SIG_IGN)
    finally:
        instance.release()


def ready_lines(settings: Settings, instance: Instance, *, dashboard_is_up: bool) -> list[str]:
    """Return the lines that say where everything is, and what to try first."""
    api = f"http://{shown_host(settings.host)}:{settings.port}"
    lines = ["", f"  API            {api}", f"  Documentation  {api}/api/docs", f"  Metrics        {api}/metrics"]
    if settings.ray_address is None and settings.ray_dashboard_port:
        token = instance.data_dir / "ray.token"
        state = "its" if dashboard_is_up else "starting, a line says when it answers; its"
        lines.append(f"  Ray dashboard  http://127.0.0.1:{settings.ray_dashboard_port}  ({state} token is in {token})")
    return [
        *lines,
        f"  Logs           {instance.log_dir}",
        "",
        "  Try, in one terminal and then in another:",
        "",
        f"    curl -N {api}/api/signals/stream",
        "",
        f"    curl -i {api}/api/v1/signals -H 'Content-Type: application/json' -d '{EXAMPLE_BODY}'",
        "",
        "  Ctrl-C stops everything.",
        "",
    ]


# The Lens document's own example of `POST /api/v1/signals`.
EXAMPLE_BODY = (
    '{"event_type": "OPEN_SIGNAL", "symbol": "BTC", "signal_direction": "long", "entry_price": 42000.50, "size": 0.1, '
    '"liquidation_price": 38000.00, "ts_utc": "2024-01-15T10:30:00Z", "source": "strategy_alpha"}'
)
