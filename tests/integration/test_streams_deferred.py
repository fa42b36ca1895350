"""An EventSource is deferred, not refused, while a service starts and when it reconnects: a refusal is final."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from config.settings import Settings
from db._migrate import migrate
from handlers._http.limits import LimitVerdict
from handlers.streams.connections import later
from schemas.errors import Unavailable
from tests.support.breakable import BreakablePostgres, breakable_postgres
from tests.support.streams import (
    Draft,
    Gateway,
    Publisher,
    Reader,
    connect,
    drafts,
    gateway,
    ready,
    says_only_later,
    stream,
    until,
)

EVENTS = {"Accept": "text/event-stream"}
OF_NOBODY = "sess-00000000000000aa:7"


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[BreakablePostgres]:
    """A migrated PostgreSQL of the test's own."""
    with breakable_postgres(tmp_path / "postgres") as server:
        asyncio.run(migrate(server.url))
        yield server


@asynccontextmanager
async def serving(settings: Settings, **changes: object) -> AsyncIterator[Gateway]:
    """One gateway, ready."""
    async with gateway(settings.replace(**{"heartbeat_seconds": 30.0, **changes})) as server:
        await ready(server)
        yield server


async def deferred(server: Gateway, message: str, **headers: str) -> Reader:
    """Return the client of a deferred stream, which has ended."""
    reader = await connect(server.port, headers={**EVENTS, **headers})
    try:
        assert reader.status == 200
        assert reader.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert reader.headers["Cache-Control"] == "no-cache, no-transform"
        assert reader.headers["Connection"] == "close"
        assert "Retry-After" not in reader.headers
        await says_only_later(reader, message)
    finally:
        await reader.close()
    return reader


async def status(server: Gateway, method: str = "GET", **headers: str) -> int:
    """Return the status that the stream is answered with."""
    reader = await connect(server.port, method=method, headers=headers)
    await reader.close()
    return reader.status


async def test_an_event_source_is_deferred_while_a_gateway_starts_and_all_others_refused(settings: Settings) -> None:
    async with serving(settings) as server:
        process = server.application.gateway
        services, process.services, process.lifecycle.state = process.services, None, "starting"
        answers = [await deferred(server, "The server is starting", Origin="https://tradestream.io") for _ in range(20)]
        assert all(each.headers["Access-Control-Allow-Origin"] == "https://tradestream.io" for each in answers)
        assert len({each.retry[0] for each in answers}) > 10  # a restart's clients do not come back all at once
        await deferred(server, "The server is starting", Accept="text/html, Text/Event-Stream;q=0.5")
        for headers in ({}, {"Accept": "*/*"}, {"Accept": "text/*"}, {"Accept": "application/json"}):
            assert await status(server, **headers) == 503
        assert await status(server, "HEAD", **EVENTS) == 503
        process.services, process.lifecycle.state = services, "serving"
        async with stream(server.port, headers=EVENTS) as reader:  # being deferred has not been counted
            assert reader.headers["X-Ratelimit-Remaining"] == "9"


async def test_an_event_source_is_deferred_until_postgres_is_back(
    settings: Settings, postgres: BreakablePostgres
) -> None:
    postgres.stop()
    async with gateway(settings.replace(database_url=postgres.url, heartbeat_seconds=30.0), ring_signals=16) as server:
        await until(lambda: server.feed.is_connected)
        for _ in range(15):
            await deferred(server, "The feed is starting")
        assert await status(server) == 503
        assert await status(server, **EVENTS, Authorization="Bearer nonsense") == 401
        postgres.start()
        await until(lambda: server.feed.is_ready)
        publisher = Publisher(server.pool, server.redis)
        async with stream(server.port, headers=EVENTS) as reader:
            await publisher.publish(Draft())
            await reader.signals(1)
        await publisher.publish(*drafts(200))
        await until(lambda: server.feed._fanout.place == 201)
        # Its offset is older than the ring, so Postgres must be asked.
        postgres.stop()
        await deferred(server, "The database is unavailable", **{"Last-Event-ID": reader.last_id})
        assert await status(server, **{"Last-Event-ID": reader.last_id}) == 503
        postgres.start()
        await until(lambda: resumes(server, reader.last_id))


async def resumes(server: Gateway, last_id: str) -> bool:
    reader = await connect(server.port, headers={**EVENTS, "Last-Event-ID": last_id})
    event = await reader.next()
    await reader.close()
    assert event is not None
    return event.name == "session_start" and event.data["resumed"] is True


async def test_a_refusal_that_does_not_pass_by_itself_stays_one(settings: Settings) -> None:
    async with serving(settings, rate_limit_enabled=False, max_streams=1) as server:
        assert await status(server, **EVENTS, Authorization="Bearer nonsense") == 401
        reader = await connect(server.port, headers=EVENTS, categories="nonsense")
        await reader.close()
        assert reader.status == 400
        async with stream(server.port, headers=EVENTS):
            reader = await connect(server.port, headers=EVENTS)  # MAX_STREAMS is a limit
            await reader.close()
            assert (reader.status, reader.headers["Retry-After"]) == (503, "30")


