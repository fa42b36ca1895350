"""The Lens socket: decisions to those who subscribed, errors that keep it open, and its three ways to end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClientConnection, websocket_connect

from config.settings import Settings
from handlers.lens_stream import LensSocket
from schemas.feed import DECISIONS_CHANNEL, FeedDecision, encode_decisions
from tests.support.streams import Gateway, gateway, ready, until


class Socket:
    """A client of the Lens socket."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self.connection = connection
        self.is_over = False

    async def say(self, message: object) -> None:
        await self.connection.write_message(
            message if isinstance(message, str | bytes) else orjson.dumps(message).decode()
        )

    async def receive(self, *, seconds: float = 15.0) -> Any:
        """Return the next message, None when the server has closed."""
        async with asyncio.timeout(seconds):
            message = await self.connection.read_message()
        self.is_over = message is None
        return None if message is None else orjson.loads(message)

    async def ask(self, message: object) -> Any:
        await self.say(message)
        return await self.receive()


@asynccontextmanager
async def dial(server: Gateway, **headers: str) -> AsyncIterator[Socket]:
    """Open a socket."""
    request = HTTPRequest(f"ws://127.0.0.1:{server.port}/api/v1/ws/stream", headers=headers)
    connection = await websocket_connect(request)
    client = Socket(connection)
    try:
        yield client
    finally:
        connection.close()
        while not client.is_over:
            await client.receive()


@asynccontextmanager
async def serving(settings: Settings, **changes: object) -> AsyncIterator[Gateway]:
    async with gateway(settings.replace(**changes)) as server:
        await ready(server)
        yield server


def decision(
    model: str = "technical", symbol: str = "BTC", event_type: str = "OPEN_SIGNAL", **more: Any
) -> FeedDecision:
    document = {"type": "decision", "model": model, "symbol": symbol, "event_type": event_type, **more}
    return FeedDecision(model, symbol, event_type, orjson.dumps(document))


async def publish(server: Gateway, *items: FeedDecision) -> None:
    await server.redis.publish(DECISIONS_CHANNEL, encode_decisions(items))


async def test_messages_are_sent_only_after_a_subscription_and_then_all_of_them(settings: Settings) -> None:
    async with serving(settings) as server, dial(server) as client:
        await publish(server, decision(n=1))
        assert await client.ask({"type": "ping"}) == {"type": "pong"}
        assert await client.ask({"action": "subscribe"}) == {"type": "subscribed", "filters": {}}
        await publish(server, decision(n=2), decision("claude", n=3))
        assert [(await client.receive())["n"] for _ in range(2)] == [2, 3]
        assert await client.ask({"action": "unsubscribe"}) == {"type": "unsubscribed"}
        await publish(server, decision(n=4))
        assert await client.ask({"type": "ping"}) == {"type": "pong"}


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({"model": "chatgpt", "symbol": "BTC", "event_type": "OPEN_SIGNAL"}, [0]),
    ({"symbol": "btc"}, [0, 1, 2]),
    ({"model": ["chatgpt", "claude"]}, [0, 2, 3]),
    ({"model": ["chatgpt", "claude"], "symbol": ["EUR/USD", "btc"], "event_type": ["OPEN_SIGNAL"]}, [0, 3]),
    ({"symbol": "ETH"}, [4]),
    ({"symbol": None}, [0, 1, 2, 3, 4]),
]


async def test_filters_are_anded_and_the_values_of_one_are_ored(settings: Settings) -> None:
    decisions = [
        decision("chatgpt", n=0),
        decision("technical", n=1),
        decision("claude", event_type="CLOSE_SIGNAL", n=2),
        decision("claude", "EUR/USD", n=3),
        decision(symbol="ETH", n=4),
    ]
    async with serving(settings) as server, dial(server) as client:
        for filters, wanted in FILTERS:
            answer = await client.ask({"action": "subscribe", "filters": filters})
            assert answer == {"type": "subscribed", "filters": filters}
            await publish(server, *decisions)
            assert [(await client.receive())["n"] for _ in wanted] == wanted
            assert await client.ask({"type": "ping"}) == {"type": "pong"}


async def test_a_new_subscription_replaces_the_old_one(settings: Settings) -> None:
    async with serving(settings) as server, dial(server) as client:
        await client.ask({"action": "subscribe", "filters": {"symbol": "BTC"}})
        await client.ask({"action": "subscribe", "filters": {"symbol": "ETH"}})
        await publish(server, decision(symbol="BTC"), decision(symbol="ETH"))
        assert (await client.receive())["symbol"] == "ETH"


ERRORS: list[tuple[object, str, str]] = [
    (
        {"action": "subscribe", "filters": {"model": "invalid_model"}},
        "INVALID_FILTER",
        "Unknown model: invalid_model",
    ),
    ({"action": "subscribe", "filters": {"model": ["claude", "x"]}}, "INVALID_FILTER", "Unknown model: x"),
    ({"action": "subscribe", "filters": {"colour": "red"}}, "INVALID_FILTER", "Unknown filter: colour"),
    ({"action": "subscribe", "filters": {"event_type": "OPEN"}}, "INVALID_FILTER", "Unknown event_type: OPEN"),
    ({"action": "subscribe", "filters": {"symbol": 5}}, "INVALID_FILTER", "symbol must be a string"),
    ({"action": "subscribe", "filters": {"symbol": []}}, "INVALID_FILTER", "symbol must not be empty"),
    ({"action": "subscribe", "filters": "all"}, "INVALID_FILTER", "filters must be an object"),
    ({"action": "subscribe", "filters": {"symbol": " "}}, "INVALID_FILTER", "No symbol is like this"),
    ({"action": "subscribe", "filter": {"symbol": "ETH"}}, "INVALID_MESSAGE", "Unknown field: filter"),
    ({"action": "dance"}, "INVALID_ACTION", "Unknown action: dance"),
    ({"action": None}, "INVALID_ACTION", "Unknown action"),
    ({"type": "decision"}, "INVALID_MESSAGE", "action"),
    ({}, "INVALID_MESSAGE", "action"),
    ([1], "INVALID_MESSAGE", "JSON object"),
    ("{", "INVALID_MESSAGE", "not valid JSON"),
    ("[" * 60_000, "INVALID_MESSAGE", "nested too deeply"),
]


