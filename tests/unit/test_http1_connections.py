"""HTTP/1.1 connections: clients that go, wait or do not read, and the server's own end."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import weakref
from typing import Any

import pytest
from tornado.netutil import bind_sockets

from config.tasks import spawn
from server._http1 import LlhttpServer
from server._http1 import server as http1
from tests.support.http1 import LARGE_BYTES, App, Peer, on_both_loops, serving, until

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
PART = b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\npart"


@pytest.fixture(autouse=True)
def frequent_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweep often, since deadlines of tests are short."""
    monkeypatch.setattr(http1, "SWEEP_SECONDS", 0.02)


@on_both_loops
async def test_an_answer_that_closes_closes() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.get("/close")
        peer.get("/?never")
        answer = await peer.rest()
        assert b"Connection: close" in answer
        assert answer.endswith(b"bye")
        assert server.app.gone == []


@on_both_loops
async def test_an_answer_before_the_body_can_be_read_and_closes() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.say(PART % b"/early")
        response = await peer.response()
        assert (response.status, response.headers["Connection"]) == (403, "close")
        peer.say(b"x" * 96 + GET)
        assert await peer.rest() == b""
        assert server.app.seen == ["/early"]
        assert server.app.gone == ["/early"]


@on_both_loops
async def test_an_answer_before_a_body_that_is_there_keeps_the_connection() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.post("/early", b"a body")
        assert (await peer.response()).status == 403
        assert await peer.is_alive()


@on_both_loops
async def test_a_client_that_pours_on_after_its_answer_is_cut_off() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.say(b"POST /early HTTP/1.1\r\nHost: test\r\nContent-Length: 100000000\r\n\r\n")
        assert (await peer.response()).status == 403
        sent = 0
        try:
            while sent < 100_000_000:
                peer.say(b"x" * (1 << 16))
                await peer.writer.drain()
                sent += 1 << 16
        except ConnectionError:
            pass
        assert sent < 50_000_000


@on_both_loops
async def test_a_client_that_goes_in_the_middle_of_its_body_is_told_of_once() -> None:
    async with serving() as server:
        for path, gone in ((b"/streamed", ["/streamed"]), (b"/", [])):  # a plain handler is not there yet
            peer = await server.connect()
            peer.say(PART % path)
            await until(lambda: any(each._current is not None for each in server.http.connections))
            await asyncio.sleep(0.02)
            peer.writer.close()
            await until(lambda: not server.http.connections)
            await asyncio.sleep(0.02)
            assert server.app.gone == gone
            server.app.gone.clear()


@on_both_loops
async def test_a_client_that_goes_before_its_answer_is_told_of_once_and_one_that_ends_is_answered() -> None:
    async with serving() as server:
        for is_half in (False, True):
            peer = await server.connect()
            peer.get("/slow")
            peer.get("/?never")
            await until(lambda: server.app.seen == ["/slow"])
            if is_half:
                peer.writer.write_eof()
            else:
                _reset(peer)
            # The connection is not read while a request waits behind the one that is answered.
            (connection,) = server.http.connections
            connection.transport.resume_reading()
            if not is_half:
                await until(lambda: server.app.gone == ["/slow"])
                await until(lambda: not server.http.connections)
            server.app.go.set()
            if is_half:
                assert (await peer.rest()).count(b"HTTP/1.1 200 OK") == 2
            await asyncio.sleep(0.02)
            assert server.app.gone == ([] if is_half else ["/slow"])
            assert server.app.seen == (["/slow", "/"] if is_half else ["/slow"])
            server.app.gone.clear()
            server.app.seen.clear()
            server.app.go.clear()


@on_both_loops
async def test_a_handler_waits_for_a_client_that_does_not_read() -> None:
    async with serving() as server:
        peer = await server.connect(receive_buffer=4096)
        peer.get("/large")
        await _until_still(server.app.seen)
        assert server.app.seen.count("part") < LARGE_BYTES >> 16
        total = 0
        while total < LARGE_BYTES:
            total += len(await peer.reader.read(1 << 20))
        await until(lambda: server.app.seen.count("part") == LARGE_BYTES >> 16)
        assert server.app.gone == []


@on_both_loops
async def test_a_client_that_goes_in_the_middle_of_an_answer_is_told_of_once() -> None:
    async with serving() as server:
        peer = await server.connect(receive_buffer=4096)
        peer.get("/large")
        await _until_still(server.app.seen)
        peer.writer.transport.abort()
        await until(lambda: server.app.gone == ["/large"])
        await until(lambda: server.app.seen[-1] == "lost")
        assert server.app.gone == ["/large"]


@on_both_loops
async def test_a_client_that_never_reads_is_cut_off() -> None:
    async with serving(idle=0.2) as server:
        peer = await server.connect(receive_buffer=4096)
        peer.get("/large")
        await until(lambda: server.app.gone == ["/large"])
        await until(lambda: server.app.seen[-1] == "lost")
        peer.writer.transport.abort()


@on_both_loops
async def test_a_handler_that_gives_up_on_a_flush_does_not_harm_the_next() -> None:
    async with serving() as server:
        peer = await server.connect(receive_buffer=4096)
        peer.get("/slow")
        await until(lambda: server.app.seen == ["/slow"])
        (connection,) = server.http.connections
        connection.send(b"x" * LARGE_BYTES).cancel()
        waiter = connection.send(b"y")
        assert not waiter.done()
        async with asyncio.timeout(5):
            while not waiter.done():
                await peer.reader.read(1 << 20)
        assert waiter.exception() is None


