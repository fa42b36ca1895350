"""The actor layer on a real Ray and a real Postgres, both of which are killed, frozen and restarted."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil
import pytest
import ray

from actors._runtime import registry
from actors._runtime.placement import ActorSpec
from actors._runtime.registry import ActorRegistry, connect, disconnect
from actors._runtime.runtime import NAMESPACE
from config.ids import uuid7
from config.settings import Settings
from config.tasks import cancel, spawn
from db import actors as sql
from schemas.errors import (
    ActorUnavailable,
    AppError,
    DatabaseUnavailable,
    DeadlineExceeded,
    Internal,
    Unavailable,
    all_errors,
)
from tests.integration.counters import (
    DIES_AFTER_COMMIT,
    DIES_BEFORE_COMMIT,
    SCHEMA,
    Add,
    Fail,
    SetTo,
    Total,
    Wait,
)
from tests.support.asking import ask_many
from tests.support.breakable import BreakablePostgres, breakable_postgres, ray_for_this_process

COUNTERS = "test/counters"
FORWARDER = "test/forwarder"
SHARDED = "test/sharded"
SPECS = (
    ActorSpec(COUNTERS, "tests.integration.counters:Counters"),
    ActorSpec(FORWARDER, "tests.integration.counters:Forwarder"),
    ActorSpec(SHARDED, "tests.integration.counters:Counters", shards=2),
)
MIGRATION = Path(sql.__file__).parent / "migrations" / "0001_actors.sql"


@dataclass(frozen=True)
class World:
    """The servers that the tests share, and the SIGTERM handler after Ray was joined."""

    postgres: BreakablePostgres
    settings: Settings
    terminations: list[int]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Postgres and Ray for this module. The actors are created by the first test that needs them."""
    terminations: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: terminations.append(number))
    root = tmp_path_factory.mktemp("actors")
    with breakable_postgres(root / "postgres") as server, ray_for_this_process(root / "ray") as address:
        settings = Settings.load(env_file=None).replace(
            database_url=server.url, redis_url="unix:///nowhere", ray_address=address, log_level="WARNING"
        )
        asyncio.run(prepare(server.url))
        asyncio.run(connect(settings))
        try:
            yield World(server, settings, terminations)
        finally:
            asyncio.run(disconnect())
            signal.signal(signal.SIGTERM, previous)


async def prepare(url: str) -> None:
    """The tables of the actor layer and of the counters."""
    conn = await asyncpg.connect(url)
    await conn.execute(MIGRATION.read_text().partition("-- migrate:down")[0])
    await conn.execute(SCHEMA)
    await conn.close()


@asynccontextmanager
async def gateway(world: World, specs: tuple[ActorSpec, ...] = SPECS) -> AsyncIterator[ActorRegistry]:
    """The actors as one gateway process sees them."""
    registry = ActorRegistry(world.settings, specs)
    await registry.start()
    try:
        yield registry
    finally:
        await registry.close()


@asynccontextmanager
async def database(world: World) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own."""
    conn = await asyncpg.connect(world.postgres.url)
    try:
        yield conn
    finally:
        await conn.close()


async def figures_of(registry: ActorRegistry, name: str) -> dict[str, object]:
    """Return the actor's own stats."""
    answer = (await registry.probe())[name]
    assert not isinstance(answer, AppError), answer
    return dict(answer)


