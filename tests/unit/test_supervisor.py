"""The supervisor's order of starts, restarts and ends, with cheap children."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from actors._runtime.placement import place
from actors._runtime.registry import specs_of
from config.settings import Settings
from config.tasks import spawn
from server.supervisor.actor_logs import ActorLogs
from server.supervisor.console import Console
from server.supervisor.embedded_postgres import connections_for
from server.supervisor.instance import AlreadyRunning, Instance
from server.supervisor.logfile import LogFile
from server.supervisor.plan import Plan
from server.supervisor.process import Child, Launch, Reaper, inherited_environment
from server.supervisor.service import NotReady, Run, Service
from server.supervisor.supervisor import Supervisor
from server.supervisor.unit import Policy, StartFailed, Unit

QUICK = Policy(first_attempts=2, first_seconds=0.01, ceiling_seconds=0.05)
# Ends in order on SIGTERM; says so, to show that it was asked and not killed.
PATIENT = "trap 'echo asked; exit 0' TERM; echo up $$; while :; do sleep 0.02; done"


@dataclass
class World:
    """The stand-in services' instance, and the log of what happened to them."""

    instance: Instance
    story: list[str] = field(default_factory=list)
    output: io.StringIO = field(default_factory=io.StringIO)

    def service(self, name: str, script: str = PATIENT, ready: Callable[[], bool] = lambda: True) -> StandIn:
        return StandIn(self, name, script, ready)


class StandIn(Service):
    """A shell script that is ready when it has said `up` with its pid, and `ready()` is true."""

    stop_steps = ((signal.SIGTERM, 5.0),)
    start_seconds = 5.0

    def __init__(self, world: World, name: str, script: str, ready: Callable[[], bool]) -> None:
        self.name = self.title = name
        self.pids: list[int] = []
        self.faults: dict[int, str] = {}
        self._world, self._script, self._ready = world, script, ready

    async def prepare(self, run: Run) -> None:
        self._world.story.append(f"prepare {self.name}")

    def launch(self) -> Launch:
        environment = {**inherited_environment(), **self._world.instance.marks(self.name)}
        return Launch(["/bin/sh", "-c", self._script], environment)

    async def probe(self, pid: int) -> str:
        log = self._world.instance.log_dir / f"{self.name}.log"
        if not self._ready() or f"up {pid}\n" not in log.read_text():
            raise NotReady("not yet")
        if pid not in self.pids:
            self.pids.append(pid)
            self._world.story.append(f"up {self.name}")
        return self.name

    def broken(self, pid: int) -> str | None:
        return self.faults.get(pid)

    def tidy(self) -> None:
        self._world.story.append(f"tidy {self.name}")


@pytest.fixture
def world(tmp_path: Path) -> World:
    instance = Instance(tmp_path / "data")
    instance.create_directories()
    return World(instance)


@asynccontextmanager
async def supervised(world: World, plan: Plan) -> AsyncIterator[asyncio.Task[None]]:
    """Run the plan until it is ready, yield the running supervisor, then end it with SIGTERM."""
    supervisor = Supervisor(plan, world.instance, Console(world.output), policy=QUICK)
    running = spawn(supervisor.run(lambda _: ["ready"]), name="supervisor")
    try:
        await until(lambda: "ready" in world.output.getvalue().splitlines() or running.done())
        yield running
    finally:
        if not running.done():
            os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10):
            await asyncio.wait({running})
        world.instance.release()


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_services_start_in_order_and_stop_in_reverse(world: World) -> None:
    plan = Plan(
        [world.service("gateway")], [world.service("postgres"), world.service("valkey")], None, world.service("ray")
    )
    async with supervised(world, plan):
        ups = [line for line in world.story if line.startswith("up")]
        assert [line for line in ups if line != "up ray"] == ["up postgres", "up valkey", "up gateway"]
        assert ups.index("up ray") < ups.index("up gateway")
        world.story.clear()
    assert world.story == ["tidy gateway", "tidy ray", "tidy valkey", "tidy postgres"]
    assert world.instance.processes() == []
    assert "asked" in (world.instance.log_dir / "gateway.log").read_text()


