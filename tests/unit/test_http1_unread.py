"""Unread answers: they block their own connection, and never fill the memory.

The kind: answers are written as often as a client asks, without regard to what it has read. So one
connection that pipelined `GET /api/openapi.json` and read nothing took gigabytes. Siblings: small answers by the
thousand, answers that come in parts, refusals, detached streams, pings and questions over WebSockets
(`test_unread_sockets.py`), and input that is kept for later.
`python -m tests.benchmarks.bench_unread` shows what such clients cost a process.
"""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from config.tasks import spawn
from server._http1 import server as http1
from server._http1.connection import Connection
from server._http1.interface import RECEIVE_BYTES
from server._http1.unsent import unsent_bytes
from tests.support.http1 import LARGE_BYTES, WHOLE, Server, on_both_loops, serving, until

GET = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n"
UNREAD_BYTES = 16 << 10


@pytest.fixture(autouse=True)
def frequent_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweep often, since deadlines of tests are short."""
    monkeypatch.setattr(http1, "SWEEP_SECONDS", 0.02)


async def _pour(server: Server, data: bytes, *, seconds: float = 0.3) -> tuple[socket.socket, Connection, int]:
    """Send the bytes over and over on a connection until the server takes no more, and never read."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.setblocking(False)
    await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", server.port))
    await until(lambda: bool(server.http.connections))
    (connection,) = server.http.connections
    data *= 1 + (256 << 10) // len(data)
    sent, last, ends_at = 0, time.monotonic(), time.monotonic() + 15
    while time.monotonic() - last < seconds and time.monotonic() < ends_at:
        try:
            sent += peer.send(memoryview(data)[sent % len(data) :])
            last = time.monotonic()
        except BlockingIOError:
            pass
        await asyncio.sleep(0.001)
    assert time.monotonic() < ends_at, "it is taken without end"
    return peer, connection, sent


async def _until_still(server: Server) -> None:
    """Wait until no request has begun for a moment, when the most bytes wait."""
    ends_at, seen = time.monotonic() + 10, -1
    while seen != len(server.app.seen):
        assert time.monotonic() < ends_at, "requests are begun without end"
        seen = len(server.app.seen)
        await asyncio.sleep(0.3)


