"""The stream while Redis or Postgres is unavailable, slow or restarted: it goes on, or waits, without a loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from config.settings import Settings
from config.tasks import spawn
from db._migrate import migrate
from handlers.streams.records import SessionRecord
from tests.support.breakable import BreakablePostgres, breakable_postgres
from tests.support.services import valkey_server
from tests.support.streams import Draft, Gateway, Publisher, drafts, gateway, ready, stream, until


class BreakableValkey:
    """A Valkey whose address stays the same, and that forgets everything when it is restarted."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._running = ExitStack()
        self.url = ""

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.url = self._running.enter_context(valkey_server(self._root))

    def stop(self) -> None:
        """End it."""
        self._running.close()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[BreakableValkey]:
    """A Valkey of the test's own."""
    server = BreakableValkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[BreakablePostgres]:
    """A migrated PostgreSQL of the test's own."""
    with breakable_postgres(tmp_path / "postgres") as server:
        asyncio.run(migrate(server.url))
        yield server


@asynccontextmanager
async def serving(settings: Settings, heartbeat_seconds: float = 0.3) -> AsyncIterator[tuple[Gateway, Publisher]]:
    changed = settings.replace(rate_limit_enabled=False, heartbeat_seconds=heartbeat_seconds)
    async with gateway(changed) as server:
        await ready(server)
        yield server, Publisher(server.pool, server.redis)


async def test_the_feed_comes_from_postgres_without_redis_and_heartbeats_go_on(
    settings: Settings, valkey: BreakableValkey
) -> None:
    async with serving(settings.replace(redis_url=valkey.url)) as (server, publisher), stream(server.port) as reader:
        await publisher.publish(*drafts(2))
        assert await reader.signals(2) == publisher.places()
        valkey.stop()
        await until(lambda: not server.feed.is_connected)
        for _ in range(3):
            await publisher.publish(*drafts(2))
            await reader.until(lambda event: event.name == "heartbeat")
        places = await publisher.publish(Draft())
        await reader.until(lambda event: event.name == "signal" and event.place == places[0])
        valkey.start()
        await until(lambda: server.feed.is_connected)
        await publisher.publish(Draft())
        await reader.until(lambda event: event.name == "signal" and event.place == places[0] + 1)
        assert [event.place for event in reader.events if event.name == "signal"] == publisher.places()
        assert reader.numbers == list(range(1, len(reader.events) + 1))


async def test_new_streams_open_without_redis_and_resume_where_they_were(
    settings: Settings, valkey: BreakableValkey
) -> None:
    async with serving(settings.replace(redis_url=valkey.url)) as (server, publisher):
        valkey.stop()
        await until(lambda: not server.feed.is_connected)
        async with stream(server.port) as reader:
            await publisher.publish(Draft())
            await reader.signals(1)
            await reader.until(lambda event: event.name == "heartbeat")
        await publisher.publish(Draft())
        async with stream(server.port, headers={"Last-Event-ID": reader.last_id}) as again:
            assert again.events[0].data["resumed"] is True
            assert await again.signals(1) == publisher.places()[1:]


async def test_sessions_move_between_gateways_without_redis_too(settings: Settings, valkey: BreakableValkey) -> None:
    settings = settings.replace(redis_url=valkey.url)
    async with serving(settings) as (first, publisher), serving(settings) as (second, _):
        async with stream(first.port, min_score=50) as reader:
            valkey.stop()
            await until(lambda: not first.feed.is_connected and not second.feed.is_connected)
            await publisher.publish(Draft(score=60), Draft(score=40), Draft(score=70))
            await reader.until(lambda event: event.name == "heartbeat")
            received = [event.place for event in reader.events if event.name == "signal"]
        for turn in range(4):
            where = (second, first)[turn % 2]
            await publisher.publish(Draft(score=40), *drafts(turn + 1, score=80))
            async with stream(where.port, min_score=50, headers={"Last-Event-ID": reader.last_id}) as reader:
                assert reader.events[0].data["resumed"] is True
                wanted = publisher.places(lambda draft: draft.score >= 50)
                received += await reader.signals(len(wanted) - len(received))
                assert received == wanted
                await reader.until(lambda event: event.name == "heartbeat")
                if turn == 2:
                    valkey.start()
                    await until(lambda: second.feed._store.is_redis_available and not second.feed._store.is_behind)
        await until(lambda: _none_left_in_postgres(first), seconds=30)


