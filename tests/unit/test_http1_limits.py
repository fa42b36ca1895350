"""The bounds of open connections, in all and from one address.

The kind: a resource that a stranger may take without a bound. Siblings that have bounds of their own: streams
(`MAX_STREAMS`, 20 for each address), Lens sockets (`WS_MAX_CONNECTIONS`).
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_network

import pytest

from server._http1 import ConnectionLimits
from server._http1 import server as http1
from server.app import Application, http_server
from tests.api.serving import SETTINGS
from tests.support.http1 import on_both_loops, serving, until


class _Everyone(ConnectionLimits):
    """A network in which loopback counts, so that the limit applies to tests."""

    def _find_key(self, address: str) -> str | None:
        return address


def test_addresses_count_apart_and_ipv6_by_its_64() -> None:
    limits = ConnectionLimits(100, 2)
    for first, second, third, other in (
        ("198.51.100.1", "198.51.100.1", "::ffff:198.51.100.1", "198.51.100.2"),
        ("2001:db8::1", "2001:db8::2", "2001:db8::ffff:1:1%eth0", "2001:db8:0:1::1"),
    ):
        assert [limits.enter(each) for each in (first, second, third)] == [None, None, "address"]
        assert limits.enter(other) is None
        limits.leave(first)
        assert limits.enter(third) is None


def test_loopback_proxies_and_unix_sockets_count_in_all_only() -> None:
    limits = ConnectionLimits(10, 1, (ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
    many = ["127.0.0.1", "127.0.0.1", "::1", "::1", "10.1.2.3", "10.1.2.3", "fd00::1", "fd00::1", "0.0.0.0", "/run/x"]
    assert [limits.enter(each) for each in many] == [None] * 10
    assert limits.enter("127.0.0.1") == "all"
    limits.leave("127.0.0.1")
    assert [limits.enter("198.51.100.1"), limits.enter("198.51.100.1")] == [None, "all"]


def test_addresses_that_have_gone_leave_nothing_behind() -> None:
    limits = ConnectionLimits(100, 2)
    for number in range(1000):
        address = f"198.51.{number % 200}.{number % 100}"
        assert limits.enter(address) is None
        limits.leave(address)
    assert not limits._by_address
    assert limits._open == 0


@pytest.mark.parametrize(("total", "per_address", "bound"), [(2, 9, "all"), (9, 2, "address")])
def test_a_connection_too_many_is_told_so_at_once_and_there_is_room_again_after_one_has_gone(
    total: int, per_address: int, bound: str
) -> None:
    @on_both_loops
    async def check() -> None:
        turned_away: list[str] = []
        limits = _Everyone(total, per_address)
        async with serving(limits=limits, on_turned_away=turned_away.append) as server:
            first, second = [await server.connect() for _ in range(2)]
            assert await first.is_alive()
            assert await second.is_alive()
            third = await server.connect()
            third.get("/")
            answer = await third.rest()
            assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"\r\nRetry-After: 5\r\n" in answer
            assert b"\r\nConnection: close\r\n" in answer
            assert answer.endswith(b"503: Too many connections")
            assert turned_away == [bound]
            third.writer.close()
            first.writer.close()
            await until(lambda: len(server.http.connections) == 1)
            assert await (await server.connect()).is_alive()
            assert turned_away == [bound]

    (mark,) = check.pytestmark
    for run in mark.args[1]:
        check(run)


@on_both_loops
async def test_a_connection_that_became_a_stream_counts_no_more() -> None:
    async with serving(limits=_Everyone(1, 1)) as server:
        stream = await server.connect()
        stream.get("/detached")
        assert await stream.reader.readexactly(16) == b"no HTTP any more"
        assert await (await server.connect()).is_alive()


async def test_a_crowd_that_is_turned_away_holds_few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "TURNED_AWAY", 3)
    async with serving(limits=_Everyone(1, 1)) as server:
        peers = [await server.connect() for _ in range(20)]
        answers = await asyncio.gather(*(peer.rest() for peer in peers[1:]), return_exceptions=True)
        assert sum(isinstance(each, bytes) and each.startswith(b"HTTP/1.1 503 ") for each in answers) <= 3
        assert await peers[0].is_alive()
        assert len(server.http.connections) <= 4
        for each in peers:
            each.writer.close()
        await asyncio.gather(*(each.writer.wait_closed() for each in peers), return_exceptions=True)


def test_the_gateways_bounds_are_its_settings() -> None:
    settings = SETTINGS.replace(max_connections=7, max_connections_per_address=3, unread_bytes=5, idle_seconds=130.0)
    server = http_server(Application(settings))
    assert server._limits is not None
    assert (server._limits._total, server._limits._per_address) == (7, 3)
    assert (server.unread_bytes, server.idle_seconds) == (5, 130.0)
    assert SETTINGS.idle_seconds > 120
