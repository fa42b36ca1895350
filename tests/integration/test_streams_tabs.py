"""Two readers with one last id: both go on, and neither misses a signal.

The kind: a newcomer is believed to be the former holder, so two live holders replace each other for ever. Told apart
by whether the connection that holds the session takes what it is sent, on this gateway or on another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

import orjson
import pytest
from tornado.websocket import websocket_connect

from config.settings import Settings
from handlers.streams import holders
from handlers.streams.checkpoints import pack_checkpoints
from handlers.streams.records import SessionRecord
from handlers.streams.sessions import SessionStore
from schemas.stream import SignalFilter
from tests.support.streams import Draft, Gateway, Publisher, Reader, connect, drafts, gateway, ready, stream, until

PROXIED = {"X-Forwarded-For": "203.0.113.7"}


@asynccontextmanager
async def two_gateways(settings: Settings, **changes: object) -> AsyncIterator[tuple[Gateway, Gateway, Publisher]]:
    """Two gateways on the same services."""
    settings = settings.replace(**{"rate_limit_enabled": False, "heartbeat_seconds": 30.0, **changes})
    async with gateway(settings) as first, gateway(settings) as second:
        await ready(first, second)
        yield first, second, Publisher(first.pool, first.redis)


@pytest.mark.parametrize("by", ["header", "query"])
@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_second_tab_has_a_session_of_its_own_and_what_it_has_missed(
    settings: Settings, by: str, where: str
) -> None:
    async with two_gateways(settings) as (first, second, publisher), stream(first.port) as tab:
        await publisher.publish(*drafts(3))
        await tab.signals(1)
        last_id = tab.last_id
        rest = await tab.signals(2)
        options = {"headers": {"Last-Event-ID": last_id}} if by == "header" else {"last_event_id": last_id}
        async with stream((first if where == "here" else second).port, **options) as other:
            start = other.events[0]
            assert (start.number, start.data["resumed"], start.data["resume_error"]) == (1, False, "identity")
            assert start.data["session_id"] != tab.events[0].data["session_id"]
            assert await other.signals(2) == rest
            places = await publisher.publish(*drafts(2))
            assert await tab.signals(2) == await other.signals(2) == places
            assert tab.numbers == list(range(1, 7))
            assert other.numbers == list(range(1, 6))
        # Each is resumed as itself.
        for each in (other, tab):
            await each.close()
            async with stream(second.port, headers={"Last-Event-ID": each.last_id}) as again:
                assert again.events[0].data["resumed"] is True
                assert again.events[0].data["session_id"] == each.events[0].data["session_id"]


async def test_a_sockets_session_is_not_taken_either(settings: Settings) -> None:
    async with two_gateways(settings) as (first, second, publisher):
        socket = await websocket_connect(f"ws://127.0.0.1:{first.port}/api/signals/ws")
        start = orjson.loads(await socket.read_message() or "")
        async with stream(second.port, last_event_id=start["id"]) as other:
            assert other.events[0].data["resume_error"] == "identity"
            places = await publisher.publish(Draft())
            assert await other.signals(1) == places
            assert orjson.loads(await socket.read_message() or "")["data"]["id"] == str(places[0])
        socket.close()
        while await socket.read_message() is not None:
            pass
        async with stream(second.port, last_event_id=start["id"]) as again:
            assert again.events[0].data["resumed"] is True


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_connection_that_takes_nothing_any_more_is_taken_over(settings: Settings, where: str) -> None:
    """The connection's other end has vanished silently: sent data is not acknowledged."""
    async with two_gateways(settings, stream_buffer_bytes=64 << 20) as (first, second, publisher):
        dead = await connect(first.port, receive_buffer=4096)
        start = await dead.next()
        assert start is not None
        for _ in range(8):
            await publisher.publish(*(Draft(note="x" * 8000) for _ in range(100)))
        client = next(iter(first.feed._clients.values()))
        await until(lambda: client.pending_bytes > 0)
        began = asyncio.get_running_loop().time()
        async with stream((first if where == "here" else second).port, headers={"Last-Event-ID": start.id}) as again:
            assert again.events[0].data["resumed"] is True
            assert again.events[0].number == 2
            assert asyncio.get_running_loop().time() - began < 4.0
            assert await again.signals(800, seconds=30) == publisher.places()
            assert len(first.feed._clients) + len(second.feed._clients) == 1
        await dead.close()