async def test_sessions_are_recorded_again_when_redis_comes_back_empty(
    settings: Settings, valkey: BreakableValkey
) -> None:
    settings = settings.replace(redis_url=valkey.url)
    async with serving(settings) as (first, publisher), serving(settings) as (second, _), stream(first.port) as reader:
        for _ in range(2):
            valkey.stop()
            await until(lambda: not first.feed.is_connected)
            await publisher.publish(*drafts(3))
            await reader.until(lambda event: event.name == "heartbeat")
            valkey.start()
            await until(lambda: first.feed.is_connected and second.feed.is_connected)
        await reader.signals(6 - sum(event.name == "signal" for event in reader.events))
        session = reader.events[0].data["session_id"]
        await until(lambda: second.redis.exists(f"tradestream:stream:{session}"))
        places = await publisher.publish(Draft())
        await reader.close()
        async with stream(second.port, headers={"Last-Event-ID": reader.last_id}) as again:
            assert again.events[0].data["resumed"] is True
            assert again.events[0].number == reader.numbers[-1] + 1
            assert await again.signals(1) == places


async def test_a_resume_waits_for_a_redis_that_restarts(settings: Settings, valkey: BreakableValkey) -> None:
    settings = settings.replace(redis_url=valkey.url)
    async with serving(settings) as (first, _), serving(settings) as (second, _), stream(first.port) as reader:
        valkey.stop()
        await until(lambda: not second.feed.is_connected)
        await reader.close()
        opened = spawn(_resume(second.port, reader.last_id), name="resume")
        await until(lambda: second.feed.limits.open == 1)
        valkey.start()
        assert await opened == (True, 2)


async def test_messages_of_redis_are_passed_on_without_postgres_and_a_gap_waits(
    settings: Settings, postgres: BreakablePostgres
) -> None:
    async with (
        serving(settings.replace(database_url=postgres.url)) as (server, publisher),
        stream(server.port) as reader,
    ):
        await publisher.publish(*drafts(5), tell=False)
        items = [item for item, _ in publisher.published]
        await reader.signals(5)
        await publisher.publish(*drafts(4), tell=False)  # not announced, not polled: Postgres stops at once
        late = [item for item, _ in publisher.published[5:]]
        postgres.stop()
        await publisher.tell(late[:1])
        assert [item.feed_seq for item in items + late[:1]][-1:] == await reader.signals(1)
        await publisher.tell(late[2:])  # with a gap before it
        events = await reader.until(lambda event: event.name == "heartbeat")
        events += await reader.until(lambda event: event.name == "heartbeat")
        assert {event.name for event in events} == {"heartbeat"}
        postgres.start()
        assert await reader.signals(3, seconds=20) == [item.feed_seq for item in late[1:]]
        places = await publisher.publish(Draft())
        assert await reader.signals(1) == places
        assert reader.numbers == list(range(1, len(reader.events) + 1))


async def test_a_replay_waits_for_a_postgres_that_restarts(settings: Settings, postgres: BreakablePostgres) -> None:
    changed = settings.replace(database_url=postgres.url, rate_limit_enabled=False, heartbeat_seconds=30.0)
    async with gateway(changed, ring_signals=16) as server:
        await ready(server)
        publisher = Publisher(server.pool, server.redis)
        async with stream(server.port) as reader:
            pass
        await publisher.publish(*drafts(200))
        await until(lambda: server.feed._fanout.place == 200)
        postgres.stop()
        async with stream(server.port, headers={"Last-Event-ID": reader.last_id}) as again:
            assert again.events[0].data["resumed"] is True
            await publisher.tell([])
            postgres.start()
            assert await again.signals(200, seconds=20) == publisher.places()


async def test_a_gateway_that_starts_without_postgres_becomes_ready_when_it_is_there(
    settings: Settings, postgres: BreakablePostgres
) -> None:
    postgres.stop()
    changed = settings.replace(database_url=postgres.url, rate_limit_enabled=False)
    async with gateway(changed) as server:
        await until(lambda: server.feed.is_connected)
        assert not server.feed.is_ready
        postgres.start()
        await until(lambda: server.feed.is_ready)
        async with stream(server.port) as reader:
            places = await Publisher(server.pool, server.redis).publish(Draft())
            assert await reader.signals(1) == places


async def _none_left_in_postgres(server: Gateway) -> bool:
    # But for what says that there is a newer one in Redis, which expires.
    rows = await server.pool.fetch("SELECT record FROM stream_sessions")
    return all(SessionRecord.decode(row["record"]).is_tombstone for row in rows)


async def _resume(port: int, last_id: str) -> tuple[bool, int]:
    async with stream(port, headers={"Last-Event-ID": last_id}) as reader:
        return reader.events[0].data["resumed"], reader.events[0].number
