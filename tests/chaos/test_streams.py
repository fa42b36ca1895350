"""200 pages read the stream while processes are killed: each gets exactly the published sequence of its filter.

The short form runs with the other tests: two gateways under the supervisor, on one port, without Ray. The full one is
`make chaos`: the whole system, its feed by way of the pipeline.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from actors.lens.publication import system_provider_id
from config import clock
from config.tasks import cancel, spawn
from db._postgres import Connection, create_pool
from db._redis import create_redis
from schemas.errors import DatabaseUnavailable
from server.supervisor.embedded_postgres import EmbeddedPostgres
from server.supervisor.embedded_valkey import EmbeddedValkey
from tests.chaos._clients import BROKEN, KeepAlive
from tests.chaos._event_source import Page, Published, Wish
from tests.chaos._stream_server import COMMAND
from tests.chaos._victims import GATEWAY, GATEWAY_2, LENS, POSTGRES, VALKEY, Victim
from tests.support.lens_factory import EXAMPLE
from tests.support.services import Server, status_of, wait_until
from tests.support.streams import ALICE, BOB, Draft, Publisher, until

PAGES = 200
SETTINGS = {
    "WORKERS": "2",
    "RATE_LIMIT_ENABLED": "false",
    "HEARTBEAT_SECONDS": "1",  # where a crash could lose count
    "STREAM_MAX_SECONDS": "20",  # some streams end by themselves meanwhile
}
CALM_SECONDS = (0.3, 1.0)  # between a recovery and the next kill
CATCH_UP_SECONDS = 30.0
NO_RAY = {"RAY_ADDRESS": "127.0.0.1:1"}  # the short form's gateways join none

Feed = Callable[[asyncio.Event], Awaitable[None]]  # goes on until it is stopped


@pytest.fixture
def streaming(tmp_path: Path) -> Iterator[Server]:
    """Run the stores and two gateways that only stream."""
    with Server(tmp_path / "data", command=COMMAND, **SETTINGS, **NO_RAY) as server:
        start(server)
        yield server


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Server]:
    """The whole system with two gateways."""
    with Server(tmp_path / "data", **SETTINGS) as server:
        start(server)
        yield server


async def test_200_pages_miss_nothing_when_gateways_valkey_and_postgres_are_killed(streaming: Server) -> None:
    async with publishing(streaming) as feed:
        await survive(streaming, feed, wishes(ALICE, BOB), [GATEWAY, VALKEY, GATEWAY_2, POSTGRES])


@pytest.mark.slow
async def test_200_pages_miss_nothing_when_each_part_of_the_whole_system_is_killed(whole: Server) -> None:
    async with posting(whole) as feed:
        providers = [system_provider_id(source) for source in SOURCES[:2]]
        await survive(whole, feed, wishes(*providers), 2 * [GATEWAY, VALKEY, LENS, POSTGRES, GATEWAY_2])


def wishes(one: object, other: object) -> list[Wish]:
    """Return the filters, mixed; the pages take them in turn."""
    both = {str(one), str(other)}
    return [
        Wish({}, lambda signal: True),
        Wish({"min_score": 50}, lambda signal: signal.score >= 50),
        Wish({"categories": "equities,forex"}, lambda signal: signal.category in {"equities", "forex"}),
        Wish({"asset_types": "crypto"}, lambda signal: signal.asset_type == "crypto"),
        Wish({"provider_ids": str(one)}, lambda signal: signal.provider_id == str(one)),
        Wish({"provider_ids": f"{one},{other}", "min_score": 30}, lambda s: s.provider_id in both and s.score >= 30),
        Wish({"categories": "crypto", "asset_types": "stock,crypto"}, lambda signal: signal.category == "crypto"),
        Wish({"asset_types": "prediction"}, lambda signal: signal.asset_type == "prediction"),  # heartbeats alone
    ]


async def survive(server: Server, feed: Feed, asked: Sequence[Wish], victims: Sequence[Victim]) -> None:
    """Let the pages read while the feed goes on; kill one victim after the other; compare with what was published."""
    begin = len(await published(server))
    pages = [Page(server.port, asked[number % len(asked)]) for number in range(PAGES)]
    tasks = [spawn(page.run(), name="page") for page in pages]
    stop = asyncio.Event()
    try:
        await until(lambda: all(page.is_open for page in pages), seconds=20, what="until all pages were open")
        feeding = spawn(feed(stop), name="feed")
        tasks.append(feeding)
        for victim in victims:
            await grows(server)
            await asyncio.sleep(random.uniform(*CALM_SECONDS))
            killed_at = time.monotonic()
            await kill(server, victim)
            await until(lambda: ready_now(server), seconds=victim.recovery_seconds, what=f"without {victim}")
            say(f"{victim} was back after {time.monotonic() - killed_at:.1f} s")
        await grows(server)
        stop.set()
        await feeding
        await until(lambda: is_quiet(server), seconds=60, what="until nothing was under way")
        wanted = (await published(server))[begin:]
        expected = [[signal.id for signal in wanted if page.wish.matches(signal)] for page in pages]
        behind = partial(pages_behind, pages, expected)
        await until(lambda: not behind(), seconds=CATCH_UP_SECONDS, what="until the pages had everything")
        beats = [page.beats for page in pages]
        await until(lambda: all(page.beats > n for page, n in zip(pages, beats, strict=True)), seconds=CATCH_UP_SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{report(pages)}\n{server.output}") from error
    finally:
        await cancel(*tasks)
    say(f"{len(wanted)} signals, {report(pages)}")
    assert [page.faults for page in pages] == [[]] * PAGES
    assert [page.signals for page in pages] == expected, "a signal came twice, or late"
    assert sum(page.reconnects for page in pages) > PAGES / 2, "nobody was disturbed"
    assert sum(0 < len(each) < len(wanted) for each in expected[: len(asked)]) >= 5, "filters that tell nothing apart"


def say(line: str) -> None:
    """Print a line, which `pytest -s` shows."""
    print(line)  # noqa: T201


def pages_behind(pages: Sequence[Page], expected: Sequence[Sequence[str]]) -> list[int]:
    """Return the pages that have not got everything yet; AssertionError for one that never will."""
    for page, wanted in zip(pages, expected, strict=True):
        assert not page.faults, page.faults
        assert page.signals == wanted[: len(page.signals)], difference(page.signals, wanted)
    return [n for n, page in enumerate(pages) if len(page.signals) < len(expected[n])]


def difference(got: Sequence[str], wanted: Sequence[str]) -> str:
    """Return where two sequences begin to differ."""
    at = next((n for n, (one, other) in enumerate(zip(got, wanted, strict=False)) if one != other), len(wanted))
    return f"from signal {at} on: {got[at : at + 3]} instead of {wanted[at : at + 3]}"


def report(pages: Sequence[Page]) -> str:
    """Return a summary of the pages' streams and refusals."""
    faults = Counter(fault for page in pages for fault in page.faults)
    return (
        f"{sum(len(page.signals) for page in pages)} deliveries, {sum(page.reconnects for page in pages)} reconnects, "
        f"{sum(page.refusals for page in pages)} refusals, {sum(page.beats for page in pages)} heartbeats, "
        f"faults {dict(faults)}"
    )


