"""Ports: found to be taken before anything is started, not after a minute by a child that cannot listen."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from config.settings import Settings
from server._service import ServiceError


def check_ports(settings: Settings) -> None:
    """Raise `ServiceError` that names every port that somebody listens on, and who it is where that can be seen."""
    problems = [problem for name, host, port in wanted_ports(settings) if (problem := in_use(name, host, port))]
    if problems:
        raise ServiceError("\n".join(problems))


@contextmanager
def held_port(host: str, port: int) -> Iterator[None]:
    """Keep other supervisors off the gateways' port from now on, not only from when a gateway listens."""
    with socket.socket(*_address(host, port)[:3]) as holder:
        # Shared with the gateways, which ask for it too; who first looks whether the port is free does not.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(_address(host, port)[4])
        yield


def wanted_ports(settings: Settings) -> list[tuple[str, str, int]]:
    """Setting, host and port of what will listen."""
    ports = [("PORT", settings.host, settings.port)]
    if settings.ray_address is None and settings.ray_dashboard_port:
        ports.append(("RAY_DASHBOARD_PORT", "127.0.0.1", settings.ray_dashboard_port))
    return ports


def in_use(name: str, host: str, port: int) -> str | None:
    """What is wrong with listening there, or None. Gateways share a port, so theirs would not notice a stranger."""
    try:
        family, kind, protocol, _, address = _address(host, port)
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that just ended do not count
            probe.bind(address)
    except OSError as error:
        who = _listener(port)
        reason = f"in use by {who}" if who else (error.strerror or str(error)).lower()
        return f"{name}: port {port} on {host} is not to be had: {reason}"
    return None


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that nobody has now, all different.

    Chosen at random below those that the kernel gives to connections: one of those could be taken by the next
    connection that anybody opens, before a server that is still starting listens on it.
    """
    first = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 0
    below = range(_FIRST_PORT, first)
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        for port in (*random.sample(below, min(len(below), 100 * count)), *[0] * count):
            each = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                each.bind((host, port))
                ports.append(each.getsockname()[1])
            if len(ports) == count:
                break
        return ports


_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST_PORT = 10_000  # well above the ports that other programs are known by


_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


def _address(host: str, port: int) -> _Address:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]


def _listener(port: int) -> str | None:
    try:
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr[1:] == (port,) and each.pid:
                return f"{psutil.Process(each.pid).name()} (pid {each.pid})"
    except psutil.Error:
        pass
    return None
