"""The feed over a WebSocket: the same events, numbers, filters and resuming, as JSON messages."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from config.ids import uuid7
from config.settings import Settings
from config.tasks import spawn
from tests.support.streams import BOB, Draft, Event, Gateway, Publisher, drafts, gateway, ready, stream, token, until


class Listener:
    """A client of `/api/signals/ws`."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self.connection = connection
        self.events: list[Event] = []
        self.is_over = False

    async def next(self, *, seconds: float = 15.0) -> Event | None:
        """Return the next event, None when the server has closed."""
        async with asyncio.timeout(seconds):
            message = await self.connection.read_message()
        if message is None:
            self.is_over = True
            return None
        document = orjson.loads(message)
        assert set(document) == ({"event", "data"} if document["event"] == "error" else {"event", "id", "data"})
        event = Event(document["event"], document.get("id"), document["data"])
        self.events.append(event)
        return event

    async def signals(self, count: int) -> list[int]:
        """Return the feed_seqs of the next `count` signals."""
        found: list[int] = []
        while len(found) < count:
            event = await self.next()
            assert event is not None
            if event.name == "signal":
                found.append(event.place)
        return found

    @property
    def numbers(self) -> list[int]:
        """Return the number of each event that has one."""
        return [event.number for event in self.events if event.id is not None]


@asynccontextmanager
async def listen(server: Gateway, headers: dict[str, str] | None = None, **query: object) -> AsyncIterator[Listener]:
    """Open a socket, and read its `session_start`."""
    url = f"ws://127.0.0.1:{server.port}/api/signals/ws?{urlencode(query)}"
    listener = Listener(await websocket_connect(HTTPRequest(url, headers=headers)))
    try:
        start = await listener.next()
        assert start is not None
        assert start.name == "session_start"
        yield listener
    finally:
        listener.connection.close()
        while not listener.is_over:
            await listener.next()


@asynccontextmanager
async def serving(settings: Settings, **changes: Any) -> AsyncIterator[tuple[Gateway, Publisher]]:
    settings = settings.replace(**{"rate_limit_enabled": False, "heartbeat_seconds": 30.0, **changes})
    async with gateway(settings) as server:
        await ready(server)
        yield server, Publisher(server.pool, server.redis)


async def test_the_socket_carries_the_same_feed_with_the_same_numbers(settings: Settings) -> None:
    async with (
        serving(settings, heartbeat_seconds=0.3) as (server, publisher),
        listen(server) as listener,
        stream(server.port) as reader,
    ):
        for size in (0, 60, 200, 70_000):  # each of the three lengths a frame can have, and the long id too
            await publisher.publish(Draft(note="x" * size), Draft())
        assert await listener.signals(8) == await reader.signals(8) == publisher.places()
        while "heartbeat" not in {event.name for event in listener.events[-2:]}:
            await listener.next()
        assert listener.numbers == list(range(1, len(listener.events) + 1))
        session = listener.events[0].data["session_id"]
        assert {event.id.partition(":")[0] for event in listener.events if event.id} == {session}
        signals = [[e.data for e in side.events if e.name == "signal"][:8] for side in (listener, reader)]
        assert signals[0] == signals[1]


async def test_a_provider_with_an_open_socket_is_connected(settings: Settings) -> None:
    provider = token(settings, str(uuid7()), is_provider=True)
    async with serving(settings, heartbeat_seconds=0.2) as (server, _), listen(server, access_token=provider) as holder:
        while (event := await holder.next()) is not None and event.data.get("connected_providers") != 1:
            pass
        assert event is not None
        assert holder.events[0].data["is_demo"] is False


async def test_filters_and_resuming_work_as_in_the_stream_and_across_the_two(settings: Settings) -> None:
    async with serving(settings) as (server, publisher):
        received: list[int] = []
        last_id = ""
        for turn in range(6):
            opened = listen if turn % 2 else stream
            where: Any = server if turn % 2 else server.port
            async with opened(where, min_score=50, last_event_id=last_id) as client:
                assert client.events[0].data["resumed"] is (turn > 0)
                await publisher.publish(*(Draft(score=score) for score in random.choices(range(100), k=8)))
                expected = publisher.places(lambda draft: draft.score >= 50)
                received += await client.signals(len(expected) - len(received))
                last_id = client.events[-1].id
            await publisher.publish(*(Draft(score=score) for score in random.choices(range(100), k=8)))
        assert received == expected
        assert client.events[-1].number == len(received) + 6


async def test_a_bad_filter_or_token_is_refused_before_the_upgrade(settings: Settings) -> None:
    async with serving(settings) as (server, _):
        for query, status, code in [
            ({"categories": "gold"}, 400, "VALIDATION_ERROR"),
            ({"access_token": "nonsense"}, 401, "UNAUTHORIZED"),
        ]:
            with pytest.raises(HTTPClientError) as refused:
                async with listen(server, **query):
                    pass
            assert refused.value.code == status
            assert refused.value.response is not None
            assert orjson.loads(refused.value.response.body)["error"]["code"] == code
        assert server.feed.limits.open == 0


