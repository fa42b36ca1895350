"""One judgement per process of whether Redis is available, and subscriptions that notice a dead connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import REGISTRY

from actors._follower import Follower
from actors._runtime.context import ActorContext
from actors.users.users import REVOCATIONS_CHANNEL, SETTINGS_CHANNEL
from config.settings import Settings
from db import _outage, _subscription
from db._postgres import create_pool
from db._redis import RedisClient, RedisUnavailable, create_redis
from db._subscription import Subscription, reading
from handlers._activity import ActivityRecorder
from handlers._http.limits import Limiter, Rule
from handlers.auth._revocations import RevokedSessions
from handlers.streams.sessions import SessionStore
from schemas._json import parse_texts
from schemas.feed import LOG_CHANNEL
from schemas.ingest import SCORED_SIGNALS
from server.supervisor.instance import Instance
from tests.integration.ingest_world import world
from tests.support.half_open import Relay, relayed
from tests.support.scored import message
from tests.support.services import valkey_server
from tests.support.streams import Draft, Publisher, gateway, ready, until

USER = "0194f3a2-7c1e-7d32-9b54-3f0c8a6d1e21"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_subscription, "PING_SECONDS", 0.2)


@contextmanager
def frozen(root: Path) -> Any:
    """Freeze the Valkey below `root`: it keeps its connections and answers nothing."""
    stopped = Instance(root).processes()
    assert stopped
    for each in stopped:
        each.suspend()
    try:
        yield
    finally:
        for each in stopped:
            each.resume()


@asynccontextmanager
async def client(url: str) -> AsyncIterator[RedisClient]:
    redis = create_redis(url)
    try:
        yield redis
    finally:
        await redis.aclose()


class Counted:
    """A subscription to two channels that records its events."""

    def __init__(self, redis: RedisClient) -> None:
        self.opened = self.lost = 0
        self.received: list[bytes] = []
        self.subscription = Subscription(
            redis,
            {"one": self.received.append, "two": reading(parse_texts, self._take)},
            on_open=self._open,
            on_lost=self._lose,
        )

    def _open(self) -> None:
        self.opened += 1

    def _lose(self) -> None:
        self.lost += 1

    def _take(self, texts: list[str]) -> None:
        if texts == ["fail"]:
            raise RuntimeError("a bug")
        self.received += [each.encode() for each in texts]


# --- subscriptions


async def test_what_is_unreadable_is_passed_over_and_a_receiver_that_fails_costs_the_connection(redis_url: str) -> None:
    async with client(redis_url) as redis:
        counted = Counted(redis)
        counted.subscription.start()
        await until(lambda: counted.subscription.is_open)
        for channel, data in (("two", b"{"), ("one", b"a"), ("two", b'["b"]'), ("two", b'["fail"]')):
            await redis.publish(channel, data)
        await until(lambda: counted.opened == 2)
        assert counted.received == [b"a", b"b"]
        assert counted.lost == 1
        await redis.publish("one", b"c")
        await until(lambda: counted.received == [b"a", b"b", b"c"])
        await counted.subscription.stop()
        assert not counted.subscription.is_open
        assert counted.lost == 1, "it was stopped, not lost"
        await until(lambda: _nobody_listens(redis, "one"))


async def test_a_lost_connection_is_made_anew_and_is_no_outage(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with client(redis_url) as redis:
        counted = Counted(redis)
        counted.subscription.start()
        await until(lambda: counted.subscription.is_open)
        await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: counted.opened == 2)
        await until(lambda: redis.is_trusted)
        assert not [each for each in caplog.messages if "unavailable" in each]
        await counted.subscription.stop()


async def test_a_quiet_subscription_that_lives_is_left_alone(redis_url: str) -> None:
    async with client(redis_url) as redis:
        counted = Counted(redis)
        counted.subscription.start()
        await until(lambda: counted.subscription.is_open)
        await asyncio.sleep(1.5)  # several pings
        assert (counted.opened, counted.lost) == (1, 0)
        await counted.subscription.stop()


User = Callable[[Settings], AbstractAsyncContextManager[tuple[Subscription, Callable[[RedisClient], Awaitable[None]]]]]


@asynccontextmanager
async def of_the_feed(settings: Settings) -> AsyncIterator[Any]:
    async with gateway(settings) as server:
        await ready(server)
        source = server.feed._source

        async def works(redis: RedisClient) -> None:
            before = source._heard_at
            await Publisher(server.pool, redis).publish(Draft())
            await until(lambda: source._heard_at > before)

        yield server.feed._subscription, works


@asynccontextmanager
async def of_activity(settings: Settings) -> AsyncIterator[Any]:
    async with gateway(settings) as server:
        recorder = ActivityRecorder()
        assert server.application.gateway.services is not None
        recorder.start(server.application.gateway.services)
        subscription = recorder._settings
        assert subscription is not None
        await until(lambda: subscription.is_open)
        recorder._until[USER] = recorder._until["of somebody else"] = float("inf")

        async def works(redis: RedisClient) -> None:
            assert not recorder._until, "whose settings changed while it was deaf is unknown"
            recorder._until[USER] = recorder._until["of somebody else"] = float("inf")
            await redis.publish(SETTINGS_CHANNEL, orjson.dumps([USER]))
            await until(lambda: list(recorder._until) == ["of somebody else"])

        try:
            yield subscription, works
        finally:
            recorder._waiting.clear()
            await recorder.stop()


@asynccontextmanager
async def of_revocations(settings: Settings) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        pool = await create_pool(settings.database_url or "", 2, name="test")
        stack.callback(pool.terminate)
        redis = await stack.enter_async_context(client(settings.redis_url or ""))
        revoked, ended = RevokedSessions(), list[str]()
        await revoked.start(pool, redis, ended.append)
        stack.push_async_callback(revoked.stop)

        async def works(redis: RedisClient) -> None:
            await redis.publish(REVOCATIONS_CHANNEL, orjson.dumps([USER]))
            await until(lambda: ended == [USER])

        yield revoked._subscription, works


@asynccontextmanager
async def of_ingest(settings: Settings) -> AsyncIterator[Any]:
    async with world(settings) as here:

        async def works(redis: RedisClient) -> None:
            await redis.publish(SCORED_SIGNALS, message())
            await here.stored(1)

        yield here.ingest._redis._subscription, works


@asynccontextmanager
async def of_a_follower(settings: Settings) -> AsyncIterator[Any]:
    async with client(settings.redis_url or "") as redis:
        context: Any = ActorContext.__new__(ActorContext)
        context.redis = redis
        follower = Follower(context, LOG_CHANNEL, nothing_came)
        follower._announcements.start()

        async def works(redis: RedisClient) -> None:
            assert follower._wake.is_set(), "what was published while it was deaf is unknown"
            follower._wake.clear()
            await redis.publish(LOG_CHANNEL, b"")
            await until(follower._wake.is_set)

        try:
            yield follower._announcements, works
        finally:
            await follower._announcements.stop()


async def nothing_came() -> int:
    return 0


USERS = [of_the_feed, of_activity, of_revocations, of_ingest, of_a_follower]


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.__name__)
async def test_a_half_open_connection_is_noticed_by_every_subscriber(settings: Settings, user: User) -> None:
    url = settings.redis_url or ""
    async with (
        client(url) as redis,
        relayed(url) as relay,
        user(settings.replace(redis_url=relay.url)) as (subscription, works),
    ):
        await until(lambda: subscription.is_open)
        await _cut(relay, subscription)
        await works(redis)


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.__name__)
async def test_a_frozen_server_is_noticed_by_every_subscriber(settings: Settings, user: User, tmp_path: Path) -> None:
    root = tmp_path / "valkey"
    with valkey_server(root) as url:
        async with user(settings.replace(redis_url=url)) as (subscription, works):
            await until(lambda: subscription.is_open)
            with frozen(root):
                await until(lambda: not subscription.is_open)
            await until(lambda: subscription.is_open)
            async with client(url) as redis:
                await works(redis)


# --- the judgement


async def test_all_users_of_redis_in_a_process_share_one_judgement_and_its_line(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "db._outage")
    monkeypatch.setattr(_outage, "REMIND_SECONDS", 60.0)
    root, stack = tmp_path / "valkey", AsyncExitStack()
    with valkey_server(root) as url:
        async with stack, client(url) as redis:
            pool = await create_pool(settings.database_url or "", 2, name="test")
            stack.callback(pool.terminate)
            limiter, store = Limiter(redis, standard_limit=60), SessionStore(redis, pool, ttl_seconds=60)
            await limiter.check(Rule(5), "GET /x", "a")
            assert await store.load(b"sess-00000000000000aa") is None
            with frozen(root):
                with pytest.raises(RedisUnavailable):
                    async with redis.answering():
                        await redis.get("a")
                assert not store.is_redis_available, "one user's finding is every user's"
                began = time.monotonic()
                for _ in range(200):
                    await limiter.check(Rule(5), "GET /x", "a")
                assert await redis.announce({"a": b""}) is False
                assert time.monotonic() - began < 1.5, "only the one that had to has waited"
                assert _unavailable() == 1
                await asyncio.sleep(1.2)
                assert [each.partition(":")[0] for each in caplog.messages] == ["Redis is unavailable"]
            await until(lambda: redis.is_available and store.is_redis_available)
            assert _unavailable() == 0
            assert caplog.messages[-1].startswith("Redis answers again, after ")
            assert len(caplog.messages) == 2
            verdict = await limiter.check(Rule(5), "GET /x", "a")
            assert verdict is not None
            assert verdict.used == 2, "counted in Redis again"


async def test_an_answer_that_is_late_for_one_user_is_no_outage(redis_url: str) -> None:
    async with client(redis_url) as redis:
        with pytest.raises(RedisUnavailable):
            async with redis.answering(0.05, is_proof=False):
                await redis.blpop("nothing", timeout=5)
        assert redis.is_available
        assert not redis.is_trusted, "until a ping is answered"
        await until(lambda: redis.is_trusted)


async def test_a_slow_server_is_trusted_again_once_it_is_quick_enough_for_who_doubted(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0.2

    async def slow_ping() -> object:
        await asyncio.sleep(seconds)
        return await RedisClient.ping(redis)

    async with client(redis_url) as redis:
        monkeypatch.setattr(redis, "ping", slow_ping)
        redis.doubt(0.1)
        redis.doubt()
        await asyncio.sleep(0.4)
        assert redis.is_available, "its answers are no outage"
        assert not redis.is_trusted, "whoever waits for a tenth of a second would wait in vain"
        seconds = 0.0
        await until(lambda: redis.is_trusted)
        redis.doubt()
        seconds = 0.2
        await until(lambda: redis.is_trusted)
        assert redis.is_available


async def test_an_unavailable_server_is_tried_until_it_answers_and_watchers_learn_of_both(tmp_path: Path) -> None:
    root = tmp_path / "valkey"
    with valkey_server(root) as url:
        pass
    async with client(url) as redis:
        seen: list[bool] = []
        redis.on_change(lambda: seen.append(redis.is_available))
        for _ in range(3):
            with pytest.raises(RedisUnavailable):
                async with redis.answering():
                    await redis.get("a")
        assert seen == [False]
        with valkey_server(root):
            await until(lambda: redis.is_available)
            assert seen == [False, True]


async def _cut(relay: Relay, subscription: Subscription) -> None:
    opened = asyncio.Event()
    on_open = subscription._on_open

    def noticed() -> None:
        on_open()
        opened.set()

    subscription._on_open = noticed
    await relay.cut()
    await asyncio.wait_for(opened.wait(), 10)


async def _nobody_listens(redis: RedisClient, channel: str) -> bool:
    [(_, count)] = await redis.pubsub_numsub(channel)
    return not count


def _unavailable() -> float | None:
    return REGISTRY.get_sample_value("tradestream_store_unavailable", {"store": "redis"})
