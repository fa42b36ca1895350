"""Ports: a supervisor has its gateways' port from its start on, not only from when a gateway listens."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tornado.netutil import bind_sockets

from config.settings import Settings
from server.supervisor.ports import check_ports, free_ports, held_port, in_use, listening_hosts, shown_host
from server.supervisor.service import ServiceError

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


def test_a_page_of_the_frontend_is_of_the_same_site_as_the_printed_server() -> None:
    """The kind: two names of one machine that are two sites for a browser, which sends a SameSite=Lax cookie to one.

    `http://localhost:3000` could not refresh at `http://127.0.0.1:8000`.
    """
    settings = Settings.load(env_file=None)
    local = [each for each in settings.cors_origins if each.startswith("http:")]
    names = {urlsplit(each).hostname for each in (settings.api_url, settings.frontend_url, *local)}
    assert names == {shown_host(settings.host)} == {"localhost"}


@pytest.mark.parametrize(
    ("host", "addresses", "shown"),
    [
        ("127.0.0.1", ["127.0.0.1", "::1"], "localhost"),
        ("localhost", ["127.0.0.1", "::1"], "localhost"),
        ("::1", ["::1", "127.0.0.1"], "localhost"),
        ("0.0.0.0", ["0.0.0.0", "::1"], "localhost"),
        ("::", ["::", "127.0.0.1"], "localhost"),
        ("10.1.2.3", ["10.1.2.3"], "10.1.2.3"),
        ("fd00::1", ["fd00::1"], "[fd00::1]"),
        ("gateway", ["gateway"], "gateway"),
    ],
)
def test_localhost_leads_to_the_server_by_either_protocol(
    monkeypatch: pytest.MonkeyPatch, host: str, addresses: list[str], shown: str
) -> None:
    assert shown_host(host) == shown
    monkeypatch.setattr("server.supervisor.ports._is_there", lambda _: True)
    assert listening_hosts(host) == addresses
    monkeypatch.setattr("server.supervisor.ports._is_there", lambda _: False)  # a machine without IPv6
    assert listening_hosts(host) == addresses[:1]


@pytest.mark.skipif(len(listening_hosts("127.0.0.1")) < 2, reason="this machine has no IPv6")
async def test_both_protocols_are_held_and_listened_on() -> None:
    [port] = free_ports(1)
    settings = Settings.load(env_file=None).replace(port=port, ray_dashboard_port=0)
    check_ports(settings)
    with socket.socket(socket.AF_INET6) as stranger:
        stranger.bind(("::1", port))
        stranger.listen()
        with pytest.raises(ServiceError, match=f"port {port} on ::1"):  # else `localhost` would lead to it
            check_ports(settings)
    with held_port(HOST, port):
        with pytest.raises(ServiceError, match=f"port {port} on ::1"):
            check_ports(settings)
        listeners = [each for host in listening_hosts(HOST) for each in bind_sockets(port, host, reuse_port=True)]
        for host in (HOST, "::1"):
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 1)
            writer.close()
        for each in listeners:
            each.close()