async def test_pages_of_configured_origins_may_connect_and_no_others(settings: Settings) -> None:
    async with serving(settings) as (server, _):
        async with listen(server, {"Origin": "https://tradestream.io"}):
            pass
        with pytest.raises(HTTPClientError) as refused:
            async with listen(server, {"Origin": "https://evil.example"}):
                pass
        assert refused.value.code == 403
        await until(lambda: server.feed.limits.open == 0)


async def test_limits_count_sockets_and_streams_together(settings: Settings) -> None:
    async with serving(settings, max_streams=2) as (server, _), listen(server), stream(server.port):
        with pytest.raises(HTTPClientError) as refused:
            async with listen(server):
                pass
        assert refused.value.code == 503


@pytest.mark.parametrize(
    ("code", "close_code"), [("SESSION_REVOKED", 1008), ("SERVER_DRAINING", 1012), ("MAX_LIFETIME", 1001)]
)
async def test_an_end_is_announced_and_then_closed_with_a_code(settings: Settings, code: str, close_code: int) -> None:
    lifetime = 0.3 if code == "MAX_LIFETIME" else 3600.0
    user = str(uuid7())
    async with (
        serving(settings, stream_max_seconds=lifetime) as (server, _),
        listen(server, access_token=token(settings, user)) as listener,
    ):
        if code == "SESSION_REVOKED":
            server.feed.end_streams(code, user_id=user)
        elif code == "SERVER_DRAINING":
            spawn(server.feed.drain(3.0), name="drain")
        error = await listener.next()
        assert error is not None
        assert (error.name, error.id, error.data["code"]) == ("error", None, code)
        assert await listener.next() is None
        assert (listener.connection.close_code, listener.connection.close_reason) == (close_code, code)
        await until(lambda: server.feed.limits.open == 0)


async def test_messages_of_a_client_are_passed_over_and_its_pings_are_answered(settings: Settings) -> None:
    async with serving(settings) as (server, publisher), listen(server) as listener:
        await listener.connection.write_message("hello")
        await listener.connection.write_message(b"\x00\xff", binary=True)
        listener.connection.ping(b"x")
        places = await publisher.publish(Draft())
        assert await listener.signals(1) == places


async def test_a_client_that_leaves_before_or_in_its_handshake_is_not_counted(settings: Settings) -> None:
    async with serving(settings) as (server, _):
        for rest in ("", "Content-Length: 10\r\n"):  # the second never sends the body that it has announced
            raw = await _raw_socket(server, rest)
            await until(lambda: server.application.gateway.lifecycle.in_flight or len(server.feed._clients))
            raw.close()
            await until(lambda: server.application.gateway.lifecycle.in_flight == 0 == server.feed.limits.open)


async def test_a_slow_socket_is_bounded_closed_and_resumed_without_a_loss(settings: Settings) -> None:
    async with serving(settings, stream_buffer_bytes=150_000) as (server, publisher), stream(server.port) as quick:
        slow = await _raw_socket(server)
        await until(lambda: len(server.feed._clients) == 2)
        client = next(each for each in server.feed._clients.values() if each.kind == "ws")
        session = client.session.decode()
        sent = 0
        while len(server.feed._clients) == 2:
            places = await publisher.publish(*drafts(50, note="x" * 1000))
            assert await quick.signals(50) == places
            sent += 50
            assert client.pending_bytes <= 150_000 + 60_000
            assert sent < 10_000
        received = await _read_signals(slow)
        assert 0 < len(received) < sent
        async with listen(server, last_event_id=f"{session}:{len(received) + 1}") as again:
            received += await again.signals(sent - len(received))
        assert received == publisher.places()


async def test_a_socket_by_provider_costs_nothing_where_it_does_not_match(settings: Settings) -> None:
    async with serving(settings) as (server, publisher), listen(server, provider_ids=str(BOB)) as listener:
        await publisher.publish(*drafts(20))
        places = await publisher.publish(Draft(provider_id=BOB))
        assert await listener.signals(1) == places
        assert listener.numbers == [1, 2]


async def _raw_socket(server: Gateway, fields: str = "") -> socket.socket:
    # A handshake by hand, with a small window, and nothing read after it.
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", server.port))
    await loop.sock_sendall(
        raw,
        b"GET /api/signals/ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + fields.encode() + b"\r\n",
    )
    return raw


async def _read_signals(raw: socket.socket) -> list[int]:
    # The signals in all that the server had sent; an unfinished frame at the end is none.
    data = b""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        try:
            while chunk := await loop.sock_recv(raw, 1 << 16):
                data += chunk
                if data.endswith(b"SLOW_CONSUMER"):  # the end of the closing frame, which the client does not answer
                    break
        except ConnectionResetError:
            pass
    raw.close()
    position = data.index(b"\r\n\r\n") + 4
    found: list[int] = []
    while position + 4 <= len(data):
        size = data[position + 1]
        head = 2
        if size == 126:
            size, head = int.from_bytes(data[position + 2 : position + 4]), 4
        payload = data[position + head : position + head + size]
        if len(payload) == size and data[position] == 0x81:
            document = orjson.loads(payload)
            if document["event"] == "signal":
                found.append(int(document["data"]["id"]))
        position += head + size
    return found
