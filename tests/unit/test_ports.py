"""Ports: a supervisor has its gateways' port from its start on, not only from when a gateway listens."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tornado.netutil import bind_sockets

from server._ports import free_ports, held_port, in_use

HOST = "127.0.0.1"


def test_a_held_port_is_not_to_be_had_by_another_supervisor_before_any_gateway_listens() -> None:
    [port] = free_ports(1)
    assert in_use("PORT", HOST, port) is None
    with held_port(HOST, port):
        assert (in_use("PORT", HOST, port) or "").startswith(f"PORT: port {port} on {HOST} is not to be had")
    assert in_use("PORT", HOST, port) is None


async def test_gateways_listen_on_the_port_that_their_supervisor_holds_and_are_found() -> None:
    [port] = free_ports(1)
    with held_port(HOST, port):
        listeners = [*bind_sockets(port, HOST, reuse_port=True), *bind_sockets(port, HOST, reuse_port=True)]
        for _ in range(32):  # a share of them would be lost if the holder were given connections
            _, writer = await asyncio.wait_for(asyncio.open_connection(HOST, port), 1)
            writer.close()
        for each in listeners:
            each.close()


@pytest.mark.skipif(not Path("/proc/sys/net/ipv4/ip_local_port_range").exists(), reason="Linux alone tells its range")
def test_free_ports_differ_and_are_none_of_those_that_connections_get() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert max(ports) < first
