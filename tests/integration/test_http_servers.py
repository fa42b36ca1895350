"""Either HTTP server carries the API and the streams: the most telling scenario of each kind, over both.

`make test-tornado` runs all tests of the API and of the streams over Tornado's server.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from config.settings import Settings
from config.tasks import spawn
from server._http1 import LlhttpServer, TornadoServer
from tests.api.serving import SETTINGS, Client, read_response, serving
from tests.integration.test_streams_socket import listen
from tests.support.streams import (
    Draft,
    Gateway,
    Publisher,
    answered,
    connect,
    drafts,
    gateway,
    ready,
    stream,
    until,
)

SERVERS = {"llhttp": LlhttpServer, "tornado": TornadoServer}
GET = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n"
LOGIN = b"POST /auth/login HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


@pytest.fixture(params=SERVERS)
def over(request: pytest.FixtureRequest) -> str:
    """The setting HTTP_SERVER."""
    return str(request.param)


@asynccontextmanager
async def api(over: str, **changes: object) -> AsyncIterator[Client]:
    """Run the application without services, for refusals and requests that need none."""
    async with serving(SETTINGS.replace(http_server=over, **changes)) as client:
        yield client


@asynccontextmanager
async def feed(settings: Settings, over: str, **changes: object) -> AsyncIterator[tuple[Gateway, Publisher]]:
    """A gateway with the feed."""
    settings = settings.replace(http_server=over, rate_limit_enabled=False, heartbeat_seconds=30.0).replace(**changes)
    async with gateway(settings) as server:
        await ready(server)
        yield server, Publisher(server.pool, server.redis)


async def test_the_setting_chooses_the_server(settings: Settings, over: str) -> None:
    async with feed(settings, over) as (server, _):
        assert type(server.http) is SERVERS[over]


async def test_requests_of_one_connection_are_answered_in_order_also_when_they_come_at_once(over: str) -> None:
    async with api(over) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(
            GET % b"/health" + GET % b"/nothing" + LOGIN % (2, b"{}") + b"PUT /health HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        answers = [await read_response(reader) for _ in range(4)]
        writer.close()
    assert [each.status for each in answers] == [200, 404, 400, 405]
    for each, code in zip(answers[1:], ("NOT_FOUND", "VALIDATION_ERROR", "METHOD_NOT_ALLOWED"), strict=True):
        each.problem(each.status, code)
    assert answers[0].json == {"status": "ok"}


async def test_a_body_is_read_in_pieces_and_refused_when_it_is_too_large(over: str) -> None:
    async with api(over) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        head, body = LOGIN % (300_000, b""), b" " * 300_000
        writer.write(head)
        (await read_response(reader)).problem(413, "PAYLOAD_TOO_LARGE")
        writer.write(body)
        assert await reader.read(-1) == b""  # nothing more: the connection has been closed
        writer.close()
        chunked = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
        pieces = b"".join(b"1\r\n%c\r\n" % each for each in b"{ }") + b"0\r\n\r\n"
        (await client.request("POST", "/auth/login", headers=chunked, body=pieces)).problem(400, "VALIDATION_ERROR")


async def test_a_client_that_leaves_within_its_body_leaves_nothing_behind(over: str) -> None:
    async with api(over) as client:
        _, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(LOGIN % (100, b"{"))
        in_flight = client.application.gateway.lifecycle
        await until(lambda: in_flight.in_flight == 1)
        writer.close()
        await until(lambda: in_flight.in_flight == 0)


async def test_one_connection_too_many_is_turned_away_until_another_ends(over: str) -> None:
    async with api(over, max_connections=1) as client:
        reader, first = await asyncio.open_connection("127.0.0.1", client.port)
        first.write(GET % b"/health")
        assert (await read_response(reader)).status == 200
        refused = await client.get("/health")
        assert refused.problem(503, "SERVICE_UNAVAILABLE")["retry_after"] == 5
        first.close()

        async def is_served() -> bool:
            return (await client.get("/health")).status == 200

        await until(is_served)


async def test_what_a_stopping_server_has_accepted_is_served_and_nothing_more(settings: Settings, over: str) -> None:
    async with feed(settings, over) as (server, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET % b"/health")
        await server.http.stop()
        assert (await read_response(reader)).status == 200
        assert await server.http.until_taken(1.0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)
        writer.close()


async def test_a_client_that_has_gone_before_it_was_accepted_stops_no_stop(settings: Settings, over: str) -> None:
    async with feed(settings, over) as (server, _):
        # Within one turn of the event loop: the kernel has accepted both, the server none.
        gone = socket.create_connection(("127.0.0.1", server.port))
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()  # with a reset
        waiting = socket.create_connection(("127.0.0.1", server.port))
        waiting.sendall(GET % b"/health")
        await server.http.stop()
        waiting.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=waiting)
        assert (await read_response(reader)).status == 200
        writer.close()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_stream_of_events_lasts_is_resumed_and_says_why_it_ends(
    settings: Settings, over: str, version: str
) -> None:
    async with feed(settings, over) as (server, publisher):
        async with stream(server.port, version=version) as reader:
            assert reader.headers.get("Transfer-Encoding") == ("chunked" if version == "1.1" else None)
            places = await publisher.publish(*drafts(3))
            assert await reader.signals(3) == places
        await until(lambda: server.feed.limits.open == 0)  # the end of the client is noticed
        missed = await publisher.publish(*drafts(2))
        async with stream(server.port, headers={"Last-Event-ID": reader.last_id}) as again:
            assert again.events[0].data["resumed"] is True
            assert await again.signals(2) == missed
            draining = spawn(server.feed.drain(5.0), name="drain")
            assert (await again.next()).data["code"] == "SERVER_DRAINING"
            assert await again.next() is None
            await draining


async def test_a_stream_behind_another_request_of_its_connection_is_opened(settings: Settings, over: str) -> None:
    async with feed(settings, over) as (server, publisher):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET % b"/health" + GET % b"/api/signals/stream")
        assert (await read_response(reader)).json == {"status": "ok"}
        events = answered(reader, writer, await reader.readuntil(b"\r\n\r\n"))
        assert (await events.next()).name == "session_start"
        places = await publisher.publish(Draft())
        assert await events.signals(1) == places
        await events.close()


async def test_a_reader_that_is_too_slow_is_told_and_closed(settings: Settings, over: str) -> None:
    async with feed(settings, over, stream_buffer_bytes=200_000) as (server, publisher):
        slow = await connect(server.port, receive_buffer=4096)
        sent = 0
        while server.feed.limits.open:
            await publisher.publish(*drafts(50, note="x" * 1000))
            sent += 50
            assert sent < 10_000
        while await slow.next() is not None:
            pass
        assert slow.events[-1].data == {"code": "SLOW_CONSUMER", "retry_after": 1}
        await slow.close()


async def test_a_socket_carries_the_feed_and_what_was_sent_behind_its_handshake(settings: Settings, over: str) -> None:
    async with feed(settings, over) as (server, publisher):
        async with listen(server) as listener:
            places = await publisher.publish(*drafts(2), Draft(note="x" * 70_000))
            assert await listener.signals(3) == places
        await until(lambda: server.feed.limits.open == 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        ask = b'{"type":"ping"}'
        writer.write(
            b"GET /api/v1/ws/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            + bytes([0x81, 0x80 | len(ask), 0, 0, 0, 0])
            + ask
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        size = (await reader.readexactly(2))[1]
        assert orjson.loads(await reader.readexactly(size)) == {"type": "pong"}
        writer.close()


async def test_a_client_that_leaves_before_its_stream_is_open_leaves_nothing_behind(
    settings: Settings, over: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with feed(settings, over) as (server, _):
        began, go_on = asyncio.Event(), asyncio.Event()
        admit = server.feed.admit

        async def slowly(*args: object, **options: object) -> object:
            session = await admit(*args, **options)
            began.set()
            await go_on.wait()
            return session

        monkeypatch.setattr(server.feed, "admit", slowly)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET % b"/api/signals/stream")
        await began.wait()
        writer.transport.abort()
        await asyncio.sleep(0.05)  # until the server has noticed; if it has not, the stream's first write does
        go_on.set()
        await until(lambda: server.feed.limits.open == 0)