async def test_an_error_keeps_the_socket_and_its_subscription(settings: Settings) -> None:
    async with serving(settings) as server, dial(server) as client:
        await client.ask({"action": "subscribe", "filters": {"symbol": "BTC"}})
        for message, code, text in ERRORS:
            answer = await client.ask(message)
            assert (answer["type"], answer["code"]) == ("error", code), message
            assert text in answer["message"]
            await publish(server, decision(symbol="ETH"), decision())
            received = await client.receive()
            assert (received["type"], received["symbol"]) == ("decision", "BTC"), message


async def test_a_binary_message_is_an_error(settings: Settings) -> None:
    async with serving(settings) as server, dial(server) as client:
        await client.connection.write_message(b'{"action":"subscribe"}', binary=True)
        assert (await client.receive())["code"] == "INVALID_MESSAGE"


async def test_the_server_pings_and_closes_a_client_that_stays_silent(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LensSocket, "ping_seconds", 0.1)
    monkeypatch.setattr(LensSocket, "silence_seconds", 0.5)
    async with serving(settings) as server, dial(server) as talking, dial(server) as silent:
        for _ in range(10):
            assert await talking.receive() == {"type": "ping"}
            await talking.say({"type": "pong"})
        received = 0
        while await silent.receive() is not None:
            received += 1
        assert 1 <= received <= 6
        assert silent.connection.close_code == 4408
        await talking.say({"type": "ping"})
        while await talking.receive() != {"type": "pong"}:
            pass


async def test_one_socket_too_many_is_closed_with_4029_and_a_place_that_gets_free_is_given_again(
    settings: Settings,
) -> None:
    async with serving(settings, ws_max_connections=2) as server, dial(server) as first:
        async with dial(server), dial(server) as third:
            assert await third.receive() is None
            assert third.connection.close_code == 4029
        await until(lambda: len(server.feed.decisions) == 1)
        async with dial(server) as another:
            assert await another.ask({"type": "ping"}) == {"type": "pong"}
        assert await first.ask({"type": "ping"}) == {"type": "pong"}
    assert len(server.feed.decisions) == 0


async def test_a_client_that_does_not_read_is_closed_and_delays_nobody(settings: Settings) -> None:
    async with serving(settings, stream_buffer_bytes=200_000) as server, dial(server) as reading:
        await reading.ask({"action": "subscribe"})
        deaf = await _deaf_subscriber(server)
        received = 0
        for n in range(400):
            await publish(server, decision(n=n, note="x" * 20_000))
            assert (await reading.receive())["n"] == n
            received += 1
            if len(server.feed.decisions) == 1:
                break
        assert len(server.feed.decisions) == 1, f"still there after {received} decisions"
        deaf.close()


@pytest.mark.parametrize(("address", "status"), [("203.0.113.9", 403), ("10.1.2.3", 101)])
async def test_the_internal_network_alone_gets_in(settings: Settings, address: str, status: int) -> None:
    trusting = Settings.load(env_file=None).internal_networks[:1]
    async with serving(settings, trusted_proxies=trusting) as server:
        if status == 101:
            async with dial(server, **{"X-Forwarded-For": address}) as client:
                assert await client.ask({"type": "ping"}) == {"type": "pong"}
            return
        with pytest.raises(HTTPClientError) as refused:
            async with dial(server, **{"X-Forwarded-For": address}):
                pass
        assert refused.value.code == status
        assert refused.value.response is not None
        assert orjson.loads(refused.value.response.body)["error"]["code"] == "FORBIDDEN"


async def test_pages_of_foreign_origins_and_plain_requests_are_refused_in_the_one_shape(settings: Settings) -> None:
    async with serving(settings) as server:
        for headers, status, code in [
            ({"Origin": "https://evil.example"}, 403, "FORBIDDEN"),
            ({"Upgrade": "h2c"}, 400, "VALIDATION_ERROR"),
            ({"Sec-WebSocket-Version": "8"}, 400, "VALIDATION_ERROR"),
        ]:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            fields = {
                "Host": "test", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **headers,
            }  # fmt: skip
            lines = ["GET /api/v1/ws/stream HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
            writer.write("\r\n".join(lines).encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert f" {status} " in head.splitlines()[0]
            length = next(int(line.split()[1]) for line in head.splitlines() if line.startswith("Content-Length"))
            assert orjson.loads(await reader.readexactly(length))["error"]["code"] == code
            writer.close()
            await writer.wait_closed()


async def test_draining_closes_the_sockets_with_service_restart(settings: Settings) -> None:
    async with serving(settings) as server, dial(server) as client:
        await client.ask({"type": "ping"})
        await server.feed.drain(1.0)
        assert await client.receive() is None
        assert client.connection.close_code == 1012


async def _deaf_subscriber(server: Gateway) -> socket.socket:
    # A raw socket with a small window that subscribes and never reads again.
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await IOLoop.current().run_in_executor(None, deaf.connect, ("127.0.0.1", server.port))
    message = b'{"action":"subscribe"}'
    handshake = (
        b"GET /api/v1/ws/stream HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    deaf.sendall(handshake + bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message)
    await until(lambda: any(each._filter is not None for each in list(server.feed.decisions._sockets)[1:]))
    return deaf