async def kill(server: Server, victim: Victim) -> None:
    """Send SIGKILL, and wait until another process has replaced the victim."""
    process = await asyncio.to_thread(victim.find, server)
    assert process is not None, f"{victim} does not run"
    process.kill()

    async def is_replaced() -> bool:
        await asyncio.sleep(0.1)  # to look through all processes takes longer than the page of a feed
        try:
            return await asyncio.to_thread(victim.find, server) not in {None, process}
        except psutil.Error:  # the process is just ending
            return False

    await until(is_replaced, seconds=victim.recovery_seconds, what=f"without {victim}")


def start(server: Server) -> None:
    """Start, and wait until both gateways run."""
    server.start().wait_ready(180)  # a busy machine takes a minute to start Ray
    wait_until(lambda: "Ctrl-C stops everything" in server.output, 60)


async def ready_now(server: Server) -> bool:
    """Return whether `/ready` answers 200."""
    return await asyncio.to_thread(status_of, f"{server.url}/ready") == 200


async def grows(server: Server, by: int = 10) -> None:
    """Wait until so many more signals are published."""
    begin = len(await finished(server))
    await until(lambda: has_grown(server, begin + by), seconds=60, what="without a signal")


async def has_grown(server: Server, size: int) -> bool:
    """Return whether so many signals are published; False, too, while Postgres is unavailable."""
    try:
        return len(await published(server)) >= size
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False