@on_both_loops
async def test_a_head_and_a_body_have_their_time() -> None:
    async with serving(idle=0.15, body=0.15) as server:
        silent, slow_head, slow_body, streamed = [await server.connect() for _ in range(4)]
        slow_head.say(GET[:-4])
        slow_body.say(PART % b"/")
        streamed.say(PART % b"/streamed")
        for peer in (silent, slow_head, slow_body, streamed):
            try:
                assert await peer.rest() == b""
            except ConnectionResetError:
                pass
        await until(lambda: server.app.gone == ["/streamed"])


@on_both_loops
async def test_a_slow_handler_has_its_own_time_also_behind_a_body() -> None:
    async with serving(idle=0.1, body=0.1) as server:
        peer = await server.connect()
        peer.get("/slow")
        await asyncio.sleep(0.3)
        server.app.go.set()
        assert (await peer.response()).body == b"slow"
        assert await peer.is_alive()
        assert await peer.rest() == b""  # until it has been idle


@on_both_loops
async def test_a_detached_connection_is_no_longer_ours() -> None:
    async with serving() as server:
        peer = await server.connect()
        peer.get("/detached")
        assert await peer.reader.readexactly(16) == b"no HTTP any more"
        assert not server.http.connections
        peer.say(b"not HTTP either")
        peer.writer.write_eof()
        await until(lambda: server.app.seen[1:] == ["not HTTP either"])
        assert await peer.rest() == b""
        assert server.app.gone == []


@on_both_loops
async def test_a_handler_that_cannot_be_made_costs_its_own_connection_only() -> None:
    async with serving() as server:
        other = await server.connect()
        peer = await server.connect()
        peer.get("/broken")
        assert await peer.rest() == b""
        assert await other.is_alive()


@on_both_loops
async def test_a_stop_loses_no_connection_that_the_kernel_has_accepted() -> None:
    async with serving() as server:
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]  # the loop stands still
        for each in clients:
            each.sendall(GET)
        await server.http.stop()
        for each in clients:
            each.setblocking(False)
            peer = Peer(*await asyncio.open_connection(sock=each))
            server.peers.append(peer)
            assert (await peer.response()).body == b"GET /"
            assert await peer.is_alive()
        with pytest.raises(ConnectionRefusedError):
            await server.connect()


@on_both_loops
async def test_closing_all_connections_tells_their_handlers() -> None:
    async with serving() as server:
        slow, streamed, idle = [await server.connect() for _ in range(3)]
        slow.get("/slow")
        streamed.say(PART % b"/streamed")
        await until(lambda: sorted(server.app.seen) == ["/slow", "/streamed"])
        await server.http.close_all_connections()
        assert sorted(server.app.gone) == ["/slow", "/streamed"]
        assert not server.http.connections
        for peer in (slow, streamed, idle):
            try:
                assert await peer.rest() == b""
            except ConnectionResetError:
                pass


@on_both_loops
async def test_connections_leave_nothing_to_the_garbage_collector() -> None:
    handlers: list[Any] = []
    async with serving() as server:
        find = server.app.get_handler_delegate

        def remembering(*args: Any, **kwargs: Any) -> Any:
            delegate = find(*args, **kwargs)
            handlers.append(weakref.ref(delegate))
            return delegate

        server.app.get_handler_delegate = remembering  # type: ignore[method-assign]
        gc.collect()
        gc.disable()
        try:
            peer = await server.connect()
            for path in ("/", "/chunks", "/close"):
                peer.get(path)
            await peer.rest()
            peer = await server.connect()
            peer.post("/streamed", b"body")
            await peer.response()
            connections = [weakref.ref(each) for each in server.http.connections]
            peer.writer.close()
            await until(lambda: not server.http.connections)
            await until(lambda: [each() for each in handlers + connections if each() is not None] == [])
        finally:
            gc.enable()
        assert len(handlers) == 4


async def test_the_last_request_is_read_before_all_connections_are_closed() -> None:
    async with serving() as server:
        client = socket.create_connection(("127.0.0.1", server.port))  # the loop stands still
        stopping = spawn(server.http.stop(), name="stop")
        await asyncio.sleep(0.02)
        client.sendall(GET)
        await stopping
        await server.http.close_all_connections()  # as at the end of a drain in which nothing seemed to be open
        client.setblocking(False)
        peer = Peer(*await asyncio.open_connection(sock=client))
        server.peers.append(peer)
        assert (await peer.response()).body == b"GET /"


async def test_a_server_that_is_closed_takes_no_connection_that_was_on_its_way() -> None:
    http = LlhttpServer(App(), refusal=lambda *_: ((), b""), idle_seconds=5, body_seconds=5, header_bytes=1000)
    sockets = bind_sockets(0, "127.0.0.1")
    port = sockets[0].getsockname()[1]
    await http.listen(sockets)
    client = socket.create_connection(("127.0.0.1", port))
    stopping = spawn(http.stop(), name="stop")
    await http.close_all_connections()
    await stopping
    client.setblocking(False)
    peer = Peer(*await asyncio.open_connection(sock=client))
    try:
        assert await peer.rest() == b""
    except ConnectionResetError:
        pass
    peer.writer.close()
    await until(lambda: not http.connections)


async def _until_still(seen: list[str]) -> None:
    count = -1
    while count != len(seen) or count < 2:
        count = len(seen)
        await asyncio.sleep(0.05)


def _reset(peer: Peer) -> None:
    # As a client that has crashed: to end both sides at once is to reset.
    peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.writer.transport.abort()