@pytest.mark.parametrize(
    ("data", "largest"),
    [
        (GET % b"/whole" * 50, len(WHOLE)),
        (GET % b"/" * 500, 1000),
        (GET % b"/chunks" * 500, 1000),
        (GET % b"/large" * 50, 1 << 16),
        (b"HEAD / HTTP/1.1\r\nHost: test\r\n\r\n" * 500, 1000),
        (GET % b"/absent" * 500, 1000),
        (b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000, 60_000),
        (b"POST /streamed HTTP/1.1\r\nHost: test\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000, 60_000),
    ],
    ids=["whole", "small", "chunked", "flushed", "head", "refused", "body", "streamed body"],
)
def test_waiting_answers_are_bounded_for_any_requests(data: bytes, largest: int) -> None:
    @on_both_loops
    async def check() -> None:
        async with serving(unread_bytes=UNREAD_BYTES) as server:
            peer, connection, _ = await _pour(server, data)
            try:
                await _until_still(server)
                assert connection.transport.get_write_buffer_size() <= UNREAD_BYTES + largest + 1000
                assert len(connection._held) <= 3 * RECEIVE_BYTES
                assert len(connection._waiting) <= 1000
            finally:
                peer.close()
            await until(lambda: not server.http.connections)

    (mark,) = check.pytestmark
    for run in mark.args[1]:
        check(run)


@on_both_loops
async def test_a_client_that_reads_at_last_gets_everything_in_order() -> None:
    async with serving(unread_bytes=UNREAD_BYTES) as server:
        peer = await server.connect(receive_buffer=4096)
        for number in range(5):
            peer.get("/whole")
            peer.get(f"/?{number}")
        await until(lambda: server.app.seen == ["/whole"])
        await asyncio.sleep(0.1)
        assert server.app.seen == ["/whole"]
        for number in range(5):
            assert (await peer.response()).body == WHOLE
            assert (await peer.response()).body == b"GET /?%d" % number
        assert await peer.is_alive()


@on_both_loops
async def test_a_client_that_takes_nothing_is_closed_and_one_that_reads_slowly_gets_everything() -> None:
    async with serving(idle=0.2, unread_seconds=0.2, unread_bytes=UNREAD_BYTES) as server:
        for paths in (["/whole"], ["/whole", "/close"], ["/large"]):
            idler = await server.connect(receive_buffer=4096)
            reader, began = await server.connect(receive_buffer=32 << 10), time.monotonic()
            for path in paths:
                idler.get(path)
                reader.get(path, "Connection: close" if path == paths[-1] else "X: 1")
            await until(lambda: len(server.http.connections) == 2)
            received, size = 0, LARGE_BYTES if paths == ["/large"] else len(WHOLE)
            while part := await reader.reader.read(1 << 20):
                if received // (size // 16) < (received + len(part)) // (size // 16):
                    await asyncio.sleep(0.03)
                received += len(part)
            assert received > size
            assert time.monotonic() - began > 0.3  # longer than one that takes nothing is borne
            await until(lambda: not server.http.connections)
            idler.writer.transport.abort()


@on_both_loops
async def test_bytes_that_the_kernel_holds_for_a_client_count_as_not_taken() -> None:
    async with serving() as server:
        peer = await server.connect(receive_buffer=4096)
        peer.get("/whole")
        await until(lambda: server.app.seen == ["/whole"])
        await asyncio.sleep(0.05)
        (connection,) = server.http.connections
        assert unsent_bytes(connection.transport) > connection.transport.get_write_buffer_size()
        await peer.response()
        await until(lambda: unsent_bytes(connection.transport) == 0)


@on_both_loops
async def test_the_servers_end_waits_for_those_who_read_slowly_and_not_for_those_who_do_not() -> None:
    async with serving() as server:
        reader, idler = [await server.connect(receive_buffer=16 << 10) for _ in range(2)]
        for peer in (reader, idler):
            peer.get("/whole")
        await until(lambda: server.app.seen == ["/whole", "/whole"])
        await asyncio.sleep(0.05)
        waiting = spawn(server.http.until_taken(5.0), name="wait")
        assert (await reader.response()).body == WHOLE
        assert not waiting.done()
        idler.writer.transport.abort()
        assert await waiting
        assert await server.http.until_taken(0.0)
        third = await server.connect(receive_buffer=16 << 10)
        third.get("/whole")
        await until(lambda: len(server.app.seen) == 3)
        await asyncio.sleep(0.05)
        assert not await server.http.until_taken(0.05)


@on_both_loops
async def test_a_detached_stream_that_nobody_reads_is_closed() -> None:
    async with serving(detached_bytes=100_000) as server:
        peer = await server.connect(receive_buffer=4096)
        peer.get("/pushed")
        await until(lambda: server.app.seen[-1:] == ["closed"])
        peer.writer.transport.abort()
        await asyncio.sleep(0)


@on_both_loops
async def test_a_files_content_is_not_copied_for_each_client_that_does_not_read_it() -> None:
    async with serving() as server:
        written: list[object] = []
        peer = await server.connect(receive_buffer=4096)
        await until(lambda: bool(server.http.connections))
        (connection,) = server.http.connections
        send = connection.send

        def watched(data: bytes) -> asyncio.Future[None]:
            written.append(data)
            return send(data)

        connection.send = watched  # type: ignore[method-assign]
        peer.get("/whole")
        assert (await peer.response()).body == WHOLE
        assert any(each is WHOLE for each in written)


@on_both_loops
async def test_a_head_has_its_own_time_also_on_a_connection_that_may_be_idle_for_long() -> None:
    async with serving(idle=30, head_seconds=0.15) as server:
        fresh, used, unknown = [await server.connect() for _ in range(3)]
        idle = await server.connect()
        assert await used.is_alive()
        fresh.say(b"GET / HTTP/1.1\r\nHost:")
        used.say(b"GET / HTTP/1.1\r\nHost:")
        unknown.say(b"BRE")
        for peer in (fresh, used, unknown):
            try:
                assert await peer.rest() == b""
            except ConnectionResetError:
                pass
        assert await idle.is_alive()
