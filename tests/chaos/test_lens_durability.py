"""A whole running system loses a process while signals are in flight: nothing that was answered 201 is lost or doubled.

The short form runs with the other tests. The full one, with each part of the system in turn, is `make chaos`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import psutil
import pytest

from config import clock
from config.tasks import cancel, spawn
from db._postgres import Connection
from tests.chaos._clients import Follower, KeepAlive, Producers
from tests.chaos._victims import CORE, EVERY, LANES, LENS, STAGES, VALKEY, Victim
from tests.support.lens_factory import EXAMPLE
from tests.support.services import Server, status_of
from tests.support.streams import until

SHORT, FULL = 100, 500
SIGNALS_PER_CLIENT = 20
SOURCES = 8  # half of them belong to each of two shards
SYMBOLS = ("BTC", "ETH", "SOL", "DOGE", "ADA")

# The contract's bound for a 503 is 2 s; the rest is for a machine with two busy cores.
SLOWEST_SECONDS = 4.0


@contextmanager
def system(data_dir: Path, **settings: str) -> Iterator[Server]:
    """One system for many tests: it must also survive one loss after the other."""
    settings |= {"RATE_LIMIT_ENABLED": "false", "HEARTBEAT_SECONDS": "2", "LENS_RETRY_BASE_SECONDS": "0.2"}
    with Server(data_dir, **settings) as running:
        running.start().wait_ready(90)
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The system whose actors share processes."""
    with system(tmp_path_factory.mktemp("together") / "data", ACTOR_PLACEMENT="together") as running:
        yield running


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The system with a process for each actor."""
    with system(tmp_path_factory.mktemp("spread") / "data", ACTOR_PLACEMENT="spread") as running:
        yield running


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The system whose pipeline has two lanes, a process each."""
    with system(tmp_path_factory.mktemp("sharded") / "data", LENS_SHARDS="2") as running:
        yield running


@pytest.mark.parametrize("victim", [LENS, CORE, VALKEY], ids=str)
async def test_a_killed_process_loses_and_doubles_no_signal(server: Server, victim: Victim) -> None:
    await survive(server, victim, SHORT)


