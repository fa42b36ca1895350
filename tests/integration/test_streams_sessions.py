"""Records of sessions when gateways disagree on whether Redis is available: no old record passes for new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from config.settings import Settings
from config.tasks import spawn
from db._postgres import Pool, create_pool
from db._redis import create_redis
from handlers.streams import sessions
from handlers.streams.checkpoints import pack_checkpoints
from handlers.streams.records import SessionRecord
from handlers.streams.sessions import SessionStore
from schemas.stream import SignalFilter
from tests.support.streams import until

SESSION = b"sess-00000000000000aa"


@dataclass
class Stores:
    """The stores of several gateways: some reach Redis, some do not. All reach Postgres."""

    pool: Pool
    redis_url: str
    opened: AsyncExitStack

    def make(self, *, reaches_redis: bool = True) -> SessionStore:
        """Return the store of one more gateway."""
        redis = create_redis(self.redis_url if reaches_redis else "redis://127.0.0.1:1")
        self.opened.push_async_callback(redis.aclose)
        return SessionStore(redis, self.pool, ttl_seconds=60)

    def reconnect(self, store: SessionStore) -> None:
        """Let Redis be reachable again."""
        store._redis.connection_pool = create_redis(self.redis_url).connection_pool


@asynccontextmanager
async def several(settings: Settings) -> AsyncIterator[Stores]:
    assert settings.database_url is not None
    assert settings.redis_url is not None
    async with AsyncExitStack() as stack:
        pool = await create_pool(settings.database_url, 4, name="test")
        stack.callback(pool.terminate)
        yield Stores(pool, settings.redis_url, stack)


def record(epoch: int, n: int) -> SessionRecord:
    """Return a record whose newest checkpoint is at event n."""
    return SessionRecord(epoch, n, "", SignalFilter(), pack_checkpoints([(n, 7)]))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "DISTRUST_SECONDS", 0.4)
    monkeypatch.setattr(sessions, "PATIENCE_SECONDS", 0.8)
    monkeypatch.setattr(sessions, "RESTART_SECONDS", 0.8)
    monkeypatch.setattr(sessions, "ASK_AGAIN_SECONDS", (0.05, 0.1))


async def test_a_session_taken_over_in_redis_is_not_resumed_from_postgres(settings: Settings) -> None:
    async with several(settings) as stores:
        cut_off, connected = stores.make(reaches_redis=False), stores.make()
        await cut_off.save([(SESSION, record(1, 5))])
        assert await connected.load(SESSION) == record(1, 5)
        assert await connected.save([(SESSION, record(2, 9))], take_over=True) == set()
        assert await connected.load(SESSION) == record(2, 9)
        assert await cut_off.load(SESSION) is None
        assert await cut_off.save([(SESSION, record(1, 6))]) == {SESSION}, "its client has gone over"


async def test_a_session_that_ended_here_before_the_outage_may_have_gone_on_since(settings: Settings) -> None:
    async with several(settings) as stores:
        store = stores.make(reaches_redis=False)
        store.remember(SESSION, record(1, 5))
        assert await store.load(SESSION) is None
        store.remember(SESSION, record(2, 8))  # during the outage
        store.remember(SESSION, record(1, 5))  # a connection of before is found dead only now
        assert await store.load(SESSION) == record(2, 8)


async def test_the_newer_record_is_waited_for_after_a_restart_of_redis(settings: Settings) -> None:
    async with several(settings) as stores:
        one, other = stores.make(), stores.make()
        await one.save([(SESSION, record(1, 5))])  # as of an old copy, or of Postgres: Redis has lost what came since
        other.distrust_redis()
        loading = spawn(other.load(SESSION), name="load")
        await asyncio.sleep(0.1)
        assert not loading.done()
        await one.save([(SESSION, record(1, 7))])
        assert await loading == record(1, 7)
        began = asyncio.get_running_loop().time()
        assert await other.load(SESSION) == record(1, 7)
        assert asyncio.get_running_loop().time() - began < 0.2, "and then no more"


async def test_rows_in_postgres_go_when_redis_has_the_record_or_a_newer_one(settings: Settings) -> None:
    async with several(settings) as stores:
        back, elsewhere = stores.make(reaches_redis=False), stores.make()
        mine, gone = (SESSION, record(1, 5)), (b"sess-00000000000000bb", record(1, 5))
        await back.save([mine, gone])
        await elsewhere.save([(gone[0], record(2, 9))], take_over=True)
        assert not back.is_redis_available
        assert back.is_behind
        stores.reconnect(back)
        await until(lambda: back.is_redis_available)
        assert await back.resave([mine, gone]) == {gone[0]}
        assert await stores.pool.fetchval("SELECT count(*) FROM stream_sessions") == 0
        assert await elsewhere.load(SESSION) == record(1, 5)
        assert await elsewhere.load(gone[0]) == record(2, 9)


async def test_a_resume_waits_for_a_restart_longer_than_in_a_long_outage(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "RESTART_SECONDS", 4.0)
    async with several(settings) as stores:
        await stores.make().save([(SESSION, record(1, 5))])
        store = stores.make(reaches_redis=False)
        loading = spawn(store.load(SESSION), name="load")
        await until(lambda: not store.is_redis_available)
        await asyncio.sleep(1.0)
        assert not loading.done()
        stores.reconnect(store)
        assert await loading == record(1, 5)

        long = stores.make(reaches_redis=False)
        assert await long.save([(b"sess-00000000000000bb", record(1, 5))]) == set()
        long._redis.lost_at -= 60.0
        began = asyncio.get_running_loop().time()
        assert await long.load(SESSION) is None
        assert asyncio.get_running_loop().time() - began < 3.0


async def test_records_are_not_found_without_both_stores_and_without_a_long_wait(settings: Settings) -> None:
    async with several(settings) as stores:
        store = stores.make(reaches_redis=False)
        stores.pool.terminate()
        began = asyncio.get_running_loop().time()
        assert await store.save([(SESSION, record(1, 5))]) == set()
        assert await store.load(SESSION) is None
        assert asyncio.get_running_loop().time() - began < 3.0