async def test_ray_starts_beside_the_stores(world: World) -> None:
    slow = world.service("postgres", ready=lambda: "up ray" in world.story)
    async with supervised(world, Plan([world.service("gateway")], [slow], None, world.service("ray"))):
        assert [line for line in world.story if line.startswith("up")] == ["up ray", "up postgres", "up gateway"]


async def test_a_store_that_dies_is_started_again_and_the_gateway_goes_on(world: World) -> None:
    store, gateway = world.service("postgres"), world.service("gateway")
    async with supervised(world, Plan([gateway], [store])):
        os.kill(store.pids[0], signal.SIGKILL)
        await until(lambda: len(store.pids) == 2)
        assert len(gateway.pids) == 1
        assert "postgres has ended (killed by SIGKILL)" in world.output.getvalue()


async def test_gateways_start_again_with_ray_and_only_after_it(world: World) -> None:
    ray, gateway, store = world.service("ray"), world.service("gateway"), world.service("postgres")
    async with supervised(world, Plan([gateway], [store], None, ray)):
        world.story.clear()
        os.kill(ray.pids[0], signal.SIGKILL)
        await until(lambda: len(gateway.pids) == 2)
        ups = [line for line in world.story if line.startswith("up")]
        assert ups == ["up ray", "up gateway"]
        assert len(store.pids) == 1


async def test_a_service_that_stops_answering_is_taken_for_dead(world: World) -> None:
    answering = True
    ray = world.service("ray", ready=lambda: answering or len(ray.pids) > 1)
    ray.watch_seconds, type(ray).patience_seconds = 0.02, 0.1
    try:
        async with supervised(world, Plan([world.service("gateway")], (), None, ray)):
            answering = False
            await until(lambda: "no answer" in world.output.getvalue())
            assert psutil.pid_exists(ray.pids[0]) is False
            answering = True
            await until(lambda: len(ray.pids) == 2)
    finally:
        type(ray).patience_seconds = Service.patience_seconds


async def test_a_first_start_gives_up_with_the_end_of_the_log(world: World) -> None:
    store = world.service("postgres")
    broken = world.service("gateway", "echo the reason; exit 3", ready=lambda: False)
    async with supervised(world, Plan([broken], [store])) as running:
        assert running.done()
        with pytest.raises(StartFailed, match=r"gateway: exit code 3\nthe reason"):
            running.result()
    assert world.story.count("prepare gateway") == QUICK.first_attempts
    assert world.story[-1] == "tidy postgres"
    assert world.instance.processes() == []


async def test_a_service_that_says_that_trying_again_is_of_no_use_is_not_tried_again(world: World) -> None:
    """The kind: a configuration that a child refuses, for which it was started again and again."""
    store = world.service("postgres")
    broken = world.service("gateway", "echo RATE_LIMITS: there is no such route; exit 2", ready=lambda: False)
    broken.final_exit_codes = frozenset({2})
    async with supervised(world, Plan([broken], [store])) as running:
        assert running.done()
        with pytest.raises(StartFailed, match=r"gateway: exit code 2\nRATE_LIMITS: there is no such route"):
            running.result()
    assert world.story.count("prepare gateway") == 1
    assert world.instance.processes() == []


async def test_a_service_that_has_been_up_is_never_given_up(world: World) -> None:
    working = True
    store = world.service("postgres", ready=lambda: working)
    async with supervised(world, Plan([world.service("gateway")], [store])) as running:
        working = False
        store.start_seconds = 0.02
        os.kill(store.pids[0], signal.SIGKILL)
        await until(lambda: world.output.getvalue().count("trying again") > 2 * QUICK.first_attempts)
        assert not running.done()
        working, store.start_seconds = True, 5.0
        await until(lambda: len(store.pids) == 2)


async def test_a_signal_during_the_start_stops_what_was_started(world: World) -> None:
    store, gateway = world.service("postgres"), world.service("gateway", ready=lambda: False)
    supervisor = Supervisor(Plan([gateway], [store]), world.instance, Console(world.output), policy=QUICK)
    running = spawn(supervisor.run(), name="supervisor")
    await until(lambda: "prepare gateway" in world.story)
    os.kill(os.getpid(), signal.SIGINT)
    async with asyncio.timeout(5):
        await running
    assert world.instance.processes() == []
    world.instance.release()