@pytest.mark.parametrize("victim", LANES, ids=str)
async def test_a_killed_lane_of_two_loses_and_doubles_no_signal(sharded: Server, victim: Victim) -> None:
    await survive(sharded, victim, SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("victim", EVERY, ids=str)
async def test_each_part_may_die_with_500_signals_in_flight(server: Server, victim: Victim) -> None:
    await survive(server, victim, FULL)


@pytest.mark.slow
@pytest.mark.parametrize("victim", STAGES, ids=str)
async def test_each_stage_may_die_alone_with_500_signals_in_flight(spread: Server, victim: Victim) -> None:
    await survive(spread, victim, FULL)


@dataclass
class Killed:
    """The time of the victim's death, and the number of signals answered by then."""

    process: psutil.Process
    at: datetime
    answered: int


async def survive(server: Server, victim: Victim, count: int, *, share: float = 1 / 3) -> None:
    """Post `count` signals, kill the victim when a share has been answered, and check all guarantees."""
    run = f"{victim} {count} {time.monotonic_ns()}"
    signals = [(f"{run} {n}", signal(run, n)) for n in range(count)]
    producers = Producers(server.port, signals, clients=count // SIGNALS_PER_CLIENT)
    follower = Follower(server.port)
    following = spawn(follower.run(), name="follower")
    patience = victim.recovery_seconds
    try:
        await until(lambda: follower.is_connected, seconds=20)
        async with database(server) as conn:
            start = await conn.fetchval("SELECT last_seq FROM feed_counter")
        # Not before the first has come out at the other end: the stream, too, shall be cut in the middle.
        is_time = partial(is_amid, producers, follower, int(count * share))
        killing = spawn(kill(server, victim, producers, is_time), name="killer")
        await producers.run(seconds=patience)
        killed = await killing
        answered_seconds = (clock.now() - killed.at).total_seconds()
        began = time.monotonic()
        await until(lambda: all_ended(server, producers), seconds=patience, what="until all had ended")
        ended_seconds = time.monotonic() - began
        async with database(server) as conn:
            wanted = [str(row["id"]) for row in await conn.fetch(PUBLISHED, start)]
            in_flight = await conn.fetchval(IN_FLIGHT, list(producers.accepted.values()), killed.at)
        await until(lambda: len(follower.signals) >= len(wanted), seconds=patience, what="on the stream")
        await until(lambda: has_come_back(server, victim, killed), seconds=patience, what="until it was back")
    except (AssertionError, TimeoutError) as error:
        raise AssertionError(f"{error!r}, {len(producers.accepted)} of {count} answered\n{server.output}") from error
    finally:
        await cancel(following)
    print(  # noqa: T201 - what `pytest -s` shows of a run
        f"\n{victim}: killed with {killed.answered} of {count} answered and {in_flight} of them under way; "
        f"answers {dict(producers.tally.statuses)}, the slowest after {producers.tally.slowest_seconds:.2f} s; "
        f"all answered {answered_seconds:.2f} s after the kill, all ended {ended_seconds:.2f} s later; "
        f"the stream came back {follower.reconnects} times"
    )
    assert killed.answered < count, "the kill came when all was over"
    async with database(server) as conn:
        await check_events(conn, run, producers)
        await check_feed(conn)
    check_answers(producers)
    check_stream(follower, wanted)
    await check_replays(server, run, producers)


PUBLISHED = "SELECT id FROM signals WHERE feed_seq > $1 ORDER BY feed_seq"

IN_FLIGHT = """
SELECT count(*) FROM lens_events JOIN lens_progress USING (event_id)
WHERE event_id = ANY ($1::uuid[]) AND received_at <= $2 AND finished_at > $2
"""

ENDED = """
SELECT count(*) FROM lens_progress p WHERE event_id = ANY ($1::uuid[])
AND (status = 'PUBLISHED' OR EXISTS (SELECT FROM lens_dlq d WHERE d.event_id = p.event_id))
"""


async def check_events(conn: Connection, run: str, producers: Producers) -> None:
    """Check that each key has one event, one decision of the model, and one entry in the feed or dead-letter queue."""
    accepted = {UUID(event_id) for event_id in producers.accepted.values()}
    assert len(accepted) == len(producers.accepted), "two keys got one event"
    stored = {row[0] for row in await conn.fetch("SELECT event_id FROM lens_events WHERE starts_with(source, $1)", run)}
    assert stored == accepted, f"{len(stored - accepted)} events too many, {len(accepted - stored)} too few"
    keys = await conn.fetch("SELECT key, event_id FROM lens_idempotency WHERE starts_with(source, $1)", run)
    assert {row["key"]: str(row["event_id"]) for row in keys} == producers.accepted
    states = {row[0]: row[1] for row in await conn.fetch(STATES, accepted)}
    published = {row[0] for row in await conn.fetch("SELECT id FROM signals WHERE id = ANY ($1)", accepted)}
    assert published == {each for each, status in states.items() if status == "PUBLISHED"}
    buried = {row[0] for row in await conn.fetch("SELECT event_id FROM lens_dlq WHERE event_id = ANY ($1)", accepted)}
    assert published | buried == accepted
    decisions = [tuple(row) for row in await conn.fetch(DECISIONS, published)]
    assert sorted(decisions) == sorted((each, "technical") for each in published)


STATES = "SELECT event_id, status FROM lens_progress WHERE event_id = ANY ($1)"
DECISIONS = "SELECT event_id, model FROM lens_decisions WHERE event_id = ANY ($1)"


async def check_feed(conn: Connection) -> None:
    """Check that the feed_seqs are 1, 2, 3 … without a gap, and end at the counter."""
    places = [row[0] for row in await conn.fetch("SELECT feed_seq FROM signals ORDER BY feed_seq")]
    assert places == list(range(1, len(places) + 1))
    assert await conn.fetchval("SELECT last_seq FROM feed_counter") == len(places)


def check_answers(producers: Producers) -> None:
    """Check that producers got acceptance, a lost connection or "try again", and nothing else, in time."""
    assert set(producers.tally.statuses) <= {0, 201, 503}
    assert producers.tally.slowest_seconds < SLOWEST_SECONDS


def check_stream(follower: Follower, wanted: list[str]) -> None:
    """Check that every signal was seen once, in the feed's order, under numbers without a gap."""
    assert follower.forgotten == 0, "a session was not resumed"
    assert follower.signals == wanted
    assert follower.numbers == list(range(1, len(follower.numbers) + 1))


async def check_replays(server: Server, run: str, producers: Producers) -> None:
    """Check that a repeated key gets the first answer."""
    connection = KeepAlive(server.port)
    try:
        for key, event_id in list(producers.accepted.items())[::10]:
            again = await connection.post("/api/v1/signals", producers.signals[key], **{"X-Idempotency-Key": key})
            assert (again.status, again.json["event_id"]) == (201, event_id)
            assert again.headers["Idempotent-Replayed"] == "true"
    finally:
        await connection.close()


async def all_ended(server: Server, producers: Producers) -> bool:
    """Return whether every accepted signal is published or dead-lettered; False, too, while Postgres is unavailable."""
    try:
        async with database(server) as conn:
            return bool(await conn.fetchval(ENDED, list(producers.accepted.values())) == len(producers.accepted))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False


async def has_come_back(server: Server, victim: Victim, killed: Killed) -> bool:
    """Return whether another process has replaced the victim, and everything is ready."""
    process = await asyncio.to_thread(victim.find, server)
    if process is None or process == killed.process:
        return False
    return await asyncio.to_thread(status_of, f"{server.url}/ready") == 200


def is_amid(producers: Producers, follower: Follower, answered: int) -> bool:
    """Return whether so many signals have been answered, and one seen on the stream."""
    return len(producers.accepted) >= answered and bool(follower.signals)


async def kill(server: Server, victim: Victim, producers: Producers, is_time: Callable[[], bool]) -> Killed:
    """Send SIGKILL when the condition holds."""
    process = await asyncio.to_thread(victim.find, server)
    assert process is not None, f"{victim} does not run"
    await until(is_time, seconds=60)
    process.kill()
    producers.go_on.set()
    return Killed(process, clock.now(), len(producers.accepted))


def signal(run: str, n: int) -> dict[str, Any]:
    """Return the n-th signal of a run."""
    symbol, source = SYMBOLS[n % len(SYMBOLS)], f"{run} {n % SOURCES}"
    return {**EXAMPLE, "symbol": symbol, "ts_utc": clock.rfc3339(clock.now()), "source": source}


@asynccontextmanager
async def database(server: Server) -> AsyncIterator[Connection]:
    """Open a connection of the test's own to the system's database."""
    conn = await asyncpg.connect(
        f"postgresql://tradestream@/tradestream?host={server.instance.runtime_dir}/postgres", timeout=5
    )
    try:
        yield conn
    finally:
        await conn.close(timeout=5)