async def test_a_draining_gateway_sends_event_sources_to_another(settings: Settings) -> None:
    async with serving(settings, rate_limit_enabled=False) as server:
        await server.feed.drain(1.0)
        await deferred(server, "The server is shutting down")
        assert await status(server) == 503


def test_a_client_with_half_of_its_openings_used_comes_back_when_they_are_counted_anew() -> None:
    for used, least, most, retry_after in ((5, 1000, 3000, b"2"), (6, 31_000, 33_000, b"30")):
        data = later(Unavailable("Away", retry_after=2), LimitVerdict(True, 10, used, 30))
        assert least <= int(data.split()[1]) <= most
        assert data.endswith(b'"retry_after":%b}\n\n' % retry_after)


async def test_reconnects_have_a_limit_of_their_own(settings: Settings) -> None:
    async with serving(settings) as server, AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(stream(server.port)) for _ in range(10)]
        assert await status(server) == 429
        for number in range(20):  # each comes back, by the header and by the query
            last_id = readers[number % 10].last_id
            options = {"headers": {"Last-Event-ID": last_id}} if number < 10 else {"last_event_id": last_id}
            await readers[number % 10].close()
            again = await stack.enter_async_context(stream(server.port, **options))
            assert again.events[0].data["resumed"] is True
            assert again.headers["X-Ratelimit-Limit"] == "120"
            readers[number % 10] = again
        for last_event_id in ("", "sess-1:1", "nonsense", OF_NOBODY[:-1] + "0", OF_NOBODY):
            assert await status(server, **{"Last-Event-ID": last_event_id}) == 429


async def test_reconnects_are_limited_all_the_same(settings: Settings) -> None:
    limits = (("GET /api/signals/stream resumed", 3), ("GET /api/signals/ws resumed", 2))
    async with serving(settings, rate_limits=limits) as server:
        async with stream(server.port) as reader:
            pass
        known = reader.last_id
        assert [await status(server, **{"Last-Event-ID": known}) for _ in range(4)] == [200, 200, 200, 429]
        assert await status(server) == 200
        assert [await handshake(server, last_event_id=known) for _ in range(3)] == [101, 101, 429]
        assert await handshake(server) == 101


async def test_an_id_that_no_session_knows_counts_as_an_opening(settings: Settings) -> None:
    """The kind: a claim that anybody can make evades a limit. By header, query and socket."""
    async with serving(settings) as server:
        numbers = iter(range(100))

        def invented() -> str:
            return f"sess-{next(numbers):016x}:7"

        tries = [await status(server, **{"Last-Event-ID": invented()}) for _ in range(6)]
        for _ in range(4):
            reader = await connect(server.port, lastEventId=invented())
            await reader.close()
            tries.append(reader.status)
        assert tries == [200] * 10
        assert await status(server, **{"Last-Event-ID": invented()}) == 429
        assert await status(server) == 429
        assert [await handshake(server, last_event_id=invented()) for _ in range(11)] == [101] * 10 + [429]


async def test_reconnects_of_sockets_have_a_limit_of_their_own_too(settings: Settings) -> None:
    async with serving(settings) as server:
        async with stream(server.port) as reader:
            pass
        assert [await handshake(server) for _ in range(11)] == [101] * 10 + [429]
        assert [await handshake(server, last_event_id=reader.last_id) for _ in range(11)] == [101] * 11
        assert [await handshake(server, header=reader.last_id) for _ in range(3)] == [101] * 3


async def test_a_session_that_redis_may_have_lost_counts_as_known(settings: Settings) -> None:
    """After a restart of Redis all clients reconnect before the gateways have stored their sessions again."""
    async with serving(settings) as server, AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(stream(server.port)) for _ in range(10)]
        await server.redis.flushall()
        await server.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: not server.feed._store._is_redis_trusted)
        assert server.feed.session_key(OF_NOBODY) is None
        for reader in readers:
            await reader.close()
            assert await status(server, **{"Last-Event-ID": reader.last_id}) == 200
        await until(lambda: server.feed.session_key(OF_NOBODY) is not None)


async def handshake(server: Gateway, *, last_event_id: str = "", header: str = "") -> int:
    url = f"ws://127.0.0.1:{server.port}/api/signals/ws?last_event_id={last_event_id}"
    try:
        socket = await websocket_connect(HTTPRequest(url, headers={"Last-Event-ID": header} if header else {}))
    except HTTPClientError as error:
        return error.code
    socket.close()
    while await socket.read_message() is not None:
        pass
    await until(lambda: server.feed.limits.open == 0)
    return 101


async def test_the_description_says_what_a_client_does(settings: Settings) -> None:
    async with serving(settings) as server:
        answer = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{server.port}/api/openapi.json")
    text = answer.body.decode()
    for code in ("SLOW_CONSUMER", "SERVER_DRAINING", "MAX_LIFETIME", "SERVICE_UNAVAILABLE", "TOKEN_EXPIRED"):
        assert f"| `{code}` |" in text
    assert (
        "At most 10 requests a minute from one address.\\n\\nAt most 120 requests a minute from one address that"
        in text
    )