# Takes its time to end, and says what it was asked.
SLOW = "trap 'sleep 1; echo drained; exit 0' TERM; echo up $$; while :; do sleep 0.02; done"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_signals_of_one_moment_are_one_wish(world: World, second: signal.Signals) -> None:
    """The kind: one request to stop that arrives several times counts as impatience, and streams are cut."""
    async with supervised(world, Plan([world.service("gateway", SLOW)])) as running:
        for number in (signal.SIGTERM, second, second, signal.SIGINT):
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            await running
    assert "drained" in (world.instance.log_dir / "gateway.log").read_text()


async def test_a_second_signal_does_not_wait_for_a_child_that_will_not_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.supervisor.supervisor.SAME_WISH_SECONDS", 0.2)
    stubborn = world.service("gateway", "trap '' TERM; echo up $$; while :; do sleep 0.02; done")
    stubborn.stop_steps = ((signal.SIGTERM, 60.0),)
    async with supervised(world, Plan([stubborn])) as running:
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: "stopping" in world.story or stubborn.pids)
        await asyncio.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await running


async def test_processes_that_a_child_left_behind_are_ended_with_it(world: World) -> None:
    parent = world.service("gateway", "sleep 300 & " + PATIENT)
    async with supervised(world, Plan([parent])):
        left = [each.pid for each in world.instance.processes("gateway")]
        assert len(left) >= 2
        os.kill(parent.pids[0], signal.SIGKILL)
        await until(lambda: len(parent.pids) == 2)
        assert not [pid for pid in left if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


async def test_orphans_that_end_are_reaped(tmp_path: Path) -> None:
    reaper = Reaper()
    try:
        launch = Launch([sys.executable, "-c", "print('hello')"], inherited_environment())
        child = Child(launch, reaper)
        heard = bytearray()
        await child.read_output(heard.extend)
        orphan = _start_unknown_child()
        assert await asyncio.wait_for(child.exited, 10) == 0
        await until(lambda: not psutil.pid_exists(orphan))
        await until(lambda: heard == b"hello\n")
        child.close()
    finally:
        reaper.close()


def _start_unknown_child() -> int:
    """Start a child without a `Child`, like an orphan that this process inherits."""
    return os.posix_spawn("/bin/true", ["true"], {})


async def test_pauses_between_restarts_grow_and_are_forgotten_after_a_steady_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, reaper = Console(world.output), Reaper()
    policy = Policy(first_seconds=1, ceiling_seconds=8, steady_seconds=60)
    unit = Unit(world.service("one"), world.instance, reaper, console, asyncio.Event(), policy)
    try:
        await unit.start()
        for expected in (1, 2, 4, 8, 8, 8):
            assert expected * 0.75 <= unit.next_pause() <= expected * 1.25
        with monkeypatch.context() as later:
            present = time.monotonic()
            later.setattr("server.supervisor.unit.time.monotonic", lambda: present + 61)
            assert unit.next_pause() <= 1.25
    finally:
        await unit.stop()
        unit.close()
        reaper.close()


def test_a_second_instance_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    first, second = Instance(tmp_path), Instance(tmp_path)
    first.acquire()
    try:
        with pytest.raises(AlreadyRunning, match=rf"pid {os.getpid()}\) runs on {tmp_path}"):
            second.acquire()
        assert second.owner_pid == os.getpid()
    finally:
        first.release()
    assert Instance(tmp_path).owner_pid is None
    second.acquire()
    second.release()
    assert not (tmp_path / "lock").exists()


def test_other_programs_of_the_directory_learn_where_it_listens(tmp_path: Path) -> None:
    running, other = Instance(tmp_path), Instance(tmp_path)
    assert other.url is None
    running.acquire()
    try:
        assert (other.owner_pid, other.url) == (os.getpid(), None)  # its first attempt has only begun
        running.announce("http://127.0.0.1:8123")
        assert (other.owner_pid, other.url) == (os.getpid(), "http://127.0.0.1:8123")
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    finally:
        running.release()
    assert other.url is None


def test_a_lock_that_cannot_be_read_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert Instance(tmp_path / "file").owner_pid is None


def test_logs_are_their_owners_whatever_the_umask_and_whoever_made_them(tmp_path: Path) -> None:
    """The kind: a file whose mode depends on the umask of the user who starts the server."""
    before = os.umask(0)
    try:
        instance = Instance(tmp_path / "data")
        old = instance.log_dir / "postgres.log"
        old.parent.mkdir(parents=True)
        old.write_text("with parameters\n")
        instance.create_directories()
        log = LogFile(instance.log_dir / "gateway-1.log", limit_bytes=10)
        for _ in range(5):
            log.write(b"0123456789")
        log.close()
    finally:
        os.umask(before)
        instance.release()
    assert {each.stat().st_mode & 0o777 for each in instance.log_dir.iterdir()} == {0o600}
    for folder in (instance.log_dir, instance.metrics_dir):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_the_lock_is_not_inherited_by_children(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    instance.acquire()
    try:
        assert instance._lock is not None
        assert not os.get_inheritable(instance._lock)
    finally:
        instance.release()


def test_the_runtime_directory_is_short_however_long_the_data_directory_is(tmp_path: Path) -> None:
    instance = Instance(tmp_path.joinpath(*["a" * 100] * 5))
    ray_socket = (
        instance.runtime_dir / "ray" / "session_2026-01-01_00-00-00_000000_4194304" / "sockets" / "plasma_store.1"
    )
    assert len(os.fsencode(ray_socket)) <= 107


def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = Instance(tmp_path / "data")
    monkeypatch.setattr(instance, "runtime_dir", tmp_path / "link")
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(AlreadyRunning, match="not ours"):
        instance.create_directories()


def test_logs_are_bounded_and_rotate_at_each_start(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    for _ in range(5):
        log = LogFile(path, limit_bytes=100)
        for number in range(20):
            log.write(f"line {number:03}\n".encode())
        log.close()
    files = sorted(each.name for each in tmp_path.iterdir())
    assert files == ["x.log", "x.log.1", "x.log.2"]
    assert all(each.stat().st_size <= 100 for each in tmp_path.iterdir())
    assert log.tail(2) == "line 018\nline 019"


def test_a_reader_that_went_away_costs_lines_and_nothing_else() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as stream:
        console = Console(stream)
        console.say("to nobody")
        with console.step("working"):
            console.channel()(b"half a line\nand")


def test_logs_of_actors_become_one_log_of_whole_lines(tmp_path: Path) -> None:
    folder = tmp_path / "session_1" / "logs"
    folder.mkdir(parents=True)
    (tmp_path / "session_latest").symlink_to(folder.parent)
    logs = ActorLogs(tmp_path)
    file = folder / "worker-1.err"
    file.write_bytes(b":actor_name:users/0\nfirst\nsec")
    (folder / "raylet.out").write_bytes(b"none of ours\n")
    assert logs.read() == b"first\n"
    assert logs.read() == b""
    with file.open("ab") as more:
        more.write(b"ond\n")
    assert logs.read() == b"second\n"
    file.write_bytes(b"new\n")  # Ray has rotated it
    assert logs.read() == b"new\n"
    (tmp_path / "session_latest").unlink()
    assert logs.read() == b""


async def test_a_service_that_has_fallen_apart_is_started_again_at_once(world: World) -> None:
    ray = world.service("ray")
    ray.watch_seconds = 0.02
    async with supervised(world, Plan([world.service("gateway")], (), None, ray)):
        ray.faults[ray.pids[0]] = "without its raylet"
        await until(lambda: len(ray.pids) == 2)
        assert "ray has ended (without its raylet)" in world.output.getvalue()


@pytest.mark.parametrize(("shards", "workers", "least"), [(1, 1, 200), (16, 1, 280), (64, 2, 1048), (1, 40, 424)])
def test_postgres_has_a_connection_for_every_pool(shards: int, workers: int, least: int) -> None:
    """The kind: a setting that allows more than another part was built for."""
    settings = Settings.load(env_file=None).replace(lens_shards=shards, workers=workers)
    assert connections_for(settings) >= least
    actors = sum(process.pool_size for process in place(specs_of(settings), "spread"))
    assert connections_for(settings) >= actors + workers * settings.database_pool_size