async def test_a_client_that_hangs_up_and_comes_back_at_once_goes_on(settings: Settings) -> None:
    async with two_gateways(settings) as (first, second, publisher):
        reader = await connect(first.port)
        await reader.next()
        for turn in range(10):
            [place] = await publisher.publish(Draft())
            assert await reader.signals(1) == [place]
            last_id = reader.last_id
            reader.writer.close()  # without waiting until the server has noticed
            reader = await connect((first, second)[turn % 2].port, headers={"Last-Event-ID": last_id})
            event = await reader.next()
            assert event is not None
            assert event.data["resumed"] is True
        await reader.close()


async def test_behind_a_proxy_an_event_source_that_comes_back_is_believed(settings: Settings) -> None:
    """The proxy still holds the connection of a client that has vanished, and acknowledges for it."""
    networks = (ip_network("127.0.0.0/8"),)
    async with (
        two_gateways(settings, trusted_proxies=networks) as (first, second, publisher),
        stream(first.port, headers=PROXIED) as left,
    ):
        await publisher.publish(Draft())
        await left.signals(1)
        for server in (first, second):
            back = {**PROXIED, "Last-Event-ID": left.last_id}
            async with stream(server.port, headers=back) as again:
                assert again.events[0].data["resumed"] is True
                # A second tab says so by its URL; and who was thrown out has not seen the other's first event.
                async with (
                    stream(first.port, headers=PROXIED, last_event_id=again.last_id) as tab,
                    stream(first.port, headers=back) as thrown_out,
                ):
                    places = await publisher.publish(Draft())
                    for each in (again, tab, thrown_out):
                        assert await each.signals(1) == places
                    assert [each.events[0].data.get("resume_error") for each in (again, tab, thrown_out)] == [
                        None, "identity", "identity",
                    ]  # fmt: skip
                left.events = list(again.events)  # the same client, further on


async def test_a_gateway_that_is_gone_or_hangs_keeps_nobody_waiting_long(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "ASK_SECONDS", 1.0)
    async with two_gateways(settings) as (first, _, _):
        for session, gone, seconds in ((b"sess-00000000000000aa", True, 0.9), (b"sess-00000000000000bb", False, 3.0)):
            store = SessionStore(first.redis, first.pool, ttl_seconds=60, gateway="of-somebody")
            place = first.feed._fanout.place
            await store.save([(session, SessionRecord(1, 1, "", SignalFilter(), pack_checkpoints([(1, place)])))])
            async with first.redis.pubsub() as silent:
                if not gone:  # the client receives the question, and does not answer
                    await silent.subscribe("tradestream:gateway:of-somebody")
                    await until(lambda: first.redis.pubsub_numsub("tradestream:gateway:of-somebody"))
                began = asyncio.get_running_loop().time()
                async with stream(first.port, last_event_id=f"{session.decode()}:1") as again:
                    assert again.events[0].data["resumed"] is True
                assert asyncio.get_running_loop().time() - began < seconds


async def test_letters_that_nobody_can_read_change_nothing(settings: Settings) -> None:
    async with two_gateways(settings) as (first, _, publisher), stream(first.port) as reader:
        for letter in (b"", b"{", b"[]", b"[1]", b'["a",null]', b'["a","b"]', b'["a","b",1,2,3]', b"[{},null,true]"):
            await first.redis.publish(first.feed._holders.channel, letter)
        places = await publisher.publish(Draft())
        assert await reader.signals(1) == places
        assert isinstance(reader, Reader)