async def eventually(work: Callable[[], Awaitable[object]], seconds: float = 30.0) -> None:
    """Repeat `work` until it does not raise Unavailable."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            await work()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
        else:
            return
        await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for the condition, and fail if it does not come."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition, so there is no event to wait for
            await asyncio.sleep(0.01)


def new_key(name: str) -> str:
    """Return the key of a counter that no other test uses."""
    return f"{name}-{uuid7()}"


async def test_joining_ray_leaves_the_signal_handlers_as_they_were(world: World) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0)
    assert world.terminations == [signal.SIGTERM]
    assert signal.alarm(0) == 0, "Ray's own handler would abort this process in three seconds"


async def test_a_thousand_concurrent_additions_from_two_gateways_lose_nothing(world: World) -> None:
    key = new_key("many")
    async with gateway(world) as one, gateway(world) as other, database(world) as conn:
        refs = [one.ref(COUNTERS, key), other.ref(COUNTERS, key)]
        replies = await asyncio.gather(*(refs[n % 2].ask(key, Add()) for n in range(1000)))
        assert sorted(replies) == list(range(1, 1001))
        assert await conn.fetchval("SELECT total FROM counters WHERE id = $1", key) == 1000
        assert await one.ref(COUNTERS, key).ask(key, Total()) == 1000


async def test_every_shard_is_an_actor_of_its_own_with_a_name_one_recognises(world: World) -> None:
    async with gateway(world) as registry:
        keys = [new_key("shard") for _ in range(20)]
        assert {registry.ref(SHARDED, key).name for key in keys} == {"test/sharded/0", "test/sharded/1"}
        assert [await registry.ref(SHARDED, key).ask(key, Add(2)) for key in keys] == [2] * 20
        probe = await registry.probe()
        assert set(probe) == {COUNTERS, FORWARDER, "test/sharded/0", "test/sharded/1"}
        pid = (await figures_of(registry, COUNTERS))["pid"]
        assert isinstance(pid, int)
        assert "ray::TestCounters" in " ".join(psutil.Process(pid).cmdline())
        assert repr(ray.get_actor(COUNTERS, namespace=NAMESPACE)).startswith("Actor(TestCounters")


async def test_one_actor_writes_to_another(world: World) -> None:
    key = new_key("forwarded")
    async with gateway(world) as registry:
        assert await registry.ref(FORWARDER, key).ask(key, Add(7)) == 7
        assert await registry.ref(COUNTERS, key).ask(key, Total()) == 7


NEAR, NEAR_FORWARDER = "near/counters", "near/forwarder"
NEIGHBOURS = (
    ActorSpec(NEAR, "tests.integration.counters:Counters", shards=2),
    ActorSpec(NEAR_FORWARDER, "tests.integration.counters:NeighbourForwarder"),
)


@asynccontextmanager
async def neighbours(world: World) -> AsyncIterator[ActorRegistry]:
    """Three actors in one process, as a gateway sees them."""
    settings = world.settings.replace(actor_placement=f"near={NEAR}+{NEAR_FORWARDER}@1")
    registry = ActorRegistry(settings, NEIGHBOURS)
    await registry.start()
    try:
        yield registry
    finally:
        await registry.close()


async def test_actors_of_one_process_keep_their_names_and_reach_each_other_without_ray(world: World) -> None:
    keys = [new_key("near") for _ in range(20)]
    async with neighbours(world) as registry:
        probe = await registry.probe()
        assert set(probe) == {f"{NEAR}/0", f"{NEAR}/1", NEAR_FORWARDER}
        assert len({(await figures_of(registry, name))["pid"] for name in probe}) == 1
        assert repr(ray.get_actor(f"{NEAR}/0+{NEAR}/1+{NEAR_FORWARDER}", namespace=NAMESPACE)).startswith("Actor(Near")
        forwarder = registry.ref(NEAR_FORWARDER, "")
        assert await ask_many(forwarder, [(key, Add(7)) for key in keys]) == [7] * 20
        assert [await registry.ref(NEAR, key).ask(key, Total()) for key in keys] == [7] * 20
        with pytest.raises(AppError):
            await forwarder.ask(keys[0], Fail("NotFound"))


async def test_neighbours_whose_process_is_killed_lose_nothing_acknowledged(world: World) -> None:
    key = new_key("near killed")
    async with neighbours(world) as registry, database(world) as conn:
        forwarder = registry.ref(NEAR_FORWARDER, key)
        for turn in range(3):
            tags = [f"{turn}/{n}" for n in range(50)]
            for tag in tags:
                await eventually(lambda tag=tag: forwarder.ask(key, Add(tag=tag)))  # type: ignore[misc]
            await kill(registry, NEAR_FORWARDER)
            await eventually(lambda: registry.ref(NEAR, key).ask(key, Total()))
        rows = await conn.fetch("SELECT DISTINCT tag FROM additions WHERE id = $1", key)
        assert {row[0] for row in rows} == {f"{turn}/{n}" for turn in range(3) for n in range(50)}


async def test_one_actor_that_was_taken_over_ends_its_process_with_its_neighbours(world: World) -> None:
    key = new_key("near taken over")
    async with neighbours(world) as registry, database(world) as conn:
        ref = registry.ref(NEAR, key)
        assert await ref.ask(key, Add(1)) == 1
        before = await figures_of(registry, NEAR_FORWARDER)
        for shard in (0, 1):
            await sql.take_epoch(conn, f"{NEAR}/{shard}", "another process")
        command = uuid7()
        await eventually(lambda: ref.ask(key, Add(1), command_id=command))
        await eventually(lambda: registry.ref(NEAR_FORWARDER, key).ask(key, Add(1)))
        assert (await figures_of(registry, NEAR_FORWARDER))["pid"] != before["pid"]
        assert await registry.stop_actors(5.0)


async def test_messages_of_one_sender_to_one_key_are_applied_in_their_order(world: World) -> None:
    key = new_key("order")
    tags = [f"{n}" for n in range(700)]
    async with gateway(world) as registry, database(world) as conn:
        ref = registry.ref(COUNTERS, key)
        await asyncio.gather(*(ref.ask(key, Add(tag=tag)) for tag in tags))
        rows = await conn.fetch("SELECT tag FROM additions WHERE id = $1 ORDER BY at", key)
        assert [row[0] for row in rows] == tags


@pytest.mark.parametrize("error", all_errors(), ids=lambda cls: cls.__name__)
async def test_every_error_of_the_tree_arrives_as_itself(world: World, error: type[AppError]) -> None:
    async with gateway(world) as registry:
        with pytest.raises(error) as raised:
            await registry.ref(COUNTERS, "k").ask("k", Fail(error.__name__))
        assert type(raised.value) is error
        assert raised.value == error()


async def test_a_poisoned_message_fails_alone(world: World) -> None:
    keys = [new_key("poison") for _ in range(30)]
    async with gateway(world) as registry:
        ref = registry.ref(COUNTERS, "")
        replies = await ask_many(
            ref,
            [(key, SetTo(2_000_000) if n == 13 else Add(n)) for n, key in enumerate(keys)]
            + [(keys[13], Add(1)), ("k", Fail("a bug")), ("unknown", Add())],
        )
        assert isinstance(replies[13], Internal), "the table refuses the total"
        assert [reply for n, reply in enumerate(replies[:30]) if n != 13] == [n for n in range(30) if n != 13]
        assert replies[30] == 1, "the same key goes on from its last good state"
        assert isinstance(replies[31], Internal)
        assert isinstance(replies[32], AppError)
        assert replies[32].code == "NOT_FOUND"


async def test_a_message_past_its_deadline_fails_in_time_and_the_actor_goes_on(world: World) -> None:
    key = new_key("late")
    async with gateway(world) as registry:
        ref = registry.ref(COUNTERS, key)
        started = time.monotonic()
        late = spawn(ref.ask(key, Wait(0.5), deadline_seconds=0.2), name="late")
        await asyncio.sleep(0.05)
        waiting = spawn(ref.ask(key, Add(), deadline_seconds=0.1), name="waiting")
        with pytest.raises(DeadlineExceeded):
            await waiting
        with pytest.raises(DeadlineExceeded):
            await late
        assert time.monotonic() - started < 0.45
        assert await ref.ask(key, Total()) == 0, "what still waited was withdrawn"


async def test_the_same_command_is_applied_once_whoever_repeats_it_and_when(world: World) -> None:
    key, command = new_key("repeated"), uuid7()
    async with gateway(world) as one, gateway(world) as other:
        first = await one.ref(COUNTERS, key).ask(key, Add(5, "once"), command_id=command)
        await one.ref(COUNTERS, key).ask(key, Add(1))
        assert first == 5
        together = await asyncio.gather(
            *(each.ref(COUNTERS, key).ask(key, Add(5, "once"), command_id=command) for each in (one, other, one))
        )
        assert together == [5, 5, 5], "the answer is the first one, although the total has changed since"
        await kill(one, COUNTERS)
        await eventually(lambda: other.ref(COUNTERS, key).ask(key, Total()))
        assert await other.ref(COUNTERS, key).ask(key, Add(5, "once"), command_id=command) == 5
        assert await other.ref(COUNTERS, key).ask(key, Total()) == 6


async def kill(registry: ActorRegistry, name: str) -> None:
    """Send SIGKILL to the process of an actor, if it runs."""
    answer = (await registry.probe())[name]
    if not isinstance(answer, AppError):
        psutil.Process(answer["pid"]).kill()


async def test_an_actor_killed_again_and_again_loses_nothing_acknowledged_and_applies_nothing_twice(
    world: World,
) -> None:
    """Half of the callers repeat a command until it is acknowledged, the others never; all of them all the time."""
    key = new_key("killed")
    acknowledged: list[str] = []
    unknown: list[str] = []
    kills, stop = 5, asyncio.Event()

    async def insist(ref: registry.ActorRef, tag: str) -> None:
        command = uuid7()
        await eventually(lambda: ref.ask(key, Add(tag=tag), command_id=command))
        acknowledged.append(tag)

    async def try_once(ref: registry.ActorRef, tag: str) -> None:
        try:
            await ref.ask(key, Add(tag=tag))
        except Unavailable:
            unknown.append(tag)
        else:
            acknowledged.append(tag)

    async def caller(registry: ActorRegistry, number: int) -> None:
        ref, count = registry.ref(COUNTERS, key), 0
        while not stop.is_set():
            count += 1
            await (insist if number % 2 else try_once)(ref, f"{number}/{count}")

    async with gateway(world) as one, gateway(world) as other, database(world) as conn:
        callers = [spawn(caller((one, other)[n % 4 // 2], n), name=f"caller {n}") for n in range(40)]
        for _ in range(kills):
            before = len(acknowledged)
            await until(lambda goal=before + 200: len(acknowledged) >= goal)  # type: ignore[misc]
            await asyncio.sleep(random.uniform(0, 0.05))
            await kill(one, COUNTERS)
        stop.set()
        await asyncio.gather(*callers)
        await eventually(lambda: one.ref(COUNTERS, key).ask(key, Total()))
        applied = Counter(row[0] for row in await conn.fetch("SELECT tag FROM additions WHERE id = $1", key))
        assert len(acknowledged) > kills * 200
        assert [tag for tag in acknowledged if applied[tag] != 1] == []
        assert [tag for tag in unknown if applied[tag] > 1] == []
        assert await one.ref(COUNTERS, key).ask(key, Total()) == applied.total()


@pytest.mark.parametrize("death", [DIES_BEFORE_COMMIT, DIES_AFTER_COMMIT])
async def test_a_batch_whose_actor_dies_around_the_commit_is_applied_once_and_answered(
    world: World, death: str
) -> None:
    key = new_key("deadly")
    tags = [f"{n}" for n in range(40)]
    tags.insert(20, death)
    async with gateway(world) as registry, database(world) as conn:
        before = await figures_of(registry, COUNTERS)
        ref = registry.ref(COUNTERS, key)
        replies = await ask_many(ref, [(key, Add(tag=tag)) for tag in tags], deadline_seconds=15)
        assert replies == list(range(1, 42))
        assert (await figures_of(registry, COUNTERS))["pid"] != before["pid"]
        rows = await conn.fetch("SELECT tag FROM additions WHERE id = $1 ORDER BY at", key)
        assert [row[0] for row in rows] == tags
        assert await ref.ask(key, Total()) == 41


async def test_an_actor_that_was_taken_over_ends_its_process_and_the_next_one_goes_on(world: World) -> None:
    key = new_key("taken over")
    async with gateway(world) as registry, database(world) as conn:
        ref = registry.ref(COUNTERS, key)
        assert await ref.ask(key, Add(1)) == 1
        before = await figures_of(registry, COUNTERS)
        epoch = await sql.take_epoch(conn, COUNTERS, "another process")
        assert epoch == before["epoch"] + 1  # type: ignore[operator]
        command = uuid7()
        await eventually(lambda: ref.ask(key, Add(1, "after"), command_id=command))
        after = await figures_of(registry, COUNTERS)
        assert after["pid"] != before["pid"]
        assert after["epoch"] > epoch  # type: ignore[operator]
        assert await ref.ask(key, Total()) == 2
        assert await conn.fetchval("SELECT count(*) FROM additions WHERE id = $1 AND tag = 'after'", key) == 1


async def test_an_actor_that_is_dead_for_good_is_created_again(world: World) -> None:
    key = new_key("dead")
    async with gateway(world) as registry:
        ref = registry.ref(COUNTERS, key)
        assert await ref.ask(key, Add(3)) == 3
        await asyncio.to_thread(ray.kill, ray.get_actor(COUNTERS, namespace=NAMESPACE))
        await eventually(lambda: ref.ask(key, Total()))
        # Ray may have begun to start the old one again: who answered first can be fenced off by now. As a client would:
        again = uuid7()
        await eventually(lambda: ref.ask(key, Add(1), command_id=again))
        assert await ref.ask(key, Total()) == 4


@contextmanager
def stopped(server: BreakablePostgres) -> Iterator[None]:
    """Shut Postgres down, and start it again."""
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def crashed(server: BreakablePostgres) -> Iterator[None]:
    """Crash Postgres, and start it again."""
    server.crash()
    try:
        yield
    finally:
        server.start()


@pytest.mark.parametrize("trouble", [stopped, crashed, BreakablePostgres.frozen])
async def test_writes_without_postgres_fail_within_two_seconds_and_recover_by_themselves(
    world: World, trouble: Callable[[BreakablePostgres], AbstractContextManager[None]]
) -> None:
    key, other = new_key("away"), new_key("never seen")
    async with gateway(world) as registry:
        ref = registry.ref(COUNTERS, key)
        assert await ref.ask(key, Add(1)) == 1
        before = await figures_of(registry, COUNTERS)
        with trouble(world.postgres):
            for _ in range(2):
                started = time.monotonic()
                assert await ref.ask(key, Total()) == 1, "what it holds in memory it can tell"
                replies = await ask_many(ref, [(other, Total()), (other, Add(1))], deadline_seconds=5)
                assert time.monotonic() - started < 2.0
                assert [type(reply) for reply in replies] == [DatabaseUnavailable] * 2
                assert all(isinstance(reply, AppError) and reply.retry_after == 1 for reply in replies)
        await eventually(lambda: ref.ask(other, Total()))
        assert await ref.ask(key, Add(1)) == 2
        assert (await figures_of(registry, COUNTERS))["pid"] == before["pid"], "nobody had to be restarted"


async def test_an_actor_that_starts_without_postgres_answers_quickly_and_starts_when_it_is_back(world: World) -> None:
    key = new_key("started without")
    async with gateway(world) as registry:
        ref = registry.ref(COUNTERS, key)
        assert await ref.ask(key, Add(1)) == 1
        with stopped(world.postgres):
            await kill(registry, COUNTERS)
            async with asyncio.timeout(15):
                while True:
                    answer = (await registry.probe())[COUNTERS]
                    if not isinstance(answer, AppError) and answer["trouble"]:
                        break
                    await asyncio.sleep(0.05)
            assert answer["ready"] is False
            started = time.monotonic()
            with pytest.raises(ActorUnavailable):
                await ref.ask(key, Total())
            assert time.monotonic() - started < 0.5
        await eventually(lambda: ref.ask(key, Total()))
        assert await ref.ask(key, Add(1)) == 2


async def test_more_ids_than_memory_holds_are_loaded_again_when_needed(world: World) -> None:
    keys = [new_key("crowd") for _ in range(300)]
    async with gateway(world) as registry:
        ref = registry.ref(COUNTERS, "")
        for part in (keys[:150], keys[150:]):
            await ask_many(ref, [(key, Add(int(key[-1], 16))) for key in part])
        in_memory = (await figures_of(registry, COUNTERS))["in_memory"]
        assert isinstance(in_memory, int)
        assert in_memory <= 100
        assert await ask_many(ref, [(key, Total()) for key in keys]) == [int(key[-1], 16) for key in keys]


async def test_actors_that_cannot_start_are_named_with_the_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "CREATE_SECONDS", 12.0)
    broken = ActorRegistry(world.settings, [ActorSpec("test/broken", "tests.integration.counters:Nothing")])
    with pytest.raises(ActorUnavailable, match=r"test/broken .*has no attribute 'Nothing'"):
        await broken.start()
    assert await broken.stop_actors(1.0)


async def test_a_probe_is_bounded_and_tells_who_does_not_answer(world: World) -> None:
    async with gateway(world) as registry:
        pid = (await figures_of(registry, COUNTERS))["pid"]
        assert isinstance(pid, int)
        frozen = psutil.Process(pid)
        frozen.suspend()
        try:
            started = time.monotonic()
            probe = await registry.probe()
            assert time.monotonic() - started < 2
            assert isinstance(probe[COUNTERS], ActorUnavailable)
            assert not isinstance(probe[FORWARDER], AppError)
        finally:
            frozen.resume()
        await eventually(lambda: registry.ref(COUNTERS, "k").ask("k", Total()))


async def test_stopping_the_actors_finishes_what_is_under_way_and_they_can_be_started_again(world: World) -> None:
    key = new_key("stopped")
    async with gateway(world) as registry:
        ref = registry.ref(COUNTERS, key)
        under_way = spawn(ask_many(ref, [(key, Wait(0.3)), (key, Add(1))]), name="under way")
        await asyncio.sleep(0.1)
        assert await registry.stop_actors(5.0)
        assert await under_way == [0, 1]
    async with gateway(world) as registry:
        assert await registry.ref(COUNTERS, key).ask(key, Add(1)) == 2
        assert await registry.stop_actors(5.0)
    await cancel(under_way)
