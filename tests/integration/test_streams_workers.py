"""Streams with `WORKERS=2`: two gateway processes share a port, and clients see no difference."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from config.ids import uuid7
from config.settings import Settings
from db._postgres import create_pool
from db._redis import create_redis
from server.supervisor.embedded_postgres import EmbeddedPostgres
from server.supervisor.embedded_valkey import EmbeddedValkey
from tests.chaos._stream_server import COMMAND
from tests.support.services import Server
from tests.support.streams import BOB, Draft, Publisher, Reader, connect, stream, token, until

SECRET = secrets.token_hex(32)
SETTINGS = {
    "JWT_SECRET": SECRET,
    "WORKERS": "2",
    "HEARTBEAT_SECONDS": "0.5",
    "RATE_LIMITS": "GET /api/signals/stream=100000",
    "DRAIN_SECONDS": "10",
    "RAY_ADDRESS": "127.0.0.1:1",  # these gateways join none
}


async def test_two_processes_on_one_port_are_one_server(tmp_path: Path) -> None:
    with Server(tmp_path / "data", command=COMMAND, **SETTINGS) as server:
        server.start()
        await until(lambda: "Ctrl-C stops everything" in server.output, seconds=60)
        settings = Settings.load(env_file=None).replace(data_dir=server.data_dir, jwt_secret=SECRET)
        async with publishing(server) as publisher:
            await everybody_gets_the_same_sequence(server, publisher)
            await limits_count_what_both_have_open(server, settings)
            await providers_are_counted_over_both(server, settings)
            await one_drains_and_its_streams_go_on_at_the_other(server, publisher)


async def everybody_gets_the_same_sequence(server: Server, publisher: Publisher) -> None:
    async with opened(server) as readers:
        places = await publisher.publish(*(Draft(score=score) for score in (10, 60, 90)), Draft(provider_id=BOB))
        for _, reader in readers:
            assert await reader.signals(4) == places
            assert reader.numbers[0] == 1
    # Each goes on at the other one, with another filter.
    more = await publisher.publish(Draft(score=20), Draft(score=70))
    for pid, reader in readers:
        async with at_another(server, pid, last_event_id=reader.last_id, min_score=50) as again:
            assert again.events[0].data["resumed"] is True
            assert await again.signals(1) == more[1:]
            assert again.numbers[0] == reader.numbers[-1] + 1


async def limits_count_what_both_have_open(server: Server, settings: Settings) -> None:
    mine = {"access_token": token(settings, str(uuid7()))}
    async with AsyncExitStack() as stack:
        for count, options in ((5, mine), (15, {})):
            for _ in range(count):
                await stack.enter_async_context(stream(server.port, **options))
            for _ in range(4):  # whichever of them it comes to
                reader = await connect(server.port, **options)
                assert (reader.status, int(reader.headers["Retry-After"]) > 0) == (429, True)
                await reader.close()


async def providers_are_counted_over_both(server: Server, settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        for user in (king := str(uuid7()), king, king, str(uuid7())):
            provider = token(settings, user, is_provider=True)
            await stack.enter_async_context(stream(server.port, access_token=provider))
        async with opened(server) as readers:
            for _, reader in readers:
                await reader.until(lambda event: event.data.get("connected_providers") == 2)


async def one_drains_and_its_streams_go_on_at_the_other(server: Server, publisher: Publisher) -> None:
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(stream(server.port)) for _ in range(12)]
        [gateway] = server.children("gateway-1")
        theirs = [reader for reader in readers if holds(gateway, reader)]
        gateway.send_signal(signal.SIGTERM)
        times = set()
        for reader in theirs:
            events = await reader.until(lambda event: event.name == "error")
            assert events[-1].data["code"] == "SERVER_DRAINING"
            times.add(events[-1].data["retry_after"])
        assert len(times) > 1 or len(theirs) < 3
        places = await publisher.publish(Draft())
        for reader in readers:
            if reader in theirs:
                again = await stack.enter_async_context(stream(server.port, last_event_id=reader.last_id))
                assert again.events[0].data["resumed"] is True
                assert await again.signals(1) == places
            else:
                assert await reader.signals(1) == places


@asynccontextmanager
async def opened(server: Server) -> AsyncIterator[list[tuple[int, Reader]]]:
    """Open a stream of each process; return them by pid."""
    gateways = [process for name in ("gateway-1", "gateway-2") for process in server.children(name)]
    async with AsyncExitStack() as stack:
        found: dict[int, Reader] = {}
        while len(found) < 2:
            reader = await stack.enter_async_context(stream(server.port))
            [pid] = [process.pid for process in gateways if holds(process, reader)]
            found.setdefault(pid, reader)
        yield list(found.items())


@asynccontextmanager
async def at_another(server: Server, pid: int, **options: Any) -> AsyncIterator[Reader]:
    """Open a stream at another process than this one."""
    gateway = psutil.Process(pid)
    while True:
        async with stream(server.port, **options) as reader:
            if not holds(gateway, reader):
                yield reader
                return


def holds(process: psutil.Process, reader: Reader) -> bool:
    """Return whether the connection is this process's."""
    port = reader.writer.get_extra_info("sockname")[1]
    return any(each.raddr and each.raddr.port == port for each in process.net_connections("tcp"))


@asynccontextmanager
async def publishing(server: Server) -> AsyncIterator[Publisher]:
    """Return a publisher to the server's own Postgres and Valkey."""
    pool = await create_pool(EmbeddedPostgres(server.instance).url, 2, name="test")
    redis = create_redis(EmbeddedValkey(server.instance).url)
    try:
        yield Publisher(pool, redis)
    finally:
        pool.terminate()
        await redis.aclose()
        await asyncio.sleep(0)
