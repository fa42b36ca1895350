"""The ends and limits of streams: slow readers, deadlines, revocation, drain, and the streams that count."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
import psutil
import pytest

from actors.users.users import REVOCATIONS_CHANNEL
from config.ids import uuid7
from config.settings import Settings
from config.tasks import cancel, spawn
from handlers.streams import presence
from handlers.streams.client import SseClient
from tests.support.streams import (
    Draft,
    Gateway,
    Publisher,
    Reader,
    connect,
    drafts,
    gateway,
    ready,
    stream,
    token,
    until,
)


@asynccontextmanager
async def serving(settings: Settings, **changes: Any) -> AsyncIterator[tuple[Gateway, Publisher]]:
    """One gateway without limits, unless they are asked for."""
    settings = settings.replace(**{"rate_limit_enabled": False, "heartbeat_seconds": 30.0, **changes})
    async with gateway(settings) as server:
        await ready(server)
        yield server, Publisher(server.pool, server.redis)


LIMITED = {"rate_limit_enabled": True, "rate_limits": (("GET /api/signals/stream", 1000),)}


# Limits


async def test_one_address_may_have_twenty_streams_open(settings: Settings) -> None:
    async with serving(settings, **LIMITED) as (server, _), AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(stream(server.port)) for _ in range(20)]
        await refused(server, 429, "RATE_LIMITED")
        await readers[0].close()
        await until(lambda: len(server.feed._clients) == 19)
        await stack.enter_async_context(stream(server.port))


async def test_all_addresses_of_one_ipv6_network_share_the_streams_of_one(settings: Settings) -> None:
    trusting = settings.internal_networks[:1]
    async with serving(settings, trusted_proxies=trusting, **LIMITED) as (server, _), AsyncExitStack() as stack:
        for number in range(20):
            headers = {"X-Forwarded-For": f"2001:db8:0:7::{number:x}"}
            await stack.enter_async_context(stream(server.port, headers=headers))
        await refused(server, 429, "RATE_LIMITED", headers={"X-Forwarded-For": "2001:db8:0:7:1234::1"})
        await stack.enter_async_context(stream(server.port, headers={"X-Forwarded-For": "2001:db8:0:8::1"}))


async def test_one_user_may_have_five_streams_open_at_any_address(settings: Settings) -> None:
    trusting = settings.internal_networks[:1]
    async with serving(settings, trusted_proxies=trusting, **LIMITED) as (server, _), AsyncExitStack() as stack:
        mine = {"Authorization": f"Bearer {token(settings, str(uuid7()))}"}
        for number in range(5):
            headers = {**mine, "X-Forwarded-For": f"203.0.113.{number}"}
            reader = await stack.enter_async_context(stream(server.port, headers=headers))
        await refused(server, 429, "RATE_LIMITED", headers={**mine, "X-Forwarded-For": "203.0.113.99"})
        # A client that reconnects before its old connection was found dead is not over the limit.
        again = {**mine, "X-Forwarded-For": "203.0.113.99", "Last-Event-ID": reader.last_id}
        await stack.enter_async_context(stream(server.port, headers=again))


async def test_the_limits_hold_over_all_gateways_and_free_what_a_dead_one_held(settings: Settings) -> None:
    changed = settings.replace(**{**LIMITED, "heartbeat_seconds": 0.4})
    mine = {"access_token": token(settings, str(uuid7()))}
    async with gateway(changed) as first, gateway(changed) as second, AsyncExitStack() as stack:
        await ready(first, second)
        readers = [await stack.enter_async_context(stream(first.port, **mine)) for _ in range(3)]
        for _ in range(2):
            await stack.enter_async_context(stream(second.port, **mine))
        await readers[0].until(lambda event: event.name == "heartbeat")
        for server in (first, second):
            await refused(server, 429, "RATE_LIMITED", **mine)
        await readers[0].close()
        await until(lambda: len(first.feed._clients) == 2)
        await stack.enter_async_context(stream(second.port, **mine))
        await refused(first, 429, "RATE_LIMITED", **mine)
        # A session resumed elsewhere is not counted twice, even if its gateway died without releasing it.
        first.feed._heartbeats.stop()
        await first.feed._subscription.stop()
        again = await stack.enter_async_context(stream(second.port, last_event_id=readers[1].last_id, **mine))
        assert again.events[0].data["resumed"] is True
        await until(lambda: opens(second, mine))


async def opens(server: Gateway, query: dict[str, str]) -> bool:
    """Return whether one stream more is admitted; close it again."""
    reader = await connect(server.port, **query)
    await reader.close()
    return reader.status == 200


async def test_a_process_has_so_many_streams_and_no_more(settings: Settings) -> None:
    async with serving(settings, max_streams=3) as (server, _), AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(stream(server.port))
        await refused(server, 503, "SERVICE_UNAVAILABLE")


async def test_opening_is_limited_too(settings: Settings) -> None:
    async with serving(settings, rate_limit_enabled=True) as (server, _):
        for _ in range(10):
            async with stream(server.port) as reader:
                assert reader.headers["X-Ratelimit-Limit"] == "10"
        await refused(server, 429, "RATE_LIMITED")


# Slow readers


async def test_a_slow_reader_is_told_closed_and_resumes_without_a_loss_and_delays_nobody(settings: Settings) -> None:
    async with serving(settings, stream_buffer_bytes=200_000) as (server, publisher), stream(server.port) as quick:
        slow = await connect(server.port, receive_buffer=4096)
        await slow.next()
        sent = 0
        while len(server.feed._clients) == 2:
            places = await publisher.publish(*drafts(50, note="x" * 1000))
            assert await quick.signals(50) == places
            sent += 50
            assert sent < 10_000
        received: list[int] = []
        while (event := await slow.next()) is not None:
            if event.name == "signal":
                received.append(event.place)
        assert slow.events[-1].name == "error"
        assert slow.events[-1].data == {"code": "SLOW_CONSUMER", "retry_after": 1}
        assert slow.events[-1].id is None
        await slow.close()
        async with stream(server.port, headers={"Last-Event-ID": slow.last_id}) as again:
            received += await again.signals(sent - len(received))
        assert received == publisher.places()


async def test_a_reader_that_pauses_within_the_bound_misses_nothing(settings: Settings) -> None:
    async with serving(settings) as (server, publisher):
        reader = await connect(server.port, receive_buffer=4096)
        for _ in range(12):
            await publisher.publish(*drafts(50, note="x" * 1000))
        await until(lambda: server.feed._fanout.place == 600)
        behind = next(iter(server.feed._clients.values()))
        assert behind.waiting_bytes + behind.pending_bytes > 100_000
        assert await reader.signals(600) == publisher.places()
        assert reader.numbers == list(range(1, 602))
        places = await publisher.publish(Draft())
        assert await reader.signals(1) == places
        assert behind.waiting_bytes + behind.pending_bytes == 0
        await reader.close()


async def test_a_replay_is_not_taken_for_a_slow_reader(settings: Settings) -> None:
    async with serving(settings, stream_buffer_bytes=50_000) as (server, publisher):
        async with stream(server.port) as reader:
            pass
        for _ in range(10):
            await publisher.publish(*drafts(100, note="x" * 1000))
        again = await connect(server.port, headers={"Last-Event-ID": reader.last_id}, receive_buffer=4096)
        received: list[int] = []
        while len(received) < 1000:
            received += await again.signals(50)
            publisher_has = len(publisher.published)
            if publisher_has < 1100:
                await publisher.publish(*drafts(10))
        received += await again.signals(len(publisher.published) - 1000)
        assert received == publisher.places()
        await again.close()


# Deadlines


async def test_a_stream_ends_after_its_lifetime_and_goes_on_without_a_loss(settings: Settings) -> None:
    async with serving(settings, stream_max_seconds=0.5) as (server, publisher):
        received: list[int] = []
        headers: dict[str, str] = {}
        for _ in range(3):
            async with stream(server.port, headers=headers) as reader:
                await publisher.publish(*drafts(2))
                events = await reader.until(lambda event: event.name == "error")
                assert events[-1].data == {"code": "MAX_LIFETIME"}
                assert await reader.next() is None
                received += [event.place for event in events if event.name == "signal"]
                headers = {"Last-Event-ID": reader.last_id}
                await publisher.publish(Draft())
        async with stream(server.port, headers=headers) as reader:
            received += await reader.signals(len(publisher.published) - len(received))
        assert received == publisher.places()


async def test_streams_that_came_together_do_not_end_together(settings: Settings) -> None:
    async with serving(settings, stream_max_seconds=1000.0) as (server, _), AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(stream(server.port))
        now = asyncio.get_running_loop().time()
        left = sorted(client.deadline - now for client in server.feed._clients.values())
        assert 890 < left[0] < 990
        assert 1010 < left[-1] < 1100


async def test_a_stream_ends_with_its_token(settings: Settings) -> None:
    async with serving(settings) as (server, _):
        short = token(settings, str(uuid7()), seconds=1.5)
        async with stream(server.port, access_token=short) as reader:
            error = await reader.next()
            assert error is not None
            assert (error.name, error.data) == ("error", {"code": "TOKEN_EXPIRED"})
            assert await reader.next() is None
        refusal = await connect(server.port, access_token=short)
        assert refusal.status == 401
        await refusal.close()


async def test_the_streams_of_a_revoked_session_or_user_end_at_once(settings: Settings) -> None:
    alice, bob, sid = str(uuid7()), str(uuid7()), str(uuid7())
    tokens = [token(settings, alice, sid=sid), token(settings, alice), token(settings, bob)]
    async with serving(settings) as (server, _), AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(stream(server.port, access_token=each)) for each in tokens]
        assert server.feed.end_streams("SESSION_REVOKED", session_id=sid) == 1
        await ends_with(readers[0], {"code": "SESSION_REVOKED"})
        assert server.feed.end_streams("FORBIDDEN", user_id=alice) == 1
        await ends_with(readers[1], {"code": "FORBIDDEN"})
        assert len(server.feed._clients) == 1
        assert server.feed.end_streams("FORBIDDEN", user_id=alice) == 0


async def test_a_session_that_ends_while_its_stream_is_admitted_gets_none(settings: Settings) -> None:
    sid = str(uuid7())
    async with serving(settings) as (server, _):
        await server.redis.execute_command("CLIENT", "PAUSE", 300, "WRITE")  # the admission takes so long
        admission = spawn(connect(server.port, access_token=token(settings, str(uuid7()), sid=sid)), name="connect")
        await until(lambda: server.feed.limits.open == 1)
        server.application.gateway.revoked.add([sid])
        refusal = await admission
        assert refusal.status == 401
        assert len(server.feed._clients) == server.feed.limits.open == 0
        await refusal.close()


async def test_sessions_that_end_anywhere_end_their_streams_within_a_second(settings: Settings) -> None:
    told, found = str(uuid7()), uuid7()
    async with serving(settings) as (server, _), AsyncExitStack() as stack:
        revoked = server.application.gateway.revoked
        await revoked.start(
            server.pool, server.redis, lambda each: server.feed.end_streams("SESSION_REVOKED", session_id=each)
        )
        stack.push_async_callback(revoked.stop)
        for sid in (told, str(found)):
            mine = token(settings, str(uuid7()), sid=sid)
            reader = await stack.enter_async_context(stream(server.port, access_token=mine))
            async with asyncio.timeout(1.0):
                if sid == told:
                    await until(lambda: server.redis.publish(REVOCATIONS_CHANNEL, orjson.dumps([told])))
                else:  # and Redis loses the message
                    await server.pool.execute(ENDED_SESSION, found, uuid7())
                await ends_with(reader, {"code": "SESSION_REVOKED"})


ENDED_SESSION = """
WITH someone AS (
    INSERT INTO users (id, email, email_verified, display_name, referral_code, created_at)
    VALUES ($2, 'a@example.org', true, 'A', 'ABCDEF', now()) RETURNING id
)
INSERT INTO sessions (id, user_id, created_at, last_used_at, expires_at, ip, current_hash, revoked_at)
SELECT $1, id, now(), now(), now(), '192.0.2.1', '', now() FROM someone
"""


async def test_draining_tells_each_another_time_to_come_back_and_admits_nobody(settings: Settings) -> None:
    async with serving(settings) as (server, publisher), AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(stream(server.port)) for _ in range(30)]
        await publisher.publish(Draft())
        draining = spawn(server.feed.drain(10.0), name="drain")
        times = []
        for reader in readers:
            events = await reader.until(lambda event: event.name == "error")
            assert [event.name for event in events] in (["signal", "error"], ["error"])
            assert events[-1].data["code"] == "SERVER_DRAINING"
            times.append(events[-1].data["retry_after"])
            assert reader.retry == [2000, times[-1] * 1000]
            assert await reader.next() is None
        await draining
        assert len(set(times)) >= 5
        assert 1 <= min(times) <= max(times) <= 10
        await refused(server, 503, "SERVICE_UNAVAILABLE")
        assert len(server.feed._clients) == 0


# The streams that count


async def test_connected_providers_are_counted_once_over_all_gateways(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "REFRESH_SECONDS", 0.5)
    monkeypatch.setattr(presence, "TTL_SECONDS", 2.0)
    changed = settings.replace(rate_limit_enabled=False, heartbeat_seconds=0.2)
    king, queen = str(uuid7()), str(uuid7())
    async with gateway(changed) as first, gateway(changed) as second, AsyncExitStack() as stack:
        await ready(first, second)
        for server, user in ((first, king), (first, king), (second, king), (second, queen)):
            provider = token(settings, user, is_provider=True)
            last = await stack.enter_async_context(stream(server.port, access_token=provider))
        await stack.enter_async_context(stream(first.port, access_token=token(settings, str(uuid7()))))
        for server in (first, second):
            async with stream(server.port) as reader:
                await reader.until(lambda event: event.data.get("connected_providers") == 2)
        await last.close()
        async with stream(first.port) as reader:
            await reader.until(lambda event: event.data.get("connected_providers") == 1)
            await stack.enter_async_context(stream(second.port, access_token=provider))
            await reader.until(lambda event: event.data.get("connected_providers") == 2)
            await cancel(second.feed._presence._task)  # as if it were dead
            await reader.until(lambda event: event.data.get("connected_providers") == 1)


async def test_streams_leave_nothing_behind_however_they_ended(settings: Settings) -> None:
    async with serving(settings, stream_buffer_bytes=20_000, heartbeat_seconds=0.2) as (server, publisher):
        await connect_and_leave(server, publisher)
        process = psutil.Process()
        before = process.num_fds()
        for _ in range(5):
            await connect_and_leave(server, publisher)
        gc.collect()
        await until(lambda: process.num_fds() <= before + 1)  # the last connections' ends may be under way
        assert server.feed._fanout._groups == {}
        assert server.feed._fanout._by_provider == {}
        assert server.feed.limits._by_address == {}


async def test_an_ended_client_is_forgotten_within_one_heartbeat(settings: Settings) -> None:
    async with serving(settings, heartbeat_seconds=0.2) as (server, _):
        for _ in range(20):
            async with stream(server.port):
                pass
        await until(lambda: clients_of(server) == 0)


def clients_of(server: Gateway) -> int:
    """Return how many clients of the server are in memory, open or not."""
    fanout = server.feed._fanout
    return sum(isinstance(each, SseClient) and each.fanout is fanout for each in gc.get_objects())


async def connect_and_leave(server: Gateway, publisher: Publisher) -> None:
    """Open streams that end in every way: left, reset, slow, ended by the server."""
    readers = [await connect(server.port, min_score=number, receive_buffer=4096) for number in range(6)]
    provider = await connect(server.port, provider_ids=str(uuid7()))
    await until(lambda: len(server.feed._clients) == 7)
    await readers[0].close()
    readers[1].writer.transport.abort()
    await publisher.publish(*drafts(200, score=99, note="x" * 5000))
    await until(lambda: len(server.feed._clients) == 1)
    for client in list(server.feed._clients.values()):
        server.feed._fanout.end(client, "FORBIDDEN")
    for reader in (*readers, provider):
        await reader.close()
    await until(lambda: len(server.feed._clients) == 0 and not server.feed._fanout._ending)


async def ends_with(reader: Reader, data: dict[str, Any]) -> None:
    """Assert that the stream's next and last event is this error."""
    error = await reader.next()
    assert error is not None
    assert (error.name, error.id, error.data) == ("error", None, data)
    assert await reader.next() is None


async def refused(server: Gateway, status: int, code: str, **options: Any) -> None:
    """Assert that one stream more is refused, with a time to come back."""
    reader = await connect(server.port, **options)
    assert reader.status == status
    assert int(reader.headers["Retry-After"]) >= 1
    assert (await reader.body())["error"]["code"] == code
    await reader.close()
