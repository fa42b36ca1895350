"""Check ports before anything is started, not after a minute by a child that cannot listen."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from config.settings import Settings
from server.supervisor.service import ServiceError


def check_ports(settings: Settings) -> None:
    """Raise `ServiceError` that names every port in use, and the process that listens where that is visible."""
    problems = [problem for name, host, port in wanted_ports(settings) if (problem := in_use(name, host, port))]
    if problems:
        raise ServiceError("\n".join(problems))


@contextmanager
def held_port(host: str, port: int) -> Iterator[None]:
    """Reserve the gateways' port against other supervisors, before a gateway listens."""
    with contextlib.ExitStack() as stack:
        for each in listening_hosts(host):
            family, kind, protocol, _, address = _address(each, port)
            holder = stack.enter_context(socket.socket(family, kind, protocol))
            # Shared with the gateways, which set it too; a process that first checks whether the port is free does not.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _bind(holder, address)
        yield


def wanted_ports(settings: Settings) -> list[tuple[str, str, int]]:
    """Return the setting, address and port of everything that will listen."""
    ports = [("PORT", host, settings.port) for host in listening_hosts(settings.host)]
    if settings.ray_address is None and settings.ray_dashboard_port:
        ports.append(("RAY_DASHBOARD_PORT", "127.0.0.1", settings.ray_dashboard_port))
    return ports


def in_use(name: str, host: str, port: int) -> str | None:
    """Return why listening there would fail, or None. Gateways share a port, so theirs would not notice a stranger."""
    try:
        _address(host, port)
    except OSError as error:
        return f"HOST: {host!r} is no address: {(error.strerror or str(error)).lower()}"
    try:
        family, kind, protocol, _, address = _address(host, port)
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that just ended do not count
            _bind(probe, address)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            return f"HOST: {host!r} is no address of this machine"
        who = _listener(port)
        reason = f"in use by {who}" if who else (error.strerror or str(error)).lower()
        return f"{name}: port {port} on {host} is not to be had: {reason}"
    return None


def listening_hosts(host: str) -> list[str]:
    """Return the addresses to listen on for a HOST.

    Where that is this machine's own or all of them, `localhost` is the name under which the server is printed, and
    it may mean 127.0.0.1 or ::1: some clients try only the first one.
    """
    first, *others = _BOTH_PROTOCOLS.get(host, (host,))
    return [first, *filter(_is_there, others)]


def shown_host(host: str) -> str:
    """Return the host name by which people reach a server on this machine that listens on `host`.

    `localhost` wherever that leads to it: for browsers another site than 127.0.0.1, and that of FRONTEND_URL, whose
    pages would get no cookie from another one.
    """
    if host in _BOTH_PROTOCOLS:
        return "localhost"
    return f"[{host}]" if ":" in host else host


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return ports that are free now, all different.

    They are chosen at random below those that the kernel gives to connections: one of those could be taken by the
    next connection of any program, before a server that is still starting listens on it.
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


_BOTH_PROTOCOLS = {
    "localhost": ("127.0.0.1", "::1"),
    "127.0.0.1": ("127.0.0.1", "::1"),
    "::1": ("::1", "127.0.0.1"),
    "0.0.0.0": ("0.0.0.0", "::1"),  # noqa: S104 - it is looked up
    "::": ("::", "127.0.0.1"),
}

_SocketAddress = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, _SocketAddress]


def _address(host: str, port: int) -> _Address:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]


def _bind(probe: socket.socket, address: _SocketAddress) -> None:
    if probe.family == socket.AF_INET6:
        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as those that listen
    probe.bind(address)


def _is_there(host: str) -> bool:
    try:
        family, kind, protocol, _, address = _address(host, 0)
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def _listener(port: int) -> str | None:
    try:
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr[1:] == (port,) and each.pid:
                return f"{psutil.Process(each.pid).name()} (pid {each.pid})"
    except psutil.Error:
        pass
    return None
