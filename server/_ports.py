"""Ports: found to be taken before anything is started, not after a minute by a child that cannot listen."""

from __future__ import annotations

import socket

import psutil

from config.settings import Settings
from server._service import ServiceError


def check_ports(settings: Settings) -> None:
    """Raise `ServiceError` that names every port that somebody listens on, and who it is where that can be seen."""
    problems = [problem for name, host, port in wanted_ports(settings) if (problem := in_use(name, host, port))]
    if problems:
        raise ServiceError("\n".join(problems))


def wanted_ports(settings: Settings) -> list[tuple[str, str, int]]:
    """Setting, host and port of what will listen."""
    ports = [("PORT", settings.host, settings.port)]
    if settings.ray_address is None and settings.ray_dashboard_port:
        ports.append(("RAY_DASHBOARD_PORT", "127.0.0.1", settings.ray_dashboard_port))
    return ports


def in_use(name: str, host: str, port: int) -> str | None:
    """What is wrong with listening there, or None. Gateways share a port, so theirs would not notice a stranger."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that just ended do not count
            probe.bind(address)
    except OSError as error:
        who = _listener(port)
        reason = f"in use by {who}" if who else (error.strerror or str(error)).lower()
        return f"{name}: port {port} on {host} is not to be had: {reason}"
    return None


def _listener(port: int) -> str | None:
    try:
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr[1:] == (port,) and each.pid:
                return f"{psutil.Process(each.pid).name()} (pid {each.pid})"
    except psutil.Error:
        pass
    return None