async def is_quiet(server: Server) -> bool:
    """Return whether nothing is under way in the pipeline."""
    async with database(server) as conn:
        return bool(await conn.fetchval("SELECT count(*) = 0 FROM lens_progress WHERE finished_at IS NULL"))


async def finished(server: Server) -> list[Published]:
    """Return the published signals, once Postgres answers."""
    await until(lambda: has_grown(server, 0), seconds=30, what="without Postgres")
    return await published(server)


async def published(server: Server) -> list[Published]:
    """Return the feed in its order, and check that it has no gap."""
    async with database(server) as conn:
        rows = await conn.fetch(FEED)
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    return [Published(*row[1:]) for row in rows]


@asynccontextmanager
async def database(server: Server) -> AsyncIterator[Connection]:
    """A connection of the test's own."""
    conn = await asyncpg.connect(EmbeddedPostgres(server.instance).url, timeout=5)
    try:
        yield conn
    finally:
        await conn.close(timeout=5)


FEED = """
SELECT feed_seq, feed_data::json ->> 'id', asset_category, asset_type, score, provider_id::text
FROM signals ORDER BY feed_seq
"""


@asynccontextmanager
async def publishing(server: Server) -> AsyncIterator[Feed]:
    """Publish without the pipeline: singly and in batches, some of them without a message to Redis."""
    pool = await create_pool(EmbeddedPostgres(server.instance).url, 2, name="chaos")
    redis = create_redis(EmbeddedValkey(server.instance).url)
    publisher = Publisher(pool, redis)

    async def feed(stop: asyncio.Event) -> None:
        while not stop.is_set():
            kinds = random.choices(["crypto", "crypto", "stock", "forex"], k=random.choice([1, 1, 1, 4]))
            batch = [Draft(kind, random.randrange(100), random.choice([ALICE, BOB])) for kind in kinds]
            try:
                await publisher.publish(*batch, tell=random.random() > 0.05)
            except DatabaseUnavailable:
                await asyncio.sleep(0.1)
            await asyncio.sleep(random.uniform(0.0, 0.08))

    try:
        yield feed
    finally:
        pool.terminate()
        await redis.aclose()


SOURCES = ("alpha", "beta", "gamma")
KINDS: Sequence[dict[str, Any]] = (
    {"symbol": "BTC"},
    {"symbol": "ETH"},
    {"symbol": "AAPL", "asset_type": "stock"},
    {"symbol": "EUR/USD", "asset_type": "forex"},
)


@asynccontextmanager
async def posting(server: Server) -> AsyncIterator[Feed]:
    """Publish by `POST /api/v1/signals`, from several producers that retry."""

    async def feed(stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(produce(server.port, f"producer {number}", stop), name="producer")

    yield feed


async def produce(port: int, name: str, stop: asyncio.Event) -> None:
    """Post one signal after the other, each until it is accepted."""
    connection = KeepAlive(port)
    try:
        for number in count():
            if stop.is_set():
                return
            made_at = clock.now() - timedelta(seconds=random.choice([0, 600, 2400]))  # fresh ones score higher
            fields = {"source": random.choice(SOURCES), "ts_utc": clock.rfc3339(made_at)}
            body = {**EXAMPLE, **random.choice(KINDS), **fields}
            await until(partial(is_accepted, connection, body, f"{name} {number}"), seconds=60, what="and not accepted")
            await asyncio.sleep(random.uniform(0.05, 0.25))
    finally:
        await connection.close()


async def is_accepted(connection: KeepAlive, body: dict[str, Any], key: str) -> bool:
    """Return whether one try was answered 201; only a lost connection or "try again" may happen otherwise."""
    try:
        response = await connection.post("/api/v1/signals", body, **{"X-Idempotency-Key": key})
        assert response.status in {201, 503}, response
        if response.status == 201:
            return True
    except BROKEN:
        pass
    await asyncio.sleep(random.uniform(0.1, 0.3))
    return False
